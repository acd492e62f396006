"""What happened while sets and students were made: losses, accuracies, the networks that units drew.

The numbers are those of validate.figures (validate/figuring), as charts of the page.
"""
import shlex
from collections.abc import Mapping, Sequence

from utils.pieces import Values
from validate.figuring import curves, teachers, terms
from validate.figuring.runs import NamedRun
from validate.reporting.facts import DASH, aligned_nothing
from validate.reporting.parts import Block, Matrix, Section, Table, lines_chart
from validate.reporting.sets import ImageSet

ROWS = 60  # of a table behind a curve
UNITS = 60  # columns of a matrix of networks
STYLES_OF = {"distilled": ("s0", "s1", "s5"), "real": ("s2", "s4", "s6"), "whole": ("s3",)}


def named(own: ImageSet) -> NamedRun:
    """A set as the figures take it."""
    return NamedRun(own.name, tuple(draw.images for draw in own.draws))


def command(figure: str, sets: Sequence[ImageSet]) -> str:
    """The command that draws a figure of these sets."""
    runs = (",".join(str(draw.path) for draw in own.draws) for own in sets)
    of = ["--dataset", sets[0].images.dataset] if any(own.images.foreign for own in sets) else []
    return shlex.join(["python", "-m", "validate.figures", figure, *runs, *of])


def number(value: float | None) -> str:
    """A value with four digits that count."""
    return DASH if value is None else f"{value:.4g}"


def thinned(at: Sequence[float]) -> list[int]:
    """Positions of at most ROWS values, evenly, the last among them."""
    step = -(-len(at) // ROWS)
    return sorted({*range(0, len(at), step), len(at) - 1}) if at else []


# ---------------------------------------------------------------- students

def student_curves(sets: Sequence[ImageSet]) -> Section | None:
    """Accuracy over the epochs, a chart a folder of students."""
    found = {own["name"]: own["students"] for own in curves.numbers([named(own) for own in sets])["runs"]}
    folders = dict.fromkeys(one["folder"] for students in found.values() for one in students)
    blocks = [block for folder in folders if (block := _student_block(folder, {
        name: one for name, students in found.items() for one in students if one["folder"] == folder}, sets))]
    return Section(id="curves", title="Students over the epochs", blocks=blocks) if blocks else None


def _student_block(folder: str, students: dict[str, Values], sets: Sequence[ImageSet]) -> Block | None:
    known = {name: one["top1"] for name, one in students.items() if len(one["top1"]["epochs"]) > 1}
    if not known:
        return None
    one = next(iter(students.values()))
    title = f"{folder}: {one['model']}, loss {one['loss_type']}"
    points = {name: list(zip(own["epochs"], own["mean"], strict=True)) for name, own in known.items()}
    chart = lines_chart(points, styles=styles_of([own for own in sets if own.name in known]), unit=" %",
                        title=f"Accuracy over the epochs, {title}", x_label="epoch", y_label="top-1",
                        least=0, most=100, description="; ".join(
                            f"{name}: {own['mean'][0]:.1f} % at first, {own['mean'][-1]:.1f} % at last"
                            for name, own in known.items()), bands={
                            name: own["std"] for name, own in known.items()})
    rows = [[str(epoch), name, str(students[name]["ipc"]), f"{own['mean'][i]:.1f}", number(own["std"][i]),
             _loss_at(students[name]["loss"], epoch)] for name, own in known.items()
            for i, epoch in ((i, own["epochs"][i]) for i in thinned(own["epochs"]))]
    return Block(chart=chart, folded=True, notes=[_over({name: students[name] for name in known})],
                 commands=[command("curves", sets)],
                 table=Table(caption=f"Students over the epochs, {title}", rows=rows,
                             head=["epoch", "set", "IPC", "top-1 [%]", "std", "training loss"]))


def _over(students: Mapping[str, Values]) -> str:
    """What curves are over, set by set where that differs."""
    words = {name: f"mean and standard deviation (n − 1) over {one['n']} {one['over']}" if one["n"] > 1 else
             f"one of the {one['over']} alone" for name, one in students.items()}
    alike = len(set(words.values())) == 1
    says = next(iter(words.values())) if alike else "; ".join(f"{name}: {own}" for name, own in words.items())
    return f"{says[0].upper() * alike}{says[alike:]}."


def styles_of(sets: Sequence[ImageSet]) -> list[str]:
    """The strokes of sets' curves, by kind; the last one again where a kind has no more."""
    kinds = [own.kind for own in sets]
    return [STYLES_OF[kind][min(kinds[:i].count(kind), len(STYLES_OF[kind]) - 1)]
            for i, kind in enumerate(kinds)]


def _loss_at(loss: Values, epoch: int) -> str:
    return number(loss["mean"][loss["epochs"].index(epoch)]) if epoch in loss["epochs"] else DASH


# ---------------------------------------------------------------- recover

def loss_terms(sets: Sequence[ImageSet]) -> Section | None:
    """Each term of recover's loss over the iterations, a chart a set, relative to where it began."""
    blocks = []
    for own, found in zip(sets, terms.numbers([named(own) for own in sets])["runs"], strict=True):
        known = {name: [(x, y) for x, y in zip(found["at"], term["mean"], strict=True) if y is not None]
                 for name, term in found["terms"].items()}
        known = {name: points for name, points in known.items() if len(points) > 1}
        if known:
            blocks.append(_terms_block(own, found, known))
    return Section(id="loss", title="The loss while images were made", blocks=blocks, text=[
        "Every term as a share of its first value, so that terms of different sizes fit one chart; the table "
        "has their values, without weights."]) if blocks else None


def _terms_block(own: ImageSet, found: Values, known: dict[str, list[tuple[float, float]]]) -> Block:
    shares = {name: [(x, 100 * y / points[0][1]) for x, y in points]
              for name, points in known.items() if points[0][1]}
    chart = lines_chart(shares, title=f"Terms of the loss over the iterations, {own.name}", unit=" %",
                        x_label=found["unit"], y_label="of its first value", least=0,
                        description="; ".join(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}"
                                              for name, points in known.items()))
    names = list(found["terms"])
    rows = [[f"{found['at'][i]:g}", *(number(found["terms"][name]["mean"][i]) for name in names)]
            for i in thinned(found["at"])]
    notes = [f"Means over {found['n']} units of recover."]
    if found["zero"]:
        notes.append(f"0 throughout, since these networks have nothing to align: {', '.join(found['zero'])}.")
    return Block(chart=chart, folded=True, notes=notes, commands=[command("terms", [own])],
                 table=Table(caption=f"Terms of the loss, {own.name}", head=[found["unit"], *names],
                             rows=rows))


def drawn_teachers(sets: Sequence[ImageSet]) -> Section | None:
    """Which networks each unit of recover drew, where units drew any that differ."""
    blocks = []
    for own, found in zip(sets, teachers.numbers([named(own) for own in sets])["runs"], strict=True):
        columns = found["units"]
        if not found["networks"]:
            continue
        rows = [[name, str(found["aligned"][name]), str(found["primary"][name]),
                 ", ".join(f"{column['draw']}:{column['index']}" for column in columns[:UNITS]
                           if name in column["aligned"]) or DASH] for name in found["networks"]]
        chart = Matrix(
            title=f"Which networks were drawn for which images, {own.name}",
            description="; ".join(f"{row[0]} in {row[1]} of {found['n']} units" for row in rows),
            columns=_columns(columns), rows=[(name, [name in column["aligned"] for column in columns[:UNITS]])
                                             for name in found["networks"]])
        units = [unit for draw in own.draws for unit in draw.units]
        idle = [name for name in found["networks"] if aligned_nothing(name, units)]
        notes = [f"Drawn, but aligned nothing, having no BatchNorm: {', '.join(idle)}."] * bool(idle)
        blocks.append(Block(chart=chart, folded=True, commands=[command("teachers", [own])], notes=notes,
                            table=Table(caption=f"Networks drawn by {found['n']} units, {own.name}",
                                        head=["network", "units that drew it", "units by its logits",
                                              "draw:index of the image"], rows=rows)))
    return Section(id="teachers", title="Which teachers each unit drew", blocks=blocks) if blocks else None


def _columns(columns: Sequence[Values]) -> str:
    shown = min(len(columns), UNITS)
    more = f"the first {shown} of {len(columns)}" if shown < len(columns) else f"{shown}"
    return f"{more} units, by draw and image index"
