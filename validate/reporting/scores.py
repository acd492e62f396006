"""Accuracies by set, and what the draws decide.

A score is a mean over draws, each draw's over its student seeds; with a single draw it is over the seeds, and
says so.  Two sets are compared draw by draw (validate.results), with Student's t over the draws.
"""
import dataclasses
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from utils.metrics import paired, student_t
from utils.pieces import Values
from validate.reporting.sets import Draw, ImageSet, kind_of
from validate.results import draw_differences
from validate.students_found import Students

# What tells students of one test apart, but not tests: whose the set is, and how much of it there is.
OWN = ("seed", "ipc", "threads", "steps_per_epoch")
EVERY = 0  # the IPC of a test on all real images, which belongs beside that of any IPC


class Test(NamedTuple):
    """One way to train and test students.

    ipc: images of each class that they saw, EVERY for all real ones;  folder: where a run holds several.
    """

    labels: str
    model: str
    protocol: str
    ipc: int
    folder: str = ""

    def __str__(self) -> str:
        parts = [self.model, f"{self.labels} labels", f"protocol {self.protocol}",
                 f"IPC {self.ipc}" if self.ipc != EVERY else "all real images", self.folder]
        return ", ".join(filter(None, parts))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Accuracy of a set's students [percent].   size: images that they saw, the mean over draws;  each: by
    draw, or by seed;  over: which of them;  std: n - 1, None for a single value;  seeds: student seeds a
    draw."""

    set: ImageSet
    size: float
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
    was drawn anew each time;  by: the protocol and IPC, where nothing beside says them."""

    a: str
    b: str
    mean: float
    interval: tuple[float, float] | None
    n: int
    each: list[float]
    over: str = "draws"
    why: str = ""
    by: str = ""

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0, and has a width by which to say so."""
        return self.interval is not None and not self.alike and (self.interval[0] > 0 or self.interval[1] < 0)

    @property
    def alike(self) -> bool:
        """Whether all draws differ by the same: their spread is not 0, it is not known."""
        return self.interval is not None and self.interval[1] - self.interval[0] < 1e-6

    @property
    def title(self) -> str:
        """Whether it is decided, and who is ahead."""
        ahead = f"{self.a if self.mean > 0 else self.b} ahead by {abs(self.mean):.1f} points"
        says = ahead if abs(self.mean) >= 0.05 else "no difference seen"
        return f"Decided: {says}" if self.decided else f"Not decided: {says}"

    @property
    def words(self) -> str:
        """The difference with its interval, and what that decides."""
        says = f"{self.by}{': ' * bool(self.by)}{self.a} − {self.b}: {signed(self.mean)} points"
        if self.interval is None:
            return f"{says}; {self.why}"
        if self.alike:
            each = "both" if self.n == 2 else f"all {self.n}"
            return f"{says} in {each} {self.over} alike: no spread to judge by"
        low, high = self.interval
        return f"{says}, 95\N{NO-BREAK SPACE}% interval {signed(low)} to {signed(high)} over {self.n} " \
               f"{self.over}, {'which leaves out zero' if self.decided else 'so it may be zero'}"


def warned(verdicts: Sequence[Verdict]) -> list[str]:
    """What to know of intervals over two."""
    return [f"Two draws, or two students, can hardly decide anything: with n = 2 the interval reaches "
            f"{student_t(1):.1f} standard errors to either side."] if any(
                own.interval and own.n == 2 for own in verdicts) else []


def signed(value: float, digits: int = 1) -> str:
    """A difference with a true minus sign; nothing is +0.0 or -0.0."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "\N{MINUS SIGN}")


def find_tests(sets: list[ImageSet]) -> list[Test]:
    """The tests that a report has scores of, those with soft labels and of more images first."""
    tests = dict.fromkeys(test for own in sets for draw in own.draws for test in tests_of(draw))
    with_ipc = {test._replace(ipc=EVERY) for test in tests if test.ipc != EVERY}
    shown = [test for test in tests if test not in with_ipc]
    return sorted(shown, key=lambda test: (test.labels != "soft", -test.ipc))


def tests_of(draw: Draw) -> dict[Test, Students]:
    """A run's students by test."""
    found: dict[Test, Students] = {}
    whole = kind_of(draw) == "whole"
    for students in draw.students:
        ipc = EVERY if whole and students.ipc == draw.images.ipc else students.ipc
        test = Test(students.labels, students.config["model"], students.results[0]["protocol"]["name"], ipc)
        if test in found:
            test = test._replace(folder=students.folder.relative_to(draw.images.home).as_posix())
        found[test] = students
    return found


def students_of(draw: Draw, test: Test) -> Students | None:
    """A run's students of a test; those on all real images belong to the test of any IPC."""
    found = tests_of(draw)
    return found.get(test) or found.get(test._replace(ipc=EVERY))


def score(own: ImageSet, test: Test) -> Score | None:
    """What a set came to in a test; None where it has no students of it."""
    tested = [(draw, found) for draw in own.draws if (found := students_of(draw, test))]
    if not tested:
        return None
    students = [found for _, found in tested]
    each = [statistics.fmean(one.top1.values()) for one in students]
    best = statistics.fmean(100 * result["best"]["top1"] for one in students for result in one.results)
    over = "draws"
    if len(each) == 1 and len(students[0].top1) > 1:
        each, over = list(students[0].top1.values()), "student seeds"
    size = statistics.fmean(len(draw.images.select(found.ipc)) for draw, found in tested)
    return Score(set=own, size=size, mean=statistics.fmean(each),
                 std=statistics.stdev(each) if len(each) > 1 else None, each=each, over=over,
                 seeds=len(students[0].top1), students=students, best=best)


def compare(a: Score, b: Score, test: Test) -> Verdict:
    """Two sets, draw by draw."""
    common = common_draws(a, b, test)
    try:
        each = draw_differences([theirs.results for _, theirs in common],
                                [mine.results for mine, _ in common])
    except ValueError:  # draws whose students share no seed
        each = []
    if len(each) < 2:
        why = "one draw says nothing of the spread over draws" if len(each) == 1 or a.n == 1 else \
            "the draws have no seeds in common by which they could be paired"
        return Verdict(a=a.set.name, b=b.set.name, mean=statistics.fmean(each) if each else a.mean - b.mean,
                       interval=None, n=len(each), each=each, why=why)
    found = paired(each)
    return Verdict(a=a.set.name, b=b.set.name, mean=found.mean, interval=found.interval, n=found.n, each=each)


def common_draws(a: Score, b: Score, test: Test) -> list[tuple[Students, Students]]:
    """The students of the draws that two sets have in common, paired."""
    mine, theirs = (_by_seed(own.set, test) for own in (a, b))
    return [(mine[seed], theirs[seed]) for seed in sorted(mine.keys() & theirs.keys())]


def _by_seed(own: ImageSet, test: Test) -> dict[int, Students]:
    return {draw.seed: found for draw in own.draws if (found := students_of(draw, test))}


def unlike(scores: list[Score]) -> list[str]:
    """In which settings the students of one test differ between sets, besides what is a set's own."""
    configs: list[Values] = [own.students[0].config for own in scores]
    names = sorted({name for config in configs for name in config} - {*OWN})
    return [f"{name.replace('_', ' ')}: " + ", ".join(
        f"{config.get(name)} ({own.set.name})" for config, own in zip(configs, scores, strict=True))
        for name in names if len({str(config.get(name)) for config in configs}) > 1]
