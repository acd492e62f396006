"""Intra-class cosine similarity by run (paper figure 4): lower is more diverse."""
import statistics

from utils.measures import Measure, read_measures
from utils.metrics import mean_and_std, paired
from utils.pieces import Values
from validate.figuring.runs import NamedRun


def numbers(runs: list[NamedRun], arch: str = "") -> Values:
    """Intra-class cosine of each run, by the saved measures diversity_<arch> (python -m validate.diversity).

    Args:    arch: the feature network; "": the first that every draw of every run was measured by.
    Returns: {"arch": None where no network measured all, "runs": [{"name", "taught": whether the network
    taught these images or their labels, "ipc", "mean": over draws, "std", "interval": over draws, 95 %
    (Student's t), both None of one draw, "draws": [each draw's mean], "class_std": mean over draws of the
    standard deviation over classes, "classes": {class: mean over draws}, "commands": [..]}]}.
    """
    measured = [[read_measures(images, "diversity_") for images in run.draws] for run in runs]
    common = set.intersection(*(set(found) for of_run in measured for found in of_run))
    names = sorted(name for name in common if not arch or name == f"diversity_{arch}")
    if not names:
        return {"arch": arch or None, "runs": []}
    name = names[0]
    return {"arch": name.removeprefix("diversity_"), "runs": [
        {"name": run.name, **_over_draws([found[name] for found in of_run])}
        for run, of_run in zip(runs, measured, strict=True)]}


def _over_draws(measures: list[Measure]) -> Values:
    values = [measure["values"] for measure in measures]
    means = [own["mean"] for own in values]
    several = len(means) > 1
    mean, std = mean_and_std(means)
    return {"taught": any(own.get("taught", False) for own in values), "ipc": measures[0]["ipc"],
            "mean": mean, "std": std if several else None,
            "interval": list(paired(means).interval) if several else None,
            "draws": means, "class_std": statistics.fmean(own["std"] for own in values),
            "classes": {k: statistics.fmean(own["classes"][k] for own in values if k in own["classes"])
                        for k in values[0]["classes"]},
            "commands": [measure["command"] for measure in measures]}
