"""Relabel: store an ensemble's soft labels for every augmented view of a distilled set.

    python -m relabel.generate_soft_label --data out/full_resnet18 --ipc 10

Paper section 4.4 and table 3; every flag is in relabel/README.md.  One unit of work is an epoch.
"""
import dataclasses
import sys
import time
from pathlib import Path
from typing import Literal

import torch

from models.preflight import preflight
from models.registry import check_pool, load_teachers, model_spec, primary_first
from relabel.labels import label_epoch
from utils.augment import MIX_ALPHA, RESAMPLER
from utils.config import (
    RECIPE,
    MemoryFlags,
    PrecisionFlags,
    ProcessFlags,
    TeacherFlags,
    identity,
    option,
    parse_config,
    require,
)
from utils.data import RealSet, dataset_spec
from utils.distributed import local_rank, my_units, parse_shard
from utils.files import check_free_disk, claim_folder, last_logged, log_name, readable, save_tensors
from utils.formats import (
    FORMAT_VERSION,
    assemble_label_manifest,
    assemble_manifest,
    image_set_digest,
    label_files,
    label_path,
    run_folder,
    select_images,
)
from utils.label_formats import check_num_classes, label_format
from utils.loading import open_distilled, planned_images
from utils.precision import set_precision
from utils.protocols import ProtocolFlags, delt_batch_size, protocol_preset, protocol_record
from utils.runtime import (
    Log,
    choose_device,
    command_line,
    identity_threads,
    progress,
    readable_time,
    say,
    set_threads,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelabelConfig(ProcessFlags, ProtocolFlags, PrecisionFlags, MemoryFlags, TeacherFlags):
    """What `python -m relabel.generate_soft_label` takes; the defaults are the ImageNet-1K, IPC 10 recipe."""

    data: str = option("out/full_resnet18", "run of recover, or its syn/ folder", identity=False)
    dataset: str = option("", "data set of the images; none: as their manifest (a --dry-run before there are "
                          "images: imagenet-1k)", identity=False)
    fkd_path: str = option("", "folder of labels, one folder an IPC below it; default: <data>/fkd",
                           identity=False)
    ipc: int = option(0, "images per class to label; 0 = all complete ones")
    epochs: int = option(300, "epochs of labels", source="supplement table 1a")
    batch_size: int | None = option(None, "views a batch, for the student too; none: 50, above IPC 10 100",
                             source="supplement table 1a, table 3c")
    steps_per_epoch: int | None = option(None, "only so many batches of each epoch's shuffle")
    min_scale_crops: float = option(0.25, "least area fraction of a random crop", source="supplement table 3")
    flip: bool | None = option(None, "random horizontal flips; none: as the data set's preset", source=RECIPE)
    mix_type: Literal["cutmix", "mixup", "none"] = option("cutmix", "how two images of a batch are mixed",
                                                          source=RECIPE)
    augment: Literal["none", "randaugment"] = option("none", "of each image before its crop: none, or timm's "
                                                     "rand-m6-n2-mstd1.0", source="DELT")
    mix_alpha: float | None = option(None, "Beta(alpha, alpha) of the mix; none: 1 for cutmix, 0.8 for mixup",
                                     source=RECIPE)
    arch_name: str = option("resnet18", "primary teacher", source=RECIPE)
    pool: tuple[str, ...] = option(("resnet18", "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5"),
                                   "ensemble; an --arch-name outside it takes its first place", source=RECIPE,
                                   commas=True)
    candidate_number: int = option(4, "only the first so many of the ensemble", source=RECIPE)
    ensemble: Literal["equal-norm", "primary-half", "mean", "primary"] = option(
        "equal-norm", "how logits combine: the r18 rule, the r50/r101 rule, the mean, the primary",
        source=RECIPE)
    val_dir: str = option("", "real images, to check teachers that recover did not check", identity=False)
    label_format: str = option("fp16", "fp16, int8, topk:K (K logits and the others' mean), or online: store "
                               "nothing, validate computes the same labels", source="fp16: published recipe")
    label_epochs: int | None = option(None, "epochs of labels to store, a pool that the student goes through "
                                      "in turn; none: all", source="LPLD")
    seed: int = option(0, "seed of views and mixes")
    shard: str = option("", "i/n: this process's share; default: torchrun's rank", identity=False)
    dry_run: bool = option(False, "print the plan, touch nothing", identity=False)

    def __post_init__(self):
        super().__post_init__()
        require(self.protocol != "recovery-only", "--protocol recovery-only has no soft labels: leave "
                "relabel out, and run validate without --fkd-path")
        self.check_memory()
        label_format(self.label_format)
        require(self.label_epochs is None or 0 < self.label_epochs <= self.epochs,
                f"--label-epochs must be in 1..--epochs {self.epochs}, got {self.label_epochs}")
        require(self.ipc >= 0, f"--ipc must be >= 0, got {self.ipc}")
        require(self.epochs > 0, f"--epochs must be > 0, got {self.epochs}")
        require(self.batch_size is None or 1 < self.batch_size <= 32767,
                f"--batch-size must be in 2..32767, got {self.batch_size}")
        require(self.steps_per_epoch is None or self.steps_per_epoch > 0,
                f"--steps-per-epoch must be > 0, got {self.steps_per_epoch}")
        require(0 < self.min_scale_crops <= 1,
                f"--min-scale-crops must be in (0, 1], got {self.min_scale_crops}")
        require(self.mix_alpha is None or self.mix_alpha > 0,
                f"--mix-alpha must be > 0, got {self.mix_alpha}")
        require(self.candidate_number > 0, f"--candidate-number must be > 0, got {self.candidate_number}")
        check_pool(self.pool)
        model_spec(self.arch_name)
        require(self.ensemble != "primary-half" or len(self.teacher_names) > 1,
                "--ensemble primary-half needs two teachers or more; raise --candidate-number or --pool")

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The ensemble, the primary first; for `--ensemble primary` the primary alone."""
        names = primary_first(self.pool, self.arch_name)
        return names[:1] if self.ensemble == "primary" else names[:self.candidate_number]

    @property
    def pool_epochs(self) -> int:
        """Epochs of different labels, which the student's epochs go through in turn."""
        return self.label_epochs or self.epochs

    def views(self, manifest: dict) -> dict:
        """The laws of an epoch's views, for `plan_epoch`."""
        flip = dataset_spec(manifest["dataset"]).flip if self.flip is None else self.flip
        return {"size": manifest["size"], "batch_size": self.batch_size, "min_scale": self.min_scale_crops,
                "flip": flip, "augment": self.augment, "mix_type": self.mix_type,
                "num_batches": self.steps_per_epoch,
                "mix_alpha": MIX_ALPHA[self.mix_type] if self.mix_alpha is None else self.mix_alpha}


presets = protocol_preset("relabel")


def resolve(config: RelabelConfig, *, ipc: int, num_classes: int) -> RelabelConfig:
    """The config with its IPC, and the batch that protocol and IPC imply where none is given."""
    implied = 50 if ipc <= 10 else 100
    if config.protocol == "delt":
        implied = delt_batch_size(ipc, num_classes, student="")
    return dataclasses.replace(config, ipc=ipc, batch_size=config.batch_size or implied)


def epoch_bytes(num_images: int, num_classes: int, config: RelabelConfig) -> int:
    """Bytes of one epoch's file: logits and 15 bytes of view an image, and some 4 kB around them."""
    num = min(num_images, (config.steps_per_epoch or num_images) * config.batch_size)
    return num * (label_format(config.label_format).row_bytes(num_classes) + 15) + 4096


def label_folder(config: RelabelConfig, run: Path) -> Path:
    """Where the labels go: <fkd-path>/<ipc>, by default <run>/fkd/<ipc>."""
    return (Path(config.fkd_path) if config.fkd_path else run / "fkd") / str(config.ipc)


def describe(config: RelabelConfig, run: Path, manifest: dict, entries: list) -> str:
    """The text of --dry-run: epochs, batches, teachers, bytes, and time where a measured rate is known."""
    folder = label_folder(config, run)
    num = label_files(config.label_format, config.pool_epochs)
    todo = num - sum(label_path(folder, epoch).is_file() for epoch in range(num))
    rate = last_logged(folder, "seconds_per_epoch")
    size = num * epoch_bytes(len(entries), len(manifest["class_names"]), config)
    left = "unknown until an epoch has run here" if rate is None else \
        f"{readable_time(rate * todo)} at the {rate:.2f} s per epoch measured here"
    return (f"labels        {folder}\nimages        {len(entries)}, batches of {config.batch_size}\n"
            f"epochs        {config.epochs} of students, {num} stored, {todo} to do\n"
            f"teachers      {' + '.join(config.teacher_names)}, {config.ensemble}\n"
            f"size          {readable(size)} in {num} files, {config.label_format}\n"
            f"time          {left if num else 'none: validate computes the labels'}")


def open_teachers(config: RelabelConfig, run: Path, manifest: dict, device) -> dict:
    """The ensemble, checked on real images but for the weights that recover checked already.

    Raises: ValueError when a teacher is below its floor, or needs --val-dir to be checked.
    """
    teachers = load_teachers(config.teacher_names, weights=config.weights, weights_dir=config.weights_dir,
                             dataset=manifest["dataset"], num_classes=len(manifest["class_names"]),
                             device=device, stem=manifest["config"]["stem"])
    preflight(teachers, manifest["class_names"], known=run / "preflight.json", device=device,
              open_real=lambda: RealSet(manifest["dataset"], config.val_dir, "val", size=manifest["size"]),
              floor=config.min_teacher_accuracy, num_images=config.preflight_images, mean=manifest["mean"],
              std=manifest["std"])
    return teachers


def labels_identity(config: RelabelConfig, manifest: dict, entries: list, teachers: dict, device) -> dict:
    """What config.json of the labels holds: all that a stored label depends on."""
    return {"format": "prism-labels", "version": FORMAT_VERSION, "resampler": RESAMPLER,
            "dataset": manifest["dataset"], "class_names": manifest["class_names"], "ipc": config.ipc,
            "mean": manifest["mean"], "std": manifest["std"], "num_images": len(entries),
            "stem": manifest["config"]["stem"], "label_epochs": config.pool_epochs,
            "images": image_set_digest(entries), "views": config.views(manifest),
            "teachers": list(config.teacher_names), "protocol": protocol_record("relabel", config),
            "weights": {name: teacher.sha256 for name, teacher in teachers.items()},
            "config": {**identity(config), "threads": identity_threads(config.threads, device)}}


def main(argv=None) -> Path:
    """Writes every epoch of this shard that is not there; returns the folder of the labels."""
    config = parse_config(RelabelConfig, sys.argv[1:] if argv is None else argv, description=__doc__,
                          presets=presets)
    run = Path(config.data)
    try:
        run = run_folder(config.data, flag="--data")
        manifest = assemble_manifest(run, write=not config.dry_run)
        entries = select_images(manifest, config.ipc)
    except FileNotFoundError:
        if not config.dry_run:
            raise
        manifest, entries = planned_images(config.dataset, config.ipc)
    require(config.dataset in ("", manifest["dataset"]),
            f"--dataset {config.dataset} contradicts the images in {run}, made from {manifest['dataset']}")
    config = resolve(config, ipc=config.ipc or manifest["ipc"], num_classes=len(manifest["class_names"]))
    if config.dry_run:
        print(describe(config, run, manifest, entries))
        return label_folder(config, run)
    shard, device = parse_shard(config.shard), choose_device(config.device, local_rank=local_rank())
    require(not config.overwrite or shard[1] == 1,
            "--overwrite would delete other shards' epochs; unshard it")
    set_threads(config.threads)
    set_precision(config.precision, device)
    teachers = open_teachers(config, run, manifest, device)
    check_num_classes(config.label_format, len(manifest["class_names"]))
    images = open_distilled(run, entries, size=manifest["size"], device=device, workers=config.workers,
                            resident_gb=config.resident_gb)
    folder, views = label_folder(config, run), config.views(manifest)
    claim_folder(folder, identity=labels_identity(config, manifest, entries, teachers, device),
                 overwrite=config.overwrite, contents=("epoch_*.pt", "log*.jsonl"))
    num = label_files(config.label_format, config.pool_epochs)
    mine = [epoch for epoch in my_units(range(num), shard) if not label_path(folder, epoch).is_file()]
    size = epoch_bytes(len(entries), len(manifest["class_names"]), config)
    check_free_disk(folder, size * len(mine))
    say(f"{folder}: {len(mine)} epochs of labels to make as {config.label_format}; {num} epochs take "
        f"{readable(size * num)}")
    models = [teacher.model.to(memory_format=torch.channels_last) for teacher in teachers.values()]
    log = Log(folder / log_name(shard))
    for epoch in progress(mine, text="relabel"):
        started = time.perf_counter()
        labels = label_epoch(images, models, epoch=epoch, seed=config.seed, views=views,
                             ensemble=config.ensemble, precision=config.precision,
                             format_name=config.label_format, mean=manifest["mean"], std=manifest["std"])
        save_tensors(label_path(folder, epoch), labels)
        log.write(epoch=epoch, seconds_per_epoch=time.perf_counter() - started)
    log.close()
    if assemble_label_manifest(folder) is None:
        say(f"{folder}: {len(mine)} epochs made now; other shards are not finished yet")
    return folder


if __name__ == "__main__":
    command_line(main)
