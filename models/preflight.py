"""Before any long work: does each teacher recognise real images, with the labels in this order?

A class order that differs between data and teacher is this field's commonest silent failure.   Source: ours.
"""
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from models.registry import Teacher, load_teachers
from utils.data import RealSet
from utils.flags import TeacherFlags
from utils.metrics import Batches, evaluate
from utils.records import Checked, read_record

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
    """About `num` images spread over the classes, as batches ((N, 3, H, W) uint8, (N,) labels)."""
    items = [real_set[i] for i in real_set.spread(num)]
    pixels, labels = torch.stack([p for p, _ in items]), torch.tensor([label for _, label in items])
    return list(zip(pixels.split(64), labels.split(64), strict=True))


def check_teachers(teachers: dict[str, Teacher], batches: Batches, *, num_classes: int, floor: float | None,
                   mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> Records:
    """Measures each teacher on real images and refuses one below its floor.

    Args:    batches: of real images, as `sample_real_images` makes them;  floor: --min-teacher-accuracy.
    Returns: weights sha256 -> {"name", "accuracy", "floor", "images"}, for preflight.json.
    Raises:  ValueError naming the teacher, what it reached and what was expected.
    """
    records: Records = {}
    for teacher in teachers.values():
        least = accuracy_floor(teacher, num_classes=num_classes, given=floor)
        seen = evaluate(teacher.model, batches, mean=mean, std=std, device=device)
        if seen["top1"] < least:
            raise ValueError(f"teacher {teacher.name} gets {seen['top1']:.1%} of {seen['images']} real "
                             f"images right, expected at least {least:.1%}; check the class order, the "
                             f"weights and the pixel statistics, or pass --min-teacher-accuracy 0")
        records[teacher.sha256] = {"name": teacher.name, "accuracy": seen["top1"], "floor": least,
                                   "images": int(seen["images"])}
    return records


def preflight(teachers: dict[str, Teacher], class_names: list[str], *, open_real: Callable[[], RealSet],
              known: Path | None, floor: float | None, num_images: int, mean: tuple[float, ...],
              std: tuple[float, ...], device: torch.device) -> Records:
    """Checks class names, then on real images the teachers that `known` (a preflight.json) does not list,
    or lists below the floor that holds now.

    Args:    open_real: gives the real images, called only when a teacher is to be checked;
             floor: --min-teacher-accuracy, 0 to skip the images;  num_images: --preflight-images.
    Returns: all records, weights sha256 -> record.   Raises: ValueError as `check_teachers`.
    """
    check_class_names(teachers, class_names)
    records: Records = read_record(known, Records) if known and known.is_file() else {}
    unknown = {name: teacher for name, teacher in teachers.items() if teacher.sha256 not in records
               or records[teacher.sha256]["accuracy"] < accuracy_floor(
                   teacher, num_classes=len(class_names), given=floor)}
    if unknown and floor != 0:
        real_set = open_real()
        if real_set.class_names != class_names:
            raise ValueError("the class names of the real images are not those of the distilled set; "
                             "check the data folder")
        records |= check_teachers(unknown, sample_real_images(real_set, num_images), floor=floor, mean=mean,
                                  std=std, num_classes=len(class_names), device=device)
    return records


def open_teachers(names: Iterable[str], flags: TeacherFlags, *, dataset: str, class_names: list[str],
                  stem: str, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device,
                  known: Path | None, open_real: Callable[[], RealSet]) -> tuple[dict[str, Teacher], Records]:
    """The named teachers, loaded and checked, and their records.   Args, Raises: as `preflight`."""
    teachers = load_teachers(names, weights=flags.weights, weights_dir=flags.weights_dir, dataset=dataset,
                             num_classes=len(class_names), stem=stem, device=device)
    return teachers, preflight(teachers, class_names, open_real=open_real, known=known, mean=mean, std=std,
                               floor=flags.min_teacher_accuracy, num_images=flags.preflight_images,
                               device=device)
