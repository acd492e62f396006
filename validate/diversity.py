"""Intra-class cosine similarity of distilled sets (paper figure 4): lower is more diverse.

    python -m validate.diversity --data out/full_resnet18 --arch-name resnet18

The features are the penultimate ones of a trained network, for ImageNet-1K a ResNet-18.
"""
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from models.places import inherited_places
from models.registry import load_teachers, model_spec, penultimate
from utils.augment import normalize
from utils.flags import ComputeFlags, WeightFlags, parse_config
from utils.formats import Entry, assemble_manifest, run_folder
from utils.loading import load_distilled
from utils.metrics import intra_class_cosine, mean_and_std
from utils.pieces import Values, option, require
from utils.precision import set_precision
from utils.runtime import choose_device, command_line, progress, say, set_threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiversityConfig(WeightFlags, ComputeFlags):
    """What `python -m validate.diversity` takes."""

    data: str = option("out/full_resnet18", "run of recover, or its syn/ folder", identity=False)
    ipc: int = option(0, "images per class; 0 = all complete ones", range="in [0, 10000]")
    arch_name: str = option("resnet18", "feature network", source="paper figure 4")
    stem: Literal["imagenet", "small"] | None = option(None, "its first layers; none: as the images")

    def __post_init__(self) -> None:
        super().__post_init__()
        model_spec(self.arch_name)


@torch.no_grad()
def features_of(model: nn.Module, run: Path, entries: list[Entry], *, size: int, mean: tuple[float, ...],
                std: tuple[float, ...],
                device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """((B, F) features, (B,) class indices) of a run's images, 100 at a time: more are never in memory."""
    for first in progress(range(0, len(entries), 100), text="features"):
        pixels, labels = load_distilled(run, entries[first:first + 100], size=size, device=device)
        yield model(normalize(pixels, mean, std)), labels


def main(argv: list[str] | None = None) -> Values:
    """Says mean and spread over classes; returns {"mean", "std", "classes": one value a class}."""
    config = parse_config(DiversityConfig, argv, description=__doc__, presets=lambda given: inherited_places(
        given.get("data", DiversityConfig.data), given))
    device = choose_device(config.device)
    set_threads(config.threads)
    set_precision("fp32", device)
    run = run_folder(config.data, flag="--data")
    manifest = assemble_manifest(run)
    teacher, = load_teachers([config.arch_name], weights=config.weights, weights_dir=config.weights_dir,
                             dataset=manifest.dataset, num_classes=manifest.num_classes, device=device,
                             stem=config.stem or manifest.stem).values()
    values = intra_class_cosine(
        features_of(penultimate(teacher.model), run, manifest.select(config.ipc), size=manifest.size,
                    mean=manifest.mean, std=manifest.std, device=device), num_classes=manifest.num_classes)
    require(values, f"{run}: one image a class has no pairs to compare; make IPC 2 or more")
    mean, std = mean_and_std(values)
    say(f"{run}: intra-class cosine {mean:.4f} +- {std:.4f} over {len(values)} classes ({config.arch_name})")
    return {"mean": mean, "std": std, "classes": values}


if __name__ == "__main__":
    command_line(main)
