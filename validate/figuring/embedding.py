"""Real and distilled images in one plane (paper figure 1)."""
from utils.measures import read_measures
from utils.pieces import Values
from validate.figuring.runs import NamedRun


def numbers(runs: list[NamedRun], arch: str = "") -> Values:
    """The embedding of each run's first draw, by the saved measures embedding_<arch>.

    Runs that were embedded together (by one command) share the plane and the points of the real images.
    Args:    arch: the feature network; "": the first by which every run was embedded.
    Returns: {"arch": None where there is none, "method": "umap" | "t-sne", "seed", "together": whether one
    command embedded all, "runs": [{"name", "points": [{"x", "y", "class", "kind": "real" | "distilled"}],
    "command"}]}.
    """
    measured = [read_measures(run.draws[0], "embedding_") for run in runs]
    names = sorted(name for name in set.intersection(*map(set, measured))
                   if not arch or name == f"embedding_{arch}")
    if not names:
        return {"arch": arch or None, "method": None, "seed": None, "together": False, "runs": []}
    found = [own[names[0]] for own in measured]
    values = found[0]["values"]
    return {"arch": values["arch"], "method": values["method"], "seed": values["seed"],
            "together": len({measure["command"] for measure in found}) == 1,
            "runs": [{"name": run.name, "points": measure["values"]["points"], "command": measure["command"]}
                     for run, measure in zip(runs, found, strict=True)]}
