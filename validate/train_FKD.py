"""Validate: train students from scratch on a distilled set and its soft labels, and report real accuracy.

    R=out/full_resnet18 V=$IMAGENET
    python -m validate.train_FKD --train-dir $R --fkd-path $R/fkd --val-dir $V

Paper sections 4.2 and 4.4; every flag is in validate/README.md.  One student per seed.
"""
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import torch

from models import optimizers, registry
from utils import distributed, files, flags, folders, formats, loading, methods, runtime
from utils.data import RealSet
from utils.pieces import Values, choice, identity, option, piece_name, require
from utils.schedule import SCHEDULES, Cosine
from utils.session import open_plan, open_session
from utils.unfinished import StopSignals
from validate import averages, losses, plans, results, soft_labels, students, training, trainings

EVAL_BATCH = {"cuda": 2000, "cpu": 250}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidateConfig(flags.ProcessFlags, flags.PlanFlags, flags.PrecisionFlags, flags.SaveFlags,
                     flags.MemoryFlags, flags.WeightFlags, plans.StudyFlags):
    """What `python -m validate.train_FKD` takes; the defaults are the ImageNet-1K recipe."""

    gradient_accumulation_steps: int = option(2, "micro-batches a batch: BatchNorm sees one at a time",
                                              source=flags.RECIPE, range="in [1, 32767]")
    loss_type: losses.CE = choice(losses.LOSSES, "mse_gt", "student loss", source="paper table 3a")
    optimizer: optimizers.StudentAdamW = choice(optimizers.OPTIMIZERS, "adamw", "optimiser",
                                                source="supplement table 1a")
    schedule: Cosine = choice(SCHEDULES, "ssrs", "learning rate per epoch", source="paper 4.4")
    average: averages.NoAverage = choice(averages.AVERAGES, "none", "average of the student's weights, which "
                                         "is evaluated and saved in its place", neutral="none")
    training: trainings.AsLabelled = choice(trainings.TRAININGS, "as-labelled", "which epochs have soft "
                                            "labels, which classes", neutral="as-labelled")
    compile: bool = option(False, "compile the student")
    row: str = option("", "what to call this run in results.jsonl: a table's row, say", identity=False)
    seeds: tuple[int, ...] = option((0,), "one student a seed", source="paper table 1: three", identity=False,
                                    range="in (-inf, inf)")
    eval_every: int = option(10, "epochs between evaluations; the last is always evaluated",
                             source=flags.RECIPE, range="> 0")
    eval_from: float = option(0.0, "share of the epochs before which nothing is evaluated",
                              range="in [0, 1)", neutral=0.0)
    eval_batch_size: int | None = option(
        None, "real images a batch of evaluation, halved where memory does not hold them; none: 2000, on a "
        "CPU 250", identity=False, range="in [1, 1000000]")

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

    def unfinished(self, out: Path, *, anew: bool) -> list[int]:
        """The seeds without a whole student.   Args: anew: all of them."""
        return [seed for seed in self.seeds if anew or not results.is_finished(out / f"seed{seed}")]


presets = plans.presets


def recipe(config: ValidateConfig, plan: plans.StudentPlan) -> training.Recipe:
    """How a student is trained."""
    return training.Recipe(
        loss=config.loss_type, micro_batches=config.gradient_accumulation_steps, mean=plan.images.mean,
        std=plan.images.std, epochs=plan.epochs, precision=config.precision,
        rate=lambda epoch: config.optimizer.adamw_lr * config.schedule(epoch, plan.epochs))


def describe(plan: plans.StudentPlan, *, model: str, seeds: tuple[int, ...], micro_batches: int, trained: str,
             todo: Callable[[Path], list[int]]) -> str:
    """The text of --dry-run: students, epochs, steps, and time where a measured rate is known."""
    num, batch, left = len(plan.entries), plan.views.batch_size, len(todo(plan.out))
    steps = plan.epochs * plan.views.count(num)
    rate = files.last_logged(plan.out / f"seed{seeds[0]}", "seconds_per_epoch")
    size = students.student_bytes(model, num_classes=plan.images.num_classes, stem=plan.stem,
                                  num_students=left)
    time = "unknown until a student has run here" if rate is None else \
        runtime.readable_time(rate * plan.epochs * left)
    return (f"students      {len(seeds)} x {model} ({plan.stem} stem), {left} to do\n"
            f"images        {num}, batches of {batch} in {micro_batches} micro-batches\n"
            f"epochs        {plan.epochs}, {steps} steps\n"
            f"loss          {trained}\n"
            f"results       {plan.out}, {files.readable(size)}\n"
            f"time          {time}")


def run(config: ValidateConfig) -> Values:
    """Trains the students that are not finished; returns their summary, as written to results.json."""
    trained = f"{piece_name(losses.LOSSES, config.loss_type)}, {piece_name(SCHEDULES, config.schedule)}"
    plan = open_plan(lambda: plans.plan_found(config, write=not config.dry_run),
                     lambda: plans.plan_early(config), functools.partial(
        describe, model=config.model, seeds=config.seeds,
        todo=lambda out: config.unfinished(
            out, anew=config.overwrite and folders.seems_others(out, config)),
        micro_batches=config.gradient_accumulation_steps, trained=trained), dry_run=config.dry_run)
    session, images, labels = open_session(config), plan.images, plan.labels
    config.training.check(plan.epochs, soft=labels is not None)
    distributed.check_devices(config.device, session.device)
    memory: Values = {"device": session.device, "workers": config.workers, "resident_gb": config.resident_gb}
    real = RealSet(images.dataset, config.val_dir, "val", size=images.size)
    real.check_classes(images.class_names, flag="--val-dir", whose="the distilled images")
    needed = config.unfinished(plan.out, anew=config.overwrite)
    real.check_readable(range(len(real)) if needed and distributed.leads() else ())
    distilled = loading.open_distilled(images.run, plan.entries, size=images.size, **memory)
    made_of = {"images": formats.image_set_digest(plan.entries), "labels": labels and labels.digest,
               "config": {**identity(config), **plan.settings(), "threads": session.threads}}
    teaching = soft_labels.open_teaching(labels, config, session.device,
                                         plan.views.batch_size) if needed else None
    with folders.claim(plan.out, folders.STUDENTS, settings=ValidateConfig, overwrite=config.overwrite,
                       identity={"class_names": images.class_names, **made_of},
                       dry_run=config.dry_run) as stale:
        todo = config.unfinished(plan.out, anew=stale)
        files.check_free_disk(plan.out, students.student_bytes(
            config.model, num_classes=images.num_classes, stem=plan.stem, num_students=len(todo)))
        if config.dry_run:
            files.say_ready(plan.out, f"{len(todo)} students to do", anew=stale)
            return {}
        batches = loading.EvaluationBatches(
            real, batch_size=config.eval_batch_size or EVAL_BATCH[session.device.type],
            **memory) if todo and distributed.leads() else ()
        distributed.start_process_group(session.device)
        training.discard_saves(plan.out, [seed for seed in config.seeds if seed not in todo])
        targets = torch.tensor([entry.label for entry in plan.entries])
        with StopSignals() as stop:
            study = training.Study(
                out=plan.out, images=distilled, targets=targets, batches=batches, recipe=recipe(config, plan),
                eval_every=config.eval_every, eval_from=config.eval_from,
                save_every=config.save_every, stop=stop, about={
                    "protocol": methods.protocol_record("validate", config, plans.case_of(
                        config, plan), taken=plan.settings(),
                                                        implied=plans.recipe_settings(config, plan)),
                    "row": config.row, **made_of, **plans.provenance(plan), "versions": runtime.versions()})
            for seed in todo:
                student = students.build_student(
                    config.model, num_classes=images.num_classes, stem=plan.stem, seed=seed,
                    device=session.device, compiled=config.compile)
                learner = training.Learner(student, config.optimizer(student), precision=config.precision,
                                           device=session.device, average=config.average)
                hard = soft_labels.HardLabels(len(plan.entries), plan.views, seed)
                study.train(seed, learner, config.training(
                    teaching or hard, hard, targets=targets, num_classes=images.num_classes,
                    epochs=plan.epochs))
                folders.check_claimed(plan.out)
        distributed.stop_process_group()
        return results.report(plan.out) if distributed.leads() else {}


def main(argv: list[str] | None = None) -> Values:
    """Runs a command line's words; returns the students' summary."""
    return run(flags.parse_config(ValidateConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
