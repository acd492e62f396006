"""One world of the privacy experiment: half of the digits' training images, and all that learnt from them.

A world draws its half, trains its teachers on that alone, makes sets and labels with these, and a student on
each.  What the attacks need is kept: which images were in, and how sure every student is of every training
image, in the half or not.
"""
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from models import train_teachers
from models.registry import load_teachers
from recover import data_synthesis
from recover.starts.real import RandomImage
from recover.units import Unit
from relabel import generate_soft_label
from scripts import demo
from utils.data import DATASETS, RealSet, Split
from utils.loading import load_pixels
from utils.pieces import Values
from utils.records import Teacher, read_record
from utils.runtime import generator, versions
from validate import membership, train_FKD

DIGITS = DATASETS["digits"]
PRISM, SRE2L, RANDOM, WHOLE = "PRISM", "SRe2L", "random real images", "whole half"
TEACHER = "a teacher"


@dataclasses.dataclass(frozen=True)
class Target:
    """A student that is attacked: what it learnt from."""

    images: str
    soft: bool

    def __str__(self) -> str:
        return f"{self.images}, {'soft' if self.soft else 'hard'} labels"


TARGETS = (*(Target(name, soft) for soft in (True, False) for name in (PRISM, SRE2L, RANDOM)),
           Target(WHOLE, False))


def half(world: int) -> list[int]:
    """Positions of a world's half in the digits' training set: of every class half, by (world, class)."""
    chosen: list[int] = []
    for k, own in enumerate(RealSet("digits", "", "train", size=DIGITS.size).by_class):
        order = torch.randperm(len(own), generator=generator("privacy", world, k)).tolist()
        chosen += [own[i] for i in order[:len(own) // 2]]
    return sorted(chosen)


@contextlib.contextmanager
def registered(world: int) -> Iterator[str]:
    """The name of the data set whose training images are a world's half; known to the stages in here alone.

    Its test images are the digits': 450, of no half.
    """
    opened: Callable[[str, str], Split] = DIGITS.open_split  # type: ignore[assignment]

    def open_split(root: str, split: str) -> Split:
        names, labels, picture = opened(root, split)
        rows = half(world) if split == "train" else list(range(len(labels)))
        return names, [labels[i] for i in rows], lambda i: picture(rows[i])
    name = f"digits-world{world}"
    DATASETS[name] = dataclasses.replace(DIGITS, open_split=open_split)
    try:
        yield name
    finally:
        del DATASETS[name]


def shown(world: int, ipc: int) -> list[int]:
    """Positions in the digits' training set of the random real images that a world's students are shown."""
    rows = half(world)
    with registered(world) as name:
        real = RealSet(name, "", "train", size=DIGITS.size)
    members = tuple((i, k) for i in range(ipc) for k in range(len(real.by_class)))
    return sorted(rows[i] for i in RandomImage().positions(real, Unit(0, 0, members), world))


def recover_settings(images: str, config: demo.DemoConfig, *, world: int, folder: Path) -> Values:
    """Settings of one of a world's sets: the demo's, on half of the images."""
    named = "whole training set" if images == WHOLE else images
    own = demo.recover_settings(named, config, draw=world, teachers=folder / "teachers")
    if images == WHOLE:
        labels = RealSet("digits", "", "train", size=DIGITS.size).labels
        own["ipc_end"] = max(Counter(labels[i] for i in half(world)).values())  # images of the largest class
    return {**own, "syn_data_path": folder, "exp_name": images.replace(" ", "_")}


def validate_settings(target: Target, run: Path, config: demo.DemoConfig, *, world: int,
                      labels: Path | None) -> Values:
    """Settings of one student: the demo's, but that one of the whole half sees all of it in every epoch."""
    own = demo.validate_settings(run, config, draw=world, labels=labels)
    if target.images == WHOLE:
        del own["steps_per_epoch"]
    return own


def run_world(world: int, config: demo.DemoConfig, *, threads: int) -> Values:
    """Runs what is not finished of a world; returns its line.

    inside: positions of the half;  shown: of the random real images;  students: name -> accuracy on the test
    images [percent], confidence (`membership.confidence`) of every training image, times 100, whole numbers.
    """
    folder = Path(config.out) / f"world{world}"
    folder.mkdir(parents=True, exist_ok=True)
    timer, same = demo.Timer(folder / "seconds.json"), {"threads": threads}
    runs: dict[str, Path] = {}
    students: Values = {}
    with registered(world) as dataset:
        timer.run(f"world {world}: teachers", train_teachers.main, **demo.teacher_settings(
            config, folder=folder / "teachers", names=demo.TEACHERS, seed=world)
            | same | {"dataset": dataset})
        for images in dict.fromkeys(target.images for target in TARGETS):
            runs[images] = timer.run(
                f"world {world}: recover, {images}", data_synthesis.main,
                **recover_settings(images, config, world=world, folder=folder) | same | {"dataset": dataset})
        for target in TARGETS:
            run = runs[target.images]
            labels = timer.run(f"world {world}: relabel, {target.images}", generate_soft_label.main, **(
                demo.relabel_settings(run, config, draw=world, teachers=folder / "teachers") | same)) \
                if target.soft else None
            result = timer.run(f"world {world}: {target}", train_FKD.main, **validate_settings(
                target, run, config, world=world, labels=labels) | same)
            student, _ = membership.load_student(
                run / ("soft" if target.soft else "hard") / f"seed{world}", num_classes=10)
            students[str(target)] = {"accuracy": 100 * result["last_top1"]["mean"],
                                     "confidence": confidences(student)}
    students[TEACHER] = {"accuracy": 100 * read_record(
        folder / "teachers" / f"{demo.PRIMARY}.json", Teacher)["accuracy"], "confidence": confidences(
        primary(folder / "teachers"))}
    return {"world": world, "inside": half(world), "shown": shown(world, config.ipc), "students": students,
            "seconds": round(sum(timer.seconds.values())), "versions": versions()}


def primary(folder: Path) -> torch.nn.Module:
    """A world's first teacher."""
    return load_teachers(
        [demo.PRIMARY], weights=(), weights_dir=str(folder), dataset="digits", num_classes=10,
        stem=DIGITS.stem, device=torch.device("cpu"))[demo.PRIMARY].model


def confidences(model: torch.nn.Module) -> list[int]:
    """A network's confidence of each of the digits' training images, times 100, whole numbers."""
    pixels, labels = load_pixels(RealSet("digits", "", "train", size=DIGITS.size))
    found = membership.confidences(model, [(pixels, labels)], mean=DIGITS.mean, std=DIGITS.std,
                                   device=torch.device("cpu"))
    return [round(100 * value) for value in found.tolist()]
