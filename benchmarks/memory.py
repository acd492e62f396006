"""What each teacher keeps for its backward at 224 pixels, with and without --recompute.

    python -m benchmarks.memory

Prints a JSON line for each network in its turn of the fused engine: its weights, the bytes of distinct
storages that its forward keeps for the backward, and the most that tensors of its turn took at once, passing
ones included; then the same recomputed, the ratios, and whether gradient and terms are the same bits.
On a CPU both are counted, tensor by tensor; on CUDA the allocator says the second.  There cuDNN may compute a
gradient in another order each time: where a turn by itself does not repeat its bits, same_bits says nothing.
Random weights: memory does not depend on them.
"""
import dataclasses
import functools
import json
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from benchmarks.recover_step import FIRST, OUT_OF_MEMORY, R_BN, held, smooth_images
from models.registry import build_model
from recover.alignments import FusedBNAlignment
from recover.objective import Objective
from recover.selection import Draw
from utils.flags import parse_config
from utils.memory import SavedBytes, num_bytes
from utils.pieces import Options, Values, option
from utils.runtime import choose_device, command_line, set_threads, versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryConfig(Options):
    """What `python -m benchmarks.memory` takes."""

    networks: tuple[str, ...] = option(
        ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet", "resnet50"),
        "networks to measure: PRISM's pool, and one that it could not hold", commas=True)
    batch_size: int = option(10, "images", range="in [1, 32767]")
    size: int = option(224, "side of the images [pixels]", range="in [8, 8192]")
    threads: int = option(0, "CPU threads; 0 = all cores", range="in [0, 1024]")
    device: str = option("auto", "auto, cpu, cuda, ...")


class LiveBytes(TorchDispatchMode):
    """While it is entered on a CPU: the most bytes that storages made in it took at once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen, self._alive, self.peak = weakref.WeakSet(), 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(t.untyped_storage()) for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, torch.Tensor) and id(tensor.untyped_storage()) not in given:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._seen:
            self._seen.add(storage)
            self._alive += storage.nbytes()
            self.peak = max(self.peak, self._alive)
            weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, num: int) -> None:
        self._alive -= num


class Turn:
    """One network's forward and backward in the fused engine."""

    def __init__(self, name: str, images: torch.Tensor, *, recomputed: bool):
        torch.manual_seed(0)
        model = build_model(name, num_classes=1000, stem="imagenet" if images.shape[-1] > 64 else "small")
        self._network = FusedBNAlignment(model.to(images.device).eval().requires_grad_(False),
                                         first_multiplier=FIRST)
        if recomputed:
            self._network.recompute(images.shape[-1])
        self._objective = Objective({name: self._network}, weight=R_BN)
        self._images, self._draws = images, [Draw({name: 1.0}, {name: 1.0})]

    def run(self) -> list[torch.Tensor]:
        """The gradient (N, 3, H, W), and the terms."""
        images = self._images.clone().requires_grad_()
        targets = torch.arange(len(images), device=images.device)
        terms, = self._objective.backward([images], targets, self._draws)
        return [images.grad, *terms.values()]

    def _peak(self) -> int:
        """The most bytes that tensors made in the turn took at once."""
        if self._images.is_cuda:
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self.run()
            return torch.cuda.max_memory_allocated() - before
        with LiveBytes() as live:
            self.run()
        return live.peak

    def figures(self) -> tuple[Values, list[torch.Tensor]]:
        """Weights, bytes kept and peak [MB], whether a turn repeats its bits;  the gradient and the terms."""
        tensors = self._network.tensors()
        with SavedBytes(tensors) as saved:
            made = self.run()
        return {"weights_mb": num_bytes(tensors) / 1e6, "kept_mb": saved.peak / 1e6,
                "peak_mb": self._peak() / 1e6, "repeats": all(map(torch.equal, made, self.run()))}, made


def figures_of(name: str, images: torch.Tensor, *, recomputed: bool) -> tuple[Values, list[torch.Tensor]]:
    """`Turn.figures` of a network that is dropped then."""
    return Turn(name, images, recomputed=recomputed).figures()


def line_of(name: str, images: torch.Tensor) -> Values:
    """A network's figures, plain and recomputed; what the device's memory does not hold is said there."""
    found = [held(functools.partial(figures_of, name, images, recomputed=own)) for own in (False, True)]
    row = {"network": name, **{what: own[0] if own else OUT_OF_MEMORY
                               for what, own in zip(("plain", "recomputed"), found, strict=True)}}
    if None in found:
        return row
    (before, made), (after, again) = (own for own in found if own)
    ratios = {f"{what}_ratio": after[f"{what}_mb"] / before[f"{what}_mb"] for what in ("kept", "peak")}
    return row | {"same_bits": all(map(torch.equal, made, again)), **ratios}


def main(argv=None) -> None:
    """Prints one line for each network."""
    config = parse_config(MemoryConfig, argv, description=__doc__)
    device = choose_device(config.device)
    about = {"benchmark": "memory", "device": device.type, "threads": set_threads(config.threads),
             "batch_size": config.batch_size, "size": config.size, **versions()}
    images = smooth_images(config.batch_size, config.size, seed=99).to(device)
    for name in config.networks:
        print(json.dumps({**about, **line_of(name, images)}), flush=True)


if __name__ == "__main__":
    command_line(main)
