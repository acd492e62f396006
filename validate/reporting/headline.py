"""The first screen: what was distilled, how well it does against real images, and whether that is decided."""
import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from utils.pieces import Values
from validate.reporting import evaluated
from validate.reporting.facts import DASH, NBSP, aligned_nothing, describe_start, labels_of, spread
from validate.reporting.parts import Block, Table, dots_chart
from validate.reporting.scores import (
    OWN,
    Score,
    Test,
    Verdict,
    common_draws,
    compare,
    find_tests,
    score,
    signed,
    unlike,
    warned,
)
from validate.reporting.sets import ImageSet

OF_LABELS = ("ce_weight", "loss_type", "mix_type")  # settings that go with the kind of labels
EVALUATE = "python -m validate.evaluate {run}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Headline:
    """What the first screen says.   undecided: why nothing is compared with real images."""

    title: str
    made: Sequence[str]
    result: Sequence[str]
    verdicts: Sequence[Verdict]
    undecided: str
    block: Block | None

    @property
    def warnings(self) -> Sequence[str]:
        """What to know before these verdicts are believed."""
        return warned(self.verdicts)


def short_name(dataset: str) -> str:
    """A data set's name; of a folder its last part."""
    return dataset.removeprefix("folder:").rstrip("/").rpartition("/")[2] or dataset


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def few(names: Sequence[str]) -> str:
    """Up to four names, else how many there are: the table of teachers has them all."""
    return listed(names) if len(names) < 5 else f"{len(names)} networks"


def plural(number: float, noun: str) -> str:
    """3 draws, 1 draw, 1,347 images."""
    return f"{number:,.0f} {noun}" + ("s" if number != 1 else "")


# ---------------------------------------------------------------- what was made

def describe_made(sets: Sequence[ImageSet], real_images: int | None) -> list[str]:
    """How many images stand for how many, and who made and labelled them."""
    main = sets[0]
    images = main.images
    real = f"{real_images:,} real training images" if real_images else "the real training images"
    says = [f"{plural(images.ipc, 'image')} for each of {images.num_classes:,} classes, in place of {real}."]
    for own in sets:
        if own.kind == "distilled":
            says.append(f"{own.name}: {made_by(own)}.")
    labels = list(filter(None, map(labels_of, main.draws)))
    if labels:
        says.append(f"Soft labels by an ensemble of {few(labels[0]['teachers'])}.")
    return says


def made_by(own: ImageSet) -> str:
    """Method and teachers of a set in a few words."""
    units = [unit for draw in own.draws for unit in draw.units]
    primary = dict.fromkeys(name for unit in units for name in unit.get("primary", {}))
    others = dict.fromkeys(name for unit in units for name in unit.get("aligned", {})
                           if name not in primary and not aligned_nothing(name, units))
    changed = own.images.saved.get("protocol", {}).get("changed", [])
    if not own.protocol:
        return "made by a method that its folder does not name"
    changes = f", {plural(len(changed), 'setting')} of it changed" * bool(changed)
    method = f"the recipe {own.protocol}{changes}"
    single = own.images.saved.get("config", {}).get("teachers") == "single"
    method += " (a single teacher)" * single
    if not primary:
        return method
    also = f" and the statistics of {few(list(others))}" if others else ""
    return f"{method}; images optimised against {listed(list(primary))}{also}"


# ---------------------------------------------------------------- how well it does

def describe_result(scores: Sequence[Score], test: Test) -> list[str]:
    """Accuracy of the first set beside real images, in whole sentences."""
    first, *others = scores
    tested: Values = dict(first.students[0].results[0]["last"])
    number = f"{tested['images']:,} test images" if "images" in tested else "the test images"
    soft = " and their soft labels" if test.labels == "soft" else ""
    says = [f"A new {test.model}, trained from scratch on {first.set.name}'s "
            f"{plural(first.size, 'image')}{soft}, is right on {percent(first)} of {number}."]
    instead = [f"on {described}: {percent(own)}" for own in others for described in [
        own.set.name if own.set.kind == "distilled" else describe_start(own.set, own.size)]]
    return [*says, f"Trained instead {'; '.join(instead)}."] if instead else says


def percent(own: Score) -> str:
    """Mean and spread, with what they are over."""
    return spread(own.each, unit=f"{NBSP}%")


def control_of(scores: Sequence[Score]) -> Score | None:
    """Of one test, so of one IPC: real images, drawn at random where there are several such controls."""
    same = [own for own in scores if own.set.kind == "real"]
    return min(same, key=lambda own: own.set.draws[0].config.get("init") != "random", default=None)


def pairs_of(scores: Sequence[Score]) -> list[tuple[Score, Score]]:
    """What is compared: the first set with real images and every other one, further distilled ones with
    the real images."""
    main, *others = scores
    if main.set.kind != "distilled":
        return []
    control = control_of(others)
    real = [control] if control else []
    return [*((main, own) for own in [*real, *(own for own in others if own is not control)]),
            *((own, other) for own in others if own.set.kind == "distilled" for other in real)]


def verdicts_of(scores: Sequence[Score], test: Test) -> list[Verdict]:
    """What the draws decide of each pair."""
    return [compare(a, b, test) for a, b in pairs_of(scores)]


# ---------------------------------------------------------------- the chart

def score_block(scores: Sequence[Score], test: Test) -> Block:
    """Accuracies by set as dots with bars, with their numbers."""
    chart = dots_chart([(own.set.name, own.set.kind, own.each, percent(own)) for own in scores],
                       title=f"Top-1 accuracy: {test}", least=0, most=100, unit=" %")
    over = listed(list(dict.fromkeys(own.over for own in scores)))
    notes = [f"Dots: means at the last epoch; bars: ± one standard deviation over {over} (n − 1); small "
             f"marks: single {over}." if any(own.n > 1 for own in scores) else
             "Dots: accuracy at the last epoch, one student of one draw: nothing is known of the spread."]
    if chart.axis.low > 0:
        notes[0] += f" The axis starts at {chart.axis.low:.0f} %."
    if len(scores) > 1 and all(own.n > 1 and own.over == "draws" for own in scores):
        notes.append("A bar is of one set alone; a difference is taken draw by draw, so bars that stand "
                     "apart do not decide it.")
    notes += [f"The students are not alike in all: {'; '.join(differing)}."
              for differing in [unlike(list(scores))] if differing]
    table = Table(caption=f"Top-1 accuracy [%]: {test}",
                  head=["set", "images", "mean", "std", "n", "of", "student seeds a draw", "each",
                        "best epoch, mean"],
                  rows=[[own.set.name, f"{own.size:,.0f}", f"{own.mean:.1f}",
                         DASH if own.std is None else f"{own.std:.1f}", str(own.n), own.over,
                         str(own.seeds), ", ".join(f"{v:.1f}" for v in own.each),
                         f"{own.best:.1f}"] for own in scores])
    return Block(chart=chart, table=table, folded=True, notes=notes,
                 commands=[train_command(scores[0])])


def train_command(own: Score) -> str:
    """How the students of a set's first draw were trained."""
    draw, students = own.set.draws[0], own.students[0]
    labels = ["--fkd-path", str(draw.images.home / "fkd")] if students.labels == "soft" else []
    return shlex.join(["python", "-m", "validate.train_FKD", "--config", str(students.folder / "config.json"),
                       "--train-dir", str(draw.path), *labels, "--output-dir", str(students.folder),
                       "--seeds", *map(str, sorted(students.top1))])


def compare_command(a: Score, b: Score, test: Test) -> str:
    """How A - B is had, of the draws that both have."""
    common = common_draws(a, b, test)
    sides = ([theirs.folder for _, theirs in common], [mine.folder for mine, _ in common])
    return shlex.join(["python", "-m", "validate.results", *(",".join(map(str, side)) for side in sides)])


def verdict_block(verdicts: Sequence[Verdict], scores: Sequence[Score], test: Test) -> Block:
    """Paired differences with their intervals."""
    return Block(table=Table(
        caption=f"Paired differences [points], draw by draw: {test}",
        head=["difference", "mean", "95 % interval", "n", "over", "each", "decided"],
        rows=[[f"{own.a} − {own.b}", signed(own.mean),
               f"{signed(own.interval[0])} to {signed(own.interval[1])}" if own.interval else DASH,
               str(own.n), own.over, ", ".join(signed(value) for value in own.each) or DASH,
               "yes" if own.decided else "no"] for own in verdicts]),
        notes=["The interval is Student's t over the draws: decided where it leaves out zero.",
               *warned(verdicts)],
        commands=[compare_command(a, b, test) for a, b in pairs_of(scores) if common_draws(a, b, test)])


# ---------------------------------------------------------------- the whole of it

def headline(sets: Sequence[ImageSet], real_images: int | None, *, run: str) -> Headline:
    """The first screen, whatever of it is known."""
    names = [own.name for own in sets if own.kind == "distilled"] or [sets[0].name]
    title = f"{short_name(sets[0].images.dataset)} in {plural(sets[0].size, 'image')}: " \
            f"the set{'s' * (len(names) > 1)} {listed(names)}"  # a folder's name is no method
    made = describe_made(sets, real_images)
    tests = find_tests(list(sets))
    found = {test: [own for one in sets if (own := score(one, test))] for test in tests}
    found = {test: scores for test, scores in found.items() if scores[0].set is sets[0]}
    test = max(found, default=None, key=lambda test: (test.ipc, test.labels == "soft", len(found[test])))
    against_real = test and any(own.set.kind == "real" for own in found[test])
    judged = evaluated.verdicts(sets[0])
    if judged and not against_real:  # whose accuracies and differences are of the same students
        others = [own for one in sets[1:] for own in evaluated.verdicts(one)[:1]]
        result, block = evaluated.first_screen(sets[0])
        return Headline(title=title, made=made, result=result, verdicts=[*judged, *others], block=block,
                        undecided="")
    if not test:
        missing = "this is an export: its accuracies are in its export.json and README.md." \
            if (sets[0].images.run / "export.json").is_file() else \
            f"no student was trained yet. {EVALUATE.format(run=run)} trains some, and others on as many " \
            f"real images."
        return Headline(title=title, made=made, result=[], verdicts=[], block=None, undecided=missing)
    undecided = "these runs are real images alone." if sets[0].kind != "distilled" else \
        "" if against_real else (
        f"no real images went through the same training. {EVALUATE.format(run=run)} does that with as many.")
    return Headline(
        title=title, made=made, undecided=undecided, block=score_block(found[test], test),
        result=[*describe_result(found[test], test), *with_other_labels(found, test)],
        verdicts=verdicts_of(found[test], test))


def with_other_labels(found: Mapping[Test, Sequence[Score]], test: Test) -> list[str]:
    """The accuracies of students that differ in nothing but the labels, and what comes with them."""
    def alike(other: Test) -> bool:
        a, b = ({name: value for name, value in found[own][0].students[0].config.items()
                 if name not in (*OWN, *OF_LABELS)} for own in (test, other))
        return other.labels != test.labels and other[1:4] == test[1:4] and a == b
    other = next(filter(alike, found), None)
    if not other:
        return []
    reached = ", ".join(f"{percent(own)} ({own.set.name})" for own in found[other])
    decided = "".join(f" {own.title}." for own in verdicts_of(found[other], other)[:1])
    return [f"With {other.labels} labels instead: {reached}.{decided}"]
