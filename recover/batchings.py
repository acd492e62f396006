"""Which images are made together, and when each of them joins.   BATCHINGS: name -> piece.

A unit's images share views and, layer by layer, the statistics that are aligned: what stands together is part
of the method.   Source: paper 3.4 (cross-class against the intra-class batches of G-VBSM, EDC and DELT).
"""
import dataclasses
from collections.abc import Callable
from typing import ClassVar

from recover.units import Groups, Unit, unit_groups
from utils.pieces import Options, option, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossClass(Options):
    """One image of each of `--batch-size` classes, of one IPC index.   Source: paper 3.4; SRe2L.

    whole_set: whether a unit holds every index, so that the images depend on how many there are.
    """

    whole_set: ClassVar[bool] = False

    def check(self, *, iteration: int, ipc_start: int, slices: int, short: bool) -> None:
        """Raises: ValueError where other options contradict it."""

    def groups(self, num_classes: int, *, ipc_start: int, ipc_end: int, chunk_size: int, slices: int,
               available: Callable[[int], float] = lambda k: float("inf")) -> Groups:
        """All groups of units.   Args: as `unit_groups`."""
        return unit_groups(num_classes, ipc_start=ipc_start, ipc_end=ipc_end, chunk_size=chunk_size,
                           slices=slices, available=available)

    def entries(self, unit: Unit, ipc: int, iterations: int) -> tuple[int, tuple[int, ...]]:
        """Iterations of a unit, and at which each member joins, ascending; none: all at the first.

        Args: ipc: of the whole set;  iterations: of an index that is there from the first.
        """
        return iterations, ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntraClass(CrossClass):
    """`--batch-size` images in order of class, so every index of a few classes.   Source: G-VBSM, EDC.

    All are optimised for --iteration steps: --iteration-step has no effect.
    """

    whole_set: ClassVar[bool] = True

    def check(self, *, iteration: int, ipc_start: int, slices: int, short: bool) -> None:
        require(not ipc_start and slices == 1 and not short, "images of all indices stand in one batch: "
                "--batching takes no --ipc-start, --slices-per-batch or --allow-short-classes")

    def groups(self, num_classes: int, *, ipc_start: int, ipc_end: int, chunk_size: int, slices: int,
               available: Callable[[int], float] = lambda k: float("inf")) -> Groups:
        """As `CrossClass.groups`; a class may be cut where a batch ends."""
        images = [(i, k) for k in range(num_classes) for i in range(ipc_end)]
        return [[Unit(0, chunk, tuple(images[first:first + chunk_size]))]
                for chunk, first in enumerate(range(0, len(images), chunk_size))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds(IntraClass):
    """EarlyLate: a class's images join in rounds, the earliest are optimised the longest.   Source: DELT.

    Round r of R brings IPC // R images of a class, one more where r < IPC mod R.  A round that brings a batch
    no image is left out, and the batch is shorter by it; a round has iterations // R iterations.
    """

    rounds: int = option(8, "rounds, of equally many iterations each", source="DELT", range="in [1, 1000]")

    def check(self, *, iteration: int, ipc_start: int, slices: int, short: bool) -> None:
        super().check(iteration=iteration, ipc_start=ipc_start, slices=slices, short=short)
        require(not iteration or iteration >= self.rounds,
                f"--iteration {iteration} must be --rounds {self.rounds} or more, or 0")

    def groups(self, num_classes: int, *, ipc_start: int, ipc_end: int, chunk_size: int, slices: int,
               available: Callable[[int], float] = lambda k: float("inf")) -> Groups:
        """As `IntraClass.groups`; a unit's members in the order in which they join."""
        groups = super().groups(num_classes, ipc_start=ipc_start, ipc_end=ipc_end, chunk_size=chunk_size,
                                slices=slices)
        return [[dataclasses.replace(unit, members=tuple(sorted(
            unit.members, key=lambda member: self.round_of(member[0], ipc_end)))) for unit in group]
            for group in groups]

    def round_of(self, index: int, ipc: int) -> int:
        """The round in which a class's image of that index joins."""
        many, more = divmod(ipc, self.rounds)
        early = more * (many + 1)  # images of the rounds that bring one more
        return index // (many + 1) if index < early else more + (index - early) // many

    def entries(self, unit: Unit, ipc: int, iterations: int) -> tuple[int, tuple[int, ...]]:
        """As `CrossClass.entries`."""
        joined = [self.round_of(i, ipc) for i, _ in unit.members]
        kept = {r: place for place, r in enumerate(sorted(set(joined)))}
        length = iterations // self.rounds
        return length * len(kept), tuple(length * kept[r] for r in joined)


BATCHINGS: dict[str, type[CrossClass]] = {"cross-class": CrossClass, "intra-class": IntraClass,
                                          "rounds": Rounds}
