"""Students' training curves, by their logs: loss and accuracy per epoch."""
import statistics
from collections.abc import Iterator
from pathlib import Path

from utils.files import read_lines
from utils.formats import ImageManifest
from utils.metrics import mean_and_std
from utils.pieces import Values
from utils.records import Result
from validate.figuring.runs import NamedRun, rounded
from validate.results import read_results

NOT_STUDENTS = ("syn", "units", "unfinished", "measured", "fkd")  # hundreds of thousands of files
Curve = dict[int, float]  # epoch -> value


def numbers(runs: list[NamedRun]) -> Values:
    """Loss and accuracy of the finished students below each run's folder, per epoch.

    Mean and spread (n - 1) are over student seeds; with several draws over draws, of the means over seeds.
    Returns: {"runs": [{"name", "students": [{"folder": below the run, "model", "loss_type", "over": "seeds" |
    "draws", "n", "loss": {"epochs": [..], "mean": [..], "std": [..]}, "top1": the same [%], at the evaluated
    epochs}]}]}.
    """
    return {"runs": [{"name": run.name, "students": [
        _over_students(run, folder) for folder in dict.fromkeys(
            folder for images in run.draws for folder in student_folders(images))]} for run in runs]}


def student_folders(images: ImageManifest) -> list[str]:
    """The folders of finished students below a set's home, one or two levels deep, as paths from there."""
    above = [path for path in sorted(images.home.glob("*/")) if path.name not in NOT_STUDENTS]
    found = [path for top in above for path in (top, *sorted(top.glob("*/")))
             if any(path.glob("seed*/result.json"))]
    return [str(path.relative_to(images.home)) for path in found]


def _over_students(run: NamedRun, folder: str) -> Values:
    of_draws = [(images.home / folder, found) for images in run.draws
                if (found := read_results(images.home / folder))]
    first = of_draws[0][1][0]
    several = len(run.draws) > 1
    curves: dict[str, list[Curve]] = {}
    for name, factor in (("loss", 1), ("top1", 100)):
        each = [list(_curves(path, results, name, factor)) for path, results in of_draws]
        curves[name] = [_mean(own) for own in each] if several else each[0]
    return {"folder": folder, "model": first["config"].get("model"),
            "loss_type": first["config"].get("loss_type"), "over": "draws" if several else "seeds",
            "n": len(curves["loss"]), **{name: _spread(own) for name, own in curves.items()}}


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
