"""Units of recover: images whose statistics are taken together, and all that is planned before one starts.

A unit is (IPC index, chunk of classes); a group is one chunk of `slices_per_batch` consecutive indices.
"""
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from recover.selection import Draw, Pool, Selection
from utils.augment import SharedViews, plan_shared_views
from utils.data import RealSet
from utils.files import readable
from utils.runtime import generator, readable_time
from utils.schedule import CropLaw, cosine
from utils.unit_files import has_unit, unit_path


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run's pieces prepare themselves with, once.

    networks: by name, frozen, in eval mode;  weights: the file that each came from;  ipc: --ipc-end.
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


@dataclasses.dataclass(frozen=True)
class Block:
    """Iterations at one resolution, under one optimiser.

    rates: learning rates;  views, draws: of every iteration;
    after(images, start): what the next block starts from, resized or blended with the start; none: images.
    """

    rates: list[float]
    views: SharedViews
    draws: list[Draw]
    after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class UnitPlan:
    """All that is random or scheduled in one unit, drawn before it starts."""

    unit: Unit
    blocks: tuple[Block, ...]

    @property
    def iterations(self) -> int:
        return sum(len(block.rates) for block in self.blocks)

    def until(self, block: int, step: int) -> int:
        """Iterations before step `step` of a block, or before its end."""
        return sum(len(own.rates) for own in self.blocks[:block]) + min(step, len(self.blocks[block].rates))

    @property
    def draws(self) -> list[Draw]:
        return [draw for block in self.blocks for draw in block.draws]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitLaws:
    """The laws of a run's plans.   lr: base rate, cosine to 0;  crops: how min_scale changes."""

    seed: int
    iterations: Callable[[int], int]
    lr: float
    size: int
    min_scale: float
    flip: bool
    jitter: int
    crops: CropLaw
    selection: Selection
    pool: Pool

    def plan(self, unit: Unit) -> UnitPlan:
        """Draws a unit's views and teachers from (seed, unit)."""
        num = self.iterations(unit.ipc_id)
        views = plan_shared_views(num, size=self.size, min_scale=self.crops(num, self.min_scale),
                                  flip=self.flip, jitter=self.jitter,
                                  generator=generator(self.seed, "views", unit.ipc_id, unit.chunk))
        draws = self.selection.plan(self.pool, unit.ipc_id, unit.chunk, num, seed=self.seed)
        return UnitPlan(unit, (Block([self.lr * cosine(t, num) for t in range(num)], views, draws),))


def describe_plan(groups: Groups, mine: Groups, *, run: Path, num_classes: int, laws: UnitLaws, needed: int,
                  rate: float | None, anew: bool) -> str:
    """The text of --dry-run: units, iterations, teachers, bytes, and time where a measured rate is known.

    Args: needed: bytes of the images;  rate: seconds per iteration of an earlier unit here;  anew: whether
          finished units will be deleted.
    """
    plans = [laws.plan(unit) for group in groups for unit in group if unit.chunk == 0]
    todo = [unit for group in mine for unit in group if anew or not has_unit(unit.record(run))]
    total = sum(laws.iterations(unit.ipc_id) for unit in todo)
    lines = [f"run           {run}",
             f"images        {len(plans) * num_classes} ({len(plans)} IPC indices x {num_classes} classes), "
             f"about {readable(needed)}",
             f"units         {sum(map(len, groups))} in all, {sum(map(len, mine))} of this shard, "
             f"{len(todo)} to do",
             f"iterations    {total} to do"]
    for plan in plans:
        shown = sorted({" + ".join(draw.ce) + " <- " + " + ".join(draw.align) for draw in plan.draws})
        lines.append(f"  index {plan.unit.ipc_id:<4}  {plan.iterations} iterations, " + (
            "; ".join(shown[:2]) if len(shown) < 3
            else f"{len(shown)} different draws, such as {'; '.join(shown[:2])}"))
    lines.append("time          " + (
        f"{readable_time(rate * total)} at the {rate:.3f} s per iteration measured here" if rate
        else "unknown until a unit has run here"))
    return "\n".join(lines)
