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
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.optimizers import SQUEEZE, SQUEEZERS, TeacherAdamW
from models.registry import build_model, model_spec
from utils import files, flags, runtime
from utils.data import DataFlags, RealSet, dataset_preset
from utils.folders import TEACHERS, check_claimed, claim, seems_others
from utils.loading import EvaluationBatches, load_pixels
from utils.metrics import Batches, evaluate
from utils.pieces import Values, choice, identity, option, require
from utils.records import Teacher, find_record
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
    epochs: int = option(200, "epochs", source=SQUEEZE, range="in [1, 100000]")
    batch_size: int = option(128, "images a step", source=SQUEEZE, range="in [2, 32767]")
    optimizer: TeacherAdamW = choice(SQUEEZERS, "sgd", "optimiser", source=SQUEEZE)
    min_scale_crops: float = option(
        0.25, "least area fraction of a random crop: relabel asks about such crops", range="in (0, 1]")
    size: int = option(32, "side of the images [pixels]", source=CIFAR, range="in [8, 8192]")
    mean: tuple[float, ...] = option((0.4914, 0.4822, 0.4465), "pixel mean, in 0..1", source=CIFAR,
                                     range="in [0, 1]")
    std: tuple[float, ...] = option((0.2470, 0.2435, 0.2616), "pixel standard deviation", source=CIFAR,
                                    range="in [0.001, 1]")
    stem: Literal["imagenet", "small"] = option("small", "first layers: as published, or 3x3 without pooling",
                                                source=CIFAR)
    eval_every: int = option(10, "epochs between evaluations on the test images, which are only shown",
                             identity=False, range="> 0")
    memory_limit: float = option(8.0, "refuse a training set that is larger, decoded [GB]", identity=False,
                                 range="> 0")
    seed: int = option(0, "seed of everything", range="in (-inf, inf)")

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
        say(f"{name}: goes on from its save, {first} of {config.epochs} epochs are done")
    steps = -(-len(pixels) // config.batch_size)
    for epoch in runtime.progress(range(first, config.epochs), text=name):
        runtime.seed_everything(config.seed, "teacher", name, epoch)  # dropout
        drawn = config.views.draw(len(pixels), runtime.generator(config.seed, "teacher views", name, epoch))
        loss = train_epoch(model, optimizer, pixels, labels, drawn, mean=config.mean, std=config.std,
                           rate=functools.partial(_rate, config.optimizer.lr, epoch, steps, config.epochs))
        runtime.finite_values({"loss": torch.tensor(loss)}, where=f"epoch {epoch} of {name}")
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


def describe(config: TeacherConfig, real: RealSet, test: RealSet, todo: list[str]) -> str:
    """The text of --dry-run, and of the beginning of a run."""
    return (f"teachers      {' '.join(todo) or 'none'} to train, of {' '.join(config.models)}\n"
            f"images        {len(real)} of {len(real.class_names)} classes at {config.size} px, "
            f"{len(test)} test images\n"
            f"networks      {config.stem} stem (--stem), as every stage that uses them\n"
            f"epochs        {config.epochs}, {config.epochs * -(-len(real) // config.batch_size)} steps\n"
            f"results       {config.output_dir}")


def is_finished(weights: Path) -> bool:
    """Whether a teacher is there, its record and the weights of which it holds the digest."""
    record = find_record(weights.with_suffix(".json"), Teacher)
    return record is not None and weights.is_file() and files.sha256_file(weights) == record.get("sha256")


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
    require(needed <= config.memory_limit * 1e9, f"the decoded training set takes {files.readable(needed)}, "
            f"--memory-limit is {config.memory_limit} GB; raise it, or use public weights")
    test = RealSet(config.dataset, config.val_dir or config.train_data_path, "val", size=config.size,
                   bare=bool(config.val_dir))
    test.check_classes(real.class_names, flag="--val-dir", whose="the training data")
    folder = Path(config.output_dir)
    todo = _unfinished(folder, config.models, anew=config.overwrite)
    if config.dry_run:
        anew = config.overwrite and seems_others(folder, config)
        print(describe(config, real, test, _unfinished(folder, config.models, anew=anew)))
    sets = load_sets(real, test, config, session.device) if todo else None  # bad images: before the claim
    with claim(folder, TEACHERS, settings=TeacherConfig, overwrite=config.overwrite, dry_run=config.dry_run,
               identity={"class_names": real.class_names,
                         "config": {**identity(config), "threads": session.threads}}) as stale:
        todo = _unfinished(folder, config.models, anew=stale)
        if config.dry_run:
            files.say_ready(folder, f"{len(todo)} networks to train", anew=stale)
            return {}
        for name in config.models:
            if name not in todo:  # a kill may have come between its record and the end of its save
                (folder / f"{name}.unfinished.pt").unlink(missing_ok=True)
        if not (todo and sets):
            return {}
        say(describe(config, real, test, todo))
        return train(todo, *sets, config, real.class_names)


def load_sets(real: RealSet, test: RealSet, config: TeacherConfig,
              device: torch.device) -> tuple[torch.Tensor, torch.Tensor, EvaluationBatches]:
    """Training images (N, 3, H, W) uint8 and labels (N,), and the test set by the batch."""
    return *load_pixels(real, device=device), EvaluationBatches(
        test, batch_size=250, device=device, workers=0, resident_gb=config.memory_limit)


def train(names: list[str], pixels: torch.Tensor, labels: torch.Tensor, test: EvaluationBatches,
          config: TeacherConfig, class_names: list[str]) -> dict[str, float]:
    """Trains networks and saves each with its record; returns name -> top-1 accuracy on the test set."""
    folder, accuracies = Path(config.output_dir), {}
    with StopSignals() as stop, runtime.Log(folder / "log.jsonl") as log:
        for name in names:
            unfinished = Unfinished(folder / f"{name}.unfinished.pt", minutes=config.save_every, stop=stop)
            model = train_teacher(name, pixels, labels, test, config=config, log=log,
                                  num_classes=len(class_names), unfinished=unfinished)
            accuracies[name] = accuracy(model, test, config=config, name=name, epochs=config.epochs)
            saved = files.save_weights(folder / f"{name}.pt", model)
            files.write_json(folder / f"{name}.json", {
                "name": name, "accuracy": accuracies[name], "stem": config.stem, "class_names": class_names,
                "recipe": identity(config), "sha256": saved["sha256"], "versions": runtime.versions()})
            unfinished.discard()
            check_claimed(folder)
    return accuracies


def presets(given: Values) -> Values:
    """What --dataset and --size imply."""
    return dataset_preset({"dataset": TeacherConfig.dataset, **given})


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs a command line's words; returns name -> top-1 accuracy of the networks that it trained."""
    return run(flags.parse_config(TeacherConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
