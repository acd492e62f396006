"""Same starts, run against run (paper figure 5): the start of an image, and what each run made of it."""
import dataclasses
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

from utils.formats import ImageManifest
from utils.pieces import Values, option, require
from utils.unit_files import index_of
from validate.figuring import style
from validate.figuring.figure import Figure, SourceFlags
from validate.figuring.runs import NamedRun, rounded
from validate.starts import find_starts, remake_starts

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


def draw(values: Values) -> Any:
    """Rows of images: the start, then each run's image of it; a start a run where they are not the same.

    Raises: ValueError where there is no image.
    """
    shown = values["images"]
    require(shown, "no class has an image in every run")
    rows = _rows(shown, values["same"])
    figure = style.new_figure(style.PAGE, 0.25 + 0.66 * len(rows))
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    smooth = "nearest" if values["size"] < 64 else None
    for (name, run, paths), line in zip(rows, axes, strict=True):
        for path, ax in zip(paths, line, strict=True):
            ax.imshow(Image.open(path).convert("RGB"), interpolation=smooth)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(style.plain(name, 16), rotation=0, ha="right", va="center", fontsize=7,
                           color=style.MUTED if run is None else style.colour(run))
    for cell, ax in zip(shown, axes[0], strict=True):
        ax.set_title(f"{style.plain(cell['class'], 10)}\n{cell['index']}", fontsize=7)
    return figure


def _rows(shown: list[Values], same: bool | None) -> list[tuple[str, int | None, list[str]]]:
    """(name, number of the run or None of a start, paths) of every row."""
    rows: list[tuple[str, int | None, list[str]]] = []
    for i, run in enumerate(made["run"] for made in shown[0]["made"]):
        own = [cell["made"][i] for cell in shown]
        if own[0]["start"] and not (same and i):
            rows.append(("start" if same else f"start of {run}", None, [made["start"] for made in own]))
        rows.append((run, i, [made["path"] for made in own]))
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Starts(Figure):
    """The same starts, run against run (paper figure 5); made again by recover without iterations."""

    images: int = option(CELLS, "images a run, spread over the classes", range="in [1, 100]")

    def prepare(self, runs: list[NamedRun], flags: SourceFlags, *, device: torch.device,
                command: str) -> None:
        sets = [run.draws[0] for run in runs]
        cells = chosen_cells(sets[0].num_classes, min(images.ipc for images in sets), self.images)
        for images in sets:
            remake_starts(images, 1 + max(i for _, i in cells), flags=flags,
                          train_data_path=flags.train_data_path)

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs, self.images)

    def draw(self, values: Values) -> Any:
        return draw(values)
