"""Same starts, run against run (paper figure 5): the start of an image, and what each run made of it."""
import dataclasses
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

from utils.files import sha256_file
from utils.formats import ImageManifest
from utils.image_sets import open_images
from utils.pieces import Values, option, require
from utils.unit_files import index_of
from validate.figuring import style
from validate.figuring.figure import Figure, SourceFlags
from validate.figuring.runs import NamedRun, rounded
from validate.starts import check_starts, remake_starts

CELLS = 10  # columns of the figure
Cell = tuple[int, int]  # class, IPC index


def find_starts(images: ImageManifest, ipc: int) -> ImageManifest | None:
    """The starts of a set's first indices: itself where nothing changed its images, else <home>/starts.

    Returns: None where they were not remade (of this run, for so many indices), or nobody recorded them.
    """
    config = images.saved["config"]
    if "init" not in config or config["iteration"] == config["iteration_step"] == 0:
        return images if "init" in config else None
    try:
        found = open_images(str(images.home / "starts" / "starts"), flag="", write=False)
        check_starts(images, found)
    except (FileNotFoundError, ValueError):
        return None
    return found if found.ipc >= ipc else None


def chosen_cells(num_classes: int, ipc: int, num: int = CELLS) -> list[Cell]:
    """The images that are shown: the first two indices of classes spread over all, at most `num` images."""
    indices = range(min(ipc, max(2, -(-num // num_classes))))
    classes = min(num_classes, max(1, num // len(indices)))
    return [(k * num_classes // classes, i) for k in range(classes) for i in indices]


def numbers(runs: list[NamedRun], cells: int = CELLS) -> Values:
    """The starts and what each run's first draw made of them, as paths, with how far it went.

    Starts are known once `python -m validate.figures starts` has made them again.
    Args:    cells: at most so many images, spread over the classes.
    Returns: {"size" [pixels], "starts": [for each run the number of the first that started from equal files,
    None where its starts are not known], "images": [{"class", "index", "made": [{"run", "start": path | None,
    "path", "moved": root mean square difference of the two's pixels, in [0, 1] | None}]}]}.
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
    return {"size": sets[0].size, "starts": _groups(starts, shown), "images": [
        {"class": sets[0].class_names[k], "index": i, "made": [
            {"run": run.name, "start": str(start[k, i]) if start else None, "path": str(own[k, i]),
             "moved": _moved(start.get((k, i)), own[k, i])}
            for run, own, start in zip(runs, made, starts, strict=True)]} for k, i in shown]}


def _paths(images: ImageManifest | None) -> dict[Cell, Path]:
    return {(entry.label, index_of(entry.path)): images.run / entry.path for entry in images.entries} \
        if images else {}


def _groups(starts: list[dict[Cell, Path]], shown: list[Cell]) -> list[int | None]:
    """For each run the first whose starts are the same, byte by byte; None where they are not known."""
    digests = [[sha256_file(own[cell]) for cell in shown] if own else None for own in starts]
    return [None if own is None else digests.index(own) for own in digests]


def _moved(start: Path | None, path: Path) -> float | None:
    """Root mean square difference of two pictures' pixels, in [0, 1]."""
    if start is None:
        return None
    a, b = (numpy.asarray(Image.open(own).convert("RGB"), float) / 255 for own in (start, path))
    return rounded(float(numpy.sqrt(((a - b) ** 2).mean()))) if a.shape == b.shape else None


def draw(values: Values) -> Any:
    """Rows of images: a start, then what each run made of it; other starts, where runs have others.

    Raises: ValueError where there is no image.
    """
    shown = values["images"]
    require(shown, "no class has an image in every run")
    rows = _rows(values)
    figure = style.new_figure(style.PAGE, 0.4 + 0.62 * len(rows))
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(shown), squeeze=False)
    smooth = "nearest" if values["size"] < 64 else None
    for (name, run, paths), line in zip(rows, axes, strict=True):
        for path, ax in zip(paths, line, strict=True):
            ax.imshow(Image.open(path).convert("RGB"), interpolation=smooth)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(style.plain(name, 18), rotation=0, ha="right", va="center", fontsize=7,
                           color=style.MUTED if run is None else style.colour(run))
    for cell, ax in zip(shown, axes[0], strict=True):
        ax.set_title(f"{style.plain(cell['class'], 11)}\n{cell['index']}", fontsize=7)
    axes[0][0].annotate("class\nIPC index", (0, 1), (-4, 4), xycoords="axes fraction", ha="right",
                        va="bottom", textcoords="offset points", fontsize=7, color=style.MUTED)
    unknown = [style.plain(run["run"]) for run, start in zip(shown[0]["made"], values["starts"], strict=True)
               if start is None]
    if unknown:
        style.note(figure, f"no start is recorded of {', '.join(unknown)}, which others made")
    return figure


def _rows(values: Values) -> list[tuple[str, int | None, list[str]]]:
    """(name, number of the run or None, paths) of every row: each start once, its runs below it."""
    starts, shown, runs = values["starts"], values["images"], values["images"][0]["made"]
    rows: list[tuple[str, int | None, list[str]]] = []
    for first in dict.fromkeys(starts):
        group = [i for i, own in enumerate(starts) if own == first]
        if first is not None and any(cell["made"][i]["moved"] for cell in shown for i in group):
            rows.append(("start", None, [cell["made"][first]["start"] for cell in shown]))
        rows += [(runs[i]["run"], i, [cell["made"][i]["path"] for cell in shown]) for i in group]
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Starts(Figure):
    """The same starts, run against run (paper figure 5); made again by recover without iterations."""

    images: int = option(CELLS, "images a run, spread over the classes", range="in [1, 100]")

    def prepare(self, runs: list[NamedRun], flags: SourceFlags, *, device: torch.device,
                command: str) -> Figure:
        sets = [run.draws[0] for run in runs]
        cells = chosen_cells(sets[0].num_classes, min(images.ipc for images in sets), self.images)
        ipc = 1 + max(i for _, i in cells)
        for images in sets:
            if "init" in images.saved["config"] and not find_starts(images, ipc):
                remake_starts(images, ipc, images.home / "starts", device=str(device),
                              train_data_path=flags.train_data_path)
                (images.home / "starts" / "of.json").unlink()  # which that process alone reads
        return self

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs, self.images)

    def draw(self, values: Values) -> Any:
        return draw(values)
