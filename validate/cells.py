"""The cells of an evaluation: students of one architecture on one image set under one kind of labels.

Kinds: "soft" is the protocol; "hard" the same students, schedule and crops on classes alone, without mixing;
"soft, no augmentation" the protocol on whole images, of labels made for these.
"""
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from models import registry
from utils import flags
from utils.augment import CROPS
from utils.files import load_tensors, sha256_json
from utils.formats import ImageManifest
from utils.image_sets import open_images
from utils.metrics import Batches, confusion
from utils.pieces import Values, build, flatten, identity, merge, piece_name
from utils.records import Result
from utils.runtime import hushed
from validate import plans, results, train_FKD
from validate.controls import REFERENCE, Labelled, command_line_of

SOFT, HARD, PLAIN_SOFT = "soft", "hard", "soft, no augmentation"


class Cell(NamedTuple):
    """Students of a cell: what the table calls their images, their network and labels, and their config."""

    images: str
    model: str
    labels: str
    config: train_FKD.ValidateConfig

    @property
    def command(self) -> str:
        """What trains these students, as a line for a shell."""
        return command_line_of("validate.train_FKD", flags.flags_of(self.config, presets=train_FKD.presets))


def with_hard_labels(soft: train_FKD.ValidateConfig, plan: plans.StudentPlan) -> train_FKD.ValidateConfig:
    """The same student, schedule and crops with hard labels: no mixing, no operations.

    Args: plan: of the students with soft labels.   Raises: ValueError where its settings do not go with that.
    """
    views = plan.views
    return build(train_FKD.ValidateConfig, merge(train_FKD.ValidateConfig, flatten(soft), {
        "loss_type": "ce", "fkd_path": "", "training": "as-labelled", "epochs": plan.epochs,
        "batch_size": views.batch_size, "steps_per_epoch": views.num_batches, "mix_type": None,
        "min_scale_crops": views.min_scale, "crop": piece_name(CROPS, views.crop),
        "crop_padding": flatten(views).get("crop_padding"), "allow_fewer_epochs": False}))


def parse_student(values: Values, more: list[str]) -> train_FKD.ValidateConfig:
    """A config of students.   Args: more: words behind the values, which win.   Raises: as `parse_config`."""
    return flags.parse_config(train_FKD.ValidateConfig, [*flags.to_words(values), *more],
                              presets=train_FKD.presets)


def cells_of(labelled: Labelled, models: Iterable[str], kinds: Iterable[str], *, out: Path, values: Values,
             more: list[str]) -> list[Cell]:
    """Students of every architecture on one set, with labels of each kind.

    Args: out: below which their folders go, whose names end in a digest of their settings;
          values, more: as `parse_student`.
    """
    name, path, seeds = labelled.images
    images = open_images(path, flag="--data", dataset=values.get("dataset", ""),
                         val_dir=values.get("val_dir", ""), size=values.get("size"))
    cells = []
    for model in models:
        soft = parse_student({**values, "train_dir": path, "fkd_path": labelled.labels.folder, "model": model,
                              "seeds": seeds, "ipc": labelled.labels.ipc}, more)
        for kind in kinds:
            config = soft if kind != HARD else with_hard_labels(
                soft, plans.plan_students(soft, images, labelled.labels))
            made_of = [identity(config), images.home.name, labelled.labels.digest]
            whose = f"{name}-{seeds[0]}" if name == REFERENCE else name
            folder = out / f"{whose}_{model}_{kind.replace(', ', '_').replace(' ', '_')}"
            cells.append(Cell(name, model, kind, dataclasses.replace(
                config, output_dir=f"{folder}_{sha256_json(made_of)[:8]}")))
    return cells


def students_of(cell: Cell) -> list[Result]:
    """Trains the students of a cell that are not finished; returns all, by seed."""
    config, folder = cell.config, Path(cell.config.output_dir)
    if config.unfinished(folder, anew=False):
        with hushed():
            train_FKD.run(config)
    return [result for result in results.read_results(folder) if result["seed"] in config.seeds]


def confusion_of(cell: Cell, images: ImageManifest, batches: Batches, device: torch.device) -> torch.Tensor:
    """Counts of true and predicted classes, (K, K) int64, of all students of a cell after the last epoch."""
    total = torch.zeros(images.num_classes, images.num_classes, dtype=torch.int64)
    model = registry.build_model(cell.model, num_classes=images.num_classes,
                                 stem=cell.config.stem or images.stem).to(device)
    for seed in cell.config.seeds:
        path = Path(cell.config.output_dir, f"seed{seed}", "student_last.pt")
        model.load_state_dict(load_tensors(path.read_bytes()))
        total += confusion(model, batches, num_classes=images.num_classes, mean=images.mean, std=images.std,
                           device=device)
    return total
