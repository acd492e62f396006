"""The card of an export, README.md: what it is, how it was made, what was measured, how to use and check it.

Names come from other people: they stand in code spans, or not at all.
"""
import re
import shlex
from collections.abc import Iterable

from utils.image_sets import are_real
from utils.methods import METHODS
from utils.pieces import Values
from validate.exporting.contents import Contents
from validate.exporting.targets import ImageFolder


def code(text: object) -> str:
    """Text as a code span of one line, which a table's cell may hold."""
    plain = re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", "?", str(text))
    plain = plain.replace("|", "?").strip() or "?"
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    return f"{fence}{plain}{fence}" if fence == "`" else f"{fence} {plain} {fence}"


def card(contents: Contents, target: ImageFolder, title: str, commands: Iterable[str],
         controls: list[Values]) -> str:
    """The whole of README.md."""
    images = contents.images
    usage = target.usage(contents)
    usage = usage.replace("MEAN", str(list(images.mean))).replace("STD", str(list(images.std)))
    usage = usage.replace("```python\n", "```python\nimport torch\n") if "torch." in usage else usage
    return "\n".join([
        f"{target.front_matter(contents)}# {code(title)}", "", *about(contents, target), "",
        "## How it was made", "", *made(contents), "",
        "## What was measured", "", *measured(contents, controls), "",
        "## Use", "", usage, "", "HERE is this folder.", "",
        "## Is it what was published?", "",
        *checks(contents), "",
        "Again, from the root of PRISM (DATA: the real data; TEACHERS: the teachers' weights; HERE: this "
        "folder; RUN: the set as its author had it, with its labels and students below it; what else is in "
        "capitals is not in it):",
        "", *(f"    {command}" for command in commands), "",
        "On a CPU equal seeds, threads and library versions give equal bytes; elsewhere only the interval is "
        "promised.", ""])


def checks(contents: Contents) -> list[str]:
    """What verify.py tells of this set: each line runs as it stands, FOLDER filled in."""
    examples = [("", "every file's sha256, the order of classes; no packages")]
    known = [row for row in (own.row() for own in contents.students) if row["interval"]]
    if row := next((row for row in known if row["name"].isprintable()), None):
        of = f" --of {shlex.quote(row['name'])}" if len(contents.students) > 1 else ""
        examples.append((f" --accuracy {row['mean']:.1f}{of}", "your re-run's top-1 in percent: within?"))
    if contents.teachers():
        examples.append((" --teachers FOLDER", "are these the teachers?"))
    width = max(len(words) for words, _ in examples)
    return [f"    python verify.py{words:<{width}}   # {why}" for words, why in examples]


def about(contents: Contents, target: ImageFolder) -> list[str]:
    """What it is."""
    images, counts = contents.images, contents.counts
    each = str(counts[0]) if len({*counts}) == 1 else f"{min(counts)} to {max(counts)}"
    held = f"{len(contents.entries)} images of {images.num_classes} classes, {each} a class"
    statistics = f"Pixel mean {list(images.mean)}, standard deviation {list(images.std)}."
    if are_real(images):
        return [f"Real images, chosen and never optimised: {held}, {images.size} x {images.size} pixels, of "
                f"{code(contents.dataset_name)}. {statistics}"]
    if not images.foreign:
        return [f"A distilled data set: {held}, {images.size} x {images.size} pixels, made of "
                f"{code(contents.dataset_name)} to train networks in its place. {statistics}"]
    return [f"A set of images, of whose making nothing is recorded: {held}, of the classes of "
            f"{code(contents.dataset_name)}. {sizes(contents, target)} {statistics}"]


def sizes(contents: Contents, target: ImageFolder) -> str:
    """Of a set of others: the sides of its files, and at which size students take them."""
    side = contents.images.size
    seen = f"{side} x {side} pixels"
    if not target.paths(contents):
        return f"Networks see {seen}."
    found = contents.file_sizes()
    if found == {(side, side)}:
        return f"The files have {seen}."
    own = " to ".join(f"{w} x {h}" for w, h in dict.fromkeys((min(found), max(found))))
    return f"The files have {own} pixels; students see them at {seen}."


def made(contents: Contents) -> list[str]:
    """How it was made, as recorded."""
    images, labels = contents.images, contents.labels
    if images.foreign:
        lines = [f"- images: made elsewhere (layout {code(images.foreign)}); how is not recorded here"]
    else:
        lines = [f"- images: {_recipe(images.saved.get('protocol'))}, settings in `recover.json`"]
    if labels:
        lines.append(f"- soft labels: {_recipe(dict(labels.protocol))}, {labels.label_epochs} epochs of "
                     f"{code(labels.config['label_format'])}, settings in `relabel.json`")
    for stage, teachers in contents.teachers().items():
        lines.append(f"- teachers of the {stage} (sha256 of their weights): "
                     + ", ".join(f"{code(name)} {digest[:16]}" for name, digest in teachers.items()))
    return lines


def _recipe(protocol: Values | None) -> str:
    if not protocol:
        return "a protocol that is not recorded"
    source = f" ({METHODS[protocol['name']].source})" if protocol["name"] in METHODS else ""
    changed = f", changed: {', '.join(map(code, protocol['changed']))}" if protocol["changed"] else ""
    return f"protocol {code(protocol['name'])}{source}{changed}"


def measured(contents: Contents, controls: list[Values]) -> list[str]:
    """Accuracies with n, spread and interval; what real images reach, or that nobody measured it."""
    rows = [students.row() for students in contents.students]
    lines = ["Top-1 on held-out real images at the last epoch, in percent; n students on these images:", "",
             "| students | network | labels | top-1 | n | one more student, 95 % |",
             "|---|---|---|---|---|---|", *(_row(row) for row in rows), "",
             "The interval is Student's t over student seeds. It says nothing of other draws of images or "
             "teachers."]
    if not rows:
        lines = ["No student was trained on exactly these images: no accuracy is known."]
    if not controls:
        return [*lines, "", "Controls were not measured: whether as many random real images do better is not "
                "known (`python -m validate.evaluate` measures it)."]
    for own in controls:
        where = f"under the protocol {code(own['protocol'])}, {own['ipc']} images a class"
        lines += ["", f"Beside real images, {where} ({code(own['command'])}):", "",
                  "| set | network | labels | top-1 | n |", "|---|---|---|---|---|",
                  *map(_control, own["accuracies"]), "", *map(_difference, own["differences"])]
    return lines


def _row(row: Values) -> str:
    known = f"[{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]" if row["interval"] else "not known"
    return (f"| {code(row['name'])} | {code(row['model'])} | {row['labels']} "
            f"| {_figure(row['mean'], row['std'])} | {row['n']} | {known} |")


def _control(row: Values) -> str:
    return (f"| {code(row.get('set'))} | {code(row.get('model'))} | {code(row.get('labels'))} "
            f"| {_figure(row.get('mean'), row.get('std'))} | {len(row.get('each') or [])} |")


def _figure(mean: float | None, std: float | None) -> str:
    return "-" if mean is None else f"{mean:.2f}" + ("" if std is None else f" +- {std:.2f}")


def _difference(row: Values) -> str:
    mean, interval = row.get("mean"), row.get("interval")
    figure = "-" if mean is None else f"{mean:+.2f} points"
    known = f"95 % [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "no interval is known"
    return (f"- {code(row.get('model'))}, {code(row.get('labels'))} labels: {code(row.get('set'))} - "
            f"{code(row.get('against'))} is {figure}, {known}, n = {row.get('n')}: "
            f"{'decided' if row.get('decided') else 'not decided'}")
