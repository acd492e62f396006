"""One recover step at 224 pixels: the engines against the published way, time and bytes kept for backward.

    python -m benchmarks.recover_step            python -m benchmarks.recover_step --compile

Prints JSON lines: for each timed number of BN teachers the medians of ratios over interleaved rounds in one
process and the bytes of distinct storages that autograd keeps at its peak, and beside them the limit: the
time of the networks' convolutions alone; for each compared number how the gradients agree in float32 and
float64, and the peak over that of the largest single teacher; compiled, how its gradient agrees with the
fused engine's instead.  What the device's memory does not hold is
"out of memory" in the line, and the rest goes on.
Random weights with statistics of random low-frequency images: time and memory do not depend on them.
"""
import copy
import dataclasses
import functools
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F

from benchmarks.baseline import PublishedStep
from benchmarks.convolutions import Convolutions
from models.registry import build_model
from recover.alignments import ENGINES
from recover.objective import Objective
from recover.selection import Draw
from utils.augment import plan_shared_views, shared_view
from utils.flags import parse_config
from utils.memory import SavedBytes, num_bytes
from utils.pieces import Options, option
from utils.precision import LOSS_SCALE, PRECISIONS, set_precision
from utils.runtime import choose_device, command_line, generator, say, set_threads, versions

POOL = ("resnet18", "mobilenet_v2", "efficientnet_b0", "shufflenet_v2_x0_5", "resnet50")
R_BN, FIRST = 0.01, 10.0
OUT_OF_MEMORY = "out of memory"
FULL = ("CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED",
        "unable to find an engine")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig(Options):
    """What `python -m benchmarks.recover_step` takes."""

    teachers: tuple[int, ...] = option((4,), "numbers of BN teachers to time, the first ones of the pool",
                                          range="in [0, 5]")
    gradients: tuple[int, ...] = option((1, 2, 3, 4, 5), "numbers of BN teachers to compare gradients of",
                                           range="in [0, 5]")
    batch_size: int = option(8, "images", range="in [1, 32767]")
    size: int = option(224, "side of the images [pixels]", range="in [8, 8192]")
    size64: int = option(96, "side of the images whose gradients are compared in float64 [pixels]",
                         range="in [8, 8192]")
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = option(
        "fp32", "of the fused engine's networks and the convolutions alone; tf32 is of the other ways too, "
        "and in bf16 and fp16 the published way has it in its convolutions")
    compile: bool = option(False, "time the fused engine compiled too, and compare its gradient with that of "
                           "the fused engine alone (minutes, once)")
    rounds: int = option(3, "interleaved rounds, after one of warm-up", range="in [1, 1000]")
    threads: int = option(0, "CPU threads; 0 = all cores", range="in [0, 1024]")
    device: str = option("auto", "auto, cpu, cuda, ...")


def smooth_images(num: int, size: int, *, seed: int) -> torch.Tensor:
    """(num, 3, size, size) random low-frequency images, about standardised."""
    coarse = torch.randn(num, 3, 8, 8, generator=generator("smooth", seed))
    return F.interpolate(coarse, size=(size, size), mode="bicubic") + 0.1 * torch.randn(
        num, 3, size, size, generator=generator("fine", seed))


def calibrated(name: str, size: int, device) -> torch.nn.Module:
    """A frozen network with random weights whose running statistics are those of random images."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=1000, stem="imagenet" if size > 64 else "small").to(device).train()
    with torch.no_grad():
        for seed in range(4):
            model(smooth_images(16, size, seed=seed).to(device))
    return model.eval().requires_grad_(False)


def is_full(error: RuntimeError) -> bool:
    """Whether the device's memory did not hold something; its libraries say that in words of their own."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in str(error) for words in FULL)


def held(measure: Callable[[], T]) -> T | None:
    """What `measure()` returns; None where the device's memory does not hold it, which is then free again."""
    try:
        return measure()
    except RuntimeError as error:
        if not is_full(error):
            raise
        words, _, _ = str(error).partition("\n")
        say(f"{OUT_OF_MEMORY}: {words}")  # a library's words may mean something else
    # outside: the error holds memory
    gc.collect()
    torch.cuda.empty_cache()
    return None


class Step:
    """One way of computing a step, on a fixed batch and view."""

    def __init__(self, models: dict, way: str, images: torch.Tensor, targets: torch.Tensor, *,
                 precision: str = "fp32"):
        """Args: way: published, reference, fused or compiled;  precision: of the last two."""
        self._images, self._targets, names = images, targets, list(models)
        # torch's default, which the published code does not change, has it in convolutions
        self._tf32 = way == "published" and PRECISIONS[precision] is not None
        self._views = plan_shared_views(1, size=images.shape[-1], min_scale=0.5, flip=False, jitter=4,
                                        generator=generator("view"))
        if way == "reference":
            models = copy.deepcopy(models)  # to hook: a step that memory did not hold leaves its graph there
        self._models = list(models.values())
        if way == "published":
            step = PublishedStep(models, names[0], r_bn=R_BN, first_multiplier=FIRST)
            self._backward, self._models = step.backward, step.models
            self._tensors = [t for m in step.models for t in (*m.parameters(), *m.buffers())]
            return
        readable = way == "reference"
        own = {} if readable else {"precision": precision, "compiled": way == "compiled"}
        align = ENGINES["reference" if readable else "fused"]
        networks = {name: align(model, first_multiplier=FIRST, **own) for name, model in models.items()}
        self._tensors = [t for network in networks.values() for t in network.tensors()]
        objective = Objective(
            networks, weight=R_BN, keep_graphs=readable, loss_scale=LOSS_SCALE.get(own.get("precision"), 1.0))
        draw = Draw({names[0]: 1.0}, dict.fromkeys(names, 1 / len(names)))
        self._backward = lambda view, targets: objective.backward([view], targets, [draw])

    def gradient(self) -> torch.Tensor:
        """The gradient on the images, (N, 3, H, W)."""
        images, before = self._images.clone().requires_grad_(), torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = before or self._tf32
        try:
            self._backward(shared_view(images, self._views, 0), self._targets)
        finally:
            torch.backends.cudnn.allow_tf32 = before
        return images.grad

    def seconds(self) -> float:
        """Wall time of one step."""
        if self._images.is_cuda:
            torch.cuda.synchronize()
        started = time.perf_counter()
        self.gradient()
        if self._images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def peak_gb(self) -> float | None:
        """Peak memory of one step on a CUDA device, its own networks included [GB]; None elsewhere."""
        if not self._images.is_cuda:
            return None
        before = torch.cuda.memory_allocated()  # other ways' networks are there too
        torch.cuda.reset_peak_memory_stats()
        self.gradient()
        return (torch.cuda.max_memory_allocated() - before + num_bytes(self._tensors)) / 1e9

    def saved_bytes(self) -> int:
        """Peak bytes that autograd keeps in one step."""
        with SavedBytes(t for m in self._models for t in (*m.parameters(), *m.buffers())) as saved:
            self.gradient()
        return saved.peak


def agreement(a: torch.Tensor, b: torch.Tensor) -> dict:
    """How two gradients agree: their cosine, and their largest difference over the first's largest value."""
    return {"cosine": F.cosine_similarity(a.flatten().double(), b.flatten().double(), 0).item(),
            "relative": ((a - b).abs().max() / a.abs().max()).item()}


def compare_gradients(models: dict, images, targets) -> dict:
    """`agreement` of the reference's gradient and the fused engine's, computed one after the other."""
    return agreement(*(Step(models, way, images, targets).gradient() for way in ("reference", "fused")))


def ratios_of(own: list[float], base: list[float]) -> list[float]:
    """Round by round, without the first, which warms up and compiles."""
    return [a / b for a, b in zip(own[1:], base[1:], strict=True)]


def started(models: dict, way: str, images, targets, precision: str) -> Step | Convolutions:
    """A way of computing a step, which it has done once, or the limit."""
    if way == "convolutions":
        return Convolutions(models, images, PRECISIONS[precision])
    step = Step(models, way, images, targets, precision=precision)
    step.gradient()
    return step


def timed_in_turn(models: dict, images, targets, *, ways, rounds: int, precision: str) -> Iterator[
        tuple[str, Step | Convolutions, list[float]]]:
    """Interleaved rounds: each way with its seconds, those left out that memory did not hold all through."""
    timed, seconds = {}, {way: list[float]() for way in ways}
    for way in ways:
        made = held(functools.partial(started, models, way, images, targets, precision))
        timed |= {way: made} if made else {}
    for _ in range(rounds + 1):
        for way in list(timed):
            took = held(timed[way].seconds)
            if took is None:
                del timed[way]
            else:
                seconds[way].append(took)
    yield from ((way, own, seconds[way]) for way, own in timed.items())


def measure(models: dict, images, targets, *, ways, rounds: int, precision: str) -> dict:
    """Medians over rounds of each way's seconds, and of its ratios to the published way and to the limit.

    Returns: way -> figures, of "compiled" also how its gradient agrees with the fused engine's, and
             "convolutions" -> the limit's, in the precision of the networks; OUT_OF_MEMORY in the place of
             figures that there are none of.
    """
    row: dict = dict.fromkeys(("convolutions", *ways), OUT_OF_MEMORY)
    found = list(timed_in_turn(models, images, targets, ways=row, rounds=rounds, precision=precision))
    seconds = {way: own for way, _, own in found}
    for way, timed, own in found:
        row[way] = {"seconds": statistics.median(own[1:])}
        if isinstance(timed, Convolutions):
            row[way] |= {"gflops": timed.flops / 1e9}
            continue
        peak, saved = held(timed.peak_gb), held(timed.saved_bytes)
        row[way] |= {"peak_gb": peak if peak or not images.is_cuda else OUT_OF_MEMORY,
                     "saved_mb": saved / 1e6 if saved else OUT_OF_MEMORY}
        if "convolutions" in seconds:
            over = ratios_of(own, seconds["convolutions"])
            row[way] |= {"over": over, "over_convolutions": statistics.median(over)}
        if "published" in seconds:
            ratios = ratios_of(own, seconds["published"])
            row[way] |= {"time_ratio": statistics.median(ratios), "ratios": ratios}
            if OUT_OF_MEMORY not in (row[way]["saved_mb"], row["published"]["saved_mb"]):
                row[way]["saved_ratio"] = row[way]["saved_mb"] / row["published"]["saved_mb"]
    steps = {way: timed for way, timed, _ in found}
    if {"fused", "compiled"} <= steps.keys():
        row["compiled"]["gradient"] = held(lambda: agreement(
            *(steps[way].gradient() for way in ("fused", "compiled")))) or OUT_OF_MEMORY
    return row


def kept_bytes(models: dict, images, targets) -> int:
    """Peak bytes that autograd keeps in one fused step."""
    return Step(models, "fused", images, targets).saved_bytes()


def compare(models: dict, config: StepConfig, device: torch.device) -> Iterator[dict]:
    """How the gradients of the first k networks agree and what they keep, for each k of `gradients`."""
    images = smooth_images(config.batch_size, config.size, seed=99).to(device)
    targets = torch.arange(config.batch_size, device=device)
    exact = {name: calibrated(name, config.size64, device).double() for name in models}
    small = smooth_images(4, config.size64, seed=99).to(device).double()
    alone = {name: held(functools.partial(kept_bytes, {name: model}, images, targets))
             for name, model in models.items()}
    for k in config.gradients:
        names = list(models)[:k]
        own = {name: models[name] for name in names}
        single = held(functools.partial(compare_gradients, own, images, targets))
        double = held(functools.partial(compare_gradients, {name: exact[name] for name in names}, small,
                                        torch.arange(4, device=device)))
        peak = held(functools.partial(kept_bytes, own, images, targets))
        largest = [alone[name] for name in names]
        fits = peak is not None and None not in largest
        yield {"teachers": names,
               "float32_cosine": single["cosine"] if single else OUT_OF_MEMORY,
               "float64_relative": double["relative"] if double else OUT_OF_MEMORY,
               "saved_mb": peak / 1e6 if fits else OUT_OF_MEMORY,
               "peak_over_largest_alone": peak / max(largest) if fits else OUT_OF_MEMORY}


def main(argv=None) -> None:
    """Prints one line for each timed number of teachers, then one for each compared number."""
    config = parse_config(StepConfig, argv, description=__doc__)
    device = choose_device(config.device)
    about = {"benchmark": "recover_step", "device": device.type, "threads": set_threads(config.threads),
             "batch_size": config.batch_size, "size": config.size, "rounds": config.rounds,
             "precision": config.precision, **versions()}
    set_precision(config.precision, device)
    pool = POOL[:max(config.gradients + config.teachers)]
    ways = ("published", "reference", "fused") + (("compiled",) if config.compile else ())
    models = {name: calibrated(name, config.size, device) for name in pool}
    images = smooth_images(config.batch_size, config.size, seed=99).to(device)
    targets = torch.arange(config.batch_size, device=device)
    for k in config.teachers:
        own = {name: models[name] for name in pool[:k]}
        row = measure(own, images, targets, ways=ways, rounds=config.rounds, precision=config.precision)
        print(json.dumps({**about, "teachers": list(own), **row}), flush=True)
    if not config.compile:
        for row in compare(models, config, device):
            print(json.dumps({**about, **row}), flush=True)


if __name__ == "__main__":
    command_line(main)
