"""Networks that look at images for the measures, and their penultimate features.   B images, F features.

Who taught images or labels finds its own taste in them: by default one measures that taught nobody.
"""
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from models.registry import MODELS, load_teachers, model_spec, parse_weights, penultimate
from utils.augment import normalize
from utils.data import RealSet
from utils.flags import WeightFlags
from utils.formats import Entry, ImageManifest, label_folders
from utils.image_sets import holds
from utils.loading import load_distilled, read_batches
from utils.metrics import logits_of
from utils.pieces import require
from utils.records import Labels, find_record
from utils.runtime import progress, say

BATCH = 100  # images at a time: more are never in memory
PAPERS = "resnet18"  # of figure 4
# Asked first: of families that no protocol's teachers are of, so that one network measures them all.
PREFERRED = ("convnext_tiny", "swin_t")
Features = Iterator[tuple[torch.Tensor, torch.Tensor]]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network that measures: `model` returns penultimate features (N, F), frozen and in eval mode.

    taught: whether one of its architecture taught the images or their labels.
    """

    name: str
    model: nn.Module
    taught: bool


# ---------------------------------------------------------------- which network

def teachers_of(images: ImageManifest) -> set[str]:
    """The networks that a set was made with, and those of its labels at <home>/fkd, as far as is recorded.

    By architecture, whose priors are its own with other weights too.
    """
    folders = label_folders(str(images.home / "fkd"))
    found = [find_record(folder / "config.json", Labels) for folder in folders]
    labels = [own for own in found if own and holds(images, own["images"], own["ipc"])]
    return {*images.saved["weights"], *(name for own in labels for name in own["teachers"])}


def networks_at_hand(dataset: str, flags: WeightFlags, *, stem: str) -> list[str]:
    """The networks for which there are weights, in the order of preference.

    PREFERRED, then MODELS in its order, then others that --weights or --weights-dir hold, by name.  On
    ImageNet-1K at hand is also whatever torchvision has public weights for, here or to be downloaded.
    """
    files = Path(flags.weights_dir).glob("*.pt") if flags.weights_dir else ()
    named = {*parse_weights(flags.weights), *(path.stem for path in files if _is_network(path.stem))}
    if (dataset, stem) == ("imagenet-1k", "imagenet"):
        named |= {name for name, spec in MODELS.items() if spec.weights}
    return [name for name in dict.fromkeys((*PREFERRED, *MODELS, *sorted(named))) if name in named]


def _is_network(name: str) -> bool:
    try:
        return bool(model_spec(name))
    except ValueError:  # a file of somebody's in --weights-dir
        return False


def choose_network(images: Sequence[ImageManifest], flags: WeightFlags, *, stem: str) -> str:
    """The default: the first network at hand that taught none of these images; the paper's where all did.

    That is resnet18, or else the images' logit teacher, or else the first at hand.
    Raises: ValueError where no weights are at hand.
    """
    dataset = images[0].dataset
    found, taught = networks_at_hand(dataset, flags, stem=stem), set().union(*map(teachers_of, images))
    require(found, f"no network's weights for {dataset} are at hand: train one with python -m "
            f"models.train_teachers, and name its folder with --weights-dir")
    strangers = [name for name in found if name not in taught]
    primary = images[0].saved["config"].get("arch_name", PAPERS)
    return next(iter(strangers or [name for name in (PAPERS, primary) if name in found] or found))


def open_network(arch: str, images: ImageManifest, flags: WeightFlags, *, stem: str | None = None,
                 device: torch.device, others: Sequence[ImageManifest] = ()) -> Network:
    """The network that measures a set; says which, and whether it taught.

    Args:   arch: its name, or "" for `choose_network`;  flags: where weights are;  stem: its first layers,
            else the images';  others: sets that it measures too.
    Raises: ValueError for an unknown network, or one without weights.
    """
    sets, stem = (images, *others), stem or images.stem
    name = arch or choose_network(sets, flags, stem=stem)
    teacher, = load_teachers([name], weights=flags.weights, weights_dir=flags.weights_dir, stem=stem,
                             dataset=images.dataset, num_classes=images.num_classes, device=device).values()
    taught = any(name in teachers_of(own) for own in sets)
    known = all("arch_name" in own.saved["config"] for own in sets)  # of others' sets nobody recorded it
    say(f"{name} measures, " + (
        "which taught these images or their labels" + ", as all did whose weights are at hand" * (not arch)
        if taught else "which taught nobody here" if known else "these images' teachers are not recorded"))
    return Network(name, penultimate(teacher.model), taught)


# ---------------------------------------------------------------- what it sees

@torch.no_grad()
def _seen(network: Network, pixels: torch.Tensor, images: ImageManifest,
          device: torch.device) -> torch.Tensor:
    return logits_of(network.model, normalize(pixels.to(device), images.mean, images.std)).float()


def distilled_features(network: Network, images: ImageManifest, entries: Sequence[Entry],
                       device: torch.device) -> Features:
    """((B, F) float32 features on the device, (B,) class indices) of distilled images, in their order.

    Raises: as `load_distilled`.
    """
    for first in progress(range(0, len(entries), BATCH), text="features"):
        pixels, labels = load_distilled(images.run, list(entries[first:first + BATCH]), size=images.size,
                                        device=device)
        yield _seen(network, pixels, images, device), labels


def real_features(network: Network, real_set: RealSet, positions: Sequence[int], images: ImageManifest,
                  device: torch.device, *, workers: int = 0) -> Features:
    """The same of real images at these positions, normalised as the distilled ones.

    Args: workers: processes that decode, of a set that is worth starting them.
    """
    parts = [list(positions[first:first + BATCH]) for first in range(0, len(positions), BATCH)]
    for pixels, labels in progress(read_batches(real_set, parts, workers=workers), total=len(parts),
                                   text="real images' features"):
        yield _seen(network, pixels, images, device), labels
