"""Validate: train students from scratch on a distilled set and its soft labels, and report real accuracy.

    R=out/full_resnet18; python -m validate.train_FKD --train-dir $R --fkd-path $R/fkd/10 --val-dir $IMAGENET

Paper sections 4.2 and 4.4; every flag is in validate/README.md.  One student per seed.
"""
import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch

from models import optimizers, registry
from utils import distributed, files, flags, formats, loading, methods, runtime
from utils.data import RealSet
from utils.flags import RECIPE
from utils.pieces import Values, choice, identity, option, piece_name, require
from utils.schedule import SCHEDULES, Cosine
from utils.session import open_plan, open_session
from utils.unfinished import StopSignals, Unfinished
from validate import losses, plans, results, training
from validate.soft_labels import HardLabels, Teaching, open_teaching

EVAL_BATCH = {"cuda": 2000, "cpu": 250}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidateConfig(flags.ProcessFlags, flags.PlanFlags, flags.PrecisionFlags, flags.SaveFlags,
                     flags.MemoryFlags, flags.WeightFlags, plans.StudyFlags):
    """What `python -m validate.train_FKD` takes; the defaults are the ImageNet-1K recipe."""

    val_dir: str = option("", "folder of the real test data (holding val/ or test/, or the classes)",
                          identity=False)
    gradient_accumulation_steps: int = option(2, "micro-batches a batch: BatchNorm sees one at a time",
                                              source=RECIPE, range="> 0")
    loss_type: losses.CE = choice(losses.LOSSES, "mse_gt", "student loss", source="paper table 3a")
    optimizer: optimizers.StudentAdamW = choice(optimizers.OPTIMIZERS, "adamw", "optimiser",
                                                source="supplement table 1a")
    schedule: Cosine = choice(SCHEDULES, "ssrs", "learning rate per epoch", source="paper 4.4")
    compile: bool = option(False, "compile the student")
    row: str = option("", "what to call this run in results.jsonl: a table's row, say", identity=False)
    seeds: tuple[int, ...] = option((0,), "one student a seed", source="paper table 1: three", identity=False)
    eval_every: int = option(10, "epochs between evaluations; the last is always evaluated", source=RECIPE,
                             range="> 0")
    eval_batch_size: int | None = option(
        None, "real images a batch of evaluation, halved where memory does not hold them; none: 2000, on a "
        "CPU 250", identity=False, range="> 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method.settings("validate")
        require(len(set(self.seeds)) == len(self.seeds), f"--seeds must differ, got {self.seeds}")
        soft = bool(self.fkd_path)
        require(soft == self.loss_type.soft, f"--loss-type {piece_name(losses.LOSSES, self.loss_type)} " + (
            "uses no soft labels; leave out --fkd-path" if soft else "needs soft labels: give --fkd-path, or "
            "--loss-type ce for hard labels"))
        for name in ("epochs", "batch_size"):
            require(soft or getattr(self, name) is not None,
                    f"--{name.replace('_', '-')} is required where there are no stored labels (--fkd-path)")
        require(soft or self.mix_type in (None, "none"), f"--mix-type {self.mix_type} needs soft labels")
        world = distributed.rank_and_world()[1]
        require(self.gradient_accumulation_steps >= world,
                f"{world} processes share the micro-batches of a batch, --gradient-accumulation-steps is "
                f"{self.gradient_accumulation_steps}: use NPROC={self.gradient_accumulation_steps} or fewer, "
                f"or more micro-batches (BatchNorm then sees fewer images)")
        registry.model_spec(self.model)


presets = methods.method_preset("validate")


def describe(config: ValidateConfig, plan: plans.StudentPlan) -> str:
    """The text of --dry-run: students, epochs, steps, and time where a measured rate is known."""
    num, batch = len(plan.entries), plan.views.batch_size
    steps = plan.epochs * (plan.views.num_batches or -(-num // batch))
    rate = files.last_logged(plan.out / f"seed{config.seeds[0]}", "seconds_per_epoch")
    todo = len(unfinished_seeds(config, plan.out))
    size = student_bytes(config.model, num_classes=plan.images.num_classes, stem=plan.stem, num_students=todo)
    left = "unknown until a student has run here" if rate is None else \
        runtime.readable_time(rate * plan.epochs * todo)
    loss, schedule = piece_name(losses.LOSSES, config.loss_type), piece_name(SCHEDULES, config.schedule)
    return (f"students      {len(config.seeds)} x {config.model} ({plan.stem} stem), {todo} to do\n"
            f"images        {num}, batches of {batch} in {config.gradient_accumulation_steps} micro-batches\n"
            f"epochs        {plan.epochs}, {steps} steps\n"
            f"loss          {loss}, {schedule}\n"
            f"results       {plan.out}, {files.readable(size)}\n"
            f"time          {left}")


def unfinished_seeds(config: ValidateConfig, out: Path) -> list[int]:
    """The seeds without a result."""
    return [seed for seed in config.seeds
            if config.overwrite or not (out / f"seed{seed}" / "result.json").is_file()]


def student_bytes(model: str, *, num_classes: int, stem: str, num_students: int) -> int:
    """Bytes of the saved students, last and best of each seed."""
    state = registry.build_skeleton(model, num_classes=num_classes, stem=stem).state_dict()
    return 2 * num_students * sum(value.numel() * value.element_size() for value in state.values())


def plan_found(config: ValidateConfig) -> plans.StudentPlan:
    """The plan over the images and labels that are there.   Raises: FileNotFoundError where they are not."""
    run, write = formats.run_folder(config.train_dir, flag="--train-dir"), not config.dry_run
    images = formats.assemble_manifest(run, write=write)
    labels = formats.open_labels(config.fkd_path, config.ipc, write=write) if config.fkd_path else None
    return plans.plan_students(config, images, labels)


def build_learner(config: ValidateConfig, plan: plans.StudentPlan, seed: int,
                  device: torch.device) -> training.Learner:
    """A fresh student and its optimiser; every rank builds the same from the seed."""
    runtime.seed_everything(seed, "student", config.model)
    student = registry.build_model(config.model, num_classes=plan.images.num_classes, stem=plan.stem)
    student = student.to(device).to(memory_format=torch.channels_last)
    if config.compile:
        student.compile(dynamic=False)
    return training.Learner(student, config.optimizer(student), precision=config.precision, device=device)


def train_students(config: ValidateConfig, plan: plans.StudentPlan, device: torch.device, *, todo: list[int],
                   real: RealSet, soft_labels: Teaching | None, about: Values) -> None:
    """Trains the students of these seeds, one after another.   Args: about: what results say of them."""
    memory: Values = {"device": device, "workers": config.workers, "resident_gb": config.resident_gb}
    images = loading.open_distilled(plan.images.run, plan.entries, size=plan.images.size, **memory)
    batch_size = config.eval_batch_size or EVAL_BATCH[device.type]
    batches = loading.EvaluationBatches(real, batch_size=batch_size, **memory) if distributed.leads() else ()
    recipe = training.Recipe(loss=config.loss_type, micro_batches=config.gradient_accumulation_steps,
                    mean=plan.images.mean, std=plan.images.std, epochs=plan.epochs,
                    precision=config.precision,
                    rate=lambda epoch: config.optimizer.adamw_lr * config.schedule(epoch, plan.epochs))
    targets = torch.tensor([entry.label for entry in plan.entries], device=device)
    with StopSignals() as stop:
        for seed in todo:
            folder = plan.out / f"seed{seed}"
            learner = build_learner(config, plan, seed, device)
            journal = training.Journal(folder, batches, seed=seed, recipe=recipe, about=about,
                                       eval_every=config.eval_every) if distributed.leads() else None
            training.train_student(learner, journal,
                          Unfinished(folder / "unfinished.pt", minutes=config.save_every, stop=stop),
                          images=images, targets=targets, recipe=recipe,
                          teaching=soft_labels or HardLabels(len(plan.entries), plan.views, seed))


def run(config: ValidateConfig) -> dict[str, Any]:
    """Trains the students that are not finished; returns their summary, as written to results.json."""
    plan = open_plan(lambda: plan_found(config), lambda: plans.plan_early(config),
                     functools.partial(describe, config), dry_run=config.dry_run)
    session, images, labels = open_session(config), plan.images, plan.labels
    real = RealSet(images.dataset, config.val_dir, "val", size=images.size)
    require(real.class_names == images.class_names,
            f"--val-dir {config.val_dir}: its class names are not those of the distilled images")
    todo = unfinished_seeds(config, plan.out)
    soft_labels = open_teaching(labels, config, session.device, plan.views.batch_size) if todo else None
    made_of = {"images": formats.image_set_digest(plan.entries), "labels": labels and labels.digest,
               "config": {**identity(config), **plan.settings(), "threads": session.threads}}
    files.claim_folder(plan.out, settings=ValidateConfig, overwrite=config.overwrite, dry_run=config.dry_run,
                       contents=("seed*", "results.json*"), identity={
        "format": "prism-students", "version": formats.FORMAT_VERSION, "class_names": images.class_names,
        **made_of})
    files.check_free_disk(plan.out, student_bytes(
        config.model, num_classes=images.num_classes, stem=plan.stem, num_students=len(todo)))
    if config.dry_run:
        files.say_ready(plan.out)
        return {}
    distributed.start_process_group(session.device)
    if todo:
        train_students(config, plan, session.device, todo=todo, real=real, soft_labels=soft_labels, about={
            "protocol": methods.protocol_record("validate", config), "row": config.row,
            "labels_protocol": labels and labels.protocol, **made_of, "primary": images.primary,
            "versions": runtime.versions()})
    distributed.stop_process_group()
    return results.report(plan.out) if distributed.leads() else {}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs a command line's words; returns the students' summary."""
    return run(flags.parse_config(ValidateConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
