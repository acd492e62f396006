"""Holds images out of training data, to tune on: the test set then confirms what it did not choose.

    python -m scripts.hold_out --dataset cifar10 --train-data-path data/cifar10 --out data/cifar10-tuning

Makes an ImageFolder of PNG files: test/ of the images held out, train/ of all others.  Every command takes it
as --train-data-path, with an --out of its own.  Teachers that were trained on all training images have seen
those held out: that flatters every set of images alike.
"""
import dataclasses
import os
import shutil
from pathlib import Path

import torch

from utils.data import RealSet, dataset_spec
from utils.flags import parse_config
from utils.pieces import Options, option, require
from utils.runtime import command_line, generator, progress, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class HoldOutConfig(Options):
    """What `python -m scripts.hold_out` takes."""

    dataset: str = option("cifar10", "data set, or folder:PATH")
    train_data_path: str = option("", "folder of the real training data, holding train/")
    out: str = option("", "the new folder; must not be there")
    share: float = option(0.1, "of each class's images, held out", range="in (0, 1)")
    seed: int = option(0, "which", range="in [0, 9999]")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.out, "--out is missing: which folder to make")
        dataset_spec(self.dataset)


def held_out(positions: list[int], *, share: float, seed: int, k: int) -> set[int]:
    """Which of a class's images are held out: the nearest number to their share, one at least.

    Raises: ValueError for a class of which none would be left, or none held out.
    """
    num = max(1, round(share * len(positions)))
    require(num < len(positions), f"class {k} has {len(positions)} images: --share {share} leaves none")
    order = generator("hold out", seed, k)
    return {positions[i] for i in torch.randperm(len(positions), generator=order)[:num].tolist()}


def main(argv: list[str] | None = None) -> Path:
    """Makes the folder, whole or not at all; returns it."""
    config = parse_config(HoldOutConfig, argv, description=__doc__)
    out, real = Path(config.out), RealSet(config.dataset, config.train_data_path, "train", size=8)
    require(not out.exists(), f"--out {out} is there already: remove it, or give another")
    held = set().union(*(held_out(own, share=config.share, seed=config.seed, k=k)
                         for k, own in enumerate(real.by_class)))
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was stopped
    for i in progress(range(len(real)), text="hold out"):
        folder = unfinished / ("test" if i in held else "train") / real.class_names[real.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        real.picture(i).save(folder / f"{i:07d}.png")
    os.replace(unfinished, out)
    say(f"{out}: {len(real) - len(held)} images in train/, {len(held)} held out in test/")
    return out


if __name__ == "__main__":
    command_line(main)
