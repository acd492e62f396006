"""What is asked of a CUDA device: steps, each of some commands, the cheapest and most telling first."""
import dataclasses
from pathlib import Path

PRECISIONS = ("fp32", "tf32", "bf16")
TRAINED = ("resnet18", "resnet50", "resnet101")
COMPARED = ("prism", "sre2l")
TEST_FILES = ("tests/test_cuda.py", "tests/test_views.py", "tests/test_randaugment.py")
# In some commands: one that is stopped starts over.
TESTS = ("fused_engine or float64", *(f"compiled_engine and {precision}" for precision in PRECISIONS),
         "not engine and not float64")


@dataclasses.dataclass(frozen=True)
class Command:
    """One process.   words: after the interpreter;  found: JSON files that it writes, beside its lines."""

    words: tuple[str, ...]
    found: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Step:
    """Commands that run in turn."""

    name: str
    about: str
    commands: tuple[Command, ...]


def module(name: str, *words: object) -> tuple[str, ...]:
    """The words that run a module."""
    return ("-m", name, *map(str, words))


def correctness(device: str) -> Step:
    """The tests that are marked `cuda`; on a CPU, to try this command, those of them that run there."""
    which = "cuda" if device.startswith("cuda") else "not cuda and not slow"
    return Step("correctness", "the CUDA tests: engines, stages, resuming, two ranks on two devices", tuple(
        Command(module("scripts.gpu_steps.counted_tests", *TEST_FILES, "-m", which, "-k", chosen))
        for chosen in TESTS))


def benchmarks(device: str, *, batch_size: int, size: int, rounds: int) -> list[Step]:
    """The benchmarks at the published batch: a recover step, its memory, the training loop of students."""
    where = ("--device", device)
    step = (*where, "--batch-size", batch_size, "--size", size, "--rounds", rounds)
    return [
        Step("step", "a recover step, one to five teachers, float32: time, memory, gradients", tuple(
            Command(module("benchmarks.recover_step", *step, "--teachers", k, "--gradients", k))
            for k in range(1, 6))),
        Step("compiled", "the same with five teachers, compiled and not, in fp32, tf32 and bf16", tuple(
            Command(module("benchmarks.recover_step", *step, "--teachers", 5, "--precision", precision,
                           "--compile"))
            for precision in PRECISIONS)),
        Step("memory", "what each network keeps for its backward, with --recompute and without", (
            Command(module("benchmarks.memory", *where, "--batch-size", batch_size, "--size", size)),)),
        Step("students", "images a second of three students, against one constant batch; views alone", (
            *(Command(module("benchmarks.augment", *where, "--size", size, "--rounds", rounds,
                             "--model", model, "--train-batch-size", min(50, batch_size), "--steps", 40,
                             "--no-views")) for model in TRAINED),
            Command(module("benchmarks.augment", *where, "--size", size, "--rounds", rounds,
                           "--no-training"))))]  # last: its workers want shared memory, which may be short


def comparison(device: str, *, out: Path, data: str, draws: int) -> Step:
    """CIFAR-10 with full-size networks and teachers trained here."""
    table = out / "cifar10-full" / "comparison" / f"rd3-{'-'.join(COMPARED)}-ipc-10.json"
    return Step("comparison", "PRISM, SRe2L and four kinds of real images on CIFAR-10, full-size networks", (
        Command(module("scripts.compare", *COMPARED, "--dataset", "cifar10-full", "--ipc", 10,
                       "--draws", draws, *(("--train-data-path", data) if data else ()), "--device", device,
                       "--out", out, "--no-diversity"),  # else another network is trained for every draw
                (table,)),))
