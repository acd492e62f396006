"""Recover: optimise one image per class and IPC index against phi's logits and other teachers' BatchNorm.

    python -m recover.data_synthesis --train-data-path $IMAGENET --ipc-end 10

Paper sections 3 and 4; every flag is in recover/README.md.  A unit of work is (IPC index, chunk of classes).
"""
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from models import places, preflight, registry
from recover import alignments, images, selection, starts, units
from recover.objective import Objective
from recover.priors import PRIORS, Prior
from recover.synthesis import Synthesis
from utils import data, distributed, files, flags, folders, methods, pictures, runtime, schedule
from utils.flags import RECIPE
from utils.pieces import Values, choice, choices, identity, option, piece_name, require
from utils.precision import LOSS_SCALE
from utils.session import open_session
from utils.unfinished import StopSignals


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoverConfig(flags.ProcessFlags, flags.PlanFlags, flags.ShardFlags, methods.MethodFlags,
                    flags.PrecisionFlags, flags.SaveFlags, flags.TeacherFlags, data.DataFlags):
    """What `python -m recover.data_synthesis` takes; the defaults are the ImageNet-1K recipe."""

    syn_data_path: str = option("out", "folder of runs", identity=False)
    exp_name: str = option("full_resnet18", "name of this run's folder", identity=False)
    arch_name: str = option("resnet18", "logit teacher phi, and theta_1", source=RECIPE)
    pool: tuple[str, ...] = option(
        ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"),
        "teacher pool; an --arch-name outside it takes its first place", source=RECIPE, commas=True)
    teachers: selection.Selection = choice(
        selection.SELECTIONS, "multi", "single: phi aligns; dual: one other; multi: PRISM",
        source="paper 3.1, 3.2")
    alignment: alignments.Alignment = choice(
        alignments.ALIGNMENTS, "bn", "what aligns images with a teacher", source="paper eq. 3")
    priors: tuple[Prior, ...] = choices(PRIORS, ("tv", "l2"), "priors on the images", source=RECIPE,
                                        neutral=("tv", "l2"))
    lr: float = option(0.05, "Adam's learning rate, cosine to 0", source="supplement table 1b, table 3e",
                       range="> 0")
    betas: tuple[float, float] = option((0.5, 0.9), "Adam's betas", source="supplement table 1b",
                                      range="in [0, 1)")
    iteration: int = option(
        4000, "iterations of IPC index 0; 0 with --iteration-step 0 keeps the initial images",
        source="supplement table 1b", range="in [0, 100000]")
    iteration_step: int = option(500, "fewer iterations per index; 0 is the fixed schedule", source=RECIPE,
                                 range="in [0, 100000]")
    iteration_period: int = option(8, "indices until the iterations start again", source=RECIPE, range="> 0")
    batch_size: int = option(100, "classes per chunk, over which BN statistics are taken",
                             source="supplement tables 1b, 4", range="in [1, 100000]")
    jitter: int = option(32, "largest circular shift [pixels]", source=RECIPE, range="in [0, 8192]")
    min_scale_crops: float = option(0.08, "least area fraction of a random crop", source="supplement table 2",
                                    range="in (0, 1]")
    min_scale_schedule: schedule.CropLaw = choice(
        schedule.CROP_LAWS, "none", "crop curriculum from 1 down", source="table 3b")
    init: starts.Start = choice(
        starts.STARTS, "real", "the i-th real image of a class, a random one, or noise", source="paper 4.1")
    ipc_start: int = option(0, "first IPC index", source=RECIPE, identity=False, range="in [0, 9999]")
    ipc_end: int = option(10, "IPC index to stop before", source=RECIPE, identity=False,
                          range="in [1, 10000]")
    allow_short_classes: bool = option(False, "leave out classes with too few images instead of refusing")
    slices_per_batch: int = option(1, "IPC indices optimised side by side, statistics per index", range="> 0")
    image_format: Literal["jpg", "png"] = option("jpg", "file format of the images", source="data set")
    jpeg_quality: int = option(75, "JPEG quality, 4:2:0", source=RECIPE, range="in [1, 100]")
    verifier: bool = option(False, "log another network's accuracy on every finished unit", identity=False)
    verifier_arch: str = option("mobilenet_v2", "that network", source=RECIPE, identity=False)
    log_every: int = option(100, "iterations between lines of log.jsonl, the only host syncs", identity=False,
                            range="> 0")
    seed: int = option(0, "seed of everything", range="in (-inf, inf)")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method.settings("recover")
        require(0 <= self.ipc_start < self.ipc_end,
                f"--ipc-end must be > --ipc-start >= 0, got {self.ipc_start} and {self.ipc_end}")
        worst = min(map(self.iterations_of, range(self.ipc_start, self.ipc_end)))
        require(worst > 0 or not self.optimises,
                f"--iteration {self.iteration} with --iteration-step {self.iteration_step} and "
                f"--iteration-period {self.iteration_period} gives some index {worst} iterations, "
                f"expected > 0; lower the step")
        require(len(self.betas) == 2, f"--betas takes two values in [0, 1), got {self.betas}")
        pictures.check_folder_name(self.exp_name, "--exp-name")
        require(self.exp_name != "syn", "--exp-name syn: a run's own folder of images is called so; choose "
                "another name")
        slices = self.slices_per_batch
        require(self.ipc_start % slices == 0 and self.ipc_end % slices == 0,
                f"--ipc-start {self.ipc_start} and --ipc-end {self.ipc_end} must be multiples of "
                f"--slices-per-batch {slices}")
        require(slices == 1 or not self.allow_short_classes,
                "--allow-short-classes needs --slices-per-batch 1: slices must have the same classes")
        require(slices == 1 or not self.alignment.carries,
                f"--slices-per-batch {slices}: the averages of --ema are one unit's; expected 1, or --ema 0")
        registry.check_pool(self.pool)
        registry.model_spec(self.arch_name)
        self.teachers.check(self.teacher_pool)

    @property
    def run(self) -> Path:
        """The run's folder."""
        return Path(self.syn_data_path) / self.exp_name

    @property
    def teacher_pool(self) -> selection.Pool:
        """The pool with --arch-name first; outside the pool it takes the first place."""
        return selection.Pool(registry.primary_first(self.pool, self.arch_name), self.stem,
                              self.alignment.can_align)

    @property
    def optimises(self) -> bool:
        """Whether images are changed at all."""
        return bool(self.iteration or self.iteration_step)

    @property
    def supervisors(self) -> tuple[str, ...]:
        """The networks that the run's draws can need."""
        return self.teachers.networks(self.teacher_pool) if self.optimises else ()

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that the images depend on."""
        return tuple(dict.fromkeys((*self.supervisors, *self.init.networks(self.teacher_pool))))

    @property
    def encoding(self) -> Values:
        """How images are written, for `encode_image`."""
        return {"image_format": self.image_format, "jpeg_quality": self.jpeg_quality}

    def groups(self, num_classes: int, **available: Callable[[int], float]) -> units.Groups:
        """All groups of units."""
        return units.unit_groups(num_classes, ipc_start=self.ipc_start, ipc_end=self.ipc_end,
                                 chunk_size=self.batch_size, slices=self.slices_per_batch, **available)

    @property
    def laws(self) -> units.UnitLaws:
        """The laws of the units' plans."""
        return units.UnitLaws(
            seed=self.seed, iterations=self.iterations_of, lr=self.lr, size=self.size,
            min_scale=self.min_scale_crops, flip=self.flip, jitter=self.jitter, crops=self.min_scale_schedule,
            selection=self.teachers, pool=self.teacher_pool)

    def predicted_bytes(self, groups: units.Groups) -> int:
        """Expected size of the images of these groups."""
        return pictures.predicted_bytes(sum(len(unit.members) for group in groups for unit in group),
                                        size=self.size, **self.encoding)

    def objective(self, inputs: units.Inputs) -> Objective:
        """The objective over a run's teachers."""
        return Objective(self.alignment.prepare(inputs, self.supervisors), weight=self.alignment.r_bn,
                         term=piece_name(alignments.ALIGNMENTS, self.alignment),
                         priors={piece_name(PRIORS, prior): prior for prior in self.priors},
                         keep_graphs=self.alignment.keeps_graphs,
                         loss_scale=LOSS_SCALE.get(self.precision, 1.0))

    def iterations_of(self, ipc_id: int) -> int:
        """Iterations of one IPC index."""
        return schedule.num_iterations(ipc_id, iteration=self.iteration, iteration_step=self.iteration_step,
                                       iteration_period=self.iteration_period)


def presets(given: Values) -> Values:
    """What --dataset and --size imply, then what --protocol does."""
    return {**data.dataset_preset(given), **methods.method_preset("recover")(given)}


def check_starts(real: data.RealSet, start: starts.Start, ipc_end: int) -> None:
    """Raises: ValueError naming a class that has too few images to start from, count and need."""
    for k, name in enumerate(real.class_names):
        there = start.available(real, k)
        require(there >= ipc_end, f"class {name!r} has {there} training images, --ipc-end needs {ipc_end}; "
                f"lower it, or --allow-short-classes to write what exists")


def check_readable(real: data.RealSet, start: starts.Start, groups: units.Groups, *, seed: int) -> None:
    """Opens every image that units start from.   Raises: as `RealSet.check_readable`."""
    real.check_readable(i for group in groups for unit in group for i in start.positions(real, unit, seed))


def run(config: RecoverConfig) -> Path:
    """Makes every unit of this shard that is not finished; returns the run's folder."""
    folder, num_classes = config.run, data.count_classes(config.dataset)
    if config.dry_run:
        planned = config.groups(num_classes)
        mine = distributed.my_units(planned, distributed.parse_shard(config.shard))
        print(units.describe_plan(
            planned, mine, run=folder, num_classes=num_classes, laws=config.laws,
            needed=config.predicted_bytes(planned),
            anew=config.overwrite and folders.seems_others(folder, config),
            rate=files.last_logged(folder, "seconds_per_iteration")))
    session = open_session(config)
    real = data.RealSet(config.dataset, config.train_data_path, "train", size=config.size)
    if not config.allow_short_classes:
        check_starts(real, config.init, config.ipc_end)
    teachers, checked = preflight.open_teachers(
        config.networks + (config.verifier_arch,) * config.verifier, config, dataset=config.dataset,
        class_names=real.class_names, stem=config.stem, size=config.size, mean=config.mean, std=config.std,
        device=session.device, training=real, root=config.train_data_path,
        known=None if config.overwrite else folder / "preflight.json")  # else of other data, perhaps
    owner = {"class_names": real.class_names,
             "protocol": methods.protocol_record("recover", config, implied=data.implied_fields(config)),
             "weights": {name: teachers[name].sha256 for name in config.networks},
             "config": {**identity(config), "threads": session.threads},
             **({"whole_set": config.ipc_end} if config.init.whole_set else {})}
    groups = distributed.my_units(
        config.groups(len(real.class_names), available=lambda k: config.init.available(real, k)),
        session.shard)
    finished, missing = images.split_finished(folder, groups)  # thousands of files: looked at once
    check_readable(real, config.init, groups if config.overwrite else missing, seed=config.seed)
    with folders.claim(folder, folders.IMAGES, settings=RecoverConfig, identity=owner,
                       overwrite=config.overwrite, dry_run=config.dry_run) as stale:
        mine = groups if stale else missing
        files.check_free_disk(folder, config.predicted_bytes(mine))
        if config.dry_run:
            return files.say_ready(folder, f"{len(mine)} groups of units to do", anew=stale)
        images.discard_saves(folder, finished)
        files.write_json(folder / "preflight.json", checked)
        places.save_places(folder, config)
        inputs = units.Inputs(
            real, config.teacher_pool, {name: own.model for name, own in teachers.items()}, config.seed,
            config.size, config.mean, config.std, session.device, config.precision,
            weights={name: own.path for name, own in teachers.items()}, ipc=config.ipc_end)
        total = sum(config.iterations_of(unit.ipc_id) for group in mine for unit in group)
        steps = total or sum(map(len, mine))
        with (runtime.progress(total=steps, text="recover") as bar, StopSignals() as stop,
              runtime.Log(folder / files.log_name(session.shard)) as log):
            work = Synthesis(
                run=folder, inputs=inputs, laws=config.laws, start=config.init.prepare(inputs),
                objective=config.objective(inputs) if total else None, betas=config.betas,
                encoding=config.encoding, log_every=config.log_every, save_every=config.save_every, log=log,
                bar=bar, stop=stop,
                verifier=teachers[config.verifier_arch].model if config.verifier else None)
            for group in mine:
                work.make(group)
                folders.check_claimed(folder)
                if group is not mine[-1]:  # a run without iterations saves nothing else
                    stop.obey("finished units are kept")
        return images.say_finished(folder, len(mine))


def main(argv: list[str] | None = None) -> Path:
    """Runs a command line's words; returns the run's folder."""
    return run(flags.parse_config(RecoverConfig, argv, description=__doc__, presets=presets))


if __name__ == "__main__":
    runtime.command_line(main)
