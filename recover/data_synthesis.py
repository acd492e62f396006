"""Recover: optimise one image per class and IPC index against phi's logits and other teachers' BatchNorm.

    python -m recover.data_synthesis --train-data-path $IMAGENET --ipc-end 10

Paper sections 3 and 4; every flag is in recover/README.md.  A unit of work is (IPC index, chunk of classes).
"""
import dataclasses
import sys
import time
from pathlib import Path
from typing import Literal

import torch

from models.preflight import preflight
from models.registry import (
    check_pool,
    has_batchnorm,
    load_teachers,
    model_spec,
    names_with_batchnorm,
    primary_first,
)
from recover.initialization import INITS, classes_with
from recover.objective import Objective, build_objective
from recover.units import (
    UnitPlan,
    describe_plan,
    plan_unit,
    predicted_bytes,
    save_unit,
    say_finished,
    to_uint8,
    unfinished_path,
    unit_groups,
)
from utils.augment import pixel_bounds, shared_view
from utils.config import (
    RECIPE,
    PrecisionFlags,
    ProcessFlags,
    SaveFlags,
    TeacherFlags,
    identity,
    option,
    parse_config,
    require,
)
from utils.data import RealSet, count_classes, dataset_preset, dataset_spec
from utils.distributed import local_rank, my_units, parse_shard
from utils.files import check_free_disk, claim_folder, last_logged, log_name, write_json
from utils.formats import FORMAT_VERSION, unit_path
from utils.metrics import topk_hits
from utils.precision import set_precision
from utils.protocols import ProtocolFlags, protocol_preset
from utils.runtime import (
    Log,
    choose_device,
    command_line,
    finite_values,
    identity_threads,
    progress,
    seed_everything,
    set_threads,
    warn_once,
)
from utils.schedule import cosine, num_iterations
from utils.unfinished import StopSignals, Unfinished


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecoverConfig(ProcessFlags, ProtocolFlags, PrecisionFlags, SaveFlags, TeacherFlags):
    """What `python -m recover.data_synthesis` takes; the defaults are the ImageNet-1K recipe."""

    dataset: str = option("imagenet-1k", "data set, or folder:PATH")
    train_data_path: str = option("", "folder of the real training data (holding train/, or the classes)",
                                  identity=False)
    syn_data_path: str = option("out", "folder of runs", identity=False)
    exp_name: str = option("full_resnet18", "name of this run's folder", identity=False)
    arch_name: str = option("resnet18", "logit teacher phi, and theta_1", source=RECIPE)
    pool: tuple[str, ...] = option(
        ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "alexnet"),
        "teacher pool; an --arch-name outside it takes its first place", source=RECIPE, commas=True)
    teachers: Literal["single", "dual", "multi"] = option(
        "multi", "single: phi aligns; dual: one other; multi: PRISM", source="paper 3.1, 3.2")
    subset_law: Literal["bernoulli", "uniform"] = option(
        "bernoulli", "multi's law: phi and slots filled with p = 0.5; or any subset (paper eq. 5)",
        source=RECIPE)
    max_bn_teachers: int = option(4, "k_max, the most aligned teachers", source=RECIPE)
    selection: Literal["pre", "intra"] = option("pre", "teachers drawn once, or at every iteration",
                                                source="paper 3.3, table 2")
    primary: Literal["fixed", "drawn"] = option("fixed", "phi is --arch-name, or drawn from the pool too",
                                                source=RECIPE)
    alignment: Literal["bn"] = option("bn", "alignment loss", source="paper eq. 3")
    engine: Literal["fused", "reference"] = option("fused", "how a step is computed; equal to rounding")
    compile: bool = option(False, "compile the fused engine's networks (a minute or so a network, once)")
    bn_reduce: Literal["mean", "sum"] = option("mean", "over teachers: the published mean, or eq. 4's sum",
                                               source=RECIPE)
    r_bn: float = option(0.01, "lambda, weight of the alignment", source="supplement table 1b")
    first_bn_multiplier: float = option(10.0, "weight of each teacher's first BatchNorm layer",
                                        source="SRe2L")
    tv_l2: float = option(0.0, "weight of the total-variation prior", source=RECIPE)
    l2_scale: float = option(0.0, "weight of the L2 prior", source=RECIPE)
    lr: float = option(0.05, "Adam's learning rate, cosine to 0", source="supplement table 1b, table 3e")
    betas: tuple[float, ...] = option((0.5, 0.9), "Adam's betas", source="supplement table 1b")
    iteration: int = option(
        4000, "iterations of IPC index 0; 0 with --iteration-step 0 keeps the initial images",
        source="supplement table 1b")
    iteration_step: int = option(500, "fewer iterations per index; 0 is the fixed schedule", source=RECIPE)
    iteration_period: int = option(8, "indices until the iterations start again", source=RECIPE)
    batch_size: int = option(100, "classes per chunk, over which BN statistics are taken",
                             source="supplement tables 1b, 4")
    jitter: int = option(32, "largest circular shift [pixels]", source=RECIPE)
    flip: bool = option(True, "random horizontal flips", source=RECIPE)
    min_scale_crops: float = option(0.08, "least area fraction of a random crop", source="supplement table 2")
    min_scale_schedule: Literal["none", "cosine"] = option("none", "crop curriculum from 1 down",
                                                           source="table 3b")
    init: Literal["real", "random", "noise"] = option(
        "real", "the i-th real image of a class, a random one, or noise", source="paper 4.1")
    ipc_start: int = option(0, "first IPC index", source=RECIPE, identity=False)
    ipc_end: int = option(10, "IPC index to stop before", source=RECIPE, identity=False)
    allow_short_classes: bool = option(False, "leave out classes with too few images instead of refusing")
    slices_per_batch: int = option(1, "IPC indices optimised side by side, statistics per index")
    size: int = option(224, "side of the images [pixels]", source="data set")
    mean: tuple[float, ...] = option((0.485, 0.456, 0.406), "pixel mean, in 0..1", source="data set")
    std: tuple[float, ...] = option((0.229, 0.224, 0.225), "pixel standard deviation", source="data set")
    stem: Literal["imagenet", "small"] = option(
        "imagenet", "first layers: as published, or 3x3 without pooling", source="data set")
    image_format: Literal["jpg", "png"] = option("jpg", "file format of the images", source="data set")
    jpeg_quality: int = option(75, "JPEG quality, 4:2:0", source=RECIPE)
    verifier: bool = option(False, "log another network's accuracy on every finished unit", identity=False)
    verifier_arch: str = option("mobilenet_v2", "that network", source=RECIPE, identity=False)
    log_every: int = option(100, "iterations between lines of log.jsonl, the only host syncs", identity=False)
    seed: int = option(0, "seed of everything")
    shard: str = option("", "i/n: this process's share; default: torchrun's rank", identity=False)
    dry_run: bool = option(False, "print the plan, touch nothing", identity=False)

    def __post_init__(self):
        super().__post_init__()
        require(self.protocol != "delt", "--protocol delt is a way to evaluate images; recover them with "
                "--protocol prism or sre2l")
        require(self.engine == "fused" or not self.compile, "--compile needs --engine fused")
        require(0 <= self.ipc_start < self.ipc_end,
                f"--ipc-end must be > --ipc-start >= 0, got {self.ipc_start} and {self.ipc_end}")
        require(self.batch_size > 0, f"--batch-size must be > 0, got {self.batch_size}")
        require(self.max_bn_teachers > 0, f"--max-bn-teachers must be > 0, got {self.max_bn_teachers}")
        require(self.iteration_period > 0, f"--iteration-period must be > 0, got {self.iteration_period}")
        worst = min(map(self.iterations_of, range(self.ipc_start, self.ipc_end)))
        require(worst > 0 or (self.iteration == 0 and self.iteration_step == 0),
                f"--iteration {self.iteration} with --iteration-step {self.iteration_step} and "
                f"--iteration-period {self.iteration_period} gives some index {worst} iterations, "
                f"expected > 0; lower the step")
        require(self.size >= 8, f"--size must be >= 8, got {self.size}")
        require(self.lr > 0, f"--lr must be > 0, got {self.lr}")
        require(len(self.mean) == len(self.std) == 3 and min(self.std) > 0,
                f"--mean and --std take three values, --std > 0, got {self.mean} and {self.std}")
        require(len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
                f"--betas takes two values in [0, 1), got {self.betas}")
        require(self.r_bn >= 0, f"--r-bn must be >= 0, got {self.r_bn}")
        require(Path(self.exp_name).name == self.exp_name, f"--exp-name is the name of a folder, got "
                f"{self.exp_name!r}; --syn-data-path says where it lies")
        require(0 < self.min_scale_crops <= 1,
                f"--min-scale-crops must be in (0, 1], got {self.min_scale_crops}")
        require(self.jitter >= 0, f"--jitter must be >= 0, got {self.jitter}")
        require(1 <= self.jpeg_quality <= 100, f"--jpeg-quality must be in 1..100, got {self.jpeg_quality}")
        require(self.log_every > 0, f"--log-every must be > 0, got {self.log_every}")
        self.check_save_every()
        slices = self.slices_per_batch
        require(slices > 0 and self.ipc_start % slices == 0 and self.ipc_end % slices == 0,
                f"--ipc-start {self.ipc_start} and --ipc-end {self.ipc_end} must be multiples of "
                f"--slices-per-batch {slices}")
        require(slices == 1 or not self.allow_short_classes,
                "--allow-short-classes needs --slices-per-batch 1: slices must have the same classes")
        dataset_spec(self.dataset)
        check_pool(self.pool)
        model_spec(self.arch_name)
        if self.teachers == "dual":
            with_bn = set(names_with_batchnorm(self.teacher_pool, stem=self.stem))
            primaries = self.teacher_pool if self.primary == "drawn" else (self.arch_name,)
            require(all(with_bn - {phi} for phi in primaries), f"--teachers dual needs a network with "
                    f"BatchNorm other than the primary in --pool, got {' '.join(self.teacher_pool)}")

    @property
    def run(self) -> Path:
        """The run's folder."""
        return Path(self.syn_data_path) / self.exp_name

    @property
    def teacher_pool(self) -> tuple[str, ...]:
        """The pool with --arch-name first; outside the pool it takes the first place."""
        return primary_first(self.pool, self.arch_name)

    @property
    def all_teachers(self) -> tuple[str, ...]:
        """The networks that this run can need: for single-teacher alignment with a fixed phi, phi alone."""
        alone = self.teachers == "single" and self.primary == "fixed"
        return (self.arch_name,) if alone else self.teacher_pool

    @property
    def selection_law(self) -> str:
        """The entry of SELECTIONS that --teachers and --subset-law name."""
        return self.subset_law if self.teachers == "multi" else self.teachers

    @property
    def encoding(self) -> dict:
        """How images are written, for `units.encode_image`."""
        return {"image_format": self.image_format, "jpeg_quality": self.jpeg_quality}

    def unit_laws(self, ipc_id: int, with_bn: list) -> dict:
        """The laws of one index's draws, for `units.plan_unit`.   Args: with_bn: names with BatchNorm."""
        return {"seed": self.seed, "iterations": self.iterations_of(ipc_id),
                "curriculum": self.min_scale_schedule == "cosine",
                "views": {"size": self.size, "min_scale": self.min_scale_crops, "flip": self.flip,
                          "jitter": self.jitter},
                "draw": {"selection": self.selection, "law": self.selection_law, "pool": self.teacher_pool,
                         "primary": self.arch_name, "primary_drawn": self.primary == "drawn",
                         "max_bn": self.max_bn_teachers, "with_bn": with_bn}}

    def iterations_of(self, ipc_id: int) -> int:
        """Iterations of one IPC index."""
        return num_iterations(ipc_id, iteration=self.iteration, iteration_step=self.iteration_step,
                              iteration_period=self.iteration_period)


def presets(given: dict) -> dict:
    """What --dataset and --size imply, then what --protocol does."""
    return {**dataset_preset(given), **protocol_preset("recover")(given)}


def synthesize_batch(starts: list[torch.Tensor], targets: torch.Tensor, objective: Objective, *,
                     plans: list[UnitPlan], lr: float, betas, bounds, log_every: int, report,
                     saved: dict | None, unfinished: Unfinished):
    """The hot loop: Adam on the pixels of one unit, or of several IPC indices side by side.

    Source: paper eq. 4; supplement table 1b.  Slices end with their own iterations and cosine.
    Args:    starts: S tensors (N, 3, H, W), normalised;  targets: (N,);  plans: S plans;  lr: base rate;
             bounds: least and greatest normalised pixel;  report(step, active plans, terms): called every
             `log_every` iterations, the only host sync;  saved: what `unfinished` held, to go on from.
    Returns: S tensors (N, 3, H, W), and S dicts of the terms at each slice's last iteration.
    """
    images = [start.clone().requires_grad_() for start in starts]
    optimizers = [torch.optim.Adam([x], lr=lr, betas=tuple(betas), eps=1e-8) for x in images]
    first, final = resume(saved, images, optimizers)
    for step in range(first, max(plan.iterations for plan in plans)):
        active = [s for s, plan in enumerate(plans) if step < plan.iterations]
        views = [shared_view(images[s], plans[s].views, step) for s in active]
        terms = objective.backward(views, targets, [plans[s].teachers[step] for s in active])
        for s, own in zip(active, terms, strict=True):
            optimizers[s].param_groups[0]["lr"] = lr * cosine(step, plans[s].iterations)
            optimizers[s].step()
            optimizers[s].zero_grad(set_to_none=True)
            images[s].data.clamp_(*bounds)
            final[s] = own
        if step % log_every == 0:
            report(step, [plans[s] for s in active], terms)
        if unfinished.due():
            unfinished.save({"step": step + 1, "final": final, "images": [x.detach() for x in images],
                             "optimizers": [optimizer.state_dict() for optimizer in optimizers]})
    return [x.detach() for x in images], final


def resume(saved: dict | None, images: list[torch.Tensor], optimizers: list) -> tuple[int, list[dict]]:
    """Sets images and optimisers as an unfinished unit left them.   Returns: next step, terms so far."""
    if saved is None:
        return 0, [{} for _ in images]
    for x, optimizer, pixels, state in zip(images, optimizers, saved["images"], saved["optimizers"],
                                           strict=True):
        x.data.copy_(pixels)
        optimizer.load_state_dict(state)
    return saved["step"], saved["final"]


def open_inputs(config: RecoverConfig, device) -> tuple[RealSet, dict, dict]:
    """The checked inputs: real images, teachers by name, and the teachers' preflight records.

    Raises: ValueError on missing data or weights, other class names, teachers below floor, short classes.
    """
    real = RealSet(config.dataset, config.train_data_path, "train", size=config.size)
    classes_with(real, range(len(real.class_names)), config.ipc_end - 1, init=config.init,
                 allow_short=config.allow_short_classes)
    wanted = dict.fromkeys(config.all_teachers + ((config.verifier_arch,) if config.verifier else ()))
    teachers = load_teachers(wanted, weights=config.weights, weights_dir=config.weights_dir, stem=config.stem,
                             dataset=config.dataset, num_classes=len(real.class_names), device=device)
    known = None if config.overwrite else config.run / "preflight.json"  # else of other data, perhaps
    checked = preflight(teachers, real.class_names, open_real=lambda: real, device=device, known=known,
                        floor=config.min_teacher_accuracy,
                        num_images=config.preflight_images, mean=config.mean, std=config.std)
    return real, teachers, checked


def dry_run(config: RecoverConfig, groups) -> None:
    """Prints the plan without touching data."""
    num_classes = count_classes(config.dataset)
    with_bn = names_with_batchnorm(config.all_teachers, stem=config.stem)
    plans = [plan_unit(ipc_id, 0, **config.unit_laws(ipc_id, with_bn))
             for ipc_id in range(config.ipc_start, config.ipc_end)]
    needed = predicted_bytes(len(plans) * num_classes, size=config.size, **config.encoding)
    print(describe_plan(groups, my_units(groups, parse_shard(config.shard)), run=config.run, plans=plans,
                        num_classes=num_classes, needed=needed,
                        rate=last_logged(config.run, "seconds_per_iteration")))


def main(argv=None) -> Path:
    """Makes every unit of this shard that is not finished; returns the run's folder."""
    config = parse_config(RecoverConfig, sys.argv[1:] if argv is None else argv, description=__doc__,
                          presets=presets)
    num_chunks = -(-count_classes(config.dataset) // config.batch_size)
    groups = unit_groups(config.ipc_start, config.ipc_end, num_chunks=num_chunks,
                         slices=config.slices_per_batch)
    if config.dry_run:
        dry_run(config, groups)
        return config.run
    shard, device = parse_shard(config.shard), choose_device(config.device, local_rank=local_rank())
    require(not config.overwrite or shard[1] == 1,
            "--overwrite would delete other shards' units; run it unsharded")
    set_threads(config.threads)
    set_precision(config.precision, device)
    real, teachers, checked = open_inputs(config, device)
    models = {name: teachers[name].model for name in config.all_teachers}
    claim_folder(config.run, overwrite=config.overwrite, identity={
        "format": "prism-images", "version": FORMAT_VERSION, "class_names": real.class_names,
        "weights": {name: teachers[name].sha256 for name in models},
        "config": {**identity(config), "threads": identity_threads(config.threads, device)},
    }, contents=("syn", "units", "unfinished", "preflight.json", "log*.jsonl"))
    write_json(config.run / "preflight.json", checked)
    mine = [group for group in my_units(groups, shard)
            if not all(unit_path(config.run, *unit).is_file() for unit in group)]
    check_free_disk(config.run, predicted_bytes(sum(map(len, mine)) * config.batch_size, size=config.size,
                                                **config.encoding))
    objective = build_objective(models, engine=config.engine, alignment=config.alignment, r_bn=config.r_bn,
                                bn_reduce=config.bn_reduce, first_multiplier=config.first_bn_multiplier,
                                tv_l2=config.tv_l2, l2_scale=config.l2_scale, precision=config.precision,
                                compiled=config.compile)
    with_bn = [name for name in models if has_batchnorm(models[name])]
    log = Log(config.run / log_name(shard))
    total = sum(config.iterations_of(ipc_id) for group in mine for ipc_id, _ in group)
    with progress(total=total, text="recover") as bar, StopSignals() as stop:
        for group in mine:
            plans = [plan_unit(*unit, **config.unit_laws(unit[0], with_bn)) for unit in group]
            if any(not set(draw.aligned) & set(with_bn) for plan in plans for draw in plan.teachers):
                warn_once("a drawn subset has no BatchNorm at all: cross-entropy alone shapes its images")
            run_group(plans, config, real=real, teachers=teachers, objective=objective, device=device,
                      log=log, bar=bar, stop=stop)
    log.close()
    say_finished(config.run, len(mine))
    return config.run


def run_group(plans: list[UnitPlan], config: RecoverConfig, *, real, teachers, objective, device, log,
              bar, stop) -> None:
    """The body of main's loop: start images, the hot loop, files and log of one group of units."""
    started, first = time.perf_counter(), plans[0]
    seed_everything(config.seed, "unit", first.ipc_id, first.chunk)
    chunk = range(len(real.class_names))[first.chunk * config.batch_size:][:config.batch_size]
    classes = classes_with(real, chunk, first.ipc_id, init=config.init,
                           allow_short=config.allow_short_classes)
    targets = torch.tensor(classes, device=device, dtype=torch.long)
    unfinished = Unfinished(unfinished_path(config.run, first), minutes=config.save_every, stop=stop)
    saved = unfinished.load()
    earlier = sum(min(plan.iterations, saved["step"]) for plan in plans) if saved else 0
    bar.update(earlier)

    def report(step, active, terms):
        for plan, own in zip(active, terms, strict=True):
            log.write(ipc_id=plan.ipc_id, chunk=plan.chunk, step=step,
                      **finite_values(own, where=f"iteration {step} of {plan}"))
        bar.update(sum(min(config.log_every, plan.iterations - step) for plan in active))

    images, final = [torch.zeros(0, 3, config.size, config.size)], [{}]
    if classes:
        starts = [INITS[config.init](real, classes, plan.ipc_id, seed=config.seed, size=config.size,
                                     mean=config.mean, std=config.std).to(device) for plan in plans]
        images, final = synthesize_batch(
            starts, targets, objective, plans=plans, lr=config.lr, betas=config.betas, report=report,
            bounds=[bound.to(device) for bound in pixel_bounds(config.mean, config.std)],
            log_every=config.log_every, saved=saved, unfinished=unfinished)
    for plan, finished, terms in zip(plans, images, final, strict=True):
        values = finite_values(terms, where=f"the last iteration of {plan}")
        save_unit(config.run, plan, to_uint8(finished, mean=config.mean, std=config.std), classes=classes,
                  short=[k for k in chunk if k not in classes], class_names=real.class_names, terms=values,
                  encoding=config.encoding, device=device.type)
        seconds = (time.perf_counter() - started) / max(1, sum(p.iterations for p in plans) - earlier)
        if config.verifier and classes:
            with torch.no_grad():
                hits = topk_hits(teachers[config.verifier_arch].model(finished), targets, 1)
            values["verifier_top1"] = hits / len(classes)
        log.write(ipc_id=plan.ipc_id, chunk=plan.chunk, step=plan.iterations, done=True, **values,
                  seconds_per_iteration=seconds)
    unfinished.discard()


if __name__ == "__main__":
    command_line(main)
