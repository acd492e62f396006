"""Which of two is better?  Paired differences over draws, and what several of them decide together."""
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

from scripts.comparing.cells import REFERENCE, UNDER
from scripts.comparing.read import HARD, Compared
from scripts.comparing.variants import BEST, BEST_DISTILLED, BEST_SELECTED
from utils.metrics import Paired, mean_and_std, paired, student_t_p
from utils.pieces import Values, require

LEVEL = 0.05  # of the tests, as 95 % is of the intervals
MOST_DRAWS = 1000  # above this no number of draws is named
LEAST_SETS = 3  # of teachers, of which one is left out whole
TEACHERS, DRAW = "teachers", "draw"
Pair = tuple[str, str]
NO_SETS: Mapping[int, str] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """One pair, at one IPC, with labels of one kind.

    each: draw -> difference in points;  chosen: one of BEST -> draw -> the method that it is there;
    absent: one of BEST -> methods that it cannot be, which lack draws;  sides: top-1 of both by draw, by
    which it is known where the same figures are compared twice;  teachers: draw -> whose it is, where known;
    left_out: one of BEST -> what is, where a draw is judged: all of its TEACHERS, or the DRAW.
    """

    pair: Pair
    ipc: int
    kind: str
    each: Mapping[int, float]
    chosen: Mapping[str, Mapping[int, str]] = dataclasses.field(default_factory=dict)
    absent: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    sides: frozenset[tuple[float, ...]] = frozenset()
    teachers: Mapping[int, str] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def found(self) -> Paired | None:
        """Mean, interval and draws; None of fewer than two."""
        return paired(list(self.each.values())) if len(self.each) > 1 else None

    @property
    def known(self) -> Paired | float | None:
        """What there is to show: mean and interval, the difference of a single draw, or nothing."""
        return self.found or next(iter(self.each.values()), None)

    @property
    def alike(self) -> bool:
        """Whether all draws differ by the same: their spread is not 0, it is not known."""
        return self.found is not None and self.found.standard_error < 1e-6

    @property
    def p(self) -> float | None:
        """How likely so large a difference would be if there were none: Student's t, two-sided."""
        found = self.found
        return None if found is None or self.alike else \
            student_t_p(found.mean / found.standard_error, found.n - 1)

    @property
    def decided(self) -> bool:
        """Whether the 95 % interval leaves out zero, and has a width by which to say so."""
        found = self.found
        return found is not None and not self.alike and not found.interval[0] <= 0 <= found.interval[1]

    @property
    def needed(self) -> int | None:
        """How many draws would decide it with an even chance, if mean and spread stayed.

        None above MOST_DRAWS, and of draws that show no spread.
        """
        return draws_needed(*mean_and_std(self.each.values())) if self.found and not self.alike else None

    @property
    def by_teachers(self) -> dict[str, float]:
        """Teachers -> mean over their draws [points]; empty where each draw, or no draw, has its own."""
        names = dict.fromkeys(self.teachers.values())
        return {name: fmean(value for draw, value in self.each.items() if self.teachers[draw] == name)
                for name in names if 1 < len(names) < len(self.each)}

    def values(self) -> Values:
        """All of it as numbers, points and draws."""
        found = self.found
        low, high = found.interval if found else (None, None)
        return {"pair": list(self.pair), "ipc": self.ipc, "labels": self.kind, "n": len(self.each),
                "difference": found and found.mean, "low": low, "high": high, "p": self.p,
                "decided": self.decided if found else None,
                "draws_needed": None if self.decided else self.needed,
                "each": {str(draw): value for draw, value in self.each.items()},
                "chosen": {side: {str(draw): name for draw, name in own.items()}
                           for side, own in self.chosen.items()},
                "absent": {side: list(names) for side, names in self.absent.items()},
                "by_teachers": self.by_teachers, "left_out": dict(self.left_out)}


def draws_needed(mean: float, std: float) -> int | None:
    """The least n whose 95 % interval would leave out zero, at this mean and spread; None above MOST_DRAWS.

    Draws that do have this mean and spread leave it out in about half of the cases.   Args: std: not 0.
    """
    return next((n for n in range(2, MOST_DRAWS + 1)
                 if student_t_p(mean / std * n ** 0.5, n - 1) < LEVEL), None)


def stays_clear(ps: Sequence[float]) -> list[bool]:
    """Which of several tests stay significant when all are looked at: at LEVEL for all of them together.

    Source: Holm 1979: the smallest p against LEVEL / m, the next against LEVEL / (m - 1), until one fails.
    """
    clear = [False] * len(ps)
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        if ps[i] > LEVEL / (len(ps) - rank):
            break
        clear[i] = True
    return clear


def distinct(decisions: Sequence[Decision]) -> dict[int, int]:
    """Decision -> test, by place: those with an interval, each with the first of the same figures.

    A variant that changes labels alone has its method's images, so both are one test with hard labels; so are
    the best of several and a method that is the best in every draw.
    """
    first: dict[object, int] = {}
    return {i: first.setdefault((own.ipc, own.kind == HARD, *own.each, own.sides or i), i)
            for i, own in enumerate(decisions) if own.p is not None}


def clear_together(decisions: Sequence[Decision]) -> list[bool]:
    """Which decisions stand when all are tested together; those of the same figures are one test."""
    tests = distinct(decisions)
    firsts = sorted(set(tests.values()))
    clear = dict(zip(firsts, stays_clear([decisions[i].p or 0.0 for i in firsts]), strict=True))
    return [clear.get(tests.get(i, -1), False) for i in range(len(decisions))]


# ---------------------------------------------------------------- the best of several

def unit_left_out(draws: Iterable[int], sets: Mapping[int, str]) -> str:
    """What is left out with a draw: all draws of its TEACHERS, where enough sets are there, else the DRAW."""
    return TEACHERS if len({sets[draw] for draw in draws if draw in sets}) >= LEAST_SETS else DRAW


def best_of_others(top1: Mapping[str, Mapping[int, float]],
                   sets: Mapping[int, str] = NO_SETS) -> tuple[dict[int, str], list[str]]:
    """In each draw the candidate with the highest mean over the other draws.

    The best of several is partly lucky: judged in the draws that chose it, it looks better than it is.  Draws
    with the same teachers share that luck: with a draw those are left out too, by `unit_left_out`.
    Over the draws that at least half of the candidates have; who lacks one of these cannot be chosen.
    Args:    top1: candidate -> draw -> accuracy;  sets: draw -> its teachers.
    Returns: draw -> candidate, of no draws where there are fewer than two;  who cannot be chosen.
    """
    there = {name: own for name, own in top1.items() if own}
    every = {draw for own in there.values() for draw in own}
    draws = sorted(draw for draw in every if 2 * sum(draw in own for own in there.values()) >= len(there))
    whole = [name for name, own in there.items() if own.keys() >= set(draws)]
    absent = [name for name in top1 if name not in whole]
    if len(draws) < 2 or not whole:
        return {}, absent
    unit: Mapping[int, object] = {draw: draw for draw in draws}
    if unit_left_out(draws, sets) == TEACHERS:
        unit = sets
    others = {draw: [other for other in draws if unit[other] != unit[draw]] for draw in draws}
    return {draw: max(whole, key=lambda name: fmean(there[name][other] for other in own))
            for draw, own in others.items()}, absent


def members(compared: Compared, side: str) -> Sequence[str]:
    """Whom a side of a pair can be: those of one of BEST, or itself."""
    return {BEST_DISTILLED: compared.distilled, BEST_SELECTED: compared.selected}.get(side, [side])


def decide(compared: Compared, pair: Pair, *, ipc: int, kind: str) -> Decision:
    """One pair: its differences in the draws that both sides have.

    Under its own protocol a method is compared with random real images under the same one, and with another
    method under that one's own.
    """
    sides: list[dict[int, str]] = []
    absent: dict[str, Sequence[str]] = {}
    left_out: dict[str, str] = {}
    for side in pair:
        if side in BEST:
            by_draw, missing = best_of_others({name: compared.top1(name, ipc=ipc, kind=kind)
                                               for name in members(compared, side)}, compared.sets)
            left_out |= {side: unit_left_out(by_draw, compared.sets)}
            absent |= {side: missing} if missing else {}
        else:
            by_draw = {draw: side for cell in compared.cells.values() for draw in cell.draws}
        sides.append(by_draw)
    both: dict[int, tuple[float, float]] = {}
    for draw in sorted(sides[0].keys() & sides[1].keys()):
        a, b = (side[draw] for side in sides)
        mine, theirs = (compared.top1(name, ipc=ipc, kind=kind, beside=other).get(draw)
                        for name, other in ((a, b), (b, a)))
        if mine is not None and theirs is not None:
            both[draw] = mine, theirs
    each = {draw: mine - theirs for draw, (mine, theirs) in both.items()}
    chosen = {side: {draw: own[draw] for draw in each}
              for side, own in zip(pair, sides, strict=True) if side in BEST}
    return Decision(pair=pair, ipc=ipc, kind=kind, each=each, absent=absent, chosen=chosen,
                    sides=frozenset(zip(*both.values(), strict=True)), left_out=left_out,
                    teachers={draw: compared.sets[draw] for draw in each if draw in compared.sets})


# ---------------------------------------------------------------- which pairs

def default_pairs(compared: Compared) -> list[Pair]:
    """The first distilled method and SRe2L; each distilled method and random real images; the best ones."""
    distilled = compared.distilled
    first = [(distilled[0], "sre2l")] if "sre2l" in distilled[1:] else []
    best = [(BEST_DISTILLED, BEST_SELECTED)] * bool(compared.selected) + [(BEST_DISTILLED, REFERENCE)] * (
        len(distilled) > 1)
    return [*first, *((name, REFERENCE) for name in distilled), *best] if distilled else []


def named_pairs(compared: Compared, words: Iterable[str]) -> list[Pair]:
    """Pairs A:B.   Raises: ValueError where a side is not in the comparison."""
    pairs = []
    for word in words:
        a, colon, b = word.partition(":")
        require(a and colon and b and a != b, f"--pairs {word}: expected two names, A:B")
        for side in (a, b):
            found = [name for name in members(compared, side) if name in compared.methods]
            require(found, f"--pairs {word}: {side} is not in the comparison, expected two of "
                    f"{', '.join((*compared.methods, *BEST))}")
        pairs.append((a, b))
    return list(dict.fromkeys(pairs))


def decide_all(compared: Compared, pairs: Sequence[Pair], kinds: Sequence[str] = UNDER) -> list[Decision]:
    """Every pair at every IPC with labels of every kind, by IPC."""
    return [decide(compared, pair, ipc=ipc, kind=kind)
            for ipc in compared.ipcs for pair in pairs for kind in kinds]
