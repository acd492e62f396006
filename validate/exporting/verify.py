"""Whether this exported set is whole, in its class order, and as accurate as its author measured.

    python verify.py                            every file's sha256, the order of classes, what was measured
    python verify.py --accuracy 49.1 48.8       your re-run's top-1 [percent], one a student: is it within?
    python verify.py --teachers FOLDER          are these the teachers that made images and labels?

Needs Python's standard library alone, and export.json beside it.  Exit status: 0 whole (or within), 1 not,
2 it cannot be told.  The interval is Student's t: with 95 % it holds the mean of m more students on the same
images and labels, mean +- t s sqrt(1/m + 1/n).  It says nothing of other images, labels or test sets.
"""
import argparse
import hashlib
import json
import math
import os
import sys
from collections import Counter
from pathlib import Path

ASIDE = (".git", ".cache")  # what git and the Hub's client keep beside a set
CARD_KEYS = ("configs", "dataset_info")  # datasets 5.2.0 shows the second's class names, else the first's
PICTURES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
ROUNDING = 0.05  # percent: accuracies are told with one decimal
WIDE = 10  # points: an interval so wide holds students of quite other sets too
WEIGHTS = (".pt", ".pth")


def digest_of(path):
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            digest.update(part)
    return digest.hexdigest()


def shown(text):
    """A name as one line of plain characters: names of classes come from other people."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def parsed(text):
    """A JSON value.   Raises: ValueError, also where it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def check_files(folder, record):
    """(what is wrong, path and why) of every file that is not as export.json says."""
    belongs = {expected["sha256"]: path for path, expected in record["files"].items()}
    missing = {path for path in record["files"] if not (folder / path).is_file()}
    pairs = []  # what is wrong, a path, the path with which it is
    for path, expected in record["files"].items():
        if path not in missing and (digest := digest_of(folder / path)) != expected["sha256"]:
            if digest in belongs:
                pairs.append(("reordered", path, belongs[digest]))
            else:
                yield "changed", path
    for path, why in beside(folder, record):
        own = belongs.get(digest_of(folder / path)) if (folder / path).is_file() else None
        if own in missing:
            missing.remove(own)
            pairs.append(("moved", own, path))
        else:
            yield "foreign", f"{path}: {why}"
    yield from together(pairs)
    yield from (("missing", path) for path in record["files"] if path in missing)


def beside(folder, record):
    """(path, why) of every picture, or linked folder of such, that is not of the set."""
    for root, folders, names in os.walk(folder):  # hidden folders too: readers do not leave them out
        where = Path(root).relative_to(folder)
        folders[:] = sorted(name for name in folders if where != Path() or name not in ASIDE)
        for path in (where / name for name in folders):
            if (folder / path).is_symlink():
                yield path.as_posix(), "a linked folder, whose pictures readers take too"
        for name in sorted(names):
            path = (where / name).as_posix()
            if path not in record["files"] and Path(name).suffix.lower() in PICTURES:
                yield path, "a picture that is not of the set"


def together(pairs):
    """Pairs of paths as findings: one for all that a folder shares with another."""
    shared: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for what, path, other in pairs:
        shared.setdefault((what, *(Path(own).parent.as_posix() for own in (path, other))), []).append(
            (path, other))
    for (what, own, theirs), ((path, other), *more) in shared.items():
        where, those = ("holds the bytes of", "those of") if what == "reordered" else ("lies at", "in")
        rest = f", {len(more)} more of {own} {those} {theirs}" if more else ""
        yield what, f"{path}: {where} {other}{rest}"


def names_in_card(folder):
    """(where, class names in order) of every line of README.md's YAML that states them for the Hub."""
    card = folder / "README.md"
    if not card.is_file():
        return
    for line in card.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
        key, _, value = line.partition(": ")
        if key in CARD_KEYS:
            try:
                stated = parsed(value)
                features = (stated[0] if key == "configs" else stated)["features"]
                label = next(own for own in features if own["name"] == "label")
                named = label["dtype"]["class_label"]["names"]
                yield f"{key} in README.md", [named[str(k)] for k in range(len(named))]
            except (ValueError, LookupError, TypeError, StopIteration):
                yield f"{key} in README.md", []


def differs(where, found, expected):
    """The first class in which a list of names is not the expected one."""
    for k, name in enumerate(expected):
        if k >= len(found) or found[k] != name:
            got = repr(found[k]) if k < len(found) else "missing"
            yield "order", f"{where}: class {k} is {got}, expected {name!r}"
            return
    if len(found) > len(expected):
        yield "order", f"{where}: {len(found)} classes, expected {len(expected)}"


def check_order(folder, record):
    """(what is wrong, why) where a list of classes, a label or a class's number of images is another."""
    names, labels = record["class_names"], record["labels"]
    classes, metadata = folder / "classes.json", folder / "metadata.jsonl"
    if "classes.json" in record["files"] and classes.is_file():
        try:
            yield from differs("classes.json", parsed(classes.read_text(encoding="utf-8")), names)
        except ValueError:
            yield "order", "classes.json: not JSON"
    for where, stated in names_in_card(folder):
        yield from differs(where, stated, names)
    if "metadata.jsonl" in record["files"] and metadata.is_file():
        try:
            rows = [parsed(line) for line in metadata.read_text(encoding="utf-8").splitlines()]
            wrong = [row["file_name"] for row in rows if labels.get(row["file_name"]) != row["label"]]
        except (ValueError, KeyError, TypeError):
            wrong = ["a line that is none"]
        if wrong:
            yield "order", f"metadata.jsonl: {wrong[0]}: not its label ({len(wrong)} such)"
    if record["to"] == "imagefolder":  # whose readers number the folders as they sort
        found = (path.name for path in folder.iterdir() if path.is_dir())
        yield from differs("folders", sorted(found), sorted({path.split("/")[0] for path in labels}))
    there = Counter(label for path, label in labels.items() if (folder / path).is_file())
    for k, count in enumerate(record["counts"]):
        if labels and there[k] != count:
            yield "count", f"class {k} ({names[k]}): {there[k]} images, expected {count}"


def interval(row, runs):
    """Where the mean of so many more students is with 95 % [percent]; None where no spread is known."""
    if not row["std"]:  # one student, or equal ones
        return None
    half = row["t"] * row["std"] * math.sqrt(1 / runs + 1 / row["n"])
    return max(0.0, row["mean"] - half), min(100.0, row["mean"] + half)


def weak(known):
    """What to say of an interval [percent] that hardly rules anything out."""
    width = known[1] - known[0]
    return f"; {width:.1f} points wide, it checks little" if width > WIDE else ""


def describe(row):
    """What was measured of one kind of student, as a line."""
    known = interval(row, 1)
    text = f"{row['name']}: {row['model']}, {row['labels']} labels: top-1 {row['mean']:.2f} %"
    if known is None:
        return text + f" (n = {row['n']}, no spread is known: no interval is known)"
    return text + (f" +- {row['std']:.2f} (n = {row['n']} students); one more student: 95 % in "
                   f"[{known[0]:.2f}, {known[1]:.2f}]{weak(known)}")


def judge(record, accuracies, name):
    """(exit status, line): whether re-run accuracies [percent] are within what was measured."""
    rows = [row for row in record["accuracies"] if name in (None, row["name"])]
    if len(rows) != 1:
        known = ", ".join(row["name"] for row in record["accuracies"]) or "none"
        return 2, f"say which students with --of NAME; measured: {known}"
    (row,), mean = rows, sum(accuracies) / len(accuracies)
    if 0 < max(accuracies) <= 1 and row["mean"] > 2:
        return 2, f"--accuracy is in percent, got {mean:g}: is that a fraction? Then it is {100 * mean:g}"
    known = interval(row, len(accuracies))
    text = (f"{row['name']}: yours {mean:.2f} % (m = {len(accuracies)}), the author's {row['mean']:.2f} % "
            f"(n = {row['n']})")
    if known is None:
        return 2, f"{text}: of one run, or of equal ones, no interval is known; nothing is decided"
    low, high = known
    where = f"[{low:.2f}, {high:.2f}]"
    if mean < low - ROUNDING:
        return 1, f"{text}: BELOW the 95 % interval {where}; settings, labels, class order or data differ"
    if mean > high + ROUNDING:
        return 1, f"{text}: ABOVE the 95 % interval {where}; is the test set the same, and held out?"
    return 0, f"{text}: within the 95 % interval {where}{weak(known)}"


def check_teachers(record, folder):
    """(exit status, lines): which recorded teachers are among a folder's files, by their bytes."""
    wanted = list(dict.fromkeys(teacher for own in record["teachers"].values() for teacher in own.items()))
    if not wanted:
        return 2, ["no teachers are recorded of this set"]
    if not folder.is_dir():
        return 2, [f"error: --teachers {folder}: no such folder"]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {digest_of(path) for path in files}
    named = {path.stem.partition("-")[0]: path for path in files if path.suffix in WEIGHTS}
    lines = []
    for name, digest in wanted:
        other = "" if digest in found else named.get(name, "")
        what = "found" if digest in found else "changed" if other else "missing"
        lines.append(f"{what:<8}{name} {digest}" + (f": {other} has other bytes" if other else ""))
    return int(any(digest not in found for _, digest in wanted)), lines


def check(folder, record):
    """Prints what is wrong with the files, or what was measured of whole ones; returns the exit status."""
    wrong = [*check_files(folder, record), *check_order(folder, record)]
    for what, why in wrong:
        print(f"{what:<10}{shown(why)}")
    print(f"sha256 of export.json, to compare with its author's: {digest_of(folder / 'export.json')}")
    images = len(record["labels"]) or sum(record["counts"])
    print(f"{images} images of {len(record['class_names'])} classes, {len(record['files'])} files: "
          + (f"NOT WHOLE, findings: {len(wrong)}" if wrong else "all whole"))
    if wrong:  # whose accuracies nobody measured
        return 1
    for stage, teachers in record["teachers"].items():
        named = ", ".join(f"{name} {digest[:16]}" for name, digest in teachers.items())
        print(shown(f"teachers of the {stage}: {named}"))
    for row in record["accuracies"]:
        print(shown(describe(row)))
    if not record["accuracies"]:
        print("no accuracy was measured of these images")
    for command in record["commands"]:
        print(f"again: {shown(command)}")
    return 0


def main():
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--accuracy", type=float, nargs="+", metavar="PERCENT", help="top-1 of your students")
    parser.add_argument("--of", metavar="NAME", help="which students of export.json, where it has several")
    parser.add_argument("--teachers", type=Path, metavar="FOLDER", help="where your teachers' weights are")
    given = parser.parse_args()
    try:
        status = answer(given, parsed((given.folder / "export.json").read_text(encoding="utf-8")))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # verify.py | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        print(f"error: {given.folder / 'export.json'}: no record of an export ({shown(repr(error))})",
              file=sys.stderr)
        return 2


def answer(given, record):
    """What was asked of a record; returns the exit status."""
    if given.accuracy:
        if not all(0 <= value <= 100 for value in given.accuracy):
            print(f"error: --accuracy is in percent, got {given.accuracy}", file=sys.stderr)
            return 2
        status, line = judge(record, given.accuracy, given.of)
        print(shown(line))
        return status
    if given.teachers:
        status, lines = check_teachers(record, given.teachers)
        print(*map(shown, lines), sep="\n")
        return status
    return check(given.folder, record)


if __name__ == "__main__":
    sys.exit(main())
