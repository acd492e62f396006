"""Distilled images among real ones: precision, recall, density, coverage, and how near each is to a real one.

    python -m validate.memorisation --data RUN --train-data-path $IMAGENET

Class by class, in features of a network that by default taught nobody; means over the classes.  Beside the
distance of images to their nearest real one stands that of real images to theirs, beside the coverage what as
many further real images would reach.  Where images started from a real one each, the starts are made once
more: how far did images move, and of how many is the start still the nearest real image?
What is measured lies beside the set, <run>/measured/memorisation_<network>.json.
"""
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch

from models.places import inherited_places
from models.registry import model_spec
from utils.data import RealSet
from utils.flags import ComputeFlags, WeightFlags, first_words, parse_config
from utils.formats import Entry, ImageManifest
from utils.image_sets import SetFlags
from utils.measures import command_of, save_measure
from utils.metrics import mean_and_std
from utils.pieces import Values, option
from utils.runtime import command_line, say
from utils.session import open_session
from validate import neighbours
from validate.features import Features, distilled_features, open_network, real_features
from validate.neighbours import Neighbours
from validate.starts import remake_starts, starts_of, starts_unknown


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemorisationConfig(WeightFlags, SetFlags, ComputeFlags):
    """What `python -m validate.memorisation` takes."""

    data: str = option("out/full_resnet18", "run of recover, or folder of images", identity=False)
    train_data_path: str = option("", "folder of the real training data (holding train/, or the classes)",
                                  identity=False)
    ipc: int = option(0, "images per class; 0 = all complete ones", range="in [0, 10000]")
    k: int = option(5, "nearest neighbours that make a ball; fewer where a class has fewer images",
                    source="Naeem 2020", range="in [1, 1000]")
    arch_name: str = option("", "feature network; none: the first at hand that taught nobody")
    stem: Literal["imagenet", "small"] | None = option(None, "its first layers; none: as the images")
    starts: str = option("", "folder for what images started from, made once more; none: a temporary one",
                         identity=False)
    workers: int = option(4, "processes that decode real images", identity=False, range="in [0, 256]")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.arch_name:
            model_spec(self.arch_name)


def presets(given: Values) -> Values:
    """Where the run says that weights lie."""
    return inherited_places(given.get("data", MemorisationConfig.data), given)


# ---------------------------------------------------------------- class by class

def by_class(batches: Features) -> Iterator[tuple[int, torch.Tensor]]:
    """(class, (N, F) features) of batches that come class after class; one class is in memory at a time."""
    kept: list[torch.Tensor] = []
    now = -1
    for features, labels in batches:
        changes = (labels[1:] != labels[:-1]).nonzero().flatten() + 1
        whose = labels[[0, *changes.tolist()]].tolist()
        for part, label in zip(features.tensor_split(changes.tolist()), whose, strict=True):
            if kept and label != now:
                whole, kept = torch.cat(kept), []
                yield now, whole
            kept.append(part)
            now = label
    if kept:
        yield now, torch.cat(kept)


def spread(values: torch.Tensor) -> Values:
    """{"mean", "std", "least"} of distances (N,); None where too few are known."""
    return {"mean": values.mean().item() if len(values) else None,
            "std": values.std().item() if len(values) > 1 else None,
            "least": values.min().item() if len(values) else None}


def movement(moved: torch.Tensor, nearest: torch.Tensor) -> Values:
    """How far images are from their starts, and the share whose nearest real image still is their start.

    Args: moved: (m,), or (0,) where starts are not known;  nearest: (m,) to the nearest real image.
    """
    if not len(moved):
        return {"moved": None, "still_closest": None}
    far = spread(moved)
    return {"moved": {"mean": far["mean"], "std": far["std"]},
            "still_closest": (moved <= nearest + neighbours.ROUNDING).double().mean().item()}


def class_values(found: Neighbours, moved: torch.Tensor) -> Values:
    """What is said of one class."""
    n, m = found.real_images, len(found.nearest)
    return {"real_images": n, "k": found.k, "k_recall": found.k_recall, "precision": found.precision,
            "recall": found.recall, "density": found.density, "coverage": found.coverage,
            "coverage_expected": neighbours.expected_coverage(n, m, found.k) if found.k else None,
            "nearest": spread(found.nearest), "real_nearest": spread(found.real_nearest),
            **movement(moved, found.nearest)}


def summarize(classes: dict[str, Values], found: Sequence[tuple[torch.Tensor, ...]]) -> Values:
    """Means over the classes that know;  distances over all images.

    Args: found: of each class distances to the nearest, of real images, and to the starts.
    """
    means: Values = {}
    for what in ("precision", "recall", "density", "coverage", "coverage_expected"):
        known = [own[what] for own in classes.values() if own[what] is not None]
        means[what] = mean_and_std(known)[0] if known else None
    nearest, real_nearest, moved = (torch.cat(parts) for parts in zip(*found, strict=True))
    return {"real_images": sum(own["real_images"] for own in classes.values()), **means,
            "nearest": spread(nearest), "real_nearest": spread(real_nearest), **movement(moved, nearest),
            "classes": classes}


def compare_classes(real: Features, distilled: Features, starts: Features | None,
                    class_names: Sequence[str], *, k: int) -> Values:
    """All classes, whose features come in one order.   Memory: `neighbours.bytes_bound` of the largest class.

    Args: starts: of the distilled images, where they are known.
    """
    classes: dict[str, Values] = {}
    kept: list[tuple[torch.Tensor, ...]] = []
    begun = by_class(starts) if starts else itertools.repeat(None)
    for (label, own), (other, made), start in zip(by_class(real), by_class(distilled), begun, strict=False):
        assert label == other, "the features come in other orders"
        found = neighbours.compare(own, made, k=k)
        moved = neighbours.moved(own, made, start[1]) if start else found.nearest.new_empty(0)
        classes[class_names[label]] = class_values(found, moved)
        kept.append((found.nearest.cpu(), found.real_nearest.cpu(), moved.cpu()))
    return summarize(classes, kept)


# ---------------------------------------------------------------- the command

def begun_from(images: ImageManifest, entries: Sequence[Entry], config: MemorisationConfig,
               folder: Path) -> tuple[ImageManifest, list[Entry]] | None:
    """The run of the images' starts, and the start of each; None, and why, where they are not known."""
    reason = starts_unknown(images)
    if not reason:
        try:
            starts = remake_starts(images, config.ipc or images.ipc, folder, device=config.device,
                                   train_data_path=config.train_data_path)
            return starts, starts_of(entries, starts)
        except (ValueError, FileNotFoundError, RuntimeError) as error:
            reason = str(error)
    say(f"{images.run}: how far images moved is not known: {reason}")
    return None


def say_shrunk(classes: dict[str, Values], k: int) -> None:
    """Says where k is less than was asked for."""
    for what, whose in (("k", "real"), ("k_recall", "distilled")):
        fewer = [own[what] for own in classes.values() if own[what] < k]
        if fewer:
            say(f"{len(fewer)} of {len(classes)} classes have too few {whose} images for k = {k}: there the "
                f"balls of {whose} images have k = {min(fewer)}" + f" to {max(fewer)}" * (
                    min(fewer) < max(fewer)) + ", and none where it is 0" * (min(fewer) == 0))


def describe(values: Values) -> list[str]:
    """What was measured, in lines."""
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    def spelt(own: Values) -> str:
        return f"{number(own['mean'])} +- {number(own['std'])}"
    nearest, real = values["nearest"], values["real_nearest"]
    lines = [
        f"precision {number(values['precision'])}, recall {number(values['recall'])}, density "
        f"{number(values['density'])}, coverage {number(values['coverage'])} (as many real images: "
        f"{number(values['coverage_expected'])})",
        f"to the nearest real image of the class: {spelt(nearest)}, least {number(nearest['least'])}; real "
        f"images to theirs: {spelt(real)}, least {number(real['least'])}"]
    if values["moved"]:
        lines.append(f"moved {spelt(values['moved'])} from the real image that each started from, which is "
                     f"still the nearest one of {values['still_closest']:.0%}")
    return lines


def run(config: MemorisationConfig) -> Values:
    """Measures a set, says and saves it."""
    device = open_session(config).device
    images = config.open_set(config.data, train_data_path=config.train_data_path)
    entries = images.select(config.ipc)
    real = RealSet(images.dataset, config.train_data_path, "train", size=images.size)
    real.check_classes(images.class_names, flag="--train-data-path", whose="the distilled images")
    network = open_network(config.arch_name, images, config, stem=config.stem, device=device)
    positions = [i for k in sorted({entry.label for entry in entries}) for i in real.by_class[k]]
    with tempfile.TemporaryDirectory() as passing:
        begun = begun_from(images, entries, config, Path(config.starts or passing))
        found = compare_classes(
            real_features(network, real, positions, images, device, workers=config.workers),
            distilled_features(network, images, entries, device),
            distilled_features(network, *begun, device) if begun else None, images.class_names, k=config.k)
    values = {"arch": network.name, "taught": network.taught, "k": config.k, **found}
    path = save_measure(images, f"memorisation_{network.name}", values, ipc=config.ipc, command=command_of(
        "validate.memorisation", dataclasses.replace(config, arch_name=network.name), presets))
    say_shrunk(values["classes"], config.k)
    say(f"{images.run}: {len(entries)} images among {values['real_images']} real ones, means over "
        f"{len(values['classes'])} classes ({network.name}, k = {config.k}); {path} has each class")
    for line in describe(values):
        say(f"  {line}")
    return values


def main(argv: list[str] | None = None) -> Values:
    """Runs a command line's words; returns what was measured."""
    return run(parse_config(MemorisationConfig, first_words(argv, "--data"), description=__doc__,
                            presets=presets))


if __name__ == "__main__":
    command_line(main)
