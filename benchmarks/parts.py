"""What the fused engine's step spends its time on, network by network, over the limit of `recover_step`.

    python -m benchmarks.parts --threads 1            python -m benchmarks.parts --threads 1 --compile

Prints a JSON line for each network and one of their sum: medians over rounds of each part's time over the
round's convolutions alone, and the floor of it: five passes over what the layers with a BatchNorm put out, at
the measured speed of a copy.  So many a layer needs whose convolution is one kernel and whose rest is another
(forward: u is read, the output written; backward: u and the gradient are read, a gradient written).
"""
import collections
import dataclasses
import functools
import json
import math
import operator
import statistics
import time
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.convolutions import Convolutions
from benchmarks.recover_step import POOL, Step, calibrated, smooth_images
from recover.alignments.fused import ConvNormAct, FusedBNAlignment
from utils.flags import parse_config
from utils.pieces import Options, option
from utils.precision import set_precision
from utils.runtime import command_line, set_threads, versions

PASSES, COPY_BYTES, VECTOR = 5, 1 << 28, 10_000
# Inside a layer with a BatchNorm: operation -> part; what is not listed is the activation.
IN_LAYER = {"aten::sum": "statistics", "aten::linalg_vector_norm": "statistics",
            "aten::addcmul": "affine", "aten::mul": "affine", "aten::mul_": "affine",
            "aten::addcmul_": "statistics' gradient", "aten::add_": "statistics' gradient"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartsConfig(Options):
    """What `python -m benchmarks.parts` takes; on the CPU alone."""

    networks: tuple[str, ...] = option(POOL[:4], "BN teachers", commas=True)
    batch_size: int = option(8, "images", range="in [1, 32767]")
    size: int = option(224, "side of the images [pixels]", range="in [8, 8192]")
    compile: bool = option(False, "the compiled engine, whose own kernels count as calls")
    rounds: int = option(5, "rounds, after one of warm-up", range="in [1, 1000]")
    threads: int = option(0, "CPU threads; 0 = all cores", range="in [0, 1024]")


def part_of(event: Any) -> str | None:
    """The part of a step that a profiled operation's own time belongs to; None: Python's and dispatch's."""
    if not event.name.startswith("aten::"):
        return None
    if "conv" in event.name:
        shapes = [shape for shape in event.input_shapes if len(shape) == 4]
        return "depthwise convolutions" if any(shape[1] == 1 for shape in shapes) else "convolutions"
    if all(math.prod(shape) < VECTOR for shape in event.input_shapes if shape):
        return None  # of vectors of channels: its time is its call's
    parent = event.cpu_parent
    while parent is not None and not parent.name.startswith("_ConvNormAct"):
        parent = parent.cpu_parent
    return "rest of the networks" if parent is None else IN_LAYER.get(event.name, "activation")


def parts_of(step: Step) -> dict[str, float]:
    """Part -> seconds of one step."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        seconds = step.seconds()
    parts: dict[str, float] = collections.Counter()
    for event in profiler.events():
        if part := part_of(event):
            parts[part] += event.self_cpu_time_total / 1e6
    parts["Python and calls"] = seconds - sum(parts.values())
    return parts


def layer_bytes(model: torch.nn.Module, images: torch.Tensor) -> int:
    """What the layers with a BatchNorm put out in one forward of the fused engine, once [bytes]."""
    network, sizes = FusedBNAlignment(model, first_multiplier=1.0), []
    for module in network._model.modules():
        if isinstance(module, ConvNormAct):
            module.register_forward_hook(lambda _, __, output: sizes.append(output.nbytes))
    with torch.no_grad():
        network(images, torch.zeros(len(images), dtype=torch.long), slices=1, aligned=0)
    return sum(sizes)


def copy_speed() -> float:
    """Bytes a second, read and written, of copying a large tensor."""
    source = torch.ones(COPY_BYTES // 4)
    target = source.clone()
    started = time.perf_counter()
    target.copy_(source)
    return 2 * COPY_BYTES / (time.perf_counter() - started)


@dataclasses.dataclass(frozen=True)
class Round:
    """Seconds of one network in one round.   alone: its convolutions;  passes: five over its layers."""

    alone: float
    passes: float
    parts: dict[str, float]

    def __add__(self, other: "Round") -> "Round":
        parts = {part: self.parts.get(part, 0.0) + other.parts.get(part, 0.0)
                 for part in {**self.parts, **other.parts}}
        return Round(self.alone + other.alone, self.passes + other.passes, parts)


def figures(rounds: list[Round]) -> dict[str, Any]:
    """Medians over rounds of all ratios to the convolutions alone."""
    kinds = list(dict.fromkeys(part for own in rounds for part in own.parts))
    return {"convolutions_s": statistics.median(own.alone for own in rounds),
            "over": [sum(own.parts.values()) / own.alone for own in rounds],
            "floor": statistics.median(1 + own.passes / own.alone for own in rounds),
            "parts": {part: statistics.median(own.parts.get(part, 0.0) / own.alone for own in rounds)
                      for part in kinds}}


def main(argv=None) -> None:
    """Prints a line for each network, then one of all."""
    config = parse_config(PartsConfig, argv, description=__doc__)
    threads, device = set_threads(config.threads), torch.device("cpu")
    set_precision("fp32", device)
    images, targets = smooth_images(config.batch_size, config.size, seed=99), torch.arange(config.batch_size)
    models = {name: calibrated(name, config.size, device) for name in config.networks}
    sizes = {name: layer_bytes(model, images) for name, model in models.items()}
    steps = {name: Step({name: model}, "compiled" if config.compile else "fused", images, targets)
             for name, model in models.items()}
    limits = {name: Convolutions({name: model}, images) for name, model in models.items()}
    rounds: dict[str, list[Round]] = {name: [] for name in models}
    speeds = []
    for _ in range(config.rounds + 1):
        speeds.append(copy_speed())
        for name, step in steps.items():
            rounds[name].append(Round(limits[name].seconds(), PASSES * sizes[name] / speeds[-1],
                                      parts_of(step)))
    rounds["all"] = [functools.reduce(operator.add, own) for own in zip(*rounds.values(), strict=True)]
    sizes["all"] = sum(sizes.values())
    about = {"benchmark": "parts", **versions(), **dataclasses.asdict(config), "threads": threads,
             "copy_gb_s": statistics.median(speeds[1:]) / 1e9}
    for name, own in rounds.items():
        print(json.dumps({**about, "network": name, "layers_mb": sizes[name] / 1e6, **figures(own[1:])}),
              flush=True)


if __name__ == "__main__":
    command_line(main)
