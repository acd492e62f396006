"""What a report is about: runs, found on disk and put together as draws of sets.

Runs that differ in nothing but the seed (and so in their teachers) are draws of one set.  Whether a set is
distilled or a control of real images is read from its config, never from its name.
"""
import dataclasses
import functools
import itertools
import json
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from utils.data import RealSet
from utils.formats import ImageManifest, image_set_digest, run_path
from utils.image_sets import are_real, open_images
from utils.measures import Measure, read_measures
from utils.pieces import Values, require
from utils.records import Checked, find_record
from utils.runtime import note
from validate.students_found import Students, find_students

Kind = Literal["distilled", "real", "whole"]
# Training images of the public data sets, as they are released.
TRAIN_IMAGES = {"imagenet-1k": 1281167, "cifar10": 50000, "cifar100": 50000, "tiny-imagenet": 100000,
                "imagenette": 9469, "digits": 1347}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draw:
    """One run: its images, and all that was made and measured of them."""

    images: ImageManifest
    students: list[Students]
    measures: dict[str, Measure]
    checked: dict[str, Checked]

    @property
    def path(self) -> Path:
        """The run's folder, or that of somebody's images."""
        return self.images.run

    @property
    def config(self) -> Values:
        """Recover's settings; of images that others made what little is known."""
        return self.images.saved.get("config", {})

    @property
    def seed(self) -> int:
        """Recover's, which tells draws of a set apart."""
        return self.config.get("seed", 0)

    @property
    def units(self) -> list[Values]:
        """Recover's units; none of images that others made."""
        return self.images.saved.get("units", [])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Draws of one set.   kind: real, images of a control; whole, all real training images."""

    name: str
    kind: Kind
    draws: list[Draw]

    @property
    def images(self) -> ImageManifest:
        """Of the first draw."""
        return self.draws[0].images

    @property
    def size(self) -> float:
        """Number of images, the mean over draws."""
        return statistics.fmean(len(draw.images.entries) for draw in self.draws)

    @property
    def protocol(self) -> str:
        """Recover's protocol; empty where none is recorded."""
        return self.images.saved.get("protocol", {}).get("name", "")


# ---------------------------------------------------------------- finding them

def find_runs(words: Sequence[str], *, dataset: str, val_dir: str) -> list[ImageManifest]:
    """The runs that these paths name, or that lie below them; of equal images one, where they were made.

    Raises: FileNotFoundError or ValueError, as `open_images`.
    """
    require(words, "say which runs: python -m validate.report RUN..., a run or a folder that holds runs")
    found: dict[Path, ImageManifest] = {}
    for word in words:
        below = [] if _is_image_run(run_path(word)) else list(runs_below(Path(word)))
        for path in below or [Path(word)]:
            try:
                images = open_images(str(path), flag="RUN", dataset=dataset, val_dir=val_dir, write=False)
            except FileNotFoundError as error:
                if not below:
                    raise
                note(f"left out: {error}")  # one of many that is not finished
                continue
            found.setdefault(images.run.resolve(), images)
    require(found, f"{' '.join(words)}: no run there has a finished IPC index; run recover to its end first")
    return without_copies(list(found.values()))


def without_copies(found: Sequence[ImageManifest]) -> list[ImageManifest]:
    """One run of equal images and settings: a copy or an export is no draw.  The one of recover's stays.

    Draws of some controls have equal images, and seeds of their own.
    """
    kept: dict[tuple[str, str], ImageManifest] = {}
    for images in sorted(found, key=lambda images: not (images.run / "config.json").is_file()):
        first = kept.setdefault((image_set_digest(list(images.entries)), settings_of(images)), images)
        if first is not images:
            note(f"left out: {images.run} holds the images of {first.run}")
    runs = {images.run for images in kept.values()}
    return [images for images in found if images.run in runs]


def settings_of(images: ImageManifest, *without: str) -> str:
    """Recover's settings, as text to compare; threads are none of a set's."""
    config = images.saved.get("config", {})
    return json.dumps({name: value for name, value in config.items() if name not in ("threads", *without)},
                      sort_keys=True, default=str)


def runs_below(folder: Path) -> Iterator[Path]:
    """The runs below a folder, by name; what lies in a run is not looked at."""
    for place, names, _ in os.walk(folder):
        names.sort()
        if _is_image_run(Path(place)):
            names.clear()
            yield Path(place)


def _is_image_run(folder: Path) -> bool:
    saved = find_record(folder / "config.json", Values)
    return (saved or {}).get("format") == "prism-images" or not saved and (
        find_record(folder / "manifest.json", Values) or {}).get("format") == "prism-images"


def open_draw(images: ImageManifest) -> Draw:
    """A run with its students and measures."""
    checked = find_record(images.home / "preflight.json", dict[str, Checked])
    return Draw(images=images, students=find_students(images), measures=read_measures(images),
                checked=checked or {})


# ---------------------------------------------------------------- putting them together

def group(found: Iterable[ImageManifest]) -> list[ImageSet]:
    """Sets of draws, in the order of their first runs, the distilled ones first.

    A set holds one run of a seed: the next one of it (made with other threads) opens a set of its own.
    Raises: ValueError where they are not of one data set.
    """
    found = list(found)
    first, sets = found[0], dict[tuple[str, int], list[Draw]]()
    for images in found:
        require((images.dataset, images.class_names) == (first.dataset, first.class_names),
                f"{images.run} is of {images.dataset} ({images.num_classes} classes), {first.run} of "
                f"{first.dataset} ({first.num_classes}); a report is about one data set and its classes")
        key = json.dumps([images.ipc, "" if images.saved["units"] else str(images.run),
                          settings_of(images, "seed"), images.saved.get("protocol", {}).get("name")])
        draw = open_draw(images)
        same = (sets.setdefault((key, number), []) for number in itertools.count())
        next(own for own in same if draw.seed not in [other.seed for other in own]).append(draw)
    named = name_sets(list(sets.values()))
    made = [ImageSet(name=name, kind=kind_of(draws[0]), draws=sorted(
        draws, key=lambda draw: draw.seed)) for name, draws in named]
    order = ("distilled", "real", "whole")
    return sorted(made, key=lambda own: order.index(own.kind))


def name_sets(sets: list[list[Draw]]) -> list[tuple[str, list[Draw]]]:
    """Each set by the folder name that its draws share, else by its protocol; no name twice."""
    def name(draws: list[Draw]) -> str:
        folders = {draw.path.resolve().name for draw in draws}
        protocol = draws[0].images.saved.get("protocol", {}).get("name", "")
        own = (folders.pop() if len(folders) == 1 else protocol or min(folders)).replace("_", " ")
        real = {"distilled": "", "real": " (real images)", "whole": " (all real images)"}[kind_of(draws[0])]
        return own if re.search("real|training", own) else own + real
    names = [name(draws) for draws in sets]
    often = Counter(names)
    return [(own if often[own] == 1 else f"{own} ({draws[0].path})", draws)
            for own, draws in zip(names, sets, strict=True)]


def kind_of(draw: Draw) -> Kind:
    """Whether a run's images are real ones, perhaps all of them: chosen, and never optimised."""
    if not are_real(draw.images):
        return "distilled"
    return "whole" if len(draw.images.entries) == count_real(draw.images.dataset) else "real"


@functools.cache
def count_real(dataset: str) -> int | None:
    """How many real training images there are, counted once a process; None where nobody can say."""
    if not dataset.startswith("folder:"):
        return TRAIN_IMAGES.get(dataset)
    try:
        return len(RealSet(dataset, "", "train", size=8))
    except (OSError, ValueError):  # it lies elsewhere today
        return None
