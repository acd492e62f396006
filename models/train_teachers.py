"""Trains the teacher pool on a data set without public weights: the lineage's "squeeze".

    python -m models.train_teachers --dataset cifar10 --output-dir out/teachers --models resnet18 mobilenet_v2

Each network ends as <output-dir>/<name>.pt (a bare state dict) and <name>.json (accuracy, recipe, class
names), which the stages' `--weights-dir <output-dir>` reads.  Reruns skip what is finished, an unfinished
network goes on.
"""
import dataclasses
import sys
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from models.registry import build_model, model_spec
from utils.augment import plan_epoch, render_batch, to_device
from utils.config import ProcessFlags, SaveFlags, identity, option, parse_config, require
from utils.data import RealSet, dataset_preset, dataset_spec
from utils.files import claim_folder, readable, save_weights, sha256_file, write_json
from utils.formats import FORMAT_VERSION
from utils.loading import EvaluationBatches, load_pixels
from utils.metrics import evaluate
from utils.runtime import (
    Log,
    choose_device,
    command_line,
    generator,
    identity_threads,
    progress,
    say,
    seed_everything,
    versions,
)
from utils.schedule import cosine
from utils.unfinished import StopSignals, Unfinished

SQUEEZE = "SRe2L squeeze on CIFAR-100"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherConfig(ProcessFlags, SaveFlags):
    """What `python -m models.train_teachers` takes."""

    dataset: str = option("cifar10", "data set, or folder:PATH")
    train_data_path: str = option("", "folder of the real training data (holding train/, or the classes)",
                                  identity=False)
    val_dir: str = option("", "folder of the real test data; default: --train-data-path", identity=False)
    output_dir: str = option("out/teachers", "folder for <name>.pt and <name>.json", identity=False)
    models: tuple[str, ...] = option(("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5",
                                      "alexnet"), "networks to train", source="prism.md 1", identity=False)
    epochs: int = option(200, "epochs", source=SQUEEZE)
    batch_size: int = option(128, "images a step", source=SQUEEZE)
    optimizer: Literal["sgd", "adamw"] = option("sgd", "optimiser; sgd with momentum 0.9", source=SQUEEZE)
    lr: float = option(0.1, "base learning rate, cosine to 0", source=SQUEEZE)
    momentum: float = option(0.9, "momentum of sgd", source=SQUEEZE)
    weight_decay: float = option(5e-4, "weight decay", source=SQUEEZE)
    min_scale_crops: float = option(
        0.25, "least area fraction of a random crop: relabel asks about such crops")
    size: int = option(32, "side of the images [pixels]", source="data set")
    flip: bool = option(True, "random horizontal flips", source="data set")
    mean: tuple[float, ...] = option((0.4914, 0.4822, 0.4465), "pixel mean, in 0..1", source="data set")
    std: tuple[float, ...] = option((0.2470, 0.2435, 0.2616), "pixel standard deviation", source="data set")
    stem: Literal["imagenet", "small"] = option("small", "first layers: as published, or 3x3 without pooling",
                                                source="data set")
    memory_limit: float = option(8.0, "refuse a training set that is larger, decoded [GB]", identity=False)
    seed: int = option(0, "seed of everything")

    def __post_init__(self):
        require(self.epochs > 0, f"--epochs must be > 0, got {self.epochs}")
        require(self.batch_size > 1, f"--batch-size must be > 1, got {self.batch_size}")
        require(0 < self.min_scale_crops <= 1,
                f"--min-scale-crops must be in (0, 1], got {self.min_scale_crops}")
        self.check_save_every()
        dataset_spec(self.dataset)
        for name in self.models:
            model_spec(name)


def _optimizer(model, config):
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum,
                           weight_decay=config.weight_decay)


def train_epoch(model, optimizer, pixels, labels, plan, *, epoch: int, config, device) -> float:
    """One epoch of cross-entropy on planned views; the learning rate follows a cosine per step.

    Args:    pixels: (N, 3, H, W) uint8;  labels: (N,);  plan: of `plan_epoch`, without mixing.
    Returns: mean loss.
    """
    model.train()
    plan = to_device(plan, device)
    index = plan["index"].long()
    num_batches = -(-len(index) // config.batch_size)
    losses = []
    for batch in range(num_batches):
        part = index[batch * config.batch_size:(batch + 1) * config.batch_size]
        if len(part) == 1:
            continue  # BatchNorm needs two images
        for group in optimizer.param_groups:
            group["lr"] = config.lr * cosine(epoch * num_batches + batch, config.epochs * num_batches)
        views = render_batch(pixels[part], plan, batch, batch_size=config.batch_size, mix_type="none",
                             mean=config.mean, std=config.std, size=config.size)
        loss = F.cross_entropy(model(views), labels[part])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def train_teacher(name: str, pixels, labels, *, config: TeacherConfig, device, num_classes: int, log: Log,
                  unfinished: Unfinished):
    """Trains one network from scratch, or from its last save, and returns it.

    Args: pixels: (N, 3, H, W) uint8, labels: (N,), the training set;  unfinished: saved between epochs.
    """
    seed_everything(config.seed, "teacher", name)
    model = build_model(name, num_classes=num_classes, stem=config.stem)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer, first, saved = _optimizer(model, config), 0, unfinished.load()
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epoch"]
    for epoch in progress(range(first, config.epochs), text=name):
        seed_everything(config.seed, "teacher", name, epoch)  # dropout
        plan = plan_epoch(len(pixels), size=config.size, batch_size=config.batch_size, flip=config.flip,
                          min_scale=config.min_scale_crops, mix_type="none", mix_alpha=1.0, num_batches=None,
                          generator=generator(config.seed, "teacher views", name, epoch))
        loss = train_epoch(model, optimizer, pixels, labels, plan, epoch=epoch, config=config, device=device)
        log.write(teacher=name, epoch=epoch, loss=loss)
        if unfinished.due():
            unfinished.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(),
                             "epoch": epoch + 1})
    return model.eval()


def _save_teacher(name, model, accuracy, class_names, config) -> dict:
    path = Path(config.output_dir) / f"{name}.pt"
    save_weights(path, model)
    record = {"name": name, "accuracy": accuracy, "class_names": class_names, "stem": config.stem,
              "sha256": sha256_file(path), "recipe": identity(config), "versions": versions()}
    write_json(path.with_suffix(".json"), record)
    return record


def main(argv=None) -> dict[str, float]:
    """Trains every network that is not finished yet; returns name -> top-1 accuracy on the test set."""
    config = parse_config(TeacherConfig, sys.argv[1:] if argv is None else argv, description=__doc__,
                          presets=lambda given: dataset_preset({"dataset": TeacherConfig.dataset, **given}))
    device = choose_device(config.device)
    real = RealSet(config.dataset, config.train_data_path, "train", size=config.size)
    needed = len(real) * 3 * config.size**2
    require(needed <= config.memory_limit * 1e9, f"the decoded training set takes {readable(needed)}, "
            f"--memory-limit is {config.memory_limit} GB; raise it, or use public weights")
    test = RealSet(config.dataset, config.val_dir or config.train_data_path, "val", size=config.size,
                   bare=bool(config.val_dir))
    require(test.class_names == real.class_names, f"--val-dir {config.val_dir}: its class folders are not "
            f"those of the training data")
    folder = Path(config.output_dir)
    claim_folder(folder, overwrite=config.overwrite, contents=("*.pt", "*.json", "log.jsonl"), identity={
        "format": "prism-teachers", "version": FORMAT_VERSION, "class_names": real.class_names,
        "config": {**identity(config), "threads": identity_threads(config.threads, device)}})
    todo = [n for n in config.models if not (folder / f"{n}.json").is_file()]
    accuracies = {}
    if todo:
        pixels, labels = (part.to(device) for part in load_pixels(real))
        test_batches = EvaluationBatches(test, batch_size=250, device=device, workers=0,
                                         resident_gb=config.memory_limit)
        log = Log(folder / "log.jsonl")
        with StopSignals() as stop:
            for name in todo:
                unfinished = Unfinished(folder / f"{name}.unfinished.pt", minutes=config.save_every,
                                        stop=stop)
                model = train_teacher(name, pixels, labels, config=config, device=device, log=log,
                                      num_classes=len(real.class_names), unfinished=unfinished)
                seen = evaluate(model, test_batches, mean=config.mean, std=config.std, device=device)
                accuracies[name] = _save_teacher(name, model, seen["top1"], real.class_names,
                                                 config)["accuracy"]
                unfinished.discard()
                say(f"{name}: {seen['top1']:.1%} of {seen['images']} test images")
        log.close()
    return accuracies


if __name__ == "__main__":
    command_line(main)
