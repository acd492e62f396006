"""What validate.evaluate found: a set and its controls under one protocol, over draws if it saw several."""
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from utils.measures import Measure
from utils.metrics import paired
from utils.pieces import Values
from validate.controls import REFERENCE
from validate.evaluation import FULL
from validate.evaluation_text import over_what
from validate.reporting.facts import DASH, NBSP, spread
from validate.reporting.measured import commands_of, measures_of, names_of, number
from validate.reporting.parts import Block, Dots, Table, dots_chart
from validate.reporting.scores import Verdict, signed, warned
from validate.reporting.sets import ImageSet

SCORES = {"hlr": "HLR (lower is better)", "ior": "IOR (higher)", "lrs": "LRS (higher)",
          "ars": "ARS (higher)"}
WHAT_SCORES_ARE = [
    "HLR: what hard labels on these images lose against all real ones. IOR: what is gained over as many "
    "random real images. LRS: both in one, ARS: the gain with and without augmentation, each from 0 to 1. A "
    "dash: not measured; HLR and LRS need --full-data of validate.evaluate, ARS needs --robustness."]


class Cell(NamedTuple):
    """Students that are compared."""

    model: str
    labels: str

    def __str__(self) -> str:
        kind = f"{self.labels} labels" if self.labels in ("soft", "hard") else f"labels {self.labels}"
        return f"{self.model}, {kind}"


def evaluations(sets: Sequence[ImageSet]) -> Iterator[tuple[ImageSet, str, list[Measure]]]:
    """(set, name, a measure of each draw) of every evaluation."""
    for name in names_of(sets, "evaluation_"):
        for own in sets:
            if found := measures_of(own, name):
                yield own, name, found


def rows_of(found: Sequence[Measure], kind: str) -> dict[tuple[Cell, str], list[Values]]:
    """(students, set or what it is compared with) -> a row of each draw.   Args: kind: of rows."""
    rows: dict[tuple[Cell, str], list[Values]] = {}
    for row in (row for measure in found for row in measure["values"].get(kind, [])):
        key = Cell(row["model"], row["labels"]), row["against" if kind == "differences" else "set"]
        rows.setdefault(key, []).append(row)
    return rows


def each_of(rows: Sequence[Values]) -> list[float]:
    """The draws' means; of a single draw its seeds."""
    return [row["mean"] for row in rows] if len(rows) > 1 else list(rows[0]["each"])


def over(found: Sequence[Measure], of: str = "") -> str:
    """What the spread is over.   Args: of: the set; random real images are drawn anew for every seed."""
    return "draws" if len(found) > 1 else "draws of real images and student seeds" if of == REFERENCE else \
        "student seeds"


# ---------------------------------------------------------------- what it decides

def chosen(own: ImageSet) -> list[Measure]:
    """The evaluation of the most images, of the set's protocol if there is; [] where none compares."""
    every = [found for _, _, found in evaluations([own]) if rows_of(found, "differences")]
    return max(every, default=[], key=lambda found: (
        found[0]["ipc"], found[0]["values"]["protocol"] == own.protocol))


def verdicts(own: ImageSet) -> list[Verdict]:
    """A set against each control, by the evaluation that is chosen for the first screen."""
    found = chosen(own)
    return [verdict(own.name, against, cell, rows, by=title_of(own, found))
            for (cell, against), rows in rows_of(found, "differences").items()]


def first_screen(own: ImageSet) -> tuple[list[str], Block]:
    """Accuracies in whole sentences, and their chart, by the students of the verdicts and no others.

    A set whose controls were made by validate.evaluate has other students besides: their accuracies beside
    these differences would add up to nothing.
    """
    found = chosen(own)
    rows = rows_of(found, "accuracies")
    cell = next(cell for cell, _ in rows_of(found, "differences"))
    reached = {of: f"{spread(each_of(own_rows))}{NBSP}%" for (at, of), own_rows in rows.items() if at == cell}
    number = len(own.draws[0].images.select(found[0]["ipc"]))
    soft = " and their soft labels" if cell.labels == "soft" else ""
    says = [f"A new {cell.model}, trained from scratch on {own.name}'s {number:,} images{soft}, is right on "
            f"{reached.pop('distilled', DASH)} of the test images."]
    if reached:
        says.append("Trained instead " + "; ".join(
            f"on {'all real training images' if of == FULL else f'as many real ones, {of}'}: {value}"
            for of, value in reached.items()) + ".")
    return says, Block(chart=_chart(own, found, cell), notes=[
        f"Dots: means at the last epoch; bars: ± one standard deviation over {over(found)} (n − 1); small "
        f"marks: single {over(found)}; {title_of(own, found)}."])


def title_of(own: ImageSet, found: Sequence[Measure]) -> str:
    """Of which test an evaluation is, and of which draws where it is not of all."""
    seeds = [str(draw.seed) for draw in own.draws if any(
        measure is seen for measure in draw.measures.values() for seen in found)]
    alone = "" if len(seeds) == len(own.draws) else \
        f", draw {' and '.join(seeds)} of {len(own.draws)} alone"
    return f"protocol {found[0]['values']['protocol']}, IPC {found[0]['ipc']}{alone}"


def verdict(name: str, against: str, cell: Cell, rows: Sequence[Values], *, by: str = "") -> Verdict:
    """Over draws where there are several, else as validate.evaluate says.

    Every draw's evaluation draws its real images by the same seeds, so over draws nothing of them is varied.
    """
    b = f"{against} real images ({cell})"
    if len(rows) > 1:
        seen = paired([row["mean"] for row in rows])
        return Verdict(a=name, b=b, mean=seen.mean, interval=seen.interval, n=seen.n, each=seen.each,
                       over=f"draws, all against the same {against} real images", by=by)
    row, = rows
    interval = tuple(row["interval"]) if row.get("interval") else None
    return Verdict(a=name, b=b, mean=row["mean"], interval=interval, n=row["n"], each=row["each"],
                   over=over_what(against), why="one student seed says nothing of the spread", by=by)


# ---------------------------------------------------------------- blocks of the page

def evaluation_blocks(sets: Sequence[ImageSet]) -> list[Block]:
    """Every evaluation: accuracies, differences, DD-Ranking's scores, classes."""
    return [block for own, _, found in evaluations(sets) for block in _blocks(own, found)
            if block.table and block.table.rows]


def _blocks(own: ImageSet, found: Sequence[Measure]) -> Iterator[Block]:
    values = found[0]["values"]
    title = f"{own.name}, {title_of(own, found)}"
    rows = rows_of(found, "accuracies")
    first = next(iter(rows), (None, ""))[0]
    yield Block(
        title=title, chart=_chart(own, found, first) if first else None,
        table=Table(caption=f"{title}: top-1 [%]",
                    head=["set", "student", "labels", "mean ± std", "over", "each"], rows=[
                        [of, cell.model, cell.labels, spread(each_of(own_rows)), over(found, of),
                           ", ".join(number(value, 1) for value in each_of(own_rows))]
                          for (cell, of), own_rows in rows.items()]),
        notes=[f"Means and standard deviations (n - 1) over {over(found)}; " + (
            "their real images are the same." if len(found) > 1 else
            f"of {REFERENCE}, each on a draw of real images of its own."),
               *[f"Changed of the protocol: {', '.join(values['changed'])}."] * bool(values["changed"])],
        commands=[*commands_of(found), *values.get("commands", [])])
    yield Block(table=Table(
        caption=f"{title}: distilled − real images [points]",
        head=["against", "students", "mean", "95 % interval", "n", "over", "decided"], rows=[
            [against, str(cell), *_difference(verdict(own.name, against, cell, own_rows))]
            for (cell, against), own_rows in rows_of(found, "differences").items()]), notes=warned(
                [verdict(own.name, against, cell, own_rows)
                 for (cell, against), own_rows in rows_of(found, "differences").items()]))
    scores = [measure["values"]["scores"] for measure in found]
    yield Block(table=Table(
        caption=f"{title}: DD-Ranking's scores, in fractions", head=["student", *SCORES.values()],
        rows=[[model, *(_score([own.get(model, {}).get(key) for own in scores]) for key in SCORES)]
              for model in scores[0]]), notes=WHAT_SCORES_ARE)
    yield from _class_blocks(title, values, len(found) > 1)


def _chart(own: ImageSet, found: Sequence[Measure], cell: Cell) -> Dots:
    """Accuracies of one kind of students by set."""
    shown = [(own.name if of == "distilled" else f"{of} real images", "distilled" if of == "distilled" else
              "real", each_of(rows), f"{spread(each_of(rows))}{NBSP}%")
             for (at, of), rows in rows_of(found, "accuracies").items() if at == cell]
    return dots_chart(shown, title=f"Top-1 accuracy: {cell}, {title_of(own, found)}", least=0, most=100,
                      unit=" %")


def _difference(found: Verdict) -> list[str]:
    interval = f"{signed(found.interval[0])} to {signed(found.interval[1])}" if found.interval else DASH
    return [signed(found.mean), interval, str(found.n), found.over, "yes" if found.decided else "no"]


def _score(found: Sequence[Any]) -> str:
    known = [own for own in found if own]
    return spread([own["mean"] for own in known] if len(known) > 1 else
                  [value for own in known for value in own["each"]], 3)


def _class_blocks(title: str, values: Values, several: bool) -> Iterator[Block]:
    """Accuracy by class, and what is confused most, of the first draw."""
    which = f"{title}, first draw" if several else title
    columns = {str(Cell(model, labels)): own for model, by in values.get("classes", {}).items()
               for labels, own in by.items()}
    names: Values = next(iter(columns.values()), {})
    yield Block(folded=True, table=Table(
        caption=f"{which}: accuracy by class [%]", head=["class", *columns],
        rows=[[k, *(number(own.get(k), 1) for own in columns.values())] for k in names]))
    yield Block(folded=True, table=Table(
        caption=f"{which}: confused most", head=["class", "taken for", "share of its images [%]", "students"],
        rows=[[row["true"], row["predicted"], f"{100 * row['share']:.1f}", str(Cell(model, labels))]
              for model, by in values.get("confusion", {}).items() for labels, own in by.items()
              for row in own["worst"]]))
