"""Students' training curves, by their logs: loss and accuracy per epoch."""
import dataclasses
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.files import read_lines
from utils.metrics import mean_and_std
from utils.pieces import Values, require
from utils.records import Result
from validate.figuring import style
from validate.figuring.figure import Figure
from validate.figuring.runs import NamedRun, rounded
from validate.students_found import Students, find_students

Curve = dict[int, float]  # epoch -> value


def numbers(runs: list[NamedRun]) -> Values:
    """Loss and accuracy of the finished students of each run's images, per epoch.

    Mean and spread (n - 1) are over student seeds; with several draws over draws, of the means over seeds.
    Returns: {"runs": [{"name", "students": [{"folder": below the run, "model", "ipc", "loss_type", "over":
    "seeds" | "draws", "n", "loss": {"epochs": [..], "mean": [..], "std": [..]}, "top1": the same [%], at the
    evaluated epochs}]}]}.
    """
    return {"runs": [{"name": run.name, "students": [
        _over_students(name, of_draws, several=len(run.draws) > 1)
        for name, of_draws in _by_folder(run).items()]} for run in runs]}


def _by_folder(run: NamedRun) -> dict[str, list[Students]]:
    """Folder below the run, with its IPC where the one of another draw has another -> students by draw."""
    found: dict[str, list[Students]] = {}
    for images in run.draws:
        for own in find_students(images):
            name = own.folder.relative_to(images.home).as_posix()
            other = name in found and found[name][0].ipc != own.ipc
            found.setdefault(f"{name} (IPC {own.ipc})" if other else name, []).append(own)
    return found


def _over_students(name: str, of_draws: list[Students], *, several: bool) -> Values:
    first, curves = of_draws[0], dict[str, list[Curve]]()
    for value, factor in (("loss", 1), ("top1", 100)):
        each = [list(_curves(own.folder, own.results, value, factor)) for own in of_draws]
        curves[value] = [_mean(own) for own in each] if several else each[0]
    return {"folder": name, "model": first.config.get("model"), "ipc": first.ipc,
            "loss_type": first.config.get("loss_type"), "over": "draws" if several else "seeds",
            "n": len(curves["loss"]), **{value: _spread(own) for value, own in curves.items()}}


def _curves(folder: Path, results: list[Result], name: str, factor: float) -> Iterator[Curve]:
    for result in results:
        path = folder / f"seed{result['seed']}" / "log.jsonl"
        rows = read_lines(path) if path.is_file() else ()
        yield {row["epoch"]: factor * row[name] for row in rows if name in row}


def _common(curves: list[Curve]) -> list[int]:
    """The epochs that all curves have."""
    return sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []


def _mean(curves: list[Curve]) -> Curve:
    return {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in _common(curves)}


def _spread(curves: list[Curve]) -> Values:
    epochs = _common(curves)
    found = [mean_and_std(curve[epoch] for curve in curves) for epoch in epochs]
    return {"epochs": epochs, "mean": [rounded(mean) for mean, _ in found],
            "std": [rounded(std) if len(curves) > 1 else None for _, std in found]}


def draw(values: Values) -> Any:
    """A row a kind of students: their loss, and their accuracy on real test images.

    Raises: ValueError where no run has finished students.
    """
    runs = values["runs"]
    folders = list(dict.fromkeys(own["folder"] for run in runs for own in run["students"]))
    require(folders, "no finished students below these runs (seed0/result.json): run validate first")
    figure = style.new_figure(style.PAGE, 0.4 + 1.9 * len(folders))
    axes = figure.subplots(len(folders), 2, squeeze=False, sharex="row")
    shown: dict[int, tuple[int, str, str]] = {}
    for folder, (loss, top1) in zip(folders, axes, strict=True):
        own = [(i, student) for i, run in enumerate(runs) for student in run["students"]
               if student["folder"] == folder]
        for i, student in own:
            for ax, curve in ((loss, student["loss"]), (top1, student["top1"])):
                style.band(ax, curve["epochs"], curve["mean"], curve["std"], run=i, label=runs[i]["name"])
            shown.setdefault(i, (i, runs[i]["name"], style.counted(student["n"], student["over"])))
        kinds = dict.fromkeys(f"{student['model']}, {student['loss_type']}" for _, student in own)
        style.tidy(loss).set_title(f"{style.plain(folder)} ({style.plain('; '.join(kinds), 40)})", loc="left")
        loss.set_ylabel("training loss")
        style.tidy(top1).set_ylabel("top-1 on real images [%]")
    for ax in axes[-1]:
        ax.set_xlabel("epoch")
    style.legend(figure, list(shown.values()))
    if any(student["n"] > 1 for run in runs for student in run["students"]):
        style.note(figure, "mean, and one standard deviation to either side")
    return figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves(Figure):
    """Students' loss and accuracy per epoch, over student seeds or draws."""

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs)

    def draw(self, values: Values) -> Any:
        return draw(values)
