"""Makers that the tests of whole stages share: tiny real data, and the stages with tiny budgets."""
import dataclasses
from pathlib import Path

import numpy
from PIL import Image

from recover import data_synthesis
from relabel import generate_soft_label
from utils.files import sha256_bytes, write_json
from validate import train_FKD

CLASSES = ("ant", "bee", "cat", "dog")
POOL = ("narrow_resnet", "narrow_shufflenet", "narrow_plain", "narrow_alexnet")
PROCESS = ("--threads", "1", "--device", "cpu")


def write_pictures(folder: Path, counts: dict[str, int], *, size: int = 16, seed: int = 0) -> None:
    """An ImageFolder of noisy PNGs that are easy to tell apart: a class has its own hue and stripes."""
    rng, rows = numpy.random.default_rng(seed), numpy.arange(size)[:, None, None]
    for k, (name, num) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        hue = 128 + 90 * numpy.cos(2 * numpy.pi * (k / len(counts) + numpy.arange(3) / 3))
        stripes = 30 * numpy.sin(2 * numpy.pi * (k + 1) * rows / size)
        for i in range(num):
            pixels = hue + stripes + rng.normal(0, 10, (size, size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8)).save(folder / name / f"{i:02d}.png")


def write_data(root: Path, *, classes=CLASSES, train: int = 6, val: int = 3, size: int = 16) -> Path:
    """train/ and val/ below `root`, as `--dataset folder:ROOT` reads them."""
    write_pictures(root / "train", dict.fromkeys(classes, train), size=size, seed=0)
    write_pictures(root / "val", dict.fromkeys(classes, val), size=size, seed=1)
    return root


@dataclasses.dataclass(frozen=True)
class Tiny:
    """The stages on 16-pixel data with a budget of moments; flags given later win over these."""

    data: Path
    teachers: Path

    def teacher_flags(self, out, *flags) -> list[str]:
        return words("--dataset", f"folder:{self.data}", "--size", 16, "--output-dir", out, "--models", *POOL,
                     "--epochs", 6, "--batch-size", 8, "--optimizer", "adamw", "--lr", 0.01,
                     "--min-scale-crops", 0.5, *PROCESS, *flags)

    def recover_flags(self, out, *flags) -> list[str]:
        return words("--dataset", f"folder:{self.data}", "--size", 16, "--syn-data-path", out,
                     "--exp-name", "run", "--arch-name", POOL[0], "--pool", *POOL,
                     "--weights-dir", self.teachers, "--batch-size", 2, "--iteration", 3,
                     "--iteration-step", 0, "--ipc-end", 2, "--log-every", 1, *PROCESS, *flags)

    def relabel_flags(self, run, *flags) -> list[str]:
        return words("--data", run, "--arch-name", POOL[0], "--pool", POOL[0], POOL[1], POOL[3],
                     "--weights-dir", self.teachers, "--epochs", 3, "--batch-size", 5, *PROCESS, *flags)

    def validate_flags(self, run, *flags) -> list[str]:
        return words("--train-dir", run, "--fkd-path", Path(run, "fkd", "2"), "--model", POOL[0],
                     "--gradient-accumulation-steps", 1, "--eval-every", 1, "--seeds", 0, 1, *PROCESS, *flags)

    def recover(self, out, *flags) -> Path:
        return data_synthesis.main(self.recover_flags(out, *flags))

    def relabel(self, run, *flags) -> Path:
        return generate_soft_label.main(self.relabel_flags(run, *flags))

    def validate(self, run, *flags) -> dict:
        return train_FKD.main(self.validate_flags(run, *flags))


def write_unit(record: Path) -> None:
    """The record of a unit without images, named by its path."""
    ipc_id, chunk = (int(part) for part in record.stem.removeprefix("ipc").split("_chunk"))
    write_json(record, {"ipc_id": ipc_id, "chunk": chunk, "short_classes": [], "files": {}})


def write_result(folder: Path) -> None:
    """The result of a student whose files nobody promises, in a folder seed<number>."""
    seen = {"epoch": 0, "top1": 0.5, "top5": 0.5}
    write_json(folder / "result.json", {"seed": int(folder.name.removeprefix("seed")), "last": seen,
                                        "best": seen, "config": {},
                                        "protocol": {"name": "prism", "changed": []}})


def words(*values) -> list[str]:
    """Values as words of a command line."""
    return [str(value) for value in values]


def contents(folder: Path) -> dict[str, str]:
    """Path -> hash of every file below a folder but the logs and records, which hold times."""
    return {str(p.relative_to(folder)): sha256_bytes(p.read_bytes()) for p in sorted(folder.rglob("*"))
            if p.is_file() and p.suffix != ".jsonl"}


def modification_times(folder: Path) -> dict[str, int]:
    """Path -> modification time of every file below a folder [ns]."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def pixels_of(run: Path) -> numpy.ndarray:
    """Every distilled image of a run in the order of its paths: (N, H, W, 3) int."""
    return numpy.stack([numpy.asarray(Image.open(p), int) for p in sorted(run.glob("syn/*/*"))])


def run_through_stops(monkeypatch, owner, name: str, calls: set[int], stage) -> None:
    """Runs a stage until it ends by itself, though these calls of owner.name, over all runs, stop it."""
    function, seen = getattr(owner, name), []

    def stopping(*args, **kwargs):
        seen.append(None)
        if len(seen) in calls:
            raise KeyboardInterrupt
        return function(*args, **kwargs)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stopping)
        for _ in range(len(calls) + 1):
            try:
                stage()
            except KeyboardInterrupt:
                continue
            break
    assert len(seen) > max(calls)
