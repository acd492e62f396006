"""Trains the teacher pool on a data set without public weights: the lineage's "squeeze".

    python -m models.train_teachers --dataset cifar10 --output-dir out/teachers --models resnet18 mobilenet_v2

Each network ends as <output-dir>/<name>.pt (a bare state dict) and <name>.json (accuracy, recipe, class
names), which the stages' `--weights-dir <output-dir>` reads.  Reruns skip what is finished, an unfinished
network goes on.
"""
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.optimizers import SQUEEZE, SQUEEZERS, TeacherAdamW
from models.registry import build_model, model_spec
from utils.data import DataFlags, RealSet, dataset_preset
from utils.files import readable, save_weights, sha256_file, write_json
from utils.flags import ProcessFlags, SaveFlags, parse_config
from utils.folders import TEACHERS, claim
from utils.loading import EvaluationBatches, load_pixels
from utils.metrics import evaluate
from utils.pieces import Values, choice, identity, option, require
from utils.records import Teacher, find_record
from utils.runtime import (
    Log,
    command_line,
    generator,
    progress,
    say,
    seed_everything,
    versions,
)
from utils.schedule import cosine
from utils.session import open_session
from utils.unfinished import StopSignals, Unfinished
from utils.views import EpochViews, NoMix, Views

CIFAR = "data set, here CIFAR-10"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig(ProcessFlags, SaveFlags, DataFlags):
    """What `python -m models.train_teachers` takes."""

    dataset: str = option("cifar10", "data set, or folder:PATH")
    val_dir: str = option("", "folder of the real test data; default: --train-data-path", identity=False)
    output_dir: str = option("out/teachers", "folder for <name>.pt and <name>.json", identity=False)
    models: tuple[str, ...] = option(("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5",
                                      "alexnet"), "networks to train", source="prism.md 1", identity=False)
    epochs: int = option(200, "epochs", source=SQUEEZE, range="> 0")
    batch_size: int = option(128, "images a step", source=SQUEEZE, range="> 1")
    optimizer: TeacherAdamW = choice(SQUEEZERS, "sgd", "optimiser", source=SQUEEZE)
    min_scale_crops: float = option(
        0.25, "least area fraction of a random crop: relabel asks about such crops", range="in (0, 1]")
    size: int = option(32, "side of the images [pixels]", source=CIFAR, range=">= 8")
    mean: tuple[float, ...] = option((0.4914, 0.4822, 0.4465), "pixel mean, in 0..1", source=CIFAR)
    std: tuple[float, ...] = option((0.2470, 0.2435, 0.2616), "pixel standard deviation", source=CIFAR,
                                    range="> 0")
    stem: Literal["imagenet", "small"] = option("small", "first layers: as published, or 3x3 without pooling",
                                                source=CIFAR)
    memory_limit: float = option(8.0, "refuse a training set that is larger, decoded [GB]", identity=False)
    seed: int = option(0, "seed of everything")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.models:
            model_spec(name)

    @property
    def views(self) -> Views:
        """The laws of an epoch's views."""
        return Views(size=self.size, batch_size=self.batch_size, min_scale=self.min_scale_crops,
                     flip=self.flip, mix_type=NoMix())


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, pixels: torch.Tensor,
                labels: torch.Tensor, drawn: EpochViews, *, rate: Callable[[int], float],
                mean: tuple[float, ...], std: tuple[float, ...]) -> float:
    """One epoch of cross-entropy on drawn views.

    Args:    pixels: (N, 3, H, W) uint8;  labels: (N,);  drawn: without mixing;
             rate(batch): the learning rate.
    Returns: mean loss.
    """
    model.train()
    drawn = drawn.to(pixels.device)
    losses = []
    for batch in range(len(drawn)):
        part = drawn.index[drawn.rows(batch)].long()
        if len(part) == 1:
            continue  # BatchNorm needs two images
        for group in optimizer.param_groups:
            group["lr"] = rate(batch)
        loss = F.cross_entropy(model(drawn.render(pixels[part], batch, mean=mean, std=std)), labels[part])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def train_teacher(name: str, pixels: torch.Tensor, labels: torch.Tensor, *, config: TeacherConfig,
                  num_classes: int, log: Log, unfinished: Unfinished) -> nn.Module:
    """Trains one network from scratch, or from its last save, and returns it.

    Args: pixels: (N, 3, H, W) uint8, labels: (N,), the training set;  unfinished: saved between epochs.
    """
    seed_everything(config.seed, "teacher", name)
    model = build_model(name, num_classes=num_classes, stem=config.stem)
    model = model.to(pixels.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, first, saved = config.optimizer(model), 0, unfinished.load()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epoch"]
    steps = -(-len(pixels) // config.batch_size)
    for epoch in progress(range(first, config.epochs), text=name):
        seed_everything(config.seed, "teacher", name, epoch)  # dropout
        drawn = config.views.draw(len(pixels), generator(config.seed, "teacher views", name, epoch))
        loss = train_epoch(model, optimizer, pixels, labels, drawn, mean=config.mean, std=config.std,
                           rate=functools.partial(_rate, config.optimizer.lr, epoch, steps, config.epochs))
        log.write(teacher=name, epoch=epoch, loss=loss)
        if unfinished.due():
            unfinished.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                             "epoch": epoch + 1})
    return model.eval()


def _rate(lr: float, epoch: int, steps: int, epochs: int, batch: int) -> float:
    """A cosine to 0 over all steps."""
    return lr * cosine(epoch * steps + batch, epochs * steps)


def is_finished(weights: Path) -> bool:
    """Whether a teacher is there, its record and the weights of which it holds the digest."""
    record = find_record(weights.with_suffix(".json"), Teacher)
    return record is not None and weights.is_file() and sha256_file(weights) == record.get("sha256")


def _unfinished(folder: Path, names: tuple[str, ...], *, anew: bool) -> list[str]:
    """The networks that are still to be trained; nothing that others put there is overwritten."""
    todo = [name for name in names if anew or not is_finished(folder / f"{name}.pt")]
    own = TEACHERS.own(folder)
    for path in (folder / f"{name}{end}" for name in todo for end in (".pt", ".json")):
        require(not path.is_file() or path in own.records + own.others,
                f"{path}: not made here and would be overwritten; move it, or choose another --output-dir")
    return todo


def run(config: TeacherConfig) -> dict[str, float]:
    """Trains every network that is not finished yet; returns name -> top-1 accuracy on the test set."""
    session = open_session(config)
    real = RealSet(config.dataset, config.train_data_path, "train", size=config.size)
    needed = len(real) * 3 * config.size**2
    require(needed <= config.memory_limit * 1e9, f"the decoded training set takes {readable(needed)}, "
            f"--memory-limit is {config.memory_limit} GB; raise it, or use public weights")
    test = RealSet(config.dataset, config.val_dir or config.train_data_path, "val", size=config.size,
                   bare=bool(config.val_dir))
    require(test.class_names == real.class_names, f"--val-dir {config.val_dir}: its class folders are not "
            f"those of the training data")
    folder = Path(config.output_dir)
    _unfinished(folder, config.models, anew=config.overwrite)
    with claim(folder, TEACHERS, settings=TeacherConfig, overwrite=config.overwrite, identity={
            "class_names": real.class_names,
            "config": {**identity(config), "threads": session.threads}}) as stale:
        todo = _unfinished(folder, config.models, anew=stale)
        for name in config.models:
            if name not in todo:  # a kill may have come between its record and the end of its save
                (folder / f"{name}.unfinished.pt").unlink(missing_ok=True)
        return train(todo, real, test, config, session.device) if todo else {}


def train(names: list[str], real: RealSet, test: RealSet, config: TeacherConfig,
          device: torch.device) -> dict[str, float]:
    """Trains networks and saves each with its record; returns name -> top-1 accuracy on the test set."""
    folder, accuracies = Path(config.output_dir), {}
    pixels, labels = (part.to(device) for part in load_pixels(real))
    test_batches = EvaluationBatches(test, batch_size=250, device=device, workers=0,
                                     resident_gb=config.memory_limit)
    with StopSignals() as stop, Log(folder / "log.jsonl") as log:
        for name in names:
            unfinished = Unfinished(folder / f"{name}.unfinished.pt", minutes=config.save_every, stop=stop)
            model = train_teacher(name, pixels, labels, config=config, log=log,
                                  num_classes=len(real.class_names), unfinished=unfinished)
            seen = evaluate(model, test_batches, mean=config.mean, std=config.std, device=device)
            accuracies[name] = seen["top1"]
            saved = save_weights(folder / f"{name}.pt", model)
            write_json(folder / f"{name}.json", {
                "name": name, "accuracy": seen["top1"], "stem": config.stem, "class_names": real.class_names,
                "recipe": identity(config), "sha256": saved["sha256"], "versions": versions()})
            unfinished.discard()
            say(f"{name}: {seen['top1']:.1%} of {seen['images']} test images")
    return accuracies


def presets(given: Values) -> Values:
    """What --dataset and --size imply."""
    return dataset_preset({"dataset": TeacherConfig.dataset, **given})


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs a command line's words; returns name -> top-1 accuracy of the networks that it trained."""
    return run(parse_config(TeacherConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    command_line(main)
