"""All that is planned before a unit starts: its blocks, and of every iteration its rate, view and draw."""
import bisect
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from recover.batchings import CrossClass
from recover.blocks import OneBlock
from recover.selection import Draw, Pool, Selection
from recover.units import Groups, Unit
from utils.augment import Resized, SharedViews, plan_shared_views
from utils.files import readable
from utils.runtime import generator, readable_time
from utils.schedule import CropLaw, cosine
from utils.unit_files import has_unit


@dataclasses.dataclass(frozen=True)
class Block:
    """Iterations at one resolution, under one optimiser.

    rates: learning rates;  views, draws: of every iteration;
    before(images, start): what it starts from, resized or blended with the start; none: the images.
    """

    rates: list[float]
    views: SharedViews
    draws: list[Draw]
    before: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class UnitPlan:
    """All that is random or scheduled in one unit, drawn before it starts.

    entries: the iteration at which each member joins, ascending; none: all are there from the first.
    """

    unit: Unit
    blocks: tuple[Block, ...]
    entries: tuple[int, ...] = ()

    @property
    def iterations(self) -> int:
        return sum(len(block.rates) for block in self.blocks)

    def until(self, block: int, step: int) -> int:
        """Iterations before step `step` of a block, or before its end."""
        return sum(len(own.rates) for own in self.blocks[:block]) + min(step, len(self.blocks[block].rates))

    def joined(self, block: int, step: int) -> slice:
        """The members that take part in a step: the first so many, or all.

        The others' gradients are zero, so Adam's moments are too, and the images stay as they start.
        """
        return slice(bisect.bisect_right(self.entries, self.until(block, step)) if self.entries else None)

    @property
    def draws(self) -> list[Draw]:
        return [draw for block in self.blocks for draw in block.draws]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnitLaws:
    """The laws of a run's plans.

    lr: base rate, cosine to 0;  crops: how min_scale changes;  ipc: of the whole set;
    crop: the law of a crop's box.
    """

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
    batching: CrossClass = CrossClass()
    blocks: OneBlock = OneBlock()
    ipc: int = 0
    crop: Resized = Resized()

    def entries(self, unit: Unit) -> tuple[int, tuple[int, ...]]:
        """Iterations of a unit, and at which each member joins."""
        return self.batching.entries(unit, self.ipc, self.iterations(unit.ipc_id))

    def plan(self, unit: Unit) -> UnitPlan:
        """Draws a unit's views and teachers from (seed, unit)."""
        num, entries = self.entries(unit)
        scales = self.crops(num, self.min_scale)
        gen = generator(self.seed, "views", unit.ipc_id, unit.chunk)
        drawn_by = unit.chunk if self.batching.whole_set else unit.ipc_id  # else all units would draw alike
        draws = self.selection.plan(self.pool, drawn_by, unit.chunk, num, seed=self.seed)
        blocks, first = [], 0
        for cut in self.blocks.cut(num, self.size):
            own = slice(first, first + cut.iterations)
            views = plan_shared_views(cut.iterations, size=cut.size, min_scale=scales[own], flip=self.flip,
                                      jitter=self.jitter, generator=gen, crop=self.crop)
            rates = [self.lr * cosine(t, num) for t in range(own.start, own.stop)]
            blocks.append(Block(rates, views, draws[own], cut.before))
            first = own.stop
        return UnitPlan(unit, tuple(blocks), entries)


def describe_plan(groups: Groups, mine: Groups, *, run: Path, num_classes: int, laws: UnitLaws, needed: int,
                  rate: float | None, anew: bool) -> str:
    """The text of --dry-run: units, iterations, teachers, bytes, and time where a measured rate is known.

    Args: needed: bytes of the images;  rate: seconds per iteration of an earlier unit here;  anew: whether
          finished units will be deleted.
    """
    units = [unit for group in groups for unit in group]
    todo = [unit for group in mine for unit in group if anew or not has_unit(unit.record(run))]
    total = sum(laws.entries(unit)[0] for unit in todo)
    indices = len({i for unit in units for i, _ in unit.members})
    lines = [f"run           {run}",
             f"images        {indices * num_classes} ({indices} IPC indices x {num_classes} classes), "
             f"about {readable(needed)}",
             f"units         {len(units)} in all, {sum(map(len, mine))} of this shard, {len(todo)} to do",
             f"iterations    {total} to do"]
    for plan in (laws.plan(unit) for unit in units if unit.chunk == 0):
        shown = sorted({" + ".join(draw.ce) + " <- " + " + ".join(draw.align) for draw in plan.draws})
        lines.append(f"  index {plan.unit.ipc_id:<4}  {plan.iterations} iterations, " + (
            "; ".join(shown[:2]) if len(shown) < 3
            else f"{len(shown)} different draws, such as {'; '.join(shown[:2])}"))
    lines.append("time          " + (
        f"{readable_time(rate * total)} at the {rate:.3f} s per iteration measured here" if rate
        else "unknown until a unit has run here"))
    return "\n".join(lines)
