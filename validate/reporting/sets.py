"""What a report is about: runs, found on disk and put together as draws of sets.

Runs that differ in nothing but the seed (and so in their teachers) are draws of one set.  Whether a set is
distilled or a control of real images is read from its config, never from its name.
"""
import dataclasses
import json
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from utils.data import RealSet
from utils.files import read_lines
from utils.formats import ImageManifest, image_set_digest, run_path
from utils.image_sets import open_images
from utils.measures import Measure, read_measures
from utils.methods.controls import CONTROLS
from utils.pieces import Values, require
from utils.records import Checked, Result, find_record
from utils.runtime import note
from validate.results import read_results

Kind = Literal["distilled", "real", "whole"]
REAL_STARTS = {"real", *(control.name for control in CONTROLS)}
# Training images of the public data sets, as they are released.
TRAIN_IMAGES = {"imagenet-1k": 1281167, "cifar10": 50000, "cifar100": 50000, "tiny-imagenet": 100000,
                "imagenette": 9469, "digits": 1347}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Students:
    """The students of one folder.   rows: of results.jsonl, with their times;  folder: below the run."""

    folder: Path
    results: list[Result]
    rows: list[Values]

    @property
    def labels(self) -> str:
        """Of which kind they were trained on."""
        return "soft" if self.results[0].get("labels") else "hard"

    @property
    def config(self) -> Values:
        """Their settings."""
        return self.results[0]["config"]

    @property
    def top1(self) -> dict[int, float]:
        """Seed -> accuracy at the last epoch, in percent."""
        return {result["seed"]: 100 * result["last"]["top1"] for result in self.results}


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
    """The runs that these paths name, or that lie below them; each set of images once.

    Raises: FileNotFoundError or ValueError, as `open_images`.
    """
    require(words, "say which runs: python -m validate.report RUN..., a run or a folder that holds runs")
    found: dict[Path, ImageManifest] = {}
    for word in words:
        below = [] if _is_run(run_path(word)) else list(runs_below(Path(word)))
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
    return list(found.values())


def runs_below(folder: Path) -> Iterator[Path]:
    """The runs below a folder, by name; what lies in a run is not looked at."""
    for place, names, _ in os.walk(folder):
        names.sort()
        if _is_run(Path(place)):
            names.clear()
            yield Path(place)


def students_below(folder: Path) -> Iterator[Path]:
    """The folders of students below a set, those of validate.evaluate left to its measure."""
    for place, names, _ in os.walk(folder):
        names[:] = sorted(set(names) - {"syn", "fkd", "units", "measured", "unfinished", "evaluate"})
        if (find_record(Path(place, "config.json"), Values) or {}).get("format") == "prism-students":
            names.clear()
            yield Path(place)


def _is_run(folder: Path) -> bool:
    saved = find_record(folder / "config.json", Values)
    return (saved or {}).get("format") == "prism-images" or not saved and (
        find_record(folder / "manifest.json", Values) or {}).get("format") == "prism-images"


def open_draw(images: ImageManifest) -> Draw:
    """A run with its students (those of other images than are there left out) and measures."""
    students = []
    for folder in students_below(images.home):
        results = [result for result in read_results(folder) if _of_these(images, result)]
        if results:
            rows = folder / "results.jsonl"
            students.append(Students(folder=folder, results=results, rows=list(
                read_lines(rows)) if rows.is_file() else []))
    checked = find_record(images.home / "preflight.json", dict[str, Checked])
    return Draw(images=images, students=students, measures=read_measures(images), checked=checked or {})


def _of_these(images: ImageManifest, result: Result) -> bool:
    ipc = result["config"].get("ipc") or images.ipc
    return ipc <= images.ipc and result.get("images") == image_set_digest(images.select(ipc))


# ---------------------------------------------------------------- putting them together

def group(found: Iterable[ImageManifest]) -> list[ImageSet]:
    """Sets of draws, in the order of their first runs, the distilled ones first.

    Raises: ValueError where they are not of one data set.
    """
    found = list(found)
    first, sets = found[0], dict[str, list[Draw]]()
    for images in found:
        require((images.dataset, images.class_names) == (first.dataset, first.class_names),
                f"{images.run} is of {images.dataset} ({images.num_classes} classes), {first.run} of "
                f"{first.dataset} ({first.num_classes}); a report is about one data set and its classes")
        config = {name: value for name, value in images.saved.get("config", {}).items()
                  if name not in ("seed", "threads")}
        key = json.dumps([images.ipc, "" if images.saved["units"] else str(images.run), config,
                          images.saved.get("protocol", {}).get("name")], sort_keys=True, default=str)
        sets.setdefault(key, []).append(open_draw(images))
    named = name_sets(list(sets.values()))
    made = [ImageSet(name=name, kind=kind_of(draws[0]), draws=sorted(
        draws, key=lambda draw: draw.config.get("seed", 0))) for name, draws in named]
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
    config = draw.config
    optimised = config.get("iteration", 1) or config.get("iteration_step")
    if optimised or config.get("init") not in REAL_STARTS:
        return "distilled"
    return "whole" if len(draw.images.entries) == count_real(draw.images.dataset) else "real"


def count_real(dataset: str) -> int | None:
    """How many real training images there are; None where nobody can say."""
    if not dataset.startswith("folder:"):
        return TRAIN_IMAGES.get(dataset)
    try:
        return len(RealSet(dataset, "", "train", size=8))
    except (OSError, ValueError):  # it lies elsewhere today
        return None
