"""The finished students of a set of images: found below its folder, known by the digest of what they saw."""
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from utils.formats import ImageManifest, image_set_digest
from utils.pieces import Values
from utils.records import Result
from validate.results import read_results

# Folders of other things, with many files; validate.evaluate's students are its measure's to show.
ELSEWHERE = {"syn", "fkd", "units", "measured", "unfinished", "evaluate"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Students:
    """The students of one folder that saw the same images.   ipc: of each class;  results: by seed."""

    folder: Path
    ipc: int
    results: list[Result]

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


def find_students(images: ImageManifest) -> list[Students]:
    """The students of a set, or of its first images a class; those of other images than are there left out.

    Returns: a row a folder, by its path.   Source: ours, since a run's images may be made anew below them.
    """
    found = []
    for folder in student_folders(images.home):
        results = [result for result in read_results(folder) if _saw(result, images)]
        if results:
            found.append(Students(folder=folder, ipc=_ipc(results[0], images), results=results))
    return found


def student_folders(home: Path) -> Iterator[Path]:
    """The folders that hold finished students, at any depth."""
    for place, names, _ in os.walk(home):
        names[:] = sorted(set(names) - ELSEWHERE)
        if any(Path(place).glob("seed*/result.json")):
            names.clear()
            yield Path(place)


def _ipc(result: Result, images: ImageManifest) -> int:
    return result["config"].get("ipc") or images.ipc


def _saw(result: Result, images: ImageManifest) -> bool:
    ipc = _ipc(result, images)
    return ipc <= images.ipc and result.get("images") == image_set_digest(images.select(ipc))
