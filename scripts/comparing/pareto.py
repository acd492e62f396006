"""Accuracy against cost: a method's variants and others beside it, who is on the frontier, what is cheap."""
import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean

from scripts.comparing.cells import CONTROLS, REFERENCE
from scripts.comparing.read import HARD, OWN, CellFigures, Compared
from scripts.comparing.references import references
from scripts.comparing.summary import Spread, spread
from utils.methods import STAGES
from utils.metrics import Paired, paired
from utils.pieces import Values, require

CHEAP = 0.25  # of the base's work: what a preset `fast` may cost
LEAST_DRAWS = 3  # of two a standard error says little, and a wide one counts in a variant's favour
RECOVER = STAGES[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One method or variant: its cost of one draw and its accuracy over draws.

    changes: of its method, as flags;  variant: of the base's method, with something changed;  control: real
    images alone;  like: whose labels and students random ones have, where not the base's;  work: of the
    stages that count [TFLOP];  to_base: paired difference, a bare number of one draw or of the base, None of
    none.
    """

    name: str
    changes: str
    variant: bool
    control: bool
    like: str = ""
    cell: CellFigures
    work: float
    top1: Mapping[int, float]
    to_base: Paired | float | None

    @property
    def accuracy(self) -> Spread | None:
        """Mean and standard deviation over its draws [%]."""
        return spread(self.top1.values())

    @property
    def few(self) -> bool:
        """Whether it has fewer draws than a statement takes."""
        return len(self.top1) < LEAST_DRAWS

    @property
    def gain(self) -> float | None:
        """How much better than the base in the draws that both have, ties as such; None of no draws."""
        return round(self.to_base.mean, 9) if isinstance(self.to_base, Paired) else self.to_base

    @property
    def label_bytes(self) -> int:
        """Of stored labels, in one draw."""
        return next(figures.label_bytes for figures in self.cell.draws.values())

    def seconds(self, stage: str) -> float:
        """Mean seconds of a stage."""
        return fmean(figures.seconds[stage] for figures in self.cell.draws.values())

    def is_cheap(self, base: "Point") -> bool:
        """Whether it is at most a quarter of the base's work."""
        return self.work <= CHEAP * base.work

    @property
    def holds(self) -> bool:
        """Whether it is within one standard error of the base, or better, over enough draws to say so."""
        found = self.to_base
        return isinstance(found, Paired) and found.n >= LEAST_DRAWS and found.mean >= -found.standard_error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frontier:
    """Points by work.   stages: whose work counts;  missing: compared, without draws or counted work."""

    base: Point
    points: Sequence[Point]
    kind: str
    ipc: int
    stages: Sequence[str]
    missing: Sequence[str]

    @property
    def best(self) -> list[Point]:
        """Those that nobody beats: at most their work and at least their accuracy, and better in one.

        What has few draws beats only its like: one lucky draw displaces nobody.
        """
        return [own for own in self.points if own.gain is not None and not any(
            other.gain is not None and other.work <= own.work and other.gain >= own.gain
            and (other.work, other.gain) != (own.work, own.gain) and (own.few or not other.few)
            for other in self.points)]

    @property
    def variants(self) -> list[Point]:
        """The base's."""
        return [own for own in self.points if own.variant]

    @property
    def fast(self) -> list[Point]:
        """Variants that are cheap and hold the base's accuracy, the most accurate first."""
        found = [own for own in self.variants if own.is_cheap(self.base) and own.holds]
        return sorted(found, key=lambda own: own.gain or 0.0, reverse=True)

    def values(self) -> Values:
        """All of it as numbers: TFLOP of a draw, percent, points, seconds."""
        best, fast = {own.name for own in self.best}, [own.name for own in self.fast]
        return {"base": self.base.name, "ipc": self.ipc, "labels": self.kind, "stages": list(self.stages),
                "fast": fast, "points": [self._values(own) | {"on_frontier": own.name in best}
                                         for own in self.points]}

    def _values(self, own: Point) -> Values:
        top1, found = own.accuracy, own.to_base
        low, high = found.interval if isinstance(found, Paired) else (None, None)
        return {"name": own.name, "changes": own.changes, "tflops_by_stage": own.cell.by_stage,
                "work": own.work, "of_base": own.work / self.base.work, "label_bytes": own.label_bytes,
                "seconds": {stage: own.seconds(stage) for stage in STAGES}, "n": len(own.top1),
                "top1": top1 and top1.mean, "std": top1 and top1.std, "to_base": own.gain, "low": low,
                "high": high, "standard_error": found.standard_error if isinstance(found, Paired) else None}


def frontier_of(compared: Compared, base: str, *, ipc: int, kind: str, stages: Sequence[str]) -> Frontier:
    """Every method and variant of a comparison beside a base.

    Args:   kind: of UNDER; hard labels need recover alone;  stages: whose work counts.
    Raises: ValueError where the base is not there, or its work is not.
    """
    require(ipc in compared.ipcs, f"--ipc {ipc}: the comparison has {', '.join(map(str, compared.ipcs))}")
    require(base in compared.methods, f"--base {base}: expected one of {', '.join(compared.methods)}")
    stages = [stage for stage in stages if kind != HARD or stage == RECOVER]
    require(stages, f"--stages: of hard labels {RECOVER} alone is counted; leave the flag out")
    found = {name: _point(compared, name, base, ipc=ipc, kind=kind, stages=stages)
             for name in compared.methods}
    there = {name: point for name, point in found.items() if point}
    if kind == OWN:  # of other kinds all have the base's, or none
        for name, cell in references(compared, ipc=ipc, first=base).items():
            work = work_of(cell, stages)
            if name != base and work is not None:
                own = _reference(compared, name, cell, base, ipc=ipc, work=work)
                there[own.name] = own
    require(base in there, f"--base {base}: has no draw with counted work at IPC {ipc}, --kind {kind}, "
            f"--stages {' '.join(stages)}; where the file has no tflops_by_stage, run scripts/compare.sh "
            f"again: it writes the tables anew")
    require(there[base].work > 0, f"--base {base}: takes no work in {' '.join(stages)}: no shares of it")
    return Frontier(base=there[base], points=sorted(there.values(), key=lambda own: own.work), kind=kind,
                    ipc=ipc, stages=stages, missing=[name for name in found if name not in there])


def _point(compared: Compared, name: str, base: str, *, ipc: int, kind: str,
           stages: Sequence[str]) -> Point | None:
    cell = compared.cell(name, ipc=ipc, kind=kind, beside=base)
    top1 = compared.top1(name, ipc=ipc, kind=kind, beside=base)
    work = work_of(cell, stages)
    if not top1 or work is None:
        return None
    to_base = 0.0 if name == base else _difference(top1, compared.top1(base, ipc=ipc, kind=kind, beside=name))
    maker, method = compared.maker(name), compared.maker(base)
    changes = compared.changes(name) or "nothing" * (name == method != base)
    return Point(name=name, changes=changes, cell=cell, work=work, top1=top1, to_base=to_base,
                 variant=name not in (base, method) and maker == method, control=maker in CONTROLS)


def _reference(compared: Compared, name: str, cell: CellFigures, base: str, *, ipc: int,
               work: float) -> Point:
    """Random real images with another's labels and students."""
    top1 = cell.top1(OWN)
    return Point(name=f"{REFERENCE}, as {name}", changes="", variant=False, control=True, like=name,
                 cell=cell, work=work, top1=top1,
                 to_base=_difference(top1, compared.top1(base, ipc=ipc, kind=OWN)))


def _difference(top1: Mapping[int, float], reference: Mapping[int, float]) -> Paired | float | None:
    """Paired by draw; the bare number of one draw, None of none."""
    each = [top1[draw] - reference[draw] for draw in sorted(top1.keys() & reference.keys())]
    return paired(each) if len(each) > 1 else each[0] if each else None


def work_of(cell: CellFigures, stages: Sequence[str]) -> float | None:
    """TFLOP of some stages; None where they were not counted one by one."""
    if cell.by_stage is not None:
        return sum(cell.by_stage[stage] for stage in stages)
    return cell.tflops if set(stages) == set(STAGES) else None
