"""Recover: optimise one image per class and IPC index against phi's logits and other teachers' BatchNorm.

    python -m recover.data_synthesis --train-data-path $IMAGENET --ipc-end 10

Paper sections 3 and 4; every flag is in recover/README.md.  A unit of work is (IPC index, chunk of classes).
"""
import dataclasses
import functools
from pathlib import Path
from typing import Literal

from models import places, preflight
from recover import images, memory, starts, units
from recover.flags import SynthesisFlags
from recover.plans import describe_plan
from recover.synthesis import Synthesis
from utils import data, distributed, files, flags, folders, methods, pictures, runtime
from utils.flags import RECIPE
from utils.pieces import Values, identity, option, require
from utils.session import open_session
from utils.unfinished import StopSignals


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoverConfig(flags.ProcessFlags, flags.PlanFlags, flags.ShardFlags, methods.MethodFlags,
                    flags.SaveFlags, flags.TeacherFlags, SynthesisFlags):
    """What `python -m recover.data_synthesis` takes; the defaults are the ImageNet-1K recipe."""

    syn_data_path: str = option("out", "folder of runs", identity=False)
    exp_name: str = option("full_resnet18", "name of this run's folder", identity=False)
    image_format: Literal["jpg", "png"] = option("jpg", "file format of the images", source="data set")
    jpeg_quality: int = option(75, "JPEG quality, 4:2:0", source=RECIPE, range="in [1, 100]")
    log_every: int = option(100, "iterations between lines of log.jsonl, the only host syncs", identity=False,
                            range="> 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.method.settings("recover")
        pictures.check_folder_name(self.exp_name, "--exp-name")
        require(self.exp_name != "syn", "--exp-name syn: a run's own folder of images is called so; choose "
                "another name")

    @property
    def run(self) -> Path:
        """The run's folder."""
        return Path(self.syn_data_path) / self.exp_name

    @property
    def encoding(self) -> Values:
        """How images are written, for `encode_image`."""
        return {"image_format": self.image_format, "jpeg_quality": self.jpeg_quality}

    def predicted_bytes(self, groups: units.Groups) -> int:
        """Expected size of the images of these groups."""
        return pictures.predicted_bytes(sum(len(unit.members) for group in groups for unit in group),
                                        size=self.size, **self.encoding)


def presets(given: Values) -> Values:
    """What --dataset and --size imply, then what --protocol does."""
    return {**data.dataset_preset(given), **methods.method_preset("recover", case_of)(given)}


def case_of(given: Values) -> methods.Case:
    """What the protocol's settings may depend on."""
    return methods.Case(given.get("dataset", RecoverConfig.dataset),
                        given.get("ipc_end", RecoverConfig.ipc_end))


def check_starts(real: data.RealSet, start: starts.Start, ipc_end: int) -> None:
    """Raises: ValueError naming a class that has too few images to start from, count and need."""
    for k, name in enumerate(real.class_names):
        own, there = len(real.by_class[k]), start.available(real, k)
        enough = "" if own == there else f"enough for {there} starts (--candidates, --factor), "
        require(there >= ipc_end, f"class {name!r} has {own} training images, {enough}--ipc-end needs "
                f"{ipc_end}; lower it, or --allow-short-classes to write what exists")


def check_readable(real: data.RealSet, start: starts.Start, groups: units.Groups, *, seed: int) -> None:
    """Opens every image that units start from.   Raises: as `RealSet.check_readable`."""
    real.check_readable(i for group in groups for unit in group for i in start.positions(real, unit, seed))


def print_plan(config: RecoverConfig, num_classes: int) -> None:
    """The text of --dry-run, as far as flags alone tell."""
    folder = config.run
    planned = config.groups(num_classes)
    print(describe_plan(
        planned, distributed.my_units(planned, distributed.parse_shard(config.shard)), run=folder,
        num_classes=num_classes, laws=config.laws, needed=config.predicted_bytes(planned),
        anew=config.overwrite and folders.seems_others(folder, config),
        rate=files.last_logged(folder, "seconds_per_iteration")))


def run(config: RecoverConfig) -> Path:
    """Makes every unit of this shard that is not finished; returns the run's folder."""
    folder, num_classes = config.run, data.count_classes(config.dataset)
    if config.dry_run:
        print_plan(config, num_classes)
    session = open_session(config)
    real = data.RealSet(config.dataset, config.train_data_path, "train", size=config.size)
    if not config.allow_short_classes:
        check_starts(real, config.init, config.ipc_end)
    teachers, checked = preflight.open_teachers(
        config.networks + (config.verifier_arch,) * config.verifier, config, dataset=config.dataset,
        class_names=real.class_names, stem=config.stem, size=config.size, mean=config.mean, std=config.std,
        device=session.device, training=real, root=config.train_data_path, on_host=config.on_host,
        known=None if config.overwrite else folder / "preflight.json")  # else of other data, perhaps
    config.check_splits({name: teachers[name].model for name in config.supervisors})
    owner = {"class_names": real.class_names,
             "protocol": methods.protocol_record("recover", config, methods.Case(
                 config.dataset, config.ipc_end), implied=data.implied_fields(config)),
             "weights": {name: teachers[name].sha256 for name in config.networks} | config.init.digests(real),
             "config": {**identity(config), "threads": session.threads},
             **({"whole_set": config.ipc_end} if config.whole_set else {})}
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
            weights={name: own.path for name, own in teachers.items()}, ipc=config.ipc_end,
            flip=config.flip, crop=config.crop)
        total = sum(config.laws.entries(unit)[0] for group in mine for unit in group)
        steps = total or sum(map(len, mine))
        objective_of = functools.partial(config.objective, meter=memory.Meter())
        with (runtime.progress(total=steps, text="recover") as bar, StopSignals() as stop,
              runtime.Log(folder / files.log_name(session.shard)) as log):
            work = Synthesis(
                run=folder, inputs=inputs, laws=config.laws, start=config.init.prepare(inputs),
                objective=objective_of(inputs) if total else None, objective_of=objective_of,
                perturbation=config.perturbation, betas=config.betas,
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
