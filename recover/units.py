"""Units of recover: images whose statistics are taken together, and what a run's pieces know of it.

A unit is (IPC index, chunk of classes), or what another batching makes of it; a group is one chunk of
`slices_per_batch` consecutive indices.
"""
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from recover.selection import Pool
from utils.augment import Resized
from utils.data import RealSet
from utils.unit_files import unit_path


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run's pieces prepare themselves with, once.

    networks: by name, frozen, in eval mode;  weights: the file that each came from;  ipc: --ipc-end;
    flip, crop: how views are made.
    """

    real: RealSet
    pool: Pool
    networks: dict[str, torch.nn.Module]
    seed: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    precision: str = "fp32"
    weights: dict[str, Path] = dataclasses.field(default_factory=dict)
    ipc: int = 0
    flip: bool = True
    crop: Resized = Resized()


@dataclasses.dataclass(frozen=True)
class Unit:
    """Images that are made together.   members: (IPC index, class) of each;  short: classes left out."""

    ipc_id: int
    chunk: int
    members: tuple[tuple[int, int], ...]
    short: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"IPC index {self.ipc_id}, chunk {self.chunk}"

    @property
    def classes(self) -> list[int]:
        return [k for _, k in self.members]

    def record(self, run: Path) -> Path:
        """The file that says that it is finished."""
        return unit_path(run, self.ipc_id, self.chunk)

    def unfinished(self, run: Path) -> Path:
        """The saved state of a group whose first unit this is, while it is not finished."""
        return run / "unfinished" / f"{self.record(run).stem}.pt"


Groups = list[list[Unit]]


def unit_groups(num_classes: int, *, ipc_start: int, ipc_end: int, chunk_size: int, slices: int,
                available: Callable[[int], float] = lambda k: float("inf")) -> Groups:
    """All groups of a range of IPC indices, in the order that shards split.

    Args: available: class -> how many indices it has images for; those that are short are left out.
    """
    chunks = [range(num_classes)[first:first + chunk_size] for first in range(0, num_classes, chunk_size)]

    def make(ipc_id: int, chunk: int) -> Unit:
        short = tuple(k for k in chunks[chunk] if ipc_id >= available(k))
        return Unit(ipc_id, chunk, tuple((ipc_id, k) for k in chunks[chunk] if k not in short), short)
    return [[make(ipc_id, chunk) for ipc_id in range(first, first + slices)]
            for first in range(ipc_start, ipc_end, slices) for chunk in range(len(chunks))]
