"""Relabel: store an ensemble's soft labels for every augmented view of a distilled set.

    python -m relabel.generate_soft_label --data out/full_resnet18 --ipc 10

Paper section 4.4 and table 3; every flag is in relabel/README.md.  One unit of work is an epoch.
"""
import dataclasses
import functools
import time
from pathlib import Path

from models import places, registry
from models.ensemble import ENSEMBLES, Mean
from models.preflight import open_teachers
from models.teacher_statistics import TEACHER_STATISTICS, Running
from relabel import plans
from relabel.labels import label_epoch
from utils import files, flags, folders, formats, label_files, loading, methods, runtime
from utils.augment import RESAMPLER
from utils.distributed import my_units
from utils.image_sets import open_images
from utils.label_formats import FP16, LABEL_FORMATS
from utils.pieces import Values, choice, identity, option, piece_name, require
from utils.session import open_plan, open_session
from utils.unfinished import StopSignals
from utils.views import Views


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelabelConfig(plans.LabelFlags, flags.ProcessFlags, flags.PlanFlags, flags.ShardFlags,
                    methods.MethodFlags, flags.PrecisionFlags, flags.MemoryFlags, flags.TeacherFlags):
    """What `python -m relabel.generate_soft_label` takes; the defaults are the ImageNet-1K, IPC 10 recipe."""

    arch_name: str = option("resnet18", "primary teacher; as --pool", source=flags.RECIPE)
    pool: tuple[str, ...] = option(("resnet18", "mobilenet_v2", "alexnet", "shufflenet_v2_x0_5"),
                                   "ensemble, or the run's pool where that has none of these; an --arch-name "
                                   "outside it takes its first place", source=flags.RECIPE, commas=True)
    candidate_number: int = option(4, "only the first so many of the ensemble", source=flags.RECIPE,
                                   range="> 0")
    ensemble: Mean = choice(ENSEMBLES, "equal-norm", "how logits combine: the r18 rule, the r50/r101 rule, "
                            "the mean, the primary, a sum under weights", source=flags.RECIPE)
    teacher_statistics: Running = choice(TEACHER_STATISTICS, "running", "by which statistics teachers "
                                         "normalise: their training's, or the batch's", source=flags.RECIPE,
                                         neutral="running")
    label_format: FP16 = choice(LABEL_FORMATS, "fp16", "how they are stored; topk: K logits and the others' "
                                "mean; online: nothing, validate computes the same labels",
                                source="fp16: published recipe")
    label_epochs: int | None = option(None, "epochs of labels to store, a pool that the student goes through "
                                      "in turn; none: all", source="LPLD", range="> 0")
    seed: int = option(0, "seed of views and mixes", range="in (-inf, inf)")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method.settings("relabel")
        require(self.label_epochs is None or 0 < self.label_epochs <= self.epochs,
                f"--label-epochs must be in 1..--epochs {self.epochs}, got {self.label_epochs}")
        registry.check_pool(self.pool)
        registry.model_spec(self.arch_name)
        require(len(self.teacher_names) >= self.ensemble.least, f"--ensemble "
                f"{piece_name(ENSEMBLES, self.ensemble)} needs {self.ensemble.least} teachers or more, got "
                f"{' '.join(self.teacher_names)}; raise --candidate-number or --pool")

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """The ensemble, the primary first."""
        names = self.ensemble.members(registry.primary_first(self.pool, self.arch_name))
        return names[:self.candidate_number]

    @property
    def rule(self) -> str:
        """Who is asked and how, as people read it."""
        how = piece_name(TEACHER_STATISTICS, self.teacher_statistics)
        return f"{' + '.join(self.teacher_names)}, {piece_name(ENSEMBLES, self.ensemble)}, {how} statistics"

    @property
    def pool_epochs(self) -> int:
        """Epochs of different labels, which the student's epochs go through in turn."""
        return self.label_epochs or self.epochs

    @property
    def num_files(self) -> int:
        return self.label_format.num_files(self.pool_epochs)

    def plan(self, images: formats.ImageManifest) -> plans.LabelPlan:
        """The config resolved.   Raises: ValueError where it contradicts the images."""
        self.ensemble.check(self.teacher_names, self.pool)
        plan = plans.plan_labels(self, images, self.label_format)
        self.teacher_statistics.check(plan.views.num_views(len(plan.entries)), plan.views.batch_size)
        return plan

    def resolved(self, plan: plans.LabelPlan) -> dict[str, Values]:
        """As `plans.resolved`."""
        return plans.resolved(self, plan, label_epochs=self.pool_epochs)


def presets(given: Values) -> Values:
    """What --protocol implies, and what the run does: its pool where it is no pool of the protocol's."""
    run = given.get("data", RelabelConfig.data)
    implied = methods.method_preset("relabel", lambda given: places.inherited_case(run, given))(given)
    pool = places.inherited_pool(run, implied.get("pool", RelabelConfig.pool))
    return implied | pool | places.inherited_places(run, given)


def run(config: RelabelConfig) -> Path:
    """Writes every epoch of this shard that is not there; returns the folder of the labels."""
    form = piece_name(LABEL_FORMATS, config.label_format)
    plan = open_plan(
        lambda: config.plan(open_images(config.data, flag="--data", dataset=config.dataset,
                                        val_dir=config.val_dir, size=config.size, write=not config.dry_run)),
        lambda: config.plan(loading.planned_images(config.dataset, config.ipc, run_or_syn=config.data)),
        functools.partial(plans.describe, epochs=config.epochs, num_files=config.num_files, form=form,
                          anew=lambda folder: config.overwrite and folders.seems_others(folder, config),
                          teachers=config.rule), dry_run=config.dry_run)
    if len(plan.entries) <= plan.views.batch_size:
        runtime.warn_once(f"all {len(plan.entries)} images make one batch of {plan.views.batch_size}, so a "
                          f"student takes one step an epoch; a smaller --batch-size makes more")
    session, folder, about = open_session(config), plan.folder, plan.images
    networks, _ = open_teachers(
        config.teacher_names, config, dataset=about.dataset, class_names=about.class_names, size=about.size,
        stem=about.stem, mean=about.mean, std=about.std, device=session.device,
        known=about.home / "preflight.json")
    images = loading.open_distilled(about.run, plan.entries, size=about.size, device=session.device,
                                    workers=config.workers, resident_gb=config.resident_gb)
    owner = {
        "resampler": RESAMPLER, "dataset": about.dataset, "class_names": about.class_names, "ipc": plan.ipc,
        "mean": about.mean, "std": about.std, "num_images": len(plan.entries), "stem": about.stem,
        "label_epochs": config.pool_epochs, "images": formats.image_set_digest(plan.entries),
        "views": identity(plan.views), "teachers": config.teacher_names,
        "protocol": methods.protocol_record(
            "relabel", config, methods.Case(about.dataset, plan.ipc), **config.resolved(plan)),
        "weights": {name: teacher.sha256 for name, teacher in networks.items()},
        "config": {**identity(config), "ipc": plan.ipc, "batch_size": plan.views.batch_size,
                   "threads": session.threads}}
    with folders.claim(folder, folders.LABELS, settings=RelabelConfig, others={"views": Views},
                       identity=owner, overwrite=config.overwrite, dry_run=config.dry_run) as stale:
        mine = [epoch for epoch in my_units(range(config.num_files), session.shard)
                if stale or not label_files.has_labels(label_files.label_path(folder, epoch))]
        files.check_free_disk(folder, plan.epoch_bytes * len(mine))
        if config.dry_run:
            return files.say_ready(folder, f"{len(mine)} epochs to do", anew=stale)
        runtime.say(f"{folder}: {len(mine)} epochs of labels to make by {config.rule}, as {form}; "
                    f"{config.num_files} epochs take {files.readable(plan.epoch_bytes * config.num_files)}")
        models = [teacher.channels_last() for teacher in networks.values()]
        stopping, kept = "stopping, without the epoch under way", "finished epochs of labels are kept"
        with StopSignals(stopping) as stop, runtime.Log(folder / files.log_name(session.shard)) as log:
            for epoch in runtime.progress(mine, text="relabel"):
                started = time.perf_counter()
                label_files.save_labels(label_files.label_path(folder, epoch), label_epoch(
                    images, models, epoch=epoch, seed=config.seed, views=plan.views, ensemble=config.ensemble,
                    statistics=config.teacher_statistics, mean=about.mean, std=about.std,
                    precision=config.precision, label_format=config.label_format,
                    after_batch=lambda: stop.obey(f"{kept}, this one starts over")))
                log.write(epoch=epoch, seconds_per_epoch=time.perf_counter() - started)
                folders.check_claimed(folder)
        whole = formats.assemble_label_manifest(folder) is not None
        runtime.say(f"{folder}: {len(mine)} epochs made now; " + (
            f"all {config.num_files} are complete" if whole else "other shards are not finished yet"))
        return folder


def main(argv: list[str] | None = None) -> Path:
    """Runs a command line's words; returns the folder of the labels."""
    return run(flags.parse_config(RelabelConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
