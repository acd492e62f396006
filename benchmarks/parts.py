"""What the fused engine's step spends its time on, network by network, over the limit of `recover_step`.

    python -m benchmarks.parts --threads 1            python -m benchmarks.parts --threads 1 --compile

Prints a JSON line for each network and one of their sum: medians over rounds of each part's time over the
round's convolutions alone, and the floor of it: five passes over what the layers with a BatchNorm put out, at
a copy's speed.  So many a layer needs whose convolution is one kernel and the rest another (forward: u is
read, the output written; backward: u and the gradient are read, a gradient written).  On a CPU.
"""
import collections
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.convolutions import Convolutions
from benchmarks.recover_step import POOL, Step, calibrated, smooth_images
from utils.flags import parse_config
from utils.pieces import Options, option
from utils.runtime import command_line, set_threads, versions

Seconds = dict[str, float]
PASSES, COPY_BYTES, VECTOR = 5, 1 << 28, 10_000
# Inside a layer with a BatchNorm: operation -> part; what is not listed is the activation.
IN_LAYER = {"aten::sum": "statistics", "aten::linalg_vector_norm": "statistics",
            "aten::addcmul": "affine", "aten::mul": "affine", "aten::mul_": "affine",
            "aten::addcmul_": "statistics' gradient", "aten::add_": "statistics' gradient"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartsConfig(Options):
    """What `python -m benchmarks.parts` takes."""

    networks: tuple[str, ...] = option(POOL[:4], "BN teachers", commas=True)
    batch_size: int = option(8, "images", range="in [1, 32767]")
    size: int = option(224, "side of the images [pixels]", range="in [8, 8192]")
    compile: bool = option(False, "the compiled engine, whose own kernels count as calls")
    rounds: int = option(5, "rounds, after one of warm-up", range="in [1, 1000]")
    threads: int = option(0, "CPU threads; 0 = all cores", range="in [0, 1024]")


def part_of(event: Any) -> str:
    """The part of a step that a profiled operation's own time belongs to."""
    if not event.name.startswith("aten::"):
        return "calls"
    if "conv" in event.name:
        depthwise = any(len(shape) == 4 and shape[1] == 1 for shape in event.input_shapes)
        return "depthwise convolutions" if depthwise else "convolutions"
    if all(math.prod(shape) < VECTOR for shape in event.input_shapes if shape):
        return "calls"  # on vectors of channels: Python and dispatch are what they cost
    around = event.cpu_parent
    while around is not None and not around.name.startswith("_ConvNormAct"):
        around = around.cpu_parent
    return "rest of the networks" if around is None else IN_LAYER.get(event.name, "activation")


def parts_of(step: Step) -> Seconds:
    """One step and its parts."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        seconds = step.seconds()
    parts: Seconds = collections.defaultdict(float)
    for event in profiler.events():
        parts[part_of(event)] += event.self_cpu_time_total / 1e6
    parts["calls"] = 0.0  # all that is left; below 0 where the profiler counts time twice
    return {**parts, "calls": seconds - sum(parts.values()), "step": seconds}


def added(several: Iterable[Seconds]) -> Seconds:
    """The sum, part by part, those below 0 too."""
    total: Seconds = collections.defaultdict(float)
    for own in several:
        for part, seconds in own.items():
            total[part] += seconds
    return dict(total)


def layer_bytes(model: torch.nn.Module, images: torch.Tensor) -> int:
    """What the layers with a BatchNorm put out in one forward, once [bytes]."""
    sizes: list[int] = []
    hooks = [module.register_forward_hook(lambda _, __, output: sizes.append(output.nbytes))
             for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return sum(sizes)


def copy_speed() -> float:
    """Bytes a second, read and written, of copying a large tensor."""
    source, target = torch.ones(2, COPY_BYTES // 4)
    started = time.perf_counter()
    target.copy_(source)
    return 2 * COPY_BYTES / (time.perf_counter() - started)


def main(argv=None) -> None:
    """Prints a line for each network, then one of all."""
    config = parse_config(PartsConfig, argv, description=__doc__)
    threads, device = set_threads(config.threads), torch.device("cpu")
    images, targets = smooth_images(config.batch_size, config.size, seed=99), torch.arange(config.batch_size)
    models = {name: calibrated(name, config.size, device) for name in config.networks}
    made = {name: (Step({name: model}, ("fused", "compiled")[config.compile], images, targets),
                   Convolutions({name: model}, images)) for name, model in models.items()}
    sizes = {name: layer_bytes(model, images) for name, model in models.items()}
    rounds: dict[str, list[Seconds]] = {name: [] for name in models}
    for _ in range(config.rounds + 1):
        passes = PASSES / copy_speed()
        for name, (step, limit) in made.items():
            rounds[name].append({**parts_of(step), "convolutions alone": limit.seconds(),
                                 "floor": passes * sizes[name]})
    sizes["all"] = sum(sizes.values())
    rounds["all"] = [added(own) for own in zip(*rounds.values(), strict=True)]
    for name, own in rounds.items():
        ratios = {part: [one.get(part, 0.0) / one["convolutions alone"] for one in own[1:]]
                  for part in added(own)}
        print(json.dumps({
            "benchmark": "parts", **versions(), **dataclasses.asdict(config), "threads": threads,
            "network": name, "layers_mb": sizes[name] / 1e6, "step_over": ratios["step"],
            "convolutions_s": statistics.median(one["convolutions alone"] for one in own[1:]),
            "over": {part: statistics.median(each) for part, each in ratios.items()}}), flush=True)


if __name__ == "__main__":
    command_line(main)
