"""Trains the teacher pool on a data set without public weights: the lineage's "squeeze".

    python -m models.train_teachers --dataset cifar10 --output-dir out/teachers

Each network ends as <output-dir>/<name>.pt (a bare state dict) and <name>.json (accuracy, recipe, class
names), which the stages' `--weights-dir <output-dir>` reads.  Reruns skip what is finished, an
unfinished network goes on.
"""
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.optimizers import SQUEEZE, SQUEEZERS, TeacherAdamW
from models.registry import build_model, model_spec
from utils import files, flags, runtime
from utils.data import DataFlags, RealSet, dataset_preset
from utils.formats import FORMAT_VERSION
from utils.loading import EvaluationBatches, load_pixels
from utils.metrics import Batches, evaluate
from utils.pieces import Values, choice, identity, option, require
from utils.runtime import say
from utils.schedule import cosine
from utils.session import open_session
from utils.unfinished import StopSignals, Unfinished
from utils.views import EpochViews, NoMix, Views

CIFAR = "data set, here CIFAR-10"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig(flags.ProcessFlags, flags.PlanFlags, flags.SaveFlags, DataFlags):
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
    eval_every: int = option(10, "epochs between evaluations on the test images, which are only shown",
                             identity=False, range="> 0")
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

    def unfinished(self, folder: Path) -> list[str]:
        """The networks that are not trained yet."""
        return [name for name in self.models if self.overwrite or not (folder / f"{name}.json").is_file()]

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


def train_teacher(name: str, pixels: torch.Tensor, labels: torch.Tensor, test: Batches, *,
                  config: TeacherConfig, num_classes: int, log: runtime.Log,
                  unfinished: Unfinished) -> nn.Module:
    """Trains one network from scratch, or from its last save, and returns it.

    Args: pixels: (N, 3, H, W) uint8, labels: (N,), the training set;  test: whose accuracy is shown;
          unfinished: saved between epochs.
    """
    runtime.seed_everything(config.seed, "teacher", name)
    model = build_model(name, num_classes=num_classes, stem=config.stem)
    model = model.to(pixels.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, first, saved = config.optimizer(model), 0, unfinished.load()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epoch"]
    steps = -(-len(pixels) // config.batch_size)
    for epoch in runtime.progress(range(first, config.epochs), text=name):
        runtime.seed_everything(config.seed, "teacher", name, epoch)  # dropout
        drawn = config.views.draw(len(pixels), runtime.generator(config.seed, "teacher views", name, epoch))
        loss = train_epoch(model, optimizer, pixels, labels, drawn, mean=config.mean, std=config.std,
                           rate=functools.partial(_rate, config.optimizer.lr, epoch, steps, config.epochs))
        row = {"teacher": name, "epoch": epoch, "loss": loss}
        if (epoch + 1) % config.eval_every == 0 and epoch + 1 < config.epochs:
            row["top1"] = accuracy(model, test, config=config, name=name, epochs=epoch + 1)
        log.write(**row)
        if unfinished.due():
            unfinished.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                             "epoch": epoch + 1})
    return model.eval()


def _rate(lr: float, epoch: int, steps: int, epochs: int, batch: int) -> float:
    """A cosine to 0 over all steps."""
    return lr * cosine(epoch * steps + batch, epochs * steps)


def accuracy(model: nn.Module, test: Batches, *, config: TeacherConfig, name: str, epochs: int) -> float:
    """Says and returns a network's top-1 accuracy on the test images, in [0, 1]."""
    device = next(model.parameters()).device
    seen = evaluate(model, test, mean=config.mean, std=config.std, device=device)
    say(f"{name}: {seen['top1']:.1%} of {seen['images']} test images right after {epochs} of "
        f"{config.epochs} epochs")
    return seen["top1"]


def _save_teacher(path: Path, model: nn.Module, **record: Any) -> None:
    files.save_weights(path, model)
    files.write_json(path.with_suffix(".json"), {**record, "sha256": files.sha256_file(path),
                                                 "versions": runtime.versions()})


def describe(config: TeacherConfig, real: RealSet, test: RealSet, todo: list[str]) -> str:
    """The text of --dry-run, and of the beginning of a run."""
    return (f"teachers      {' '.join(todo) or 'none'} to train, of {' '.join(config.models)}\n"
            f"images        {len(real)} of {len(real.class_names)} classes at {config.size} px, "
            f"{len(test)} test images\n"
            f"networks      {config.stem} stem (--stem), as every stage that uses them\n"
            f"epochs        {config.epochs}, {config.epochs * -(-len(real) // config.batch_size)} steps\n"
            f"results       {config.output_dir}")


def run(config: TeacherConfig) -> dict[str, float]:
    """Trains every network that is not finished yet; returns name -> top-1 accuracy on the test set."""
    session = open_session(config)
    real = RealSet(config.dataset, config.train_data_path, "train", size=config.size)
    needed = len(real) * 3 * config.size**2
    require(needed <= config.memory_limit * 1e9, f"the decoded training set takes {files.readable(needed)}, "
            f"--memory-limit is {config.memory_limit} GB; raise it, or use public weights")
    test = RealSet(config.dataset, config.val_dir or config.train_data_path, "val", size=config.size,
                   bare=bool(config.val_dir))
    require(test.class_names == real.class_names, f"--val-dir {config.val_dir}: its class folders are not "
            f"those of the training data")
    folder = Path(config.output_dir)
    todo, accuracies = config.unfinished(folder), {}
    if config.dry_run:
        print(describe(config, real, test, todo))
    files.claim_folder(folder, settings=TeacherConfig, overwrite=config.overwrite, dry_run=config.dry_run,
                       contents=("*.pt", "*.json", "log.jsonl"), identity={
                           "format": "prism-teachers", "version": FORMAT_VERSION,
                           "class_names": real.class_names,
                           "config": {**identity(config), "threads": session.threads}})
    if config.dry_run:
        files.say_ready(folder)
    if config.dry_run or not todo:
        return {}
    say(describe(config, real, test, todo))
    pixels, labels = (part.to(session.device) for part in load_pixels(real))
    test_batches = EvaluationBatches(test, batch_size=250, device=session.device, workers=0,
                                     resident_gb=config.memory_limit)
    with StopSignals() as stop, runtime.Log(folder / "log.jsonl") as log:
        for name in todo:
            unfinished = Unfinished(folder / f"{name}.unfinished.pt", minutes=config.save_every, stop=stop)
            model = train_teacher(name, pixels, labels, test_batches, config=config, log=log,
                                  num_classes=len(real.class_names), unfinished=unfinished)
            accuracies[name] = accuracy(model, test_batches, config=config, name=name, epochs=config.epochs)
            _save_teacher(folder / f"{name}.pt", model, name=name, accuracy=accuracies[name],
                          stem=config.stem, class_names=real.class_names, recipe=identity(config))
            unfinished.discard()
    return accuracies


def presets(given: Values) -> Values:
    """What --dataset and --size imply."""
    return dataset_preset({"dataset": TeacherConfig.dataset, **given})


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs a command line's words; returns name -> top-1 accuracy of the networks that it trained."""
    return run(flags.parse_config(TeacherConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
