"""Real and distilled images in one plane (paper figure 1), by a network's features.

UMAP places them where umap-learn is installed, else scikit-learn's t-SNE; by cosine distance, with a seed.
"""
import dataclasses
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy
import torch

from utils.data import RealSet
from utils.formats import ImageManifest
from utils.measures import read_measures, save_measure
from utils.pieces import Values, option, require
from validate.features import Network, distilled_features, open_network, real_features
from validate.figuring import style
from validate.figuring.figure import Figure, SourceFlags
from validate.figuring.runs import NamedRun, rounded, spread_over

# Paul Tol's "muted" and grey: ten classes that colour-blind readers tell apart.
CLASS_COLOURS = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255",
                 "#aa4499", "#888888")
EACH = 2.3  # width of a run's panel [inches]


def numbers(runs: list[NamedRun], arch: str = "") -> Values:
    """The embedding of each run's first draw, by the saved measures embedding_<arch>.

    Runs that one command embedded share the plane and the points of the real images.
    Args:    arch: the feature network; "": the first by which every run was embedded.
    Returns: {"arch": None where there is none, "together": whether one command embedded all, "runs":
    [{"name", "method": "umap" | "t-sne", "seed", "ipc", "taught": whether the network taught these images or
    their labels, "points": [{"x", "y", "class", "kind": "real" | "distilled"}], "command"}]}.
    """
    measured = [read_measures(run.draws[0], "embedding_") for run in runs]
    names = sorted(name for name in set.intersection(*map(set, measured))
                   if not arch or name == f"embedding_{arch}")
    if not names:
        return {"arch": arch or None, "together": False, "runs": []}
    found = [own[names[0]] for own in measured]
    return {"arch": found[0]["values"]["arch"], "together": len({own["command"] for own in found}) == 1,
            "runs": [{"name": run.name, "ipc": own["ipc"], "command": own["command"],
                      **{key: own["values"][key] for key in ("method", "seed", "taught", "points")}}
                     for run, own in zip(runs, found, strict=True)]}


# ---------------------------------------------------------------- the embedding

def embed(sets: Sequence[ImageManifest], real_set: RealSet, network: Network, *, classes: int,
          real_images: int, ipc: int, seed: int, device: torch.device) -> list[Values]:
    """Embeds real images and several sets' together.

    Args:    classes: at most so many, spread over all;  real_images: at most so many of each, in file order;
             ipc: distilled images of each, 0 for all.
    Returns: the values of a measure embedding_<arch> for each set: its points and the real images'.
    Raises:  ValueError where neither scikit-learn nor umap-learn is installed, or there are too few images.
    """
    method = method_at_hand()
    chosen = spread_over(sets[0].num_classes, classes)
    positions = [i for k in chosen for i in real_set.by_class[k][:real_images]]
    seen = [_gather(real_features(network, real_set, positions, sets[0], device))]
    for images in sets:
        entries = [entry for entry in images.select(ipc) if entry.label in chosen]
        seen.append(_gather(distilled_features(network, images, entries, device)))
    plane = place(numpy.concatenate([features for features, _ in seen]), method=method, seed=seed)
    ends = numpy.cumsum([len(labels) for _, labels in seen])
    parts = [_points(xy, labels, sets[0].class_names, "distilled" if part else "real") for part, (
        xy, (_, labels)) in enumerate(zip(numpy.split(plane, ends[:-1]), seen, strict=True))]
    return [{"arch": network.name, "taught": network.taught, "method": method, "seed": seed,
             "points": parts[0] + own} for own in parts[1:]]


def _gather(batches: Any) -> tuple[numpy.ndarray, list[int]]:
    found = [(features.cpu().double().numpy(), labels.tolist()) for features, labels in batches]
    return numpy.concatenate([own for own, _ in found]), [k for _, own in found for k in own]


def _points(xy: numpy.ndarray, labels: list[int], names: list[str], kind: str) -> list[Values]:
    return [{"x": rounded(x), "y": rounded(y), "class": names[k], "kind": kind}
            for (x, y), k in zip(xy.tolist(), labels, strict=True)]


def method_at_hand() -> str:
    """umap, else t-sne.   Raises: ValueError where neither is installed."""
    if importlib.util.find_spec("umap"):
        return "umap"
    require(importlib.util.find_spec("sklearn"), "an embedding needs scikit-learn (t-SNE) or umap-learn, and "
            "neither is installed: bash scripts/setup.sh figures")
    return "t-sne"


def place(features: numpy.ndarray, *, method: str, seed: int) -> numpy.ndarray:
    """(N, F) features in a plane, (N, 2), by cosine distance; neighbours at most a third of the images."""
    num = len(features)
    require(num > 6, f"{num} images are too few to embed: expected 7 or more, real and distilled")
    if method == "umap":
        from umap import UMAP
        return numpy.asarray(UMAP(n_neighbors=min(15, num // 3), metric="cosine", random_state=seed,
                                  n_jobs=1).fit_transform(features))
    from sklearn.manifold import TSNE
    return numpy.asarray(TSNE(perplexity=min(30, (num - 1) / 3), metric="cosine", init="pca",
                              random_state=seed).fit_transform(features))


# ---------------------------------------------------------------- drawn

def draw(values: Values) -> Any:
    """A panel a run, in one plane: real images small and pale, distilled ones outlined, a colour a class.

    Raises: ValueError where the runs are not embedded.
    """
    runs = values["runs"]
    require(runs, "these runs are not embedded")
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure = style.new_figure(max(style.COLUMN, EACH * columns), 0.3 + (EACH + 0.1) * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=values["together"], sharey=values["together"])
    for ax in axes.flat[len(runs):]:
        ax.set_visible(False)
    for (i, run), ax in zip(enumerate(runs), axes.flat, strict=False):
        _draw_points(ax, run["points"])
        ax.set_title(style.plain(run["name"]), color=style.colour(i), loc="left")
    taught = ", which taught some" * any(run["taught"] for run in runs)
    methods = " or ".join(dict.fromkeys(run["method"] for run in runs))
    style.note(figure, f"pale: real, outlined: distilled images; {methods} of "
               f"{style.plain(values['arch'])}'s features{taught}")
    return figure


def _draw_points(ax: Any, points: list[Values]) -> None:
    classes = list(dict.fromkeys(point["class"] for point in points))
    for kind, look in (("real", {"s": 5, "alpha": 0.35, "linewidths": 0}),
                       ("distilled", {"s": 16, "edgecolors": style.INK, "linewidths": 0.5})):
        own = [point for point in points if point["kind"] == kind]
        colours = [CLASS_COLOURS[classes.index(point["class"]) % len(CLASS_COLOURS)] for point in own]
        ax.scatter([point["x"] for point in own], [point["y"] for point in own], color=colours, **look)
    for name in classes if len(classes) <= len(CLASS_COLOURS) else ():
        real = [(point["x"], point["y"]) for point in points
                if (point["class"], point["kind"]) == (name, "real")]
        if real:  # where most of a class's real images are
            ax.text(*numpy.median(real, axis=0), style.plain(name, 12), fontsize=7, ha="center", va="center",
                    zorder=9, bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6})
    ax.set(xticks=[], yticks=[], aspect="auto")
    for side in ax.spines.values():
        side.set_color(style.GRID)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embedding(Figure):
    """Real and distilled images in one plane (paper figure 1): UMAP where it is installed, else t-SNE."""

    arch_name: str = option("", "feature network; none: the first at hand that taught nobody")
    ipc: int = option(0, "distilled images a class; 0 = all complete ones", range="in [0, 10000]")
    classes: int = option(10, "classes, spread over all", source="paper figure 1", range="in [1, 1000]")
    real_images: int = option(100, "real images a class, in file order", range="in [1, 10000]")
    seed: int = option(0, "seed of the embedding", range="in [0, 2147483647]")

    def prepare(self, runs: list[NamedRun], flags: SourceFlags, *, device: torch.device,
                command: str) -> Figure:
        sets = [run.draws[0] for run in runs]
        for run, images in zip(runs, sets, strict=True):
            require(images.class_names == sets[0].class_names, f"{run.name}: its classes are not those of "
                    f"{runs[0].name}; embedded together are sets of the same data")
        method_at_hand()
        real_set = RealSet(sets[0].dataset, flags.train_data_path, "train", size=sets[0].size)
        real_set.check_classes(sets[0].class_names, flag="--train-data-path", whose=runs[0].name)
        network = open_network(self.arch_name, sets[0], flags, device=device, others=sets[1:])
        values = embed(sets, real_set, network, classes=self.classes, real_images=self.real_images,
                       ipc=self.ipc, seed=self.seed, device=device)
        for images, own in zip(sets, values, strict=True):
            save_measure(images, f"embedding_{network.name}", own, ipc=self.ipc, command=command)
        return dataclasses.replace(self, arch_name=network.name)

    def numbers(self, runs: list[NamedRun]) -> Values:
        return numbers(runs, self.arch_name)

    def draw(self, values: Values) -> Any:
        return draw(values)
