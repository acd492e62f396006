"""What an export holds: a set's images, labels, students and what was measured of it; and its files, written.

N images, K classes.
"""
import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypedDict

from utils.files import sha256_bytes, sha256_file, write_atomically, write_json
from utils.formats import Entry, ImageManifest, LabelManifest, image_set_digest
from utils.loading import load_distilled
from utils.pictures import open_image
from utils.pieces import Values, require
from utils.records import FORMAT_VERSION, Checksum, find_record, read_record
from utils.runtime import progress, say
from validate.exporting.measured import Students, controls, rerun

RECORD, CARD = "export.json", "README.md"


class Record(TypedDict):
    """What export.json must hold, to be known as an earlier export."""

    format: str
    version: int
    to: str
    images: str
    card: str
    files: dict[str, Checksum]


class Begun(TypedDict, total=False):
    """.export.json, as long as an export is not finished.   cards: digests of what it may have written."""

    to: str
    images: str
    cards: list[str]


class File(NamedTuple):
    """A file of an export.   sha256: of its bytes, where that is known before;  bytes: about how many."""

    path: str
    bytes: int
    write: Callable[[BinaryIO], object]
    sha256: str = ""


def made_of(path: str, content: bytes) -> File:
    """A file of these bytes."""
    return File(path, len(content), lambda file: file.write(content), sha256_bytes(content))


def json_file(path: str, value: Any) -> File:
    """A file of a JSON value."""
    return made_of(path, (json.dumps(value, indent=1) + "\n").encode())


def copy_of(path: str, source: Path, sha256: str = "") -> File:
    """A file's bytes, if they are those that its record promises.   Raises (when written): ValueError."""
    def write(file: BinaryIO) -> None:
        content = source.read_bytes()
        require(sha256 in ("", sha256_bytes(content)), f"{source}: its bytes are not those that were "
                f"recorded (truncated or changed); python -m utils.verify names all such, a rerun mends them")
        file.write(content)
    if not source.is_file():
        raise FileNotFoundError(f"{source} is missing; python -m utils.verify names all such, a rerun mends "
                                f"them")
    return File(path, source.stat().st_size, write, sha256)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """A set as it is exported.

    entries: the first `ipc` images of every class, by class, then index;  labels: None where there are none
    of exactly these images;  students: trained on exactly these.
    """

    images: ImageManifest
    entries: list[Entry]
    ipc: int
    labels: LabelManifest | None
    students: list[Students]

    @property
    def counts(self) -> list[int]:
        """Images of every class."""
        found = Counter(entry.label for entry in self.entries)
        return [found[k] for k in range(self.images.num_classes)]

    @property
    def dataset_name(self) -> str:
        """Of the real data, without the folder where its author has it."""
        kind, colon, path = self.images.dataset.partition(":")
        return Path(path).name if colon else kind

    @functools.cached_property  # which every file of tensors names
    def digest(self) -> str:
        """Of exactly these images."""
        return image_set_digest(self.entries)

    def numbered(self) -> list[str]:
        """A path for every image, zero-padded so that names sort as labels do: 00003/00007.jpg."""
        seen: Counter[int] = Counter()
        paths = []
        for entry in self.entries:
            paths.append(f"{entry.label:05d}/{seen[entry.label]:05d}{Path(entry.path).suffix.lower()}")
            seen[entry.label] += 1
        return paths

    def copies(self, paths: list[str]) -> Iterable[File]:
        """The images, byte for byte, under other names.   Args: paths: one an image."""
        return (copy_of(path, self.images.run / entry.path, entry.sha256)
                for path, entry in zip(paths, self.entries, strict=True))

    def file_sizes(self) -> set[tuple[int, int]]:
        """Width and height of the files as they are [pixels]."""
        found = set()
        for entry in self.entries:
            with open_image(self.images.run / entry.path) as picture:
                found.add(picture.size)
        return found

    def pixels(self) -> Any:
        """(N, 3, H, W) uint8, checked against their digests."""
        return load_distilled(self.images.run, self.entries, size=self.images.size)[0]

    def teachers(self) -> dict[str, dict[str, str]]:
        """Of "images" and "labels": teacher -> sha256 of its weights' file, as recorded."""
        own = {"images": dict(self.images.saved.get("weights") or {}),
               "labels": dict(self.labels.weights) if self.labels else {}}
        return {stage: weights for stage, weights in own.items() if weights}

    def settings(self) -> dict[str, Values]:
        """File -> the settings of a stage, as its --config takes them."""
        made = {} if self.images.foreign else self.images.saved.get("config")
        found = {"recover.json": made or {},
                 "relabel.json": self.labels.config if self.labels else {}}
        found |= {students.settings_file: students.settings for students in self.students}
        return {name: values for name, values in found.items() if values}

    def record(self, to: str, labels: dict[str, int], holds: str) -> Values:
        """export.json without its files.   Args: labels: image's path -> label;  holds: of `rerun`."""
        images = self.images
        return {
            "format": "prism-export", "version": FORMAT_VERSION, "to": to, "dataset": images.dataset,
            "images": self.digest, "made_elsewhere": images.foreign,
            "ipc": self.ipc, "size": images.size, "mean": list(images.mean), "std": list(images.std),
            "stem": images.stem, "class_names": images.class_names, "counts": self.counts, "labels": labels,
            "protocol": images.saved.get("protocol"), "teachers": self.teachers(),
            "accuracies": [students.row() for students in self.students],
            "controls": controls(images, self.ipc),
            "commands": rerun(images, self.labels, self.students, ipc=self.ipc, holds=holds)}


# ---------------------------------------------------------------- writing

def check_folder(out: Path, to: str, images: str) -> Record | None:
    """The earlier export of the same set in a folder, None in one that is new, empty or begun by us.

    Raises: ValueError for a folder that holds anything else.
    """
    require(not out.exists() or out.is_dir(), f"--out {out}: not a folder; choose another")
    begun = find_record(out / f".{RECORD}", Begun) or {}
    if not (out / RECORD).exists():
        ours = begun.get("images") == images and begun.get("to") == to
        require(ours or not out.is_dir() or not any(out.iterdir()),
                f"--out {out}: not empty, and no export of this set; choose another folder")
        return None
    there = read_record(out / RECORD, Record, form="prism-export")
    of = "" if there["images"] == images else " of other images"
    require((there["to"], there["images"]) == (to, images),
            f"--out {out}: it holds an export to {there['to']}{of}; choose another folder")
    return there


def write_export(out: Path, files: list[File], card: str, record: Values, there: Record | None) -> Path:
    """Writes files, card, then export.json, each whole; what is there whole is left as it is.

    A card that its owner edited stays: one that is of no export, finished or begun.
    Args: there: of `check_folder`.   Returns: the path of export.json.
    """
    begun, digest = out / f".{RECORD}", sha256_bytes(card.encode())
    cards = [*([there["card"]] if there else ()), *(find_record(begun, Begun) or {}).get("cards", ())]
    out.mkdir(parents=True, exist_ok=True)
    write_json(begun, {"to": record["to"], "images": record["images"], "cards": [*cards, digest]})
    written = {file.path: _place(out, file) for file in progress(files, text="export")}
    for path in sorted(there["files"].keys() - written.keys()) if there else ():  # of one with more
        if ".." not in Path(path).parts and not Path(path).is_absolute():
            (out / path).unlink(missing_ok=True)
    if there and (out / CARD).is_file() and sha256_file(out / CARD) not in cards:
        say(f"{out / CARD} was edited and stays; delete it to have it written anew")
    else:
        write_atomically(out / CARD, lambda file: file.write(card.encode()))
    whole = {**record, "files": written, "card": digest}
    if not (out / RECORD).is_file() or there != whole:
        write_json(out / RECORD, whole)
    begun.unlink()
    return out / RECORD


def _place(out: Path, file: File) -> Checksum:
    path = out / file.path
    if not (file.sha256 and path.is_file() and sha256_file(path) == file.sha256):
        write_atomically(path, file.write)
    return {"bytes": path.stat().st_size, "sha256": file.sha256 or sha256_file(path)}
