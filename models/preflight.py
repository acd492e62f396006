"""Before any long work: does each teacher recognise real images, with the labels in this order?

A class order that differs between data and teacher is this field's commonest silent failure, so recover looks
at its training images; what a teacher is worth, held-out images say, where there are any.   Source: ours.
"""
import contextlib
from collections.abc import Collection, Iterable
from pathlib import Path

import torch

from models.registry import Teacher, check_recipes, load_teachers
from utils.data import RealSet
from utils.flags import TeacherFlags
from utils.metrics import Batches, evaluate
from utils.records import Checked, read_record
from utils.runtime import say

Records = dict[str, Checked]


def accuracy_floor(teacher: Teacher, *, num_classes: int, given: float | None) -> float:
    """The least accepted top-1: the flag, else 0.7 x the recorded accuracy, else min(0.5, 10 / classes)."""
    if given is not None:
        return given
    return 0.7 * teacher.accuracy if teacher.accuracy is not None else min(0.5, 10 / num_classes)


def check_class_names(teachers: dict[str, Teacher], class_names: list[str]) -> None:
    """Raises ValueError when a teacher's recorded class names are not the data's, in the same order."""
    for teacher in teachers.values():
        theirs = teacher.class_names
        if theirs is not None and list(theirs) != list(class_names):
            if len(theirs) != len(class_names):
                where = f"{len(theirs)} classes, the data has {len(class_names)}"
            else:
                k = next(i for i, (a, b) in enumerate(zip(theirs, class_names, strict=True)) if a != b)
                where = f"class {k} is {theirs[k]!r}, in the data it is {class_names[k]!r}"
            raise ValueError(f"{teacher.name} was trained with other class names: {where}; "
                             f"use teachers trained on this data")


def sample_real_images(real_set: RealSet, num: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """At most `num` images spread over the classes, as batches ((N, 3, H, W) uint8, (N,) labels)."""
    items = [real_set[i] for i in real_set.spread(num)]
    pixels, labels = torch.stack([p for p, _ in items]), torch.tensor([label for _, label in items])
    return list(zip(pixels.split(64), labels.split(64), strict=True))


def check_teachers(teachers: dict[str, Teacher], batches: Batches, *, split: str, num_classes: int,
                   floor: float | None, mean: tuple[float, ...], std: tuple[float, ...],
                   device: torch.device) -> Records:
    """Measures each teacher on real images, refuses one below its floor, and says what all of them reached.

    Args:    batches: of real images, as `sample_real_images` makes them;  split: training or held-out;
             floor: --min-teacher-accuracy.
    Returns: weights sha256 -> {"name", "accuracy", "floor", "images", "split"}, for preflight.json.
    Raises:  ValueError naming the teacher, what it reached and what was expected.
    """
    records: Records = {}
    for teacher in teachers.values():
        least = accuracy_floor(teacher, num_classes=num_classes, given=floor)
        home = next(teacher.model.parameters()).device  # the host, where memory is short
        seen = evaluate(teacher.model.to(device), batches, mean=mean, std=std, device=device)
        teacher.model.to(home)
        if seen["top1"] < least:
            raise ValueError(f"teacher {teacher.name} gets {seen['top1']:.1%} of {seen['images']} real "
                             f"images right ({split}), expected at least {least:.1%}; check the class order, "
                             f"the weights and the pixel statistics, or pass --min-teacher-accuracy 0")
        records[teacher.sha256] = {"name": teacher.name, "accuracy": seen["top1"], "floor": least,
                                   "images": int(seen["images"]), "split": split}
    reached = ", ".join(f"{record['name']} {record['accuracy']:.1%}" for record in records.values())
    say(f"teachers' top-1 on {seen['images']} {split} images: {reached}")
    return records


def real_images(dataset: str, val_dir: str, *, size: int, training: RealSet | None,
                root: str) -> dict[str, RealSet]:
    """Split -> images to check teachers on, the training images (where there are any at hand) first.

    Args:    training, root: recover's training images and --train-data-path, below which held-out ones are
             taken where no --val-dir names them.
    Raises:  ValueError where --val-dir is given, or must be, and holds no such images.
    """
    splits = {} if training is None else {"training": training}
    if training is None or val_dir:
        return splits | {"held-out": RealSet(dataset, val_dir, "val", size=size)}
    with contextlib.suppress(ValueError):
        found = RealSet(dataset, root, "val", size=size, bare=False)
        if found.class_names == training.class_names:
            return splits | {"held-out": found}
    say("teachers are checked on training images alone: there are no held-out ones of these classes below "
        "the data's folder (--val-dir names some)")
    return splits


def is_known(teacher: Teacher, records: Records, *, least: float, held_out: bool) -> bool:
    """Whether an earlier check will do: it reached what is wanted now, on held-out images if those are."""
    record = records.get(teacher.sha256)
    return record is not None and record["accuracy"] >= least \
        and (not held_out or record.get("split") == "held-out")


def preflight(teachers: dict[str, Teacher], flags: TeacherFlags, *, dataset: str, class_names: list[str],
              size: int, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device,
              known: Path | None, training: RealSet | None, root: str) -> Records:
    """Checks class names, then on real images the teachers for whom `known`, a preflight.json, won't vouch.

    Args:    training, root: as `real_images`;  known: vouches for whom it lists, unless below the floor that
             holds now, or on training images where --val-dir is given.
    Returns: all records, weights sha256 -> record, of the held-out images where both splits were looked at.
    Raises:  ValueError as `check_teachers`.
    """
    check_class_names(teachers, class_names)
    records: Records = read_record(known, Records) if known and known.is_file() else {}
    num_classes, floor = len(class_names), flags.min_teacher_accuracy
    unknown = {name: teacher for name, teacher in teachers.items() if not is_known(
        teacher, records, held_out=bool(flags.val_dir),
        least=accuracy_floor(teacher, num_classes=num_classes, given=floor))}
    if unknown and floor != 0:
        splits = real_images(dataset, flags.val_dir, size=size, training=training, root=root)
        for split, real_set in splits.items():
            if real_set.class_names != class_names:
                raise ValueError(f"the class names of the {split} images are not those of the distilled set; "
                                 f"check the data folder")
            records |= check_teachers(unknown, sample_real_images(real_set, flags.preflight_images),
                                      split=split, floor=floor, mean=mean, std=std, num_classes=num_classes,
                                      device=device)
    return records


def open_teachers(names: Iterable[str], flags: TeacherFlags, *, dataset: str, class_names: list[str],
                  size: int, stem: str, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device,
                  known: Path | None, training: RealSet | None = None, root: str = "",
                  on_host: Collection[str] = ()) -> tuple[dict[str, Teacher], Records]:
    """The named teachers, loaded and checked, and their records.

    Args:   on_host: those that leave the device again after their check;  others, Raises: as `preflight`.
    """
    teachers = load_teachers(names, weights=flags.weights, weights_dir=flags.weights_dir, dataset=dataset,
                             num_classes=len(class_names), stem=stem, device=device, on_host=on_host)
    if flags.min_teacher_accuracy is None:
        check_recipes(teachers.values(), size=size, mean=mean, std=std)
    return teachers, preflight(teachers, flags, dataset=dataset, class_names=class_names, size=size,
                               mean=mean, std=std, device=device, known=known, training=training, root=root)
