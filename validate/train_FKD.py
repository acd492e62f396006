"""Validate: train students from scratch on a distilled set and its soft labels, and report real accuracy.

    R=out/full_resnet18; python -m validate.train_FKD --train-dir $R --fkd-path $R/fkd/10 --val-dir $IMAGENET

Paper sections 4.2 and 4.4; every flag is in validate/README.md.  One student per seed.
"""
import dataclasses
from pathlib import Path
from typing import Any

import torch

from models.registry import build_model, build_skeleton, model_spec
from utils import files, flags, formats, runtime
from utils.data import RealSet
from utils.distributed import rank_and_world, start_process_group, stop_process_group
from utils.flags import RECIPE
from utils.loading import EvaluationBatches, open_distilled
from utils.methods import method_preset, protocol_record
from utils.pieces import Values, choice, identity, option, piece_name, require
from utils.schedule import SCHEDULES, Cosine
from utils.session import Session, open_session
from utils.unfinished import StopSignals, Unfinished
from utils.views import MIXES
from validate.losses import CE, LOSSES
from validate.optimizers import OPTIMIZERS, AdamW
from validate.plans import StudentPlan, StudyFlags, plan_early, plan_students
from validate.results import report
from validate.soft_labels import HardLabels, OnlineLabels, StoredLabels, Teaching, open_label_teachers
from validate.training import Journal, Learner, Recipe, train_student

EVAL_BATCH = {"cuda": 2000, "cpu": 250}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidateConfig(flags.ProcessFlags, flags.PlanFlags, flags.PrecisionFlags, flags.SaveFlags,
                     flags.MemoryFlags, flags.WeightFlags, StudyFlags):
    """What `python -m validate.train_FKD` takes; the defaults are the ImageNet-1K recipe."""

    val_dir: str = option("", "folder of the real test data (holding val/ or test/, or the classes)",
                          identity=False)
    gradient_accumulation_steps: int = option(2, "micro-batches a batch: BatchNorm sees one at a time",
                                              source=RECIPE, range="> 0")
    loss_type: CE = choice(LOSSES, "mse_gt", "student loss", source="paper table 3a")
    optimizer: AdamW = choice(OPTIMIZERS, "adamw", "optimiser", source="supplement table 1a")
    schedule: Cosine = choice(SCHEDULES, "ssrs", "learning rate per epoch", source="paper 4.4")
    compile: bool = option(False, "compile the student")
    row: str = option("", "what to call this run in results.jsonl: a table's row, say", identity=False)
    seeds: tuple[int, ...] = option((0,), "one student a seed", source="paper table 1: three", identity=False)
    eval_every: int = option(10, "epochs between evaluations; the last is always evaluated", source=RECIPE,
                             range="> 0")
    eval_batch_size: int | None = option(None, "real images a batch of evaluation, halved where memory does not "
                                         "hold them; none: 2000, on a CPU 250", identity=False, range="> 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method.settings("validate")
        require(self.mix_type in (None, *MIXES), f"--mix-type {self.mix_type}: expected one of {', '.join(MIXES)}")
        require(len(set(self.seeds)) == len(self.seeds), f"--seeds must differ, got {self.seeds}")
        soft = bool(self.fkd_path)
        require(soft == self.loss_type.soft, f"--loss-type {piece_name(LOSSES, self.loss_type)} " + (
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


presets = method_preset("validate")


def open_plan(config: ValidateConfig) -> StudentPlan:
    """The plan over the images and labels that are there.   Raises: FileNotFoundError where they are not."""
    images = formats.assemble_manifest(formats.run_folder(config.train_dir, flag="--train-dir"),
                                       write=not config.dry_run)
    labels = formats.open_labels(config.fkd_path, config.ipc, write=not config.dry_run) if config.fkd_path else None
    return plan_students(config, images, labels)


def describe(config: ValidateConfig, plan: StudentPlan) -> str:
    """The text of --dry-run: students, epochs, steps, and time where a measured rate is known."""
    num, views = len(plan.entries), plan.views
    rate = files.last_logged(plan.out / f"seed{config.seeds[0]}", "seconds_per_epoch")
    todo = len(unfinished_seeds(config, plan.out))
    left = runtime.readable_time(rate * plan.epochs * todo) if rate else "unknown until a student has run here"
    bytes_ = student_bytes(config.model, num_classes=plan.images.num_classes, stem=plan.stem, num_students=todo)
    return (f"students      {len(config.seeds)} x {config.model} ({plan.stem} stem), {todo} to do\n"
            f"images        {num}, batches of {views.batch_size} in "
            f"{config.gradient_accumulation_steps} micro-batches\n"
            f"epochs        {plan.epochs}, {plan.epochs * (views.num_batches or -(-num // views.batch_size))} steps\n"
            f"loss          {piece_name(LOSSES, config.loss_type)}, {piece_name(SCHEDULES, config.schedule)}\n"
            f"results       {plan.out}, {files.readable(bytes_)}\n"
            f"time          {left}")


def unfinished_seeds(config: ValidateConfig, out: Path) -> list[int]:
    """The seeds without a result."""
    return [seed for seed in config.seeds
            if config.overwrite or not (out / f"seed{seed}" / "result.json").is_file()]


def student_bytes(model: str, *, num_classes: int, stem: str, num_students: int) -> int:
    """Bytes of the saved students, last and best of each seed."""
    state = build_skeleton(model, num_classes=num_classes, stem=stem).state_dict()
    return 2 * num_students * sum(value.numel() * value.element_size() for value in state.values())


def open_soft_labels(config: ValidateConfig, plan: StudentPlan, device: torch.device) -> Teaching | None:
    """What teaches every student alike: stored labels, or online ones with their teachers; None: hard labels."""
    if plan.labels is None or plan.labels.label_format.stored:
        return plan.labels and StoredLabels(plan.labels)
    teachers = open_label_teachers(plan.labels, weights=config.weights, weights_dir=config.weights_dir, device=device)
    return OnlineLabels(plan.labels, teachers, batch_size=plan.views.batch_size)


def build_learner(config: ValidateConfig, plan: StudentPlan, *, seed: int, device: torch.device) -> Learner:
    """A fresh student and its optimiser; every rank builds the same from the seed."""
    runtime.seed_everything(seed, "student", config.model)
    student = build_model(config.model, num_classes=plan.images.num_classes, stem=plan.stem)
    student = student.to(device, memory_format=torch.channels_last)
    if config.compile:
        student.compile(dynamic=False)
    return Learner(student, config.optimizer(student), precision=config.precision, device=device)


def train_students(config: ValidateConfig, plan: StudentPlan, session: Session, *, todo: list[int], about: Values,
                   real: RealSet, soft_labels: Teaching | None) -> None:
    """Trains the students of these seeds, one after another."""
    images = open_distilled(plan.images.run, plan.entries, size=plan.images.size, device=session.device,
                            workers=config.workers, resident_gb=config.resident_gb)
    batches = EvaluationBatches(real, batch_size=config.eval_batch_size or EVAL_BATCH[session.device.type],
                                device=session.device, workers=config.workers, resident_gb=config.resident_gb) \
        if leads() else ()
    recipe = Recipe(loss=config.loss_type, micro_batches=config.gradient_accumulation_steps, epochs=plan.epochs,
                    mean=plan.images.mean, std=plan.images.std, precision=config.precision,
                    rate=lambda epoch: config.optimizer.adamw_lr * config.schedule(epoch, plan.epochs))
    targets = torch.tensor([entry.label for entry in plan.entries], device=session.device)
    with StopSignals() as stop:
        for seed in todo:
            learner, folder = build_learner(config, plan, seed=seed, device=session.device), plan.out / f"seed{seed}"
            journal = Journal(folder, batches, seed=seed, recipe=recipe, eval_every=config.eval_every,
                              about=about) if leads() else None
            train_student(learner, journal,
                          Unfinished(folder / "unfinished.pt", minutes=config.save_every, stop=stop),
                          images=images, targets=targets, recipe=recipe,
                          teaching=soft_labels or HardLabels(len(plan.entries), plan.views, seed))


def leads() -> bool:
    """Whether this is the process that evaluates, writes and reports."""
    return rank_and_world()[0] == 0


def run(config: ValidateConfig) -> dict[str, Any]:
    """Trains the students that are not finished; returns their summary, as written to results.json."""
    try:
        plan = open_plan(config)
    except FileNotFoundError:
        if config.dry_run:  # the plan at least, then what is missing
            print(describe(config, plan_early(config)))
        raise
    if config.dry_run:
        print(describe(config, plan))
    session, images = open_session(config), plan.images
    real = RealSet(images.dataset, config.val_dir, "val", size=images.size)
    require(real.class_names == images.class_names,
            f"--val-dir {config.val_dir}: its class names are not those of the distilled images")
    todo = unfinished_seeds(config, plan.out)
    soft_labels = open_soft_labels(config, plan, session.device) if todo else None
    made_of = {"images": formats.image_set_digest(plan.entries), "labels": plan.labels and plan.labels.digest,
               "config": {**identity(config), **plan.settings(), "threads": session.threads}}
    files.claim_folder(plan.out, settings=ValidateConfig, overwrite=config.overwrite, dry_run=config.dry_run,
                       contents=("seed*", "results.json*"), identity={
        "format": "prism-students", "version": formats.FORMAT_VERSION, "class_names": images.class_names,
        **made_of})
    files.check_free_disk(plan.out, student_bytes(config.model, num_classes=images.num_classes, stem=plan.stem,
                                                  num_students=len(todo)))
    if config.dry_run:
        files.say_ready(plan.out)
        return {}
    start_process_group(session.device)
    if todo:
        train_students(config, plan, session, todo=todo, real=real, soft_labels=soft_labels, about={
            "protocol": protocol_record("validate", config), "labels_protocol": plan.labels and plan.labels.protocol,
            "row": config.row, **made_of, "primary": images.primary, "versions": runtime.versions()})
    stop_process_group()
    return report(plan.out) if leads() else {}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs a command line's words; returns the students' summary."""
    return run(flags.parse_config(ValidateConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
