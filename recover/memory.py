"""Memory beyond the device: networks kept on the host, activations made again, and what each network takes.

The paper's first limitation: k_max, the most teachers, is bounded by a device's memory.
"""
import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from models.segments import find_cuts, trace
from recover.alignments.alignment import Aligned, Alignment
from utils.memory import SavedBytes, num_bytes
from utils.pieces import Options, Values, option, require
from utils.runtime import say, warn_once

LARGEST, HOST = "largest", "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryOptions(Options):
    """What recover takes against too little memory; the bytes of images are the same with and without."""

    offload: bool = option(
        False, "keep teachers on the host outside their turn (the fused engine's, not compiled)",
        identity=False)
    recompute: tuple[str, ...] = option(
        (), "networks whose activations are made again in the backward instead of kept (not compiled); "
        "largest: the one that keeps most", identity=False, commas=True)

    def check_memory(self, alignment: Alignment, names: Sequence[str]) -> None:
        """Raises ValueError where the alignment cannot do it, or --recompute names no network of `names`."""
        wanted = {"offload": self.offload, "recompute": bool(self.recompute)}
        for name in (name for name, given in wanted.items() if given):
            require(name in alignment.saves_memory, f"--{name} is not possible with this alignment; expected "
                    f"--alignment bn without --compile" + ", and --engine fused" * (name == "offload"))
        unknown = [name for name in self.recompute if name not in (LARGEST, *names)]
        require(not unknown, f"--recompute {' '.join(unknown)}: expected {LARGEST}, or of this run's "
                f"networks {', '.join(names)}")

    def check_splits(self, networks: Mapping[str, nn.Module]) -> None:
        """Raises ValueError naming a network of --recompute that cannot be cut into segments."""
        for name in (name for name in self.recompute if name in networks):
            with _named(name):
                find_cuts(trace(networks[name]))

    def fit(self, networks: dict[str, Aligned], *, device: torch.device, size: int,
            host: Iterable[str]) -> dict[str, Aligned]:
        """The networks, changed as the options say.

        Args:   host: those that nothing else runs, which may leave the device;  size: of the images [pixels].
        Raises: ValueError naming a network that cannot be split.
        """
        chosen = {largest(networks, size) if name == LARGEST else name for name in self.recompute if networks}
        for name in sorted(chosen & networks.keys()):
            with _named(name):
                networks[name].recompute(size)
        if chosen:
            say(f"recomputed in the backward: {', '.join(sorted(chosen))}")
        if self.offload and device.type == HOST:
            warn_once("--offload has no effect on a cpu, where host and device are one")
        elif self.offload:
            for name in host:
                networks[name].offload(device)
        return networks


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"--recompute {name}: {error}; leave it out") from error


def largest(networks: dict[str, Aligned], size: int) -> str:
    """The network whose forward keeps most for its backward, by one image.

    Not the one with most weights: AlexNet has those, and keeps least of all.   Source: ours.
    """
    def kept(name: str) -> int:
        tensors = networks[name].tensors()
        like = next(tensor for tensor in tensors if tensor.is_floating_point())
        image = torch.zeros(1, 3, size, size, dtype=like.dtype, device=like.device).requires_grad_()
        with SavedBytes([*tensors, image]) as saved:
            networks[name](image, torch.zeros(1, dtype=torch.long, device=like.device), slices=1,
                           aligned=min(1, len(networks[name])))
        return saved.peak
    return max(networks, key=kept)


class Meter:
    """What each network takes, measured in its first turn of a process and in larger ones.   Source: ours."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}  # images' bytes, of which the most was measured
        self._fresh: list[Values] = []

    @contextlib.contextmanager
    def turn(self, name: str, network: Aligned, images: Sequence[torch.Tensor]) -> Iterator[None]:
        """Surrounds a turn, on its device: a forward and, but where all graphs are kept, its backward.

        Args: images: those that go in, which are there anyway.
        """
        larger = sum(view.nbytes for view in images)
        if larger <= self._seen.get(name, 0):
            yield
            return
        self._seen[name] = larger
        tensors, cuda = network.tensors(), images[0].is_cuda
        if cuda:
            torch.cuda.reset_peak_memory_stats(images[0].device)
        with SavedBytes([*tensors, *images]) as saved:
            yield
        self._fresh.append({
            "network": name, "weights_mb": num_bytes(tensors) / 1e6, "kept_mb": saved.peak / 1e6,
            **({"turn_peak_mb": torch.cuda.max_memory_allocated(images[0].device) / 1e6} if cuda else {})})

    def take(self) -> list[Values]:
        """What was measured since the last call, a dict a network; says it too."""
        rows, self._fresh = self._fresh, []
        if rows:
            peaks = " / the turn's peak" if "turn_peak_mb" in rows[0] else ""
            say(f"memory [MB], weights / kept for the backward{peaks}: " + ", ".join(
                f"{row['network']} " + " / ".join(f"{value:.1f}" for value in list(row.values())[1:])
                for row in rows))
        return rows
