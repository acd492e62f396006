"""Each term of recover's loss over the iterations, by the run's log."""
from collections.abc import Iterable

import numpy

from utils.files import read_lines
from utils.formats import ImageManifest
from utils.pieces import Values
from validate.figuring.runs import NamedRun, rounded

PERCENT = tuple(range(0, 101, 2))  # where units of unequal lengths are compared
NO_TERMS = ("ipc_id", "chunk", "step", "done", "elapsed_s", "seconds_per_iteration", "skipped",
            "verifier_top1")
Series = dict[int, Values]  # step -> term -> value


def numbers(runs: list[NamedRun]) -> Values:
    """The terms of each run's loss, mean and spread (n - 1) over its finished units, all draws together.

    "loss" is what is minimised; alignments and priors are as logged, without their weights.
    Returns: {"runs": [{"name", "n": units, "unit": "iterations" | "% of its iterations" (where units have
    unequal numbers), "at": [..], "terms": {term: {"n": units that have it, "mean": [..], "std": [..]}},
    "zero": [terms that are 0 throughout: networks with nothing to align]}]}; None where no unit (std: fewer
    than two) has a value.
    """
    return {"runs": [{"name": run.name, **_over_units(run)} for run in runs]}


def _over_units(run: NamedRun) -> Values:
    units = [series for images in run.draws for series in read_terms(images)]
    if not units:
        return {"n": 0, "unit": "iterations", "at": [], "terms": {}, "zero": []}
    equal = len({max(series) for series in units}) == 1
    at = sorted(set().union(*units)) if equal else list(PERCENT)
    terms, zero = {}, []
    for term in dict.fromkeys(name for series in units for row in series.values() for name in row):
        known = [{step if equal else 100 * step / max(series): row[term]
                  for step, row in sorted(series.items()) if term in row} for series in units]
        curves = [numpy.interp(at, [*own], [*own.values()], left=numpy.nan, right=numpy.nan)
                  for own in known if own]
        if any(value for own in known for value in own.values()):
            terms[term] = {"n": len(curves), **_mean_and_std(numpy.stack(curves))}
        else:
            zero.append(term)
    return {"n": len(units), "unit": "iterations" if equal else "% of its iterations", "at": at,
            "terms": terms, "zero": zero}


def _mean_and_std(curves: numpy.ndarray) -> Values:
    """Mean and standard deviation of curves (n, points); None where none, or one, has a value."""
    there = ~numpy.isnan(curves)
    counts = there.sum(0)
    total = numpy.where(there, curves, 0).sum(0)
    mean = numpy.divide(total, counts, where=counts > 0, out=numpy.full(len(counts), numpy.nan))
    squares = numpy.where(there, (curves - mean) ** 2, 0).sum(0)
    std = numpy.divide(squares, counts - 1, where=counts > 1, out=numpy.full(len(counts), numpy.nan)) ** 0.5
    return {"mean": _listed(mean), "std": _listed(std)}


def _listed(values: Iterable[float]) -> list[float | None]:
    return [None if numpy.isnan(value) else rounded(value) for value in values]


def read_terms(images: ImageManifest) -> list[Series]:
    """The logged terms of each finished unit, once where an interrupted session's rows were repeated."""
    found: dict[tuple[int, int], Series] = {}
    done = set()
    paths = sorted(images.home.glob("log*.jsonl")) if images.saved.get("units") else []
    for row in (row for path in paths for row in read_lines(path) if "ipc_id" in row):
        unit = (row["ipc_id"], row["chunk"])
        terms = {name: value for name, value in row.items()
                 if name not in NO_TERMS and not name.startswith("peak") and isinstance(value, (int, float))}
        if terms:
            found.setdefault(unit, {})[row["step"]] = terms
            done |= {unit} if row.get("done") else set()
    return [found[unit] for unit in sorted(done)]
