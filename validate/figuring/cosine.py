"""Intra-class cosine similarity by run (paper figure 4): lower is more diverse."""
import dataclasses
import statistics
from typing import Any

import torch

from utils.formats import ImageManifest
from utils.measures import Measure, read_measures
from utils.metrics import mean_and_std, paired
from utils.pieces import Values, option, require
from validate.diversity import DiversityConfig, measure
from validate.features import open_network
from validate.figuring import style
from validate.figuring.figure import Figure, SourceFlags
from validate.figuring.runs import NamedRun

SHAPED, DOTTED = 20, 200  # classes from which on a distribution, up to which each class is shown


def numbers(runs: list[NamedRun], arch: str = "", ipc: int = 0) -> Values:
    """Intra-class cosine of each run, by the saved measures diversity_<arch> (python -m validate.diversity).

    Args:    arch: the feature network; "": one that measured every draw of every run, best one that taught
             nobody;  ipc: of the first `ipc` images of each class; 0: of all of each set.
    Returns: {"arch": None where no network measured all, "runs": [{"name", "taught": whether the network
    taught these images or their labels, "ipc", "mean": over draws, "std", "interval": over draws, 95 %
    (Student's t), both None of one draw, "draws": [each draw's mean], "class_std": mean over draws of the
    standard deviation over classes, "classes": {class: mean over draws}, "commands": [..]}]}.
    """
    measured = [[_measured(images, ipc) for images in run.draws] for run in runs]
    common = set.intersection(*(set(found) for of_run in measured for found in of_run))
    archs = sorted(name for name in common if name == (arch or name))
    if not archs:
        return {"arch": arch or None, "runs": []}
    arch = min(archs, key=lambda name: any(found[name]["values"].get("taught") for of_run in measured
                                           for found in of_run))
    return {"arch": arch, "runs": [
        {"name": run.name, **_over_draws([found[arch] for found in of_run])}
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


def draw(values: Values) -> Any:
    """A row a run: each class as a dot, their distribution, the mean with its error bar.

    Raises: ValueError where no network measured all runs.
    """
    runs = values["runs"]
    require(runs, "the diversity of these runs was not measured by one network: python -m validate.diversity")
    figure = style.new_figure(style.COLUMN, 0.85 + 0.4 * len(runs))
    ax = style.tidy(figure.subplots(), grid="x")
    for i, run in enumerate(runs):
        own = sorted(run["classes"].values())
        if len(own) >= SHAPED:
            for body in ax.violinplot([own], [i], orientation="horizontal", widths=0.8,
                                      showextrema=False)["bodies"]:
                body.set(facecolor=style.colour(i), alpha=0.18)
        if len(own) <= DOTTED:  # in turn above and below, so that equal ones are seen
            ax.plot(own, [i + 0.11 * (rank % 3 - 1) for rank in range(len(own))], "o", markersize=2.8,
                    color=style.colour(i), alpha=0.5, markeredgewidth=0)
        low, high = run["interval"] or (run["mean"] - run["class_std"], run["mean"] + run["class_std"])
        ax.errorbar(run["mean"], i, xerr=[[run["mean"] - low], [high - run["mean"]]], fmt="D", markersize=4.5,
                    color=style.INK, markerfacecolor=style.colour(i), capsize=3, elinewidth=1.1, zorder=4)
    ax.set_yticks(range(len(runs)), [style.plain(run["name"], 20) for run in runs])
    low, high = ax.get_xlim()
    ax.set(xlim=(max(low, -1), min(high, 1)), ylim=(len(runs) - 0.4, -0.6),  # where cosines are
           xlabel="intra-class cosine similarity")
    bars = dict.fromkeys("std over classes, one draw" if run["std"] is None else
                         f"95 % interval over {len(run['draws'])} draws" for run in runs)
    taught = ", which taught some" * any(run["taught"] for run in runs)
    shown = "dots" if any(len(run["classes"]) <= DOTTED for run in runs) else "shapes"
    style.note(figure, f"{shown}: classes; bar: {' or '.join(bars)}; lower: more diverse; features of "
               f"{style.plain(values['arch'])}{taught}")
    return figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Figure):
    """Intra-class cosine similarity by class (paper figure 4); over draws with its 95 % interval."""

    arch_name: str = option("", "feature network; none: the first at hand that taught nobody",
                            source="paper figure 4: resnet18")
    ipc: int = option(0, "images per class; 0 = all complete ones", range="in [0, 10000]")

    def prepare(self, runs: list[NamedRun], flags: SourceFlags, *, device: torch.device,
                command: str) -> Figure:
        sets = [images for run in runs for images in run.draws]
        if numbers(runs, self.arch_name, self.ipc)["runs"]:
            return self
        network = open_network(self.arch_name, sets[0], flags, device=device, others=sets[1:])
        config = DiversityConfig(ipc=self.ipc, dataset=flags.dataset, val_dir=flags.val_dir, size=flags.size,
                                 weights=flags.weights, weights_dir=flags.weights_dir)
        for images in sets:
            if network.name not in _measured(images, self.ipc):
                measure(images, network, config, device)
        return dataclasses.replace(self, arch_name=network.name)

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs, self.arch_name, self.ipc)

    def draw(self, values: Values) -> Any:
        return draw(values)


def _measured(images: ImageManifest, ipc: int) -> dict[str, Measure]:
    """Network -> the measure of the first `ipc` images of each class by it."""
    return {name.removeprefix("diversity_"): own for name, own in read_measures(images, "diversity_").items()
            if own["ipc"] == (ipc or images.ipc)}
