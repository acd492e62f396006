"""An evaluation as people read it: tables of sets by networks, differences in words, scores, classes."""
from collections.abc import Sequence

from utils.pieces import Values
from validate.cells import HARD
from validate.controls import REFERENCE
from validate.evaluation import FULL
from validate.results import figure

SCORES = {"hlr": "HLR (hard labels lose against all real images)",
          "ior": "IOR (gain over random real images)",
          "lrs": "LRS (of both, 0 to 1)", "ars": "ARS (gain with and without augmentation, 0 to 1)"}
WORST_CLASSES = 3


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as a Markdown table, the first row its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def tables(values: Values) -> list[str]:
    """A table a kind of labels: a row a set, a column a network of the students."""
    found = {(row["set"], row["labels"], row["model"]): row for row in values["accuracies"]}
    lines = []
    for labels in dict.fromkeys(row["labels"] for row in values["accuracies"]):
        sets = dict.fromkeys(row["set"] for row in values["accuracies"] if row["labels"] == labels)
        rows = [[f"top-1 [%], {labels}", *values["models"]]]
        for images in sets:
            cells = [found.get((images, labels, model)) for model in values["models"]]
            rows.append([images, *("-" if cell is None else figure(cell["mean"], cell["std"])
                                   for cell in cells)])
        lines += [*align(rows), ""]
    return lines


def over_what(against: str) -> str:
    """What a difference of one distilled set is over."""
    return "draws of the real images and students' seeds" if against == REFERENCE else \
        "students' seeds, on one set a side"


def difference_in_words(row: Values) -> str:
    """A paired difference: how large, whether decided, and over what its interval is."""
    text = f"{row['model']}, {row['labels']}: {row['set']} - {row['against']} {row['mean']:+.1f} points"
    if row["interval"] is None:
        return f"{text}; one seed says nothing of the spread: nothing is decided"
    low, high = row["interval"]
    verdict = "decided" if row["decided"] else "not decided, the interval holds 0"
    over = over_what(row["against"])
    return f"{text} (95 % {low:+.1f} to {high:+.1f} over n = {row['n']} {over}): {verdict}"


def scores_in_words(model: str, own: Values) -> list[str]:
    """A network's scores, fractions."""
    def shown(name: str) -> str:
        found = own[name]
        return "not measured" if found is None else f"{found['mean']:.3f}" + (
            "" if found["std"] is None else f" +- {found['std']:.3f}")
    return [f"{model}: {text} {shown(name)}" for name, text in SCORES.items()]


def classes_in_words(values: Values) -> list[str]:
    """The least accurate classes of each network and kind of labels, and what is most often confused."""
    lines = []
    for model, kinds in values["classes"].items():
        for labels, classes in kinds.items():
            there = {name: value for name, value in classes.items() if value is not None}
            least = sorted(there, key=lambda name: there[name])[:WORST_CLASSES]
            worst = values["confusion"][model][labels]["worst"][:WORST_CLASSES]
            lines.append(f"{model}, {labels}: least accurate " + ", ".join(
                f"{name!r} {there[name]:.1f} %" for name in least) + (
                "; most often confused " + ", ".join(
                    f"{pair['true']!r} as {pair['predicted']!r} {100 * pair['share']:.1f} %"
                    for pair in worst) if worst else ""))
    return lines


def describe(values: Values, *, command: str, notes: Sequence[str]) -> str:
    """All of it as text.   Args: command: which repeats it;  notes: what else is to be said."""
    changed = "; ".join(values["changed"])
    num = len(values["seeds"])
    spread = "One student of each says nothing of the spread." if num < 2 else (
        f"+- is the standard deviation (n - 1) over n = {num} students; of {REFERENCE}, a draw each.")
    parts = [
        f"{values['dataset']}, IPC {values['ipc']}, protocol {values['protocol']}"
        + (f" (changed: {changed})" if changed else "") + f", n = {num} seeds",
        "", *tables(values),
        f"Top-1 is of the last epoch. {spread}", *notes, "",
        "Differences, paired by seed; the distilled set is one, its own spread over draws is in no interval "
        "(python -m validate.results measures that):",
        *(f"- {difference_in_words(row)}" for row in values["differences"]), "",
        "Scores, of fractions, by seed (DD-Ranking's formulas; its package feeds percentages):",
        *(f"- {line}" for model, own in values["scores"].items() for line in scores_in_words(model, own)),
        "",
        f"Classes of the distilled set's students, all seeds together (the matrix is in the measure; {HARD} "
        f"labels are the images alone):",
        *(f"- {line}" for line in classes_in_words(values)), "",
        "All of it again, what is missing made:", f"    {command}"]
    return "\n".join(parts)


def what_full_is(known: Sequence[float]) -> str:
    """What the accuracy on all real images is."""
    if known:
        return f"{FULL}: as given by --full-accuracy, not trained here."
    return f"{FULL}: all real training images with hard labels, by models.train_teachers, one of each seed."
