"""What flags, protocol, labels and images together fix of a study: which images, which views, how long.

A config is half of it (most of its flags may be left out); a `StudentPlan` is all of it.
"""
import dataclasses
from collections import Counter
from pathlib import Path
from typing import Literal

from models.places import inherited_case, inherited_places
from utils.augment import CROPS, RESAMPLER, Resized
from utils.data import dataset_spec
from utils.flags import RECIPE
from utils.formats import (
    Entry,
    ImageManifest,
    LabelManifest,
    image_set_digest,
    open_labels,
)
from utils.image_sets import open_images
from utils.loading import planned_images
from utils.methods import Case, MethodFlags, method_preset
from utils.pieces import Values, build_piece, flatten, identity, option, piece_name, require
from utils.views import MIXES, NoMix, Views

FROM_LABELS = "none: as the labels' manifest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyFlags(MethodFlags):
    """The flags that a plan resolves."""

    train_dir: str = option("out/full_resnet18", "run of recover, or its syn/ folder, or a folder of others' "
                            "images, a folder a class", identity=False)
    val_dir: str = option("", "folder of the real test data (holding val/ or test/, or the classes)",
                          identity=False)
    fkd_path: str = option("", "folder of soft labels, <run>/fkd/<ipc> or its parent; none: hard labels",
                           identity=False)
    output_dir: str = option("", "folder of students and results; default: <train-dir>/validate/<model>",
                             identity=False)
    dataset: str = option("", "data set, or folder:PATH; none: as the images' manifest", identity=False)
    size: int | None = option(None, "side of the images [pixels], of a set of others; none: the data set's, "
                              "of folder:PATH the images' own", range="in [8, 8192]", neutral=None)
    ipc: int = option(0, "images per class; 0 = as the labels, or all complete ones",
                      range="in [0, 10000]")
    model: str = option("resnet18", "student", source="paper table 1")
    stem: Literal["imagenet", "small"] | None = option(None, "student's first layers; none: as the images")
    epochs: int | None = option(None, f"epochs; {FROM_LABELS}", source="supplement table 1a",
                                range="in [1, 100000]")
    batch_size: int | None = option(None, f"views a batch; {FROM_LABELS}", source="supplement table 1a",
                                    range="in [1, 32767]")
    steps_per_epoch: int | None = option(None, f"batches an epoch; {FROM_LABELS}, else all",
                                        range="in [1, 1000000]")
    crop: str | None = option(None, f"how a view is cut: {', '.join(CROPS)}; {FROM_LABELS}, else resized",
                              source=RECIPE, neutral=None)
    crop_padding: int | None = option(None, f"with padded: largest shift [pixels]; {FROM_LABELS}, else 4",
                                      source="SRe2L on CIFAR-100", range="in [1, 1024]", neutral=None)
    min_scale_crops: float | None = option(None, f"least area fraction of a crop; {FROM_LABELS}, else 0.25",
                                           source="supplement table 3", range="in (0, 1]")
    mix_type: str | None = option(None, f"mix: {', '.join(MIXES)}; {FROM_LABELS}, else none", source=RECIPE)
    allow_fewer_epochs: bool = option(False, "train fewer epochs than there are labels for")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mix_type in (None, *MIXES),
                f"--mix-type {self.mix_type}: expected one of {', '.join(MIXES)}")
        require(self.crop in (None, *CROPS), f"--crop {self.crop}: expected one of {', '.join(CROPS)}")
        require(self.crop_padding is None or self.crop == "padded",
                "--crop-padding is of --crop padded; choose that, or leave --crop-padding out")

    @property
    def crop_law(self) -> Resized:
        """How views are cut where no labels say it."""
        return build_piece(CROPS, self.crop or "resized", {"crop_padding": self.crop_padding}, "--crop")


def presets(given: Values) -> Values:
    """What --protocol implies, and where the run says that the teachers of online labels lie."""
    run = given.get("train_dir", StudyFlags.train_dir)
    implied = method_preset("validate", lambda given: inherited_case(
        run, {"model": StudyFlags.model, **given}))(given)
    return implied | inherited_places(run, given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentPlan:
    """A config with all that images, labels and protocol fix: what students see, and where results go."""

    images: ImageManifest
    labels: LabelManifest | None
    entries: list[Entry]
    ipc: int
    stem: str
    epochs: int
    views: Views
    out: Path

    def settings(self) -> Values:
        """What is resolved, as the config's flags name it."""
        views, own = self.views, identity(self.views)
        return {"ipc": self.ipc, "stem": self.stem, "epochs": self.epochs, "batch_size": views.batch_size,
                "steps_per_epoch": views.num_batches, "min_scale_crops": views.min_scale,
                "mix_type": piece_name(MIXES, views.mix_type),
                **{name: own[name] for name in ("crop", "crop_padding") if name in own}}


def views_of_labels(flags: StudyFlags, labels: LabelManifest) -> Views:
    """The labels' views, with the student's own batch where nothing is stored by the batch.

    Raises: ValueError naming a flag that contradicts the labels, its value and theirs.
    """
    require(labels.resampler == RESAMPLER, f"the labels were made with resampler {labels.resampler}, "
            f"this version uses {RESAMPLER}; rerun relabel with --overwrite")
    views, law = labels.views, flags.method.student_batch
    if not labels.label_format.stored:
        own = law(labels.ipc, labels.num_classes, flags.model) if law else views.batch_size
        views = dataclasses.replace(views, batch_size=flags.batch_size or own)
    fixed = {"epochs": labels.epochs, "batch_size": views.batch_size, "min_scale_crops": views.min_scale,
             "mix_type": piece_name(MIXES, views.mix_type), "steps_per_epoch": views.num_batches,
             "ipc": labels.ipc, "crop": piece_name(CROPS, views.crop),
             "crop_padding": flatten(views).get("crop_padding")}
    for name, value in fixed.items():
        given = getattr(flags, name)
        shorter = name == "epochs" and given is not None and given < value
        if given not in (None, value) and (name, given) != ("ipc", 0) \
                and not (shorter and flags.allow_fewer_epochs):
            raise ValueError(f"--{name.replace('_', '-')} {given} contradicts the labels, made with {value}; "
                             f"leave the flag out, or relabel"
                             + ("; --allow-fewer-epochs permits it" if shorter else ""))
    return views


def plan_students(flags: StudyFlags, images: ImageManifest, labels: LabelManifest | None, *, epochs: int = 0,
                  batch_size: int = 0) -> StudentPlan:
    """Resolves flags.   Args: epochs, batch_size: where neither flags nor labels say (before labels are).

    Raises: ValueError where they contradict images or labels, or these each other.
    """
    require(flags.dataset in ("", images.dataset),
            f"--dataset {flags.dataset} contradicts the distilled images, made from {images.dataset}")
    views = views_of_labels(flags, labels) if labels else Views(
        size=images.size, batch_size=flags.batch_size or batch_size, num_batches=flags.steps_per_epoch,
        crop=flags.crop_law, min_scale=flags.min_scale_crops or 0.25,
        flip=dataset_spec(images.dataset).flip, mix_type=NoMix())
    ipc = (labels.ipc if labels else flags.ipc) or images.ipc
    entries = images.select(ipc)
    if labels:
        require(labels.class_names == images.class_names,
                f"{labels.folder}: labels of other classes than the images in {images.run}")
        require(labels.images == image_set_digest(entries),
                f"{labels.folder}: the labels were made from other images than those in {images.run}; "
                f"rerun relabel with --overwrite, or point --train-dir at their images")
        require(views.size == images.size, f"{labels.folder}: labels of images of {views.size} pixels, these "
                f"are taken at {images.size}; pass --size {views.size}, or relabel")
    return StudentPlan(
        images=images, labels=labels, entries=entries, ipc=ipc, stem=flags.stem or images.stem, views=views,
        epochs=flags.epochs or (labels.epochs if labels else epochs),
        out=Path(flags.output_dir) if flags.output_dir else images.home / "validate" / flags.model)


def images_of(flags: StudyFlags, *, write: bool) -> ImageManifest:
    """The images that the flags name."""
    return open_images(flags.train_dir, flag="--train-dir", dataset=flags.dataset, val_dir=flags.val_dir,
                       size=flags.size, write=write)


def plan_found(flags: StudyFlags, *, write: bool) -> StudentPlan:
    """The plan over the images and labels that are there.   Raises: FileNotFoundError where they are not."""
    images = images_of(flags, write=write)
    labels = open_labels(flags.fkd_path, flags.ipc, write=write) if flags.fkd_path else None
    return plan_students(flags, images, labels)


def plan_early(flags: StudyFlags) -> StudentPlan:
    """The plan before there are images or labels, from what there is, the flags and the protocol."""
    try:
        images = images_of(flags, write=False)
    except FileNotFoundError:
        images = planned_images(flags.dataset, flags.ipc, run_or_syn=flags.train_dir)
    epochs = flags.method.label_epochs(Case(images.dataset, flags.ipc or images.ipc))
    return plan_students(flags, images, None, epochs=epochs,
                         batch_size=method_batch(flags, flags.ipc or images.ipc, images.num_classes))


def case_of(flags: StudyFlags, plan: StudentPlan) -> Case:
    """What the protocol's settings may depend on."""
    return Case(plan.images.dataset, plan.ipc, flags.model)


def method_batch(flags: StudyFlags, ipc: int, num_classes: int) -> int:
    """The views a batch of the protocol's students."""
    law = flags.method.student_batch
    return law(ipc, num_classes, flags.model) if law else flags.method.label_batch(ipc, num_classes)


def recipe_settings(flags: StudyFlags, plan: StudentPlan) -> Values:
    """A plan's settings as they were without the flags that images, labels, IPC or protocol stand in for."""
    own = {field.name: getattr(flags, field.name) for field in dataclasses.fields(StudyFlags)}
    bare = StudyFlags(**own | dict.fromkeys(("stem", "epochs", "batch_size", "steps_per_epoch",
                                             "min_scale_crops", "mix_type", "crop", "crop_padding")))
    batch_size = method_batch(flags, plan.ipc, plan.images.num_classes)
    epochs = flags.method.label_epochs(Case(plan.images.dataset, plan.ipc))
    return plan_students(bare, plan.images, plan.labels, epochs=epochs,
                         batch_size=batch_size).settings()


def provenance(plan: StudentPlan) -> Values:
    """What a result says of the images and labels under it: protocols, settings, teachers, who drew what.

    images_protocol: None where the run's version did not record it;  primary: logit teachers -> iterations,
    of all units;  images_layout: of a set of others alone.
    """
    made, labels = plan.images.saved, plan.labels
    primary: Counter[str] = Counter()
    for unit in made["units"]:
        primary.update(unit.get("primary", {}) if unit["ipc_id"] < plan.ipc else {})
    return {"images_protocol": made.get("protocol"), "images_config": made["config"],
            "images_teachers": made["weights"], "primary": dict(sorted(primary.items())),
            "labels_protocol": labels and labels.protocol, "labels_config": labels and labels.config,
            "labels_teachers": labels and labels.weights,
            **({"images_layout": plan.images.foreign} if plan.images.foreign else {})}
