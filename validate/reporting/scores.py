"""Accuracies by set, and what the draws decide.

A score is a mean over draws, each draw's over its student seeds; with a single draw it is over the seeds, and
says so.  Two sets are compared draw by draw (validate.results), with Student's t over the draws.
"""
import dataclasses
import statistics
from typing import NamedTuple

from utils.metrics import paired
from utils.pieces import Values
from validate.reporting.sets import Draw, ImageSet, Students
from validate.results import draw_differences

# What tells students of one test apart, but not tests: whose the set is, and how much of it there is.
OWN = ("seed", "ipc", "threads", "steps_per_epoch")


class Test(NamedTuple):
    """One way to train and test students; `folder` where a run holds several of it."""

    labels: str
    model: str
    protocol: str
    folder: str = ""

    def __str__(self) -> str:
        kind = "soft labels" if self.labels == "soft" else "hard labels"
        return f"{self.model}, {kind}, protocol {self.protocol}" + f", {self.folder}" * bool(self.folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy of a set's students [percent].   each: by draw, or by seed;  over: which of them;  std: n - 1,
    None for a single value;  seeds: student seeds a draw."""

    set: ImageSet
    mean: float
    std: float | None
    each: list[float]
    over: str
    seeds: int
    best: float
    students: list[Students]

    @property
    def n(self) -> int:
        """How many draws, or seeds."""
        return len(self.each)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """A - B.   interval: 95 %, None where nothing is paired;  why: in words, why there is none;  over: what
    was drawn anew each time."""

    a: str
    b: str
    mean: float
    interval: tuple[float, float] | None
    n: int
    each: list[float]
    over: str = "draws"
    why: str = ""

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def title(self) -> str:
        """Whether it is decided, and who is ahead."""
        ahead = f"{self.a if self.mean > 0 else self.b} ahead by {abs(self.mean):.1f} points"
        says = ahead if abs(self.mean) >= 0.05 else "level"
        return f"Decided: {says}" if self.decided else f"Not decided: {says}"

    @property
    def words(self) -> str:
        """The difference with its interval, and what that decides."""
        says = f"{self.a} − {self.b}: {signed(self.mean)} points"
        if self.interval is None:
            return f"{says}; {self.why}"
        low, high = self.interval
        return f"{says}, 95\N{NO-BREAK SPACE}% interval {signed(low)} to {signed(high)} over {self.n} " \
               f"{self.over}, which {'leaves out' if self.decided else 'holds'} 0"


def signed(value: float, digits: int = 1) -> str:
    """A difference with a true minus sign; nothing is +0.0 or -0.0."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def find_tests(sets: list[ImageSet]) -> list[Test]:
    """The tests that a report has scores of, those with soft labels first."""
    tests = dict.fromkeys(test for own in sets for draw in own.draws for test in tests_of(draw))
    return sorted(tests, key=lambda test: test.labels != "soft")


def tests_of(draw: Draw) -> dict[Test, Students]:
    """A run's students by test."""
    found: dict[Test, Students] = {}
    for students in draw.students:
        test = Test(students.labels, students.config["model"], students.results[0]["protocol"]["name"])
        if test in found:
            test = test._replace(folder=students.folder.relative_to(draw.images.home).as_posix())
        found[test] = students
    return found


def score(own: ImageSet, test: Test) -> Score | None:
    """What a set came to in a test; None where it has no students of it."""
    students = [found for draw in own.draws if (found := tests_of(draw).get(test))]
    if not students:
        return None
    each = [statistics.fmean(one.top1.values()) for one in students]
    best = statistics.fmean(100 * result["best"]["top1"] for one in students for result in one.results)
    over = "draws"
    if len(each) == 1 and len(students[0].top1) > 1:
        each, over = list(students[0].top1.values()), "student seeds"
    return Score(set=own, mean=statistics.fmean(each), std=statistics.stdev(each) if len(each) > 1 else None,
                 each=each, over=over, seeds=len(students[0].top1), students=students, best=best)


def compare(a: Score, b: Score, test: Test) -> Verdict:
    """Two sets, draw by draw."""
    mine, theirs = (_by_seed(own.set, test) for own in (a, b))
    seeds = sorted(mine.keys() & theirs.keys())
    try:
        each = draw_differences([theirs[seed].results for seed in seeds],
                                [mine[seed].results for seed in seeds])
    except ValueError:  # draws whose students share no seed
        each = []
    if len(each) < 2:
        why = "one draw says nothing of the spread over draws" if len(each) == 1 or a.n == 1 else \
            "the draws have no seeds in common by which they could be paired"
        return Verdict(a=a.set.name, b=b.set.name, mean=statistics.fmean(each) if each else a.mean - b.mean,
                       interval=None, n=len(each), each=each, why=why)
    found = paired(each)
    return Verdict(a=a.set.name, b=b.set.name, mean=found.mean, interval=found.interval, n=found.n, each=each)


def _by_seed(own: ImageSet, test: Test) -> dict[int, Students]:
    return {draw.config.get("seed", 0): found for draw in own.draws if (found := tests_of(draw).get(test))}


def unlike(scores: list[Score]) -> list[str]:
    """In which settings the students of one test differ between sets, besides what is a set's own."""
    configs: list[Values] = [own.students[0].config for own in scores]
    names = sorted({name for config in configs for name in config} - {*OWN})
    return [f"{name.replace('_', ' ')}: " + ", ".join(
        f"{config.get(name)} ({own.set.name})" for config, own in zip(configs, scores, strict=True))
        for name in names if len({str(config.get(name)) for config in configs}) > 1]
