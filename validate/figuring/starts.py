"""Same starts, run against run (paper figure 5): the start of an image, and what each run made of it."""
from pathlib import Path

import numpy
from PIL import Image

from utils.formats import ImageManifest
from utils.pieces import Values, require
from utils.unit_files import index_of
from validate.figuring.runs import NamedRun, rounded
from validate.starts import find_starts

CELLS = 10  # columns of the figure
Cell = tuple[int, int]  # class, IPC index


def chosen_cells(num_classes: int, ipc: int, num: int = CELLS) -> list[Cell]:
    """The images that are shown: the first two indices of classes spread over all, at most `num` images."""
    indices = range(min(ipc, max(2, -(-num // num_classes))))
    classes = min(num_classes, max(1, num // len(indices)))
    return [(k * num_classes // classes, i) for k in range(classes) for i in indices]


def numbers(runs: list[NamedRun], cells: int = CELLS) -> Values:
    """The starts and what each run's first draw made of them, as paths, with how far it went.

    Starts are known once `validate.starts.remake_starts` has made them.
    Args:    cells: at most so many images, spread over the classes.
    Returns: {"size" [pixels], "same": whether all runs started from equal files, None where a run's are not
    known, "images": [{"class", "index", "made": [{"run", "start": path | None, "path", "moved": root mean
    square difference of the two's pixels, in [0, 1] | None}]}]}.
    Raises:  ValueError where runs have other classes.
    """
    sets = [run.draws[0] for run in runs]
    for run, images in zip(runs, sets, strict=True):
        require(images.class_names == sets[0].class_names, f"{run.name}: its classes are not those of "
                f"{runs[0].name}; same starts are of the same data")
    shown = chosen_cells(sets[0].num_classes, min(images.ipc for images in sets), cells)
    made = [_paths(images) for images in sets]
    starts = [_paths(find_starts(images, 1 + max(i for _, i in shown))) for images in sets]
    shown = [cell for cell in shown if all(cell in own for own in made)]  # short classes
    return {"size": sets[0].size, "same": _same(starts, shown) if all(starts) else None, "images": [
        {"class": sets[0].class_names[k], "index": i, "made": [
            {"run": run.name, "start": str(start[k, i]) if start else None, "path": str(own[k, i]),
             "moved": _moved(start.get((k, i)), own[k, i])}
            for run, own, start in zip(runs, made, starts, strict=True)]} for k, i in shown]}


def _paths(images: ImageManifest | None) -> dict[Cell, Path]:
    return {(entry.label, index_of(entry.path)): images.run / entry.path for entry in images.entries} \
        if images else {}


def _same(starts: list[dict[Cell, Path]], shown: list[Cell]) -> bool:
    return all(own[cell].read_bytes() == starts[0][cell].read_bytes() for own in starts for cell in shown)


def _moved(start: Path | None, path: Path) -> float | None:
    """Root mean square difference of two pictures' pixels, in [0, 1]."""
    if start is None:
        return None
    a, b = (numpy.asarray(Image.open(own).convert("RGB"), float) / 255 for own in (start, path))
    return rounded(float(numpy.sqrt(((a - b) ** 2).mean()))) if a.shape == b.shape else None
