"""What a row costs, counted before it runs: images, iterations, FLOPs, bytes, and hours at a stated rate.

Two FLOPs a multiply-add, of convolutions and matrix products only, counted by torch's FLOP counter on the
networks themselves, without data or weights.  Of a layer each of these is once its forward's:
    forward     every layer
    recover     forward, and the gradient of every layer's input, down to the image
    student     forward, the gradient of every layer's weight, and of its input but for the first layer's
Recover runs a network of a draw that has a cross-entropy or something to align: AlexNet without a
cross-entropy is not run.  Before that come the forwards of what chooses its starts among real images, those
of what measures their statistics (once for all runs with the same weights, counted in each), and the
gradients of what perturbs the networks.  The teachers' check, views, losses and a diffusion model's paintings
are not counted; attention is as torch counts it, which computes some of it twice.
"""
import dataclasses
import functools
import math
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.registry import build_skeleton
from recover.selection import Draw, Pool
from recover.units import Unit
from scripts.reproducing.plans import Plan
from utils.data import RealSet
from utils.files import readable
from utils.loading import planned_images
from utils.pictures import predicted_bytes
from utils.runtime import readable_time
from validate.students import student_bytes

_planned_images, _student_bytes = functools.cache(planned_images), functools.cache(student_bytes)
INDICES, ITERATIONS = 32, 64  # whose drawn teachers are counted; more are taken to be like them
IMAGES = {"imagenet-1k": {"train": 1281167, "val": 50000}, "cifar10": {"train": 50000, "val": 10000},
          "digits": {"train": 1347, "val": 450}}


def _convolution_backward(grad, x, weight, bias, stride, padding, dilation, transposed, output_padding,
                          groups, wanted, **unused) -> int:
    """FLOPs of a convolution's backward from its shapes: each wanted gradient costs what the forward did.

    torch's own formula counts a weight's gradient as if there were no groups.
    """
    return 2 * math.prod(x if transposed else grad) * math.prod(weight[1:]) * sum(wanted[:2])


def model_flops(model: nn.Module, *, size: int, kind: str) -> int:
    """FLOPs of one image of `size` pixels through a network on the meta device.

    Args: kind: forward;  input, forward and the gradient of the image (recover);  train, forward and the
          gradients of weights and features (validate).
    """
    images = torch.empty(2, 3, size, size, device="meta")
    model.requires_grad_(kind == "train").train(kind == "train")
    images.requires_grad_(kind == "input")
    counter = FlopCounterMode(display=False, custom_mapping={
        torch.ops.aten.convolution_backward: _convolution_backward})
    with counter, torch.set_grad_enabled(kind != "forward"):
        logits = model(images)
        if kind != "forward":
            logits.sum().backward()
    return counter.get_total_flops() // 2


@functools.cache
def network_flops(name: str, *, num_classes: int, size: int, stem: str, kind: str) -> int:
    """`model_flops` of a network by its name."""
    return model_flops(build_skeleton(name, num_classes=num_classes, stem=stem), size=size, kind=kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Counts of one row.   networks: that an iteration runs, on average;  FLOPs of each stage, bytes of each
    folder."""

    images: int
    iterations: int
    networks: float
    recover_flops: float
    relabel_flops: float
    validate_flops: float
    image_bytes: int
    label_bytes: int
    student_bytes: int

    @property
    def flops(self) -> float:
        """Of all three stages."""
        return self.recover_flops + self.relabel_flops + self.validate_flops


@functools.cache
def _alignable(pool: Pool) -> frozenset[str]:
    return pool.alignable  # built once for all rows of a pool


def networks_run(draw: Draw, pool: Pool) -> list[str]:
    """The networks of a draw that recover runs."""
    return [name for name in draw.names if name in draw.ce or name in _alignable(pool)]


@functools.cache
def count_images(dataset: str, folder: str, split: str) -> int:
    """How many real images a split has: those of the folder, if one is here and it is not ImageNet-1K's."""
    known = IMAGES.get(dataset)
    if known and (dataset == "imagenet-1k" or not (folder and Path(folder).is_dir())):
        return known[split]
    return len(RealSet(dataset, folder, split, size=8))


def looking_flops(plan: Plan, dataset: str) -> int:
    """FLOPs of recover's looks at real images: what it starts from (classes taken to be of one size), and
    their statistics."""
    config, num_classes = plan.recover, plan.num_classes

    def forwards(views: int, names: tuple[str, ...]) -> int:
        return views * sum(network_flops(name, num_classes=num_classes, size=config.size, stem=config.stem,
                                         kind="forward") for name in names)
    choosers, aligned = config.init.networks(config.teacher_pool), config.supervisors
    if not choosers and not config.alignment.looks(1):
        return 0
    images = count_images(dataset, config.train_data_path, "train")
    views = sum(config.init.looks(images // num_classes + (k < images % num_classes))
                for k in range(num_classes))
    return forwards(views, choosers) + forwards(config.alignment.looks(images), aligned)


def optimising_flops(plan: Plan, units: list[Unit]) -> tuple[float, float]:
    """Networks that an iteration runs, on average, and FLOPs of all units' iterations, with what perturbs."""
    config, pool = plan.recover, plan.recover.teacher_pool
    about = {"num_classes": plan.num_classes, "size": config.size, "stem": config.stem}
    seen, flops, networks, climbed = 0.0, 0.0, 0.0, 0
    sampled = [unit for unit in units if not unit.chunk][:INDICES]
    for unit in sampled:
        num, drawn = config.laws.entries(unit)[0], set[str]()
        sample = min(num, ITERATIONS)
        for draw in config.teachers.plan(pool, unit.ipc_id, 0, sample, seed=config.seed):
            share, names = num / sample, networks_run(draw, pool)
            seen, networks, drawn = seen + share, networks + share * len(names), drawn | set(draw.names)
            for cut in config.blocks.cut(num, config.size):
                flops += share * cut.iterations / num * sum(network_flops(
                    name, kind="input", **about | {"size": cut.size}) for name in names)
        if config.perturbation.climbs:
            climbed += config.perturbation.climbs * sum(
                network_flops(name, kind="train", **about) for name in drawn)
    if not seen:
        return 0.0, 0.0
    work = [(config.laws.entries(unit), len(unit.members)) for unit in units]
    image_steps = sum(num * members - sum(entries) for (num, entries), members in work)
    images = sum(members for _, members in work)
    return networks / seen, flops / seen * image_steps + images * climbed / len(sampled)


def count_cost(plan: Plan, dataset: str) -> Cost:
    """Counts a plan, as if nothing of it were done."""
    config, images = plan.recover, plan.ipc * plan.num_classes
    about = {"num_classes": plan.num_classes, "size": config.size, "stem": config.stem}
    units = [unit for group in config.groups(plan.num_classes) for unit in group]
    networks, optimising = optimising_flops(plan, units)
    epochs = plan.relabel.epochs if plan.relabel else plan.validate.epochs
    views = images * epochs
    label_views, label_bytes, per_view = 0, 0, 0
    if plan.relabel:
        per_view = sum(network_flops(name, kind="forward", **about) for name in plan.relabel.teacher_names)
        label_views = images * plan.num_label_files()
    if plan.relabel and label_views:
        planned = plan.relabel.plan(_planned_images(dataset, plan.ipc))
        label_bytes = plan.num_label_files() * planned.epoch_bytes
    model, seeds = plan.validate.model, len(plan.validate.seeds)
    online = seeds * views * per_view if plan.relabel and not label_views else 0
    evaluations = len({*range(0, epochs, plan.validate.eval_every), epochs - 1})
    student = network_flops(model, kind="train", **about) * views + evaluations \
        * count_images(dataset, plan.validate.val_dir, "val") \
        * network_flops(model, kind="forward", **about)
    return Cost(
        images=images, iterations=sum(config.laws.entries(unit)[0] for unit in units), networks=networks,
        recover_flops=looking_flops(plan, dataset) + optimising,
        relabel_flops=label_views * per_view, validate_flops=seeds * student + online,
        image_bytes=predicted_bytes(images, size=config.size, **config.encoding), label_bytes=label_bytes,
        student_bytes=_student_bytes(model, num_classes=plan.num_classes, stem=config.stem,
                                     num_students=seeds))


def describe_cost(cost: Cost, *, tflops: float) -> str:
    """One line of what a row costs.   Args: tflops: sustained rate of a device [TFLOP/s], 0 for none."""
    stages = " + ".join(f"{flops / 1e15:.3g}" for flops in (cost.recover_flops, cost.relabel_flops,
                                                            cost.validate_flops))
    hours = f", {readable_time(cost.flops / tflops / 1e12)} at {tflops:g} TFLOP/s" if tflops else ""
    return (f"{cost.images} images, {cost.iterations} iterations of {cost.networks:.1f} networks; PFLOPs of "
            f"recover + relabel + validate: {stages}{hours}; images {readable(cost.image_bytes)}, labels "
            f"{readable(cost.label_bytes)}, students {readable(cost.student_bytes)}")
