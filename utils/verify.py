"""Whether everything that a run's records promise is there, byte for byte.

    python -m utils.verify out/full_resnet18        a run with its labels and students, labels, or teachers

Names every file that is missing or changed, every damaged record, work in progress, and files that are not
ours.  Exit status 1 where something is missing, changed or damaged; the stage that made it makes it anew.
"""
import sys
from collections.abc import Iterator
from pathlib import Path

from utils.files import sha256_file
from utils.folders import CLAIM, IN_USE, KINDS
from utils.pieces import Values, require
from utils.records import Checksum, Result, Teacher, read_json, read_record
from utils.runtime import EXIT_FAILED, command_line
from utils.unit_files import read_unit

Row = tuple[str, Path]  # what is wrong, or "whole", and the file


def promises(record: Path, form: str) -> dict[Path, str]:
    """What a record of a folder of that format promises: file -> sha256.   Raises: ValueError if damaged."""
    if form == "prism-images":
        return {record.parents[1] / path: digest for path, digest in read_unit(record)["files"].items()}
    if form == "prism-labels":
        return {record.with_suffix(".pt"): read_record(record, Checksum)["sha256"]}
    if form == "prism-students":
        files = read_record(record, Result).get("files", {})
        return {record.parent / name: expected["sha256"] for name, expected in files.items()}
    digest = read_record(record, Teacher).get("sha256")
    return {record.with_suffix(".pt"): digest} if digest else {}


def check_folder(folder: Path) -> Iterator[Row]:
    """The rows of one folder, by its config.json."""
    config = folder / "config.json"
    try:
        kind = KINDS.get(str(read_record(config, Values).get("format")))
    except ValueError:
        yield "damaged", config
        return
    if kind is None:
        return
    yield from (("whole", path) for path in (config, folder / CLAIM, folder / IN_USE) if path.is_file())
    own, promised = kind.own(folder), dict[Path, str]()
    for record in own.records:
        try:
            if record.name not in SUMMARIES and record.parent.name != "measured":
                promised |= promises(record, kind.format)
            elif record.suffix == ".json":
                read_json(record)
            yield "whole", record
        except ValueError:
            yield "damaged", record
    for path, digest in promised.items():
        yield "missing" if not path.is_file() else "whole" if sha256_file(path) == digest else "changed", path
    for path in own.others:
        if path not in promised:
            kept = path.suffix in (".jsonl", ".html") or path.name.startswith("statistics_")  # of models
            yield "whole" if kept else "unfinished", path


SUMMARIES = ("manifest.json", "preflight.json", "places.json", "results.json", "results.jsonl")


def verify(folder: Path) -> list[Row]:
    """Every file below a folder, and every one that should be there."""
    claimed = sorted(path.parent for path in folder.rglob("config.json"))
    require(claimed, f"{folder}: no config.json in it or below; expected a run, labels, students or teachers")
    rows = [row for place in claimed for row in check_folder(place)]
    known = {path for _, path in rows}
    return rows + [("foreign", path) for path in sorted(folder.rglob("*"))
                   if path.is_file() and path not in known]


def main(argv: list[str] | None = None) -> list[Row]:
    """Prints what is not as it should be; ends with status 1 where finished work is not whole."""
    words = sys.argv[1:] if argv is None else argv
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return []
    require(len(words) == 1, f"expected one folder, got {len(words)}: python -m utils.verify RUN")
    rows = verify(Path(words[0]))
    for what, path in rows:
        if what != "whole":
            print(f"{what:<10} {path}")
    lost = sum(what in ("missing", "changed", "damaged") for what, _ in rows)
    print(f"{words[0]}: {sum(what == 'whole' for what, _ in rows)} files are whole, {lost} are not")
    if lost:
        sys.exit(EXIT_FAILED)
    return rows


if __name__ == "__main__":
    command_line(main)
