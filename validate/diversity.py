"""Intra-class cosine similarity of distilled sets (paper figure 4): lower is more diverse.

    python -m validate.diversity --data out/full_resnet18 --arch-name resnet18

The features are the penultimate ones of a trained network, for ImageNet-1K a ResNet-18.
"""
import dataclasses
from typing import Literal

import torch
from torch import nn

from models.places import inherited_places
from models.registry import load_teachers, model_spec, penultimate
from utils.augment import normalize
from utils.flags import ComputeFlags, WeightFlags, parse_config
from utils.formats import assemble_manifest, run_folder
from utils.loading import load_distilled
from utils.metrics import intra_class_cosine, mean_and_std
from utils.pieces import Values, option, require
from utils.runtime import choose_device, command_line, say, set_threads


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiversityConfig(WeightFlags, ComputeFlags):
    """What `python -m validate.diversity` takes."""

    data: str = option("out/full_resnet18", "run of recover, or its syn/ folder", identity=False)
    ipc: int = option(0, "images per class; 0 = all complete ones", range=">= 0")
    arch_name: str = option("resnet18", "feature network", source="paper figure 4")
    stem: Literal["imagenet", "small"] | None = option(None, "its first layers; none: as the images")

    def __post_init__(self) -> None:
        super().__post_init__()
        model_spec(self.arch_name)


@torch.no_grad()
def features_of(model: nn.Module, pixels: torch.Tensor, *, mean: tuple[float, ...], std: tuple[float, ...],
                device: torch.device) -> torch.Tensor:
    """(N, 3, H, W) uint8 pixels to (N, F) features, in batches of 100 on `device`."""
    return torch.cat([model(normalize(batch.to(device), mean, std)).cpu() for batch in pixels.split(100)])


def main(argv: list[str] | None = None) -> Values:
    """Says mean and spread over classes; returns {"mean", "std", "classes": one value a class}."""
    config = parse_config(DiversityConfig, argv, description=__doc__, presets=lambda given: inherited_places(
        given.get("data", DiversityConfig.data), given))
    device = choose_device(config.device)
    set_threads(config.threads)
    run = run_folder(config.data, flag="--data")
    manifest = assemble_manifest(run)
    teacher, = load_teachers([config.arch_name], weights=config.weights, weights_dir=config.weights_dir,
                             dataset=manifest.dataset, num_classes=manifest.num_classes, device=device,
                             stem=config.stem or manifest.stem).values()
    pixels, labels = load_distilled(run, manifest.select(config.ipc), size=manifest.size)
    features = features_of(penultimate(teacher.model), pixels, mean=manifest.mean, std=manifest.std,
                           device=device)
    values = intra_class_cosine(features, labels)
    require(values, f"{run}: one image a class has no pairs to compare; make IPC 2 or more")
    mean, std = mean_and_std(values)
    say(f"{run}: intra-class cosine {mean:.4f} +- {std:.4f} over {len(values)} classes ({config.arch_name})")
    return {"mean": mean, "std": std, "classes": values}


if __name__ == "__main__":
    command_line(main)
