"""Validate: train students from scratch on a distilled set and its soft labels, and report real accuracy.

    R=out/full_resnet18; python -m validate.train_FKD --train-dir $R --fkd-path $R/fkd/10 --val-dir $IMAGENET

Paper sections 4.2 and 4.4; every flag is in validate/README.md.  One student per seed.
"""
import dataclasses
import sys
from pathlib import Path
from typing import Literal

import torch

from models.registry import build_model, build_skeleton, model_spec
from utils.augment import RESAMPLER
from utils.config import (
    RECIPE,
    MemoryFlags,
    PrecisionFlags,
    ProcessFlags,
    SaveFlags,
    WeightFlags,
    identity,
    option,
    parse_config,
    require,
)
from utils.data import RealSet, dataset_spec
from utils.distributed import local_rank, rank_and_world, start_process_group, stop_process_group
from utils.files import check_free_disk, claim_folder, last_logged, read_json, readable, sha256_json
from utils.formats import (
    FORMAT_VERSION,
    assemble_manifest,
    image_set_digest,
    open_labels,
    run_folder,
    select_images,
)
from utils.loading import EvaluationBatches, open_distilled, planned_images
from utils.precision import set_precision
from utils.protocols import ProtocolFlags, delt_batch_size, protocol_preset, protocol_record
from utils.runtime import (
    choose_device,
    command_line,
    identity_threads,
    readable_time,
    seed_everything,
    set_threads,
    versions,
    warn_once,
)
from utils.schedule import SCHEDULES
from utils.unfinished import StopSignals, Unfinished
from validate.results import report
from validate.soft_labels import HardLabels, OnlineLabels, StoredLabels, open_label_teachers
from validate.training import Journal, Learner, Recipe, parameter_groups, train_student

EVAL_BATCH = {"cuda": 2000, "cpu": 250}
FROM_LABELS = "none: as the labels' manifest"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidateConfig(ProcessFlags, ProtocolFlags, PrecisionFlags, SaveFlags, MemoryFlags, WeightFlags):
    """What `python -m validate.train_FKD` takes; the defaults are the ImageNet-1K recipe."""

    train_dir: str = option("out/full_resnet18", "run of recover, or its syn/ folder", identity=False)
    fkd_path: str = option("", "folder of soft labels, <run>/fkd/<ipc> or its parent; none: hard labels",
                           identity=False)
    val_dir: str = option("", "folder of the real test data (holding val/ or test/, or the classes)",
                          identity=False)
    output_dir: str = option("", "folder of students and results; default: <train-dir>/validate/<model>",
                             identity=False)
    dataset: str = option("", "data set, or folder:PATH; none: as the images' manifest", identity=False)
    ipc: int = option(0, "images per class; 0 = as the labels, or all complete ones")
    model: str = option("resnet18", "student", source="paper table 1")
    stem: Literal["imagenet", "small"] | None = option(None, "student's first layers; none: as the images")
    epochs: int | None = option(None, f"epochs; {FROM_LABELS}", source="supplement table 1a")
    batch_size: int | None = option(None, f"views a batch; {FROM_LABELS}", source="supplement table 1a")
    steps_per_epoch: int | None = option(None, f"batches an epoch; {FROM_LABELS}, else all")
    min_scale_crops: float | None = option(None, f"least area fraction of a crop; {FROM_LABELS}, else 0.25",
                                           source="supplement table 3")
    mix_type: Literal["cutmix", "mixup", "none"] | None = option(None, f"mix; {FROM_LABELS}, else none",
                                                                 source=RECIPE)
    allow_fewer_epochs: bool = option(False, "train fewer epochs than there are labels for")
    gradient_accumulation_steps: int = option(2, "micro-batches a batch: BatchNorm sees one at a time",
                                              source=RECIPE)
    loss_type: Literal["mse_gt", "mae_gt", "kl", "kl_gt", "ce"] = option("mse_gt", "student loss",
                                                                         source="paper table 3a")
    ce_weight: float = option(0.1, "weight of the ground-truth term", source="paper table 3a")
    temperature: float = option(20.0, "temperature of kl", source="SRe2L", flag="-T")
    optimizer: Literal["adamw", "sgd"] = option("adamw", "optimiser; sgd with momentum 0.9",
                                                source="supplement table 1a")
    adamw_lr: float = option(1e-3, "base learning rate", source="supplement table 1a", flag="--lr")
    adamw_weight_decay: float = option(0.01, "weight decay, on weight matrices only",
                                       source="supplement table 1a", flag="--weight-decay")
    momentum: float = option(0.9, "momentum of sgd", source="recovery-only protocol, prism.md 3")
    schedule: Literal["ssrs", "cosine", "linear", "half-cosine"] = option("ssrs", "learning rate per epoch",
                                                           source="paper 4.4")
    zeta: float = option(2.5, "slow-down of ssrs", source="paper 4.4")
    compile: bool = option(False, "compile the student")
    row: str = option("", "what to call this run in results.jsonl: a table's row, say", identity=False)
    seeds: tuple[int, ...] = option((0,), "one student a seed", source="paper table 1: three", identity=False)
    eval_every: int = option(10, "epochs between evaluations; the last is always evaluated", source=RECIPE)
    eval_batch_size: int | None = option(None, "real images a batch of evaluation, halved where memory does "
                                         "not hold them; none: 2000, on a CPU 250", identity=False)
    dry_run: bool = option(False, "print the plan, touch nothing", identity=False)

    def __post_init__(self):
        for name in ("epochs", "batch_size", "steps_per_epoch", "eval_batch_size"):
            value, flag = getattr(self, name), "--" + name.replace("_", "-")
            require(value is None or value > 0, f"{flag} must be > 0, got {value}")
        require(self.gradient_accumulation_steps > 0,
                f"--gradient-accumulation-steps must be > 0, got {self.gradient_accumulation_steps}")
        for name in ("eval_every", "adamw_lr"):
            value, flag = getattr(self, name), "--" + name.replace("_", "-")
            require(value > 0, f"{flag} must be > 0, got {value}")
        self.check_save_every()
        self.check_memory()
        require(self.min_scale_crops is None or 0 < self.min_scale_crops <= 1,
                f"--min-scale-crops must be in (0, 1], got {self.min_scale_crops}")
        require(self.ce_weight >= 0, f"--ce-weight must be >= 0, got {self.ce_weight}")
        require(self.temperature > 0 and self.zeta > 0, "--temperature and --zeta must be > 0")
        require(len(set(self.seeds)) == len(self.seeds), f"--seeds must differ, got {self.seeds}")
        soft = bool(self.fkd_path)
        require(soft == (self.loss_type != "ce"), f"--loss-type {self.loss_type} " + (
            "uses no soft labels; leave out --fkd-path" if soft else "needs soft labels: give --fkd-path, or "
            "--loss-type ce for hard labels"))
        for name in ("epochs", "batch_size"):
            require(soft or getattr(self, name) is not None,
                    f"--{name.replace('_', '-')} is required where there are no stored labels (--fkd-path)")
        require(soft or self.mix_type in (None, "none"), f"--mix-type {self.mix_type} needs soft labels")
        world = rank_and_world()[1]
        require(self.gradient_accumulation_steps >= world,
                f"{world} processes share the micro-batches of a batch, --gradient-accumulation-steps is "
                f"{self.gradient_accumulation_steps}: use NPROC={self.gradient_accumulation_steps} or fewer, "
                f"or more micro-batches (BatchNorm then sees fewer images)")
        model_spec(self.model)


presets = protocol_preset("validate")


def settings_of_labels(config: ValidateConfig, labels: dict) -> dict:
    """Epochs, batch size and views as the labels fix them; a flag that differs is an error.

    Raises: ValueError naming flag, its value and the labels'.
    """
    require(labels["resampler"] == RESAMPLER, f"the labels were made with resampler {labels['resampler']}, "
            f"this version uses {RESAMPLER}; rerun relabel with --overwrite")
    stored = {"epochs": labels["config"]["epochs"], "batch_size": labels["views"]["batch_size"],
              "min_scale_crops": labels["views"]["min_scale"], "mix_type": labels["views"]["mix_type"],
              "steps_per_epoch": labels["views"]["num_batches"], "ipc": labels["ipc"]}
    if labels["config"]["label_format"] == "online":  # nothing is stored by the batch
        own = delt_batch_size(labels["ipc"], len(labels["class_names"]), student=config.model) \
            if config.protocol == "delt" else stored["batch_size"]
        stored["batch_size"] = config.batch_size or own
    for name, value in stored.items():
        given = getattr(config, name)
        fewer = name == "epochs" and config.allow_fewer_epochs and given is not None and given < value
        if given not in (None, value) and not (name == "ipc" and given == 0) and not fewer:
            hint = "; --allow-fewer-epochs permits it" if name == "epochs" and given < value else ""
            raise ValueError(f"--{name.replace('_', '-')} {given} contradicts the labels, made with {value}; "
                             f"leave the flag out, or relabel{hint}")
    return {**stored, "epochs": config.epochs or stored["epochs"]}


def open_inputs(config: ValidateConfig) -> tuple[Path, dict, Path | None, dict | None]:
    """The distilled run and its manifest, the labels' folder and manifest (None for hard labels)."""
    run = run_folder(config.train_dir, flag="--train-dir")
    manifest = assemble_manifest(run, write=not config.dry_run)
    require(config.dataset in ("", manifest["dataset"]),
            f"--dataset {config.dataset} contradicts the distilled images, made from {manifest['dataset']}")
    if not config.fkd_path:
        return run, manifest, None, None
    folder, labels = open_labels(config.fkd_path, config.ipc, write=not config.dry_run)
    require(labels["class_names"] == manifest["class_names"],
            f"{folder}: labels of other classes than the images in {run}")
    return run, manifest, folder, labels


def resolve(config: ValidateConfig, manifest: dict, labels: dict | None) -> ValidateConfig:
    """The config with everything that the labels and images fix filled in."""
    hard = {"mix_type": config.mix_type or "none", "min_scale_crops": config.min_scale_crops or 0.25,
            "ipc": config.ipc or manifest["ipc"]}
    fixed = settings_of_labels(config, labels) if labels else hard
    return dataclasses.replace(config, stem=config.stem or manifest["config"]["stem"],
                               dataset=manifest["dataset"], **fixed)


def describe(config: ValidateConfig, num_images: int, num_classes: int, folder: Path) -> str:
    """The text of --dry-run: students, epochs, steps, and time where a measured rate is known."""
    batches = config.steps_per_epoch or -(-num_images // config.batch_size)
    rate = last_logged(folder / f"seed{config.seeds[0]}", "seconds_per_epoch")
    todo = sum(not (folder / f"seed{seed}" / "result.json").is_file() for seed in config.seeds)
    left = readable_time(rate * config.epochs * todo) if rate else "unknown until a student has run here"
    return (f"students      {len(config.seeds)} x {config.model} ({config.stem} stem), {todo} to do\n"
            f"images        {num_images}, batches of {config.batch_size} in "
            f"{config.gradient_accumulation_steps} micro-batches\n"
            f"epochs        {config.epochs}, {config.epochs * batches} steps\n"
            f"loss          {config.loss_type}, {config.schedule}\n"
            f"results       {folder}, {readable(student_bytes(config, num_classes, todo))}\n"
            f"time          {left}")


def student_bytes(config: ValidateConfig, num_classes: int, num_students: int) -> int:
    """Bytes of the saved students, last and best of each seed."""
    state = build_skeleton(config.model, num_classes=num_classes, stem=config.stem).state_dict()
    return 2 * num_students * sum(value.numel() * value.element_size() for value in state.values())


def plan_early(config: ValidateConfig) -> None:
    """Prints the plan before there are images or labels, from the flags alone."""
    require(config.epochs and config.batch_size,
            "there are no labels yet: a --dry-run then needs --epochs and --batch-size")
    planned, images = planned_images(config.dataset, config.ipc)
    print(describe(resolve(config, planned, None), len(images), len(planned["class_names"]),
                   Path(config.output_dir or config.train_dir)))


def student_views(config: ValidateConfig, manifest: dict) -> dict:
    """The laws of the views of a student without soft labels, for `plan_epoch`."""
    return {"size": manifest["size"], "batch_size": config.batch_size, "mix_type": config.mix_type,
            "flip": dataset_spec(config.dataset).flip, "min_scale": config.min_scale_crops, "mix_alpha": 1.0,
            "num_batches": config.steps_per_epoch}


def open_soft_labels(config: ValidateConfig, folder: Path, labels: dict, *, device):
    """What teaches every student alike: stored labels, or online ones with their teachers."""
    if labels["config"]["label_format"] != "online":
        return StoredLabels(folder, labels)
    teachers = open_label_teachers(labels, weights=config.weights, weights_dir=config.weights_dir,
                                   stem=labels["stem"], device=device)
    return OnlineLabels({**labels, "views": {**labels["views"], "batch_size": config.batch_size}}, teachers)


def recipe_of(config: ValidateConfig, manifest: dict) -> Recipe:
    """How a batch becomes a step, from the config and the images' manifest."""
    return Recipe(loss_type=config.loss_type, ce_weight=config.ce_weight, temperature=config.temperature,
                  micro_batches=config.gradient_accumulation_steps, mix_type=config.mix_type,
                  batch_size=config.batch_size, size=manifest["size"], mean=manifest["mean"],
                  std=manifest["std"], precision=config.precision)


def build_learner(config: ValidateConfig, *, num_classes: int, seed: int, device) -> Learner:
    """A fresh student and its optimiser; every rank builds the same from the seed."""
    seed_everything(seed, "student", config.model)
    student = build_model(config.model, num_classes=num_classes, stem=config.stem)
    student = student.to(device, memory_format=torch.channels_last)
    if config.compile:
        student.compile(dynamic=False)
    groups = parameter_groups(student, config.adamw_weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.adamw_lr) if config.optimizer == "adamw" else \
        torch.optim.SGD(groups, lr=config.adamw_lr, momentum=config.momentum)
    return Learner(student, optimizer, precision=config.precision, device=device)


def main(argv=None) -> dict:
    """Trains the students that are not finished; returns their summary, as written to results.json."""
    config = parse_config(ValidateConfig, sys.argv[1:] if argv is None else argv, description=__doc__,
                          presets=presets)
    if config.loss_type in ("kl", "ce") and config.ce_weight != ValidateConfig.ce_weight:
        warn_once(f"--ce-weight has no effect with --loss-type {config.loss_type}")
    try:
        run, manifest, label_dir, labels = open_inputs(config)
    except FileNotFoundError:
        if not config.dry_run:
            raise
        plan_early(config)
        return {}
    protocol = protocol_record("validate", config)
    config = resolve(config, manifest, labels)
    entries = select_images(manifest, config.ipc)
    digest = image_set_digest(entries)
    require(not config.overwrite or rank_and_world()[1] == 1, "--overwrite needs a single process")
    require(labels is None or labels["images"] == digest,
            f"{label_dir}: the labels were made from other images than those in {run}; "
            f"rerun relabel with --overwrite, or point --train-dir at their images")
    out = Path(config.output_dir) if config.output_dir else run / "validate" / config.model
    if config.dry_run:
        print(describe(config, len(entries), len(manifest["class_names"]), out))
        return {}
    device = choose_device(config.device, local_rank=local_rank())
    set_threads(config.threads)
    set_precision(config.precision, device)
    real = RealSet(config.dataset, config.val_dir, "val", size=manifest["size"])
    require(real.class_names == manifest["class_names"],
            f"--val-dir {config.val_dir}: its class names are not those of the distilled images")
    images = open_distilled(run, entries, size=manifest["size"], device=device, workers=config.workers,
                            resident_gb=config.resident_gb)
    targets = torch.tensor([label for _, _, label in entries], device=device)
    made_of = {"images": digest, "labels": labels and sha256_json(read_json(label_dir / "config.json")),
               "config": {**identity(config), "threads": identity_threads(config.threads, device)}}
    claim_folder(out, overwrite=config.overwrite, contents=("seed*", "results.json*"), identity={
        "format": "prism-students", "version": FORMAT_VERSION, "class_names": manifest["class_names"],
        **made_of})
    start_process_group(device)
    about = {"protocol": protocol, "labels_protocol": labels and labels["protocol"], "row": config.row,
             **made_of, "primary": manifest["config"]["arch_name"], "versions": versions()}
    recipe = recipe_of(config, manifest)
    leader, num_classes, batches = rank_and_world()[0] == 0, len(real.class_names), None
    todo = [seed for seed in config.seeds if not (out / f"seed{seed}" / "result.json").is_file()]
    check_free_disk(out, student_bytes(config, num_classes, len(todo)))
    if todo and leader:
        batches = EvaluationBatches(real, batch_size=config.eval_batch_size or EVAL_BATCH[device.type],
                                    device=device, workers=config.workers, resident_gb=config.resident_gb)
    soft_labels = open_soft_labels(config, label_dir, labels, device=device) if labels and todo else None
    with StopSignals() as stop:
        for seed in todo:
            learner = build_learner(config, num_classes=num_classes, seed=seed, device=device)
            folder = out / f"seed{seed}"
            journal = Journal(folder, batches, seed=seed, epochs=config.epochs, recipe=recipe,
                              eval_every=config.eval_every, about=about) if leader else None
            teaching = soft_labels or HardLabels(len(entries), student_views(config, manifest), seed=seed)
            train_student(learner, journal,
                          Unfinished(folder / "unfinished.pt", minutes=config.save_every, stop=stop),
                          images=images, targets=targets, labels=teaching, recipe=recipe,
                          epochs=config.epochs, base_lr=config.adamw_lr,
                          factor=lambda t: SCHEDULES[config.schedule](t, config.epochs, config.zeta))
    stop_process_group()
    return report(out) if leader else {}


if __name__ == "__main__":
    command_line(main)
