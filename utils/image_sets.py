"""A distilled set as any command takes it: a run of recover, or anybody's folder of images, a folder a class.

Layouts that are recognised without a manifest, by the names of class folders and files:
    imagefolder   folders of the data set's class names, in its order whatever theirs is
    prism         the same, with our names of files: a copied or exported syn/
    sre2l         new007/class007_id003.jpg: SRe2L and its lineage, CV-DD; .png: FADRM
    numbered      00007/00003.jpg (DD-Ranking), 00007/class00007_id00003.jpg (RDED), 7/3.png (D4M)
syn/, train/ or images/ may lie above the class folders.  Numbers are read as numbers: 2 comes before 10.
"""
import contextlib
import dataclasses
import functools
import itertools
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from utils.data import RealSet, dataset_spec, folder_split
from utils.files import sha256_bytes, sha256_file
from utils.folders import KINDS
from utils.formats import Entry, ImageManifest, assemble_manifest, image_set_digest, run_folder, run_path
from utils.methods.controls import REAL_STARTS
from utils.pictures import FORMATS, open_image
from utils.pieces import Options, Values, option, require
from utils.records import find_record
from utils.runtime import progress, say, warn_once

NUMBERED, OWN_FILE = re.compile(r"(new)?(\d+)"), re.compile(r"(?P<name>.+)/(?P=name)_ipc\d{4,}\.\w+")
ABOVE = ("syn", "train", "images")  # may lie between a set's folder and its class folders
CLASS_FILE = re.compile(r"class(\d+)_id\d+\.\w+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignImages(ImageManifest):
    """A folder of images that somebody else made: nothing is written into it.

    run: the folder of the class folders;  foreign: its layout;  ipc: images of the smallest class;
    entries: the first `ipc` of every class, in the order of the numbers and letters of their names;
    saved: {"units": [], "weights": {}, "config": layout and what the data set presets}.
    """

    @property
    def home(self) -> Path:
        """out/<the folder's name>-<digest of where it lies>: many sets are called ipc10."""
        folder = Path(os.path.abspath(self.run))  # as it is called, where it is a link
        named = next(part for part in (folder, *folder.parents) if part.name not in ABOVE)
        return Path("out") / f"{named.name}-{sha256_bytes(str(self.run.resolve()).encode())[:8]}"

    def select(self, ipc: int) -> list[Entry]:
        """The first `ipc` images of every class, 0 for all.   Raises: ValueError when the set has fewer."""
        require(ipc <= self.ipc, f"--ipc {ipc}: the smallest class in {self.run} holds {self.ipc} images")
        return [entry for i, entry in enumerate(self.entries) if i % self.ipc < (ipc or self.ipc)]


def holds(images: ImageManifest, digest: str, ipc: int) -> bool:
    """Whether the digest is that of the first `ipc` images of every class: labels, students, measures say."""
    return ipc <= images.ipc and image_set_digest(images.select(ipc)) == digest


def are_real(images: ImageManifest) -> bool:
    """Whether images are real ones: chosen by recover, and never optimised; of others nobody knows."""
    config = images.saved["config"]
    return not (config.get("iteration", 1) or config.get("iteration_step")) \
        and config.get("init") in REAL_STARTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetFlags(Options):
    """What commands take that measure sets: what a set of others does not say itself."""

    dataset: str = option("", "of images without a manifest: data set, or folder:PATH", identity=False)
    val_dir: str = option("", "of images without a manifest: real test data, which name the classes",
                          identity=False)
    size: int | None = option(None, "of images without a manifest: side [pixels]; none: the data set's, of "
                              "folder:PATH the images' own", identity=False, range="in [8, 8192]")

    def open_set(self, path: str, *, flag: str = "--data", train_data_path: str = "",
                 write: bool = True) -> ImageManifest:
        """`open_images`, as these flags say."""
        return open_images(path, flag=flag, dataset=self.dataset, val_dir=self.val_dir, size=self.size,
                           train_data_path=train_data_path, write=write)


def open_images(path: str, *, flag: str, dataset: str = "", val_dir: str = "", train_data_path: str = "",
                size: int | None = None, write: bool = True) -> ImageManifest:
    """The set that a path names.

    Args:   flag: which named it;  dataset, val_dir or train_data_path, size: of a set that says neither data
            set, class names (the real images' folders do) nor side itself (None: the data set's; of
            folder:PATH the images', if all are squares of one);
            write: its manifest, where that is ours and has changed.
    Raises: FileNotFoundError or ValueError naming the flag, what is there and what was expected.
    """
    folder = None if _is_run(run_path(path)) else class_folders(path)
    if not folder:
        images = assemble_manifest(run_folder(path, flag=flag), write=write)
        require(size in (None, images.size), f"--size {size} contradicts the images in {images.run}, of "
                f"{images.size} pixels; leave it out")
        return images
    require(dataset, f"{flag} {folder}: images that no manifest describes (no config.json of recover above "
            f"them); say of which data set they are with --dataset, and where its real images lie with "
            f"--val-dir")
    found = _open_foreign(folder, dataset, _class_names(dataset, val_dir, train_data_path), size)
    _say_what(found.run, found.foreign, found.ipc, found.num_classes, found.home)
    return found


@functools.cache
def _say_what(folder: Path, layout: str, ipc: int, num_classes: int, home: Path) -> None:
    """Once a process."""
    say(f"{folder}: a set of others (layout {layout}), {num_classes} classes of {ipc} images; nothing is "
        f"written there, what is made of it goes to {home} unless flags say otherwise")


# ---------------------------------------------------------------- what a folder is

def _is_run(folder: Path) -> bool:
    """Whether records of ours are there; a damaged one counts, and is named by who reads it."""
    records = [folder / name for name in ("config.json", "manifest.json") if (folder / name).is_file()]
    return any((find_record(path, Values) or {"format": "prism-images"}).get("format") in KINDS
               for path in records)


def _holds_images(folder: Path) -> bool:
    nested = folder.glob("images/*")  # Tiny-ImageNet's train/
    return any(path.suffix.lower() in FORMATS for path in itertools.chain(folder.glob("*"), nested))


def class_folders(path: str) -> Path | None:
    """The folder of class folders with images that a path names; None where there is none."""
    for folder in (*(Path(path) / name for name in ABOVE), Path(path)):
        if path and folder.is_dir() and any(map(_holds_images, filter(Path.is_dir, folder.iterdir()))):
            return folder
    return None


def images_per_class(path: str) -> int:
    """Images in the smallest class folder of a set of others, 0 where a path names none."""
    folder = None if _is_run(run_path(path)) else class_folders(path)
    names, labels, _ = folder_split(folder) if folder else ([], [], None)
    counts = Counter(labels)
    return min((counts[place] for place in range(len(names))), default=0)


def _by_text_and_number(path: Path) -> list[str | int]:
    """What sorts names as people read them: 2 before 10."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", path.name))]


# ---------------------------------------------------------------- sets of others

def _class_names(dataset: str, val_dir: str, train_data_path: str) -> list[str]:
    """Of the real data: of the images that are named, else of its test images at hand, else of the others."""
    size = dataset_spec(dataset).size
    if not val_dir and not train_data_path:
        with contextlib.suppress(ValueError):
            return RealSet(dataset, "", "val", size=size).class_names
    split, root = ("val", val_dir) if val_dir else ("train", train_data_path)
    return RealSet(dataset, root, split, size=size).class_names


def _open_foreign(folder: Path, dataset: str, class_names: list[str], size: int | None) -> ForeignImages:
    names, places, opener = folder_split(folder)
    label_of = match_classes(names, class_names, folder)
    by_class: list[list[Path]] = [[] for _ in class_names]
    for path, place in zip(opener.paths, places, strict=True):
        _check_file(path, names[place])
        by_class[label_of[names[place]]].append(path)
    ipc = _smallest(folder, class_names, by_class)
    chosen = [path for paths in by_class for path in sorted(paths, key=_by_text_and_number)[:ipc]]
    with ThreadPoolExecutor() as pool:
        seen = list(progress(pool.map(_look, chosen), total=len(chosen), text="check images"))
    own_size = _common_side({side for _, side in seen}) if dataset.startswith("folder:") else None
    preset = dataset_spec(dataset).preset(size or own_size)
    shown = [path.relative_to(folder).as_posix() for path in chosen]
    layout = _layout(names, class_names, shown)
    entries = tuple(Entry(path, digest, i // ipc, foreign=True)
                    for i, (path, (digest, _)) in enumerate(zip(shown, seen, strict=True)))
    about = {"dataset": dataset, **{name: preset[name] for name in ("size", "mean", "std", "stem")}}
    return ForeignImages(
        run=folder, class_names=class_names, ipc=ipc, foreign=layout, entries=entries,
        saved={"units": [], "weights": {}, "config": {"layout": layout, **about}}, **about)


def _check_file(path: Path, folder_name: str) -> None:
    """Raises ValueError where class007_id003.jpg lies in the folder of another number."""
    theirs, number = CLASS_FILE.fullmatch(path.name), NUMBERED.fullmatch(folder_name)
    require(not theirs or not number or int(theirs[1]) == int(number[2]),
            f"{path}: by its name of another class than the folder; move it where it belongs")


def _common_side(sizes: set[tuple[int, int]]) -> int | None:
    """The side of squares that are all of one size; None of others."""
    width, height = next(iter(sizes))
    return width if len(sizes) == 1 and width == height else None


def _look(path: Path) -> tuple[str, tuple[int, int]]:
    """The digest of a file, and width and height of its picture: read once a process while it stays as it is.

    Raises: as `open_image`.
    """
    stat = path.stat() if path.is_file() else None  # who opens it says what else it is
    return _look_at(path, stat and (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@functools.cache
def _look_at(path: Path, state: tuple[int, ...] | None) -> tuple[str, tuple[int, int]]:
    with open_image(path) as picture:
        return sha256_file(path), picture.size


def match_classes(names: list[str], class_names: list[str], where: Path) -> dict[str, int]:
    """Class folder -> label: by its name where all are the data set's, else by its number.

    Raises: ValueError naming the first class that does not fit.
    """
    if set(names) == set(class_names):
        return {name: class_names.index(name) for name in names}
    numbers = {name: int(found[2]) for name in names if (found := NUMBERED.fullmatch(name))}
    others = [name for name in names if name not in class_names]
    unnumbered = [name for name in names if name not in numbers]
    if len(others) <= len(unnumbered):
        missing = [name for name in class_names if name not in names]
        what = [f"{wrong[0]!r} is {how} ({len(wrong)} such)" for wrong, how in (
            (others, "none of them"), (missing, "missing")) if wrong]
        raise ValueError(f"{where}: expected folders named as the data set's {len(class_names)} classes, or "
                         f"numbered from 0 (0007, new007): {' and '.join(what)}")
    require(not unnumbered, f"{where}: {unnumbered and unnumbered[0]!r} is no number of a class as "
            f"{next(iter(numbers), '')!r} is ({len(unnumbered)} such); rename or remove it")
    _check_numbers(numbers, class_names, where)
    return numbers


def _check_numbers(numbers: dict[str, int], class_names: list[str], where: Path) -> None:
    """Raises ValueError unless the numbers are 0 to K - 1, and mean places, not names, of classes."""
    order = [int(name) if name.isdecimal() else place for place, name in enumerate(class_names)]
    odd = next((place for place, number in enumerate(order) if place != number), 0)
    require(order == list(range(len(order))), f"{where}: the data set's class {odd} is called "
            f"{class_names[odd]!r}, so a folder's number may be a name or a place; rename the folders to the "
            f"data set's class names")
    folders: dict[int, str] = {}
    for name, number in numbers.items():
        require(number < len(class_names), f"{where}/{name}: class {number}, the data set has "
                f"{len(class_names)}, from 0")
        require(number not in folders, f"{where}: {folders.get(number)!r} and {name!r} are one class")
        folders[number] = name
    missing = [f"class {k} ({name!r})" for k, name in enumerate(class_names) if k not in folders]
    require(not missing, f"{where}: {missing and missing[0]} has no folder ({len(missing)} such)")


def _layout(names: list[str], class_names: list[str], files: list[str]) -> str:
    if set(names) == set(class_names):
        return "prism" if all(map(OWN_FILE.fullmatch, files)) else "imagefolder"
    return "sre2l" if names[0].startswith("new") else "numbered"


def _smallest(folder: Path, class_names: list[str], by_class: list[list[Path]]) -> int:
    """Images of the smallest class; of larger ones as many are taken, which is said."""
    counts = list(map(len, by_class))
    least, most = min(counts), max(counts)
    short = class_names[counts.index(least)]
    require(least, f"{folder}: class {short!r} holds no image; fill it")
    if least < most:
        warn_once(f"{folder}: class {short!r} holds {least} images ({counts.count(least)} such), others up "
                  f"to {most}: the first {least} of every class are taken")
    return least
