"""What was measured of the sets: one protocol for all, diversity, memorisation, privacy, the embedding.

The values are those of utils.measures; each is shown with the command that measured it.
"""
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from utils.measures import Measure
from utils.pieces import Values
from validate.figuring import cosine, embedding
from validate.reporting.curves import command, named
from validate.reporting.facts import DASH, spread
from validate.reporting.parts import Axis, Block, Scatter, Section, Table, dots_chart
from validate.reporting.sets import ImageSet

METHODS = {"t-sne": "t-SNE", "umap": "UMAP"}
POINTS = 1500  # of an embedding, of each kind


def measures_of(own: ImageSet, name: str) -> list[Measure]:
    """A measure of each draw that has it; where draws were measured at several IPCs, of the largest alone."""
    found = [draw.measures[name] for draw in own.draws if name in draw.measures]
    return [measure for measure in found if measure["ipc"] == max(other["ipc"] for other in found)]


def names_of(sets: Sequence[ImageSet], prefix: str) -> list[str]:
    """The measures of any set whose names begin so."""
    return sorted({name for own in sets for draw in own.draws for name in draw.measures
                   if name.startswith(prefix)})


def commands_of(measures: Iterable[Measure]) -> list[str]:
    """How they were measured, each command once."""
    return list(dict.fromkeys(measure["command"] for measure in measures))


def number(value: Any, digits: int = 3) -> str:
    """A value of a measure; a dash for none."""
    return DASH if value is None else f"{value:.{digits}f}"


def over_draws(found: Sequence[Measure], *keys: str, digits: int = 3) -> str:
    """One scalar of a measure, mean and spread over the draws that have it."""
    values = []
    for measure in found:
        value: Any = measure["values"]
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        values += [value] if value is not None else []
    return spread(values, digits)


# ---------------------------------------------------------------- diversity

def diversity(sets: Sequence[ImageSet]) -> Section | None:
    """Intra-class cosine by set, in the network that measured most of them."""
    often = Counter(name for own in sets for name in names_of([own], "diversity_")
                    if len(measures_of(own, name)) == len(own.draws))
    if not often:
        return None
    name = often.most_common(1)[0][0]
    shown = [own for own in sets if len(measures_of(own, name)) == len(own.draws)]
    arch = name.removeprefix("diversity_")
    runs = [cosine.numbers([named(own)], arch, ipc=measures_of(own, name)[0]["ipc"])["runs"][0]
            for own in shown]
    chart = dots_chart([(own.name, own.kind, run["draws"], spread(run["draws"], 3))
                        for own, run in zip(shown, runs, strict=True)],
                       title=f"Intra-class cosine similarity by {arch}", most=1)
    table = Table(caption=f"Intra-class cosine by {arch}",
                  head=["set", "IPC", "mean over draws", "std", "each draw", "std over classes"],
                  rows=[[run["name"], str(run["ipc"]), number(run["mean"]), number(run["std"]),
                         ", ".join(number(value) for value in run["draws"]), number(run["class_std"])]
                        for run in runs])
    taught = any(run["taught"] for run in runs)
    notes = ["Mean over all pairs of a class's images; lower is more diverse. Bars: ± one standard deviation "
             "over draws (n − 1).", f"{arch} " + ("taught images or labels of a set here, so it is no judge "
             "from outside." if taught else "taught none of these images, nor their labels.")]
    classes = Table(caption=f"Intra-class cosine by class, {arch}",
                    head=["class", *(own.name for own in shown)], rows=[
                        [k, *(number(run["classes"].get(k)) for run in runs)] for k in runs[0]["classes"]])
    return Section(id="diversity", title="Diversity", blocks=[
        Block(chart=chart, table=table, folded=True, notes=notes, commands=commands_of(
            measure for own in shown for measure in measures_of(own, name))),
        Block(table=classes, folded=True, commands=[command("cosine", shown)])])


# ---------------------------------------------------------------- memorisation and privacy

SCALARS = ("precision", "recall", "density", "coverage")


def memorisation(sets: Sequence[ImageSet]) -> Section | None:
    """How near distilled images are to real ones, and how well they cover them; a table a way to measure."""
    blocks = []
    for name in names_of(sets, "memorisation_"):
        ways: dict[tuple[int, int], dict[str, list[Measure]]] = {}
        for own in sets:
            for measure in measures_of(own, name):
                way = measure["values"]["real_images"], measure["values"]["k"]
                ways.setdefault(way, {}).setdefault(own.name, []).append(measure)
        for (real_images, k), found in ways.items():
            by = f"Against {real_images:,} real images, by {name.removeprefix('memorisation_')}, k = {k}"
            blocks += [_coverage(by, found), _nearness(by, found)]
            blocks += [Block(folded=True, table=Table(
                caption=f"By class, {own} (first draw), k = {k}", head=["class", *SCALARS], rows=[
                    [label, *(number(values.get(key)) for key in SCALARS)]
                    for label, values in measures[0]["values"].get("classes", {}).items()]))
                for own, measures in found.items() if measures[0]["values"].get("classes")]
    return Section(id="memorisation", title="Memorisation", blocks=blocks) if blocks else None


def _coverage(by: str, found: dict[str, list[Measure]]) -> Block:
    """Precision and its kin, which depend on k."""
    every = [measure for measures in found.values() for measure in measures]
    rows = [[own, str(measures[0]["ipc"]), *(over_draws(measures, key) for key in (
        *SCALARS, "coverage_expected"))] for own, measures in found.items()]
    taught = {measure["values"].get("taught") for measure in every}
    judge = ["This network taught images or labels of a set here, so it is no judge from outside."
             ] if True in taught else ["This network taught none of these images, nor their labels."
                                       ] if taught == {False} else []
    return Block(table=Table(caption=by, rows=rows, head=["set", "IPC", *SCALARS, "of as many real images"]),
                 notes=["Recall says little of few images a class: the balls around them that it counts are "
                        "huge.", *judge], commands=commands_of(every))


def _nearness(by: str, found: dict[str, list[Measure]]) -> Block:
    """Distances to real images, which k leaves alone."""
    rows = [[own, over_draws(measures, "nearest", "mean"), over_draws(measures, "nearest", "least"),
             over_draws(measures, "real_nearest", "mean"), over_draws(measures, "moved", "mean"),
             over_draws(measures, "still_closest", digits=2)] for own, measures in found.items()]
    return Block(
        table=Table(caption=f"{by.partition(', k')[0]}: distances between features", rows=rows, head=[
            "set", "nearest real image", "the least", "of real images", "moved", "still closest"]),
        notes=["Of real images: to each other, the yardstick. A distilled image much nearer to a real one "
               "than that is a copy rather than a summary. Moved: from the real image that it started from; "
               "still closest: share of images to which that one is still the nearest."])


def privacy(sets: Sequence[ImageSet]) -> Section | None:
    """How well an attack tells training images from others by a student's loss."""
    rows, found = [], []
    for own in sets:
        for name in names_of([own], "membership_"):
            for draw, measure in enumerate(measures_of(own, name)):
                values = measure["values"]
                which = own.name + f", draw {draw}" * (len(own.draws) > 1)
                rows.append([which, str(measure["ipc"]), f"{values['model']}, {values['labels']} labels",
                             values["attack"], f"{values['members']:,}", f"{values['nonmembers']:,}",
                             *(within(values.get(key)) for key in ("auc", "tpr_at_1"))])
                found.append(measure)
    return Section(id="privacy", title="Privacy", blocks=[Block(
        table=Table(caption="Membership inference", rows=rows, head=[
            "set", "IPC", "student", "attack", "members", "others", "AUC (95 %)", "TPR at 1 % FPR (95 %)"]),
        notes=["AUC 0.5 and a true positive rate of 0.01 are guessing: members cannot be told from others."],
        commands=commands_of(found))]) if rows else None


def within(found: Values | None) -> str:
    """A value with its interval."""
    if not found or found.get("value") is None:
        return DASH
    interval = found.get("interval")
    return number(found["value"]) + (f" ({number(interval[0])} to {number(interval[1])})" if interval else "")


# ---------------------------------------------------------------- the embedding

def embedded(sets: Sequence[ImageSet]) -> Section | None:
    """Real and distilled images in one plane, a chart a set."""
    blocks = []
    for own in sets:
        found = embedding.numbers([named(own)])
        for run in found["runs"]:
            kinds = {kind: [point for point in run["points"] if point["kind"] == kind]
                     for kind in ("real", "distilled")}
            kept = {kind: points[::-(-len(points) // POINTS) or 1] for kind, points in kinds.items()}
            method = METHODS.get(run["method"], run["method"])
            how = f"{method} of features of {found['arch']}, IPC {run['ipc']}, seed {run['seed']}"
            blocks.append(_plane(own, how, kept, run["command"],
                                 {kind: len(points) for kind, points in kinds.items()}))
    return Section(id="embedding", title="Real and distilled images in one plane", blocks=blocks, text=[
        "What lies close together is alike; distances between groups, and the size of a group, mean nothing."
    ]) if blocks else None


def _plane(own: ImageSet, how: str, kept: dict[str, list[Values]], made_by: str,
           every: dict[str, int]) -> Block:
    points = [point for of_kind in kept.values() for point in of_kind]
    x, y = (Axis(low=min(p[c] for p in points), high=max(p[c] for p in points) + 1e-9) for c in "xy")
    shown = ", ".join(f"{len(of_kind):,} of {every[kind]:,} {kind}" for kind, of_kind in kept.items())
    chart = Scatter(title=f"{own.name}: {how}", description=f"{shown} images", points={
        kind: [(x.place(p["x"]), round(100 - y.place(p["y"]), 2), str(p["class"])) for p in of_kind]
        for kind, of_kind in kept.items()})
    rows = [[str(p["class"]), p["kind"], f"{p['x']:.3g}", f"{p['y']:.3g}"] for p in points]
    return Block(chart=chart, folded=True, commands=[made_by], notes=[f"{how}; {shown} images."],
                 table=Table(caption=f"Points, {own.name}", head=["class", "kind", "x", "y"], rows=rows))
