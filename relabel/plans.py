"""What flags, protocol and images together fix of labels: which images, which views, where they go.

A config is half of it (some of its flags may be left out); a `LabelPlan` is all of it.
"""
import dataclasses
from collections.abc import Callable
from pathlib import Path

from utils import files, runtime
from utils.augment import CROPS, Resized
from utils.data import dataset_spec
from utils.flags import RECIPE
from utils.formats import Entry, ImageManifest
from utils.label_files import has_labels, label_path
from utils.label_formats import FP16
from utils.methods import MethodFlags
from utils.pieces import Values, choice, option, require
from utils.views import MIXES, OPERATIONS, ImageOperations, NoMix, Views


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelFlags(MethodFlags):
    """The flags that a plan resolves."""

    data: str = option("out/full_resnet18", "run of recover, or its syn/ folder, or a folder of others' "
                       "images, a folder a class", identity=False)
    dataset: str = option("", "data set of the images; none: as their manifest (a --dry-run before there are "
                          "images: imagenet-1k)", identity=False)
    size: int | None = option(None, "side of the images [pixels], of a set of others; none: the data set's, "
                              "of folder:PATH the images' own", range="in [8, 8192]", neutral=None)
    fkd_path: str = option("", "folder of labels, one folder an IPC below it; default: <data>/fkd",
                           identity=False)
    ipc: int = option(0, "images per class to label; 0 = all complete ones", range="in [0, 10000]")
    epochs: int = option(300, "epochs of labels", source="supplement table 1a", range="in [1, 100000]")
    batch_size: int | None = option(None, "views a batch, for the student too; none: the protocol's by IPC",
                                    source="supplement table 1a, table 3c", range="in [2, 32767]")
    steps_per_epoch: int | None = option(None, "only so many batches of each epoch's shuffle",
                                        range="in [1, 1000000]")
    crop: Resized = choice(CROPS, "resized", "how a view is cut: a random box of the image, resized, or the "
                           "whole image, shifted over black", source=RECIPE, neutral="resized")
    min_scale_crops: float = option(0.25, "least area fraction of a random crop", source="supplement table 3",
                                    range="in (0, 1]")
    flip: bool | None = option(None, "random horizontal flips; none: as the data set's preset", source=RECIPE)
    mix_type: NoMix = choice(MIXES, "cutmix", "how two images of a batch are mixed", source=RECIPE)
    augment: ImageOperations = choice(OPERATIONS, "none", "of each image before its crop: none, timm's "
                                      "rand-m6-n2-mstd1.0, or RDED's exchange of a mosaic's tiles",
                                      source="DELT")


@dataclasses.dataclass(frozen=True)
class LabelPlan:
    """A config with all that images, protocol and IPC imply: which images, their views, where labels go.

    epoch_bytes: of one epoch's file: logits and 15 bytes of view an image, and some 4 kB around them.
    """

    images: ImageManifest
    ipc: int
    entries: list[Entry]
    views: Views
    folder: Path
    epoch_bytes: int


def plan_labels(flags: LabelFlags, images: ImageManifest, label_format: FP16) -> LabelPlan:
    """The flags resolved.   Raises: ValueError where they contradict the images."""
    require(flags.dataset in ("", images.dataset),
            f"--dataset {flags.dataset} contradicts the images in {images.run}, of {images.dataset}")
    entries, ipc = images.select(flags.ipc), flags.ipc or images.ipc
    label_format.check(images.num_classes)
    views = Views(
        size=images.size, batch_size=flags.batch_size or flags.method.label_batch(ipc, images.num_classes),
        min_scale=flags.min_scale_crops, num_batches=flags.steps_per_epoch, mix_type=flags.mix_type,
        crop=flags.crop, augment=flags.augment,
        flip=dataset_spec(images.dataset).flip if flags.flip is None else flags.flip)
    folder = Path(flags.fkd_path) if flags.fkd_path else images.home / "fkd"
    return LabelPlan(images, ipc, entries, views, folder / str(ipc),
                     views.num_views(len(entries)) * (label_format.row_bytes(images.num_classes) + 15) + 4096)


def resolved(flags: LabelFlags, plan: LabelPlan, *, label_epochs: int) -> dict[str, Values]:
    """The plan's values of options that leave one to data and IPC, and those that these imply."""
    images, batch = plan.images, flags.method.label_batch(plan.ipc, plan.images.num_classes)
    return {"taken": {"batch_size": plan.views.batch_size, "flip": plan.views.flip,
                      "label_epochs": label_epochs},
            "implied": {"batch_size": batch, "flip": dataset_spec(images.dataset).flip,
                        "label_epochs": flags.epochs}}


def describe(plan: LabelPlan, *, epochs: int, num_files: int, anew: Callable[[Path], bool], form: str,
             teachers: str) -> str:
    """The text of --dry-run: epochs, batches, teachers, bytes, and time where a measured rate is known."""
    rate = files.last_logged(plan.folder, "seconds_per_epoch")
    gone = anew(plan.folder)
    todo = sum(gone or not has_labels(label_path(plan.folder, epoch)) for epoch in range(num_files))
    left = "unknown until an epoch has run here" if rate is None else \
        f"{runtime.readable_time(rate * todo)} at the {rate:.2f} s per epoch measured here"
    return (f"labels        {plan.folder}\n"
            f"images        {len(plan.entries)}, batches of {plan.views.batch_size}\n"
            f"epochs        {epochs} of students, {num_files} stored, {todo} to do\n"
            f"teachers      {teachers}\n"
            f"size          {files.readable(num_files * plan.epoch_bytes)} in {num_files} files, {form}\n"
            f"time          {left if num_files else 'none: validate computes the labels'}")
