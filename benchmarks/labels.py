"""Soft labels in fewer bytes: what each format takes at 1000 classes, and what it costs a student on digits.

    python -m benchmarks.labels            python -m benchmarks.labels --draws 10

Prints JSON lines.  First, for each setting, the bytes of ImageNet-1K's labels at IPC 10 for 300 epochs: one
epoch's file is written and its size multiplied.  Then, over independent draws of teachers, images, labels and
students on handwritten digits, each setting's top-1, and its paired difference to fp16 with standard error.
Ten classes show what rounding and reuse do; a topk:2 of 10 says little of a topk:50 of 1000.
"""
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.digits import compare, draw_images, draw_teachers, draw_top1
from utils.augment import plan_label_epoch
from utils.config import option, parse_config, require
from utils.files import save_tensors
from utils.formats import label_files
from utils.label_formats import label_format
from utils.runtime import command_line, generator, hushed, say, set_threads, versions

# name -> format at 1000 classes, the same on digits, share of the epochs that are stored.
SETTINGS = {"fp16": ("fp16", "fp16", 1.0), "int8": ("int8", "int8", 1.0),
            "int8, a fifth of the epochs": ("int8", "int8", 0.2), "topk": ("topk:50", "topk:2", 1.0),
            "online": ("online", None, 1.0)}
CLASSES, IMAGES, EPOCHS = 1000, 10000, 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsConfig:
    """What `python -m benchmarks.labels` takes."""

    draws: int = option(5, "independent draws of everything")
    iterations: int = option(100, "recover iterations")
    teacher_epochs: int = option(6, "epochs of each teacher")
    epochs: int = option(100, "epochs of each student")
    threads: int = option(0, "CPU threads; 0 = all cores")

    def __post_init__(self):
        require(self.draws > 1, f"--draws must be > 1 for a standard error, got {self.draws}")


def imagenet_sizes(folder: Path) -> dict:
    """Bytes and files of 300 epochs of labels of 10,000 images of 1000 classes, by setting."""
    logits = torch.randn(IMAGES, CLASSES, generator=generator("logits"))
    views = plan_label_epoch(IMAGES, {
        "size": 224, "batch_size": 50, "min_scale": 0.25, "flip": True, "mix_type": "cutmix",
        "mix_alpha": 1.0, "num_batches": None}, seed=0, epoch=0)
    sizes = {}
    for name, (stored_as, _, share) in SETTINGS.items():
        save_tensors(folder / "epoch.pt", {**views, **label_format(stored_as).encode(logits)})
        files = label_files(stored_as, round(share * EPOCHS))
        sizes[name] = {"format": stored_as, "files": files,
                       "bytes": files * (folder / "epoch.pt").stat().st_size}
    return {name: {**own, "of_fp16": own["bytes"] / sizes["fp16"]["bytes"]} for name, own in sizes.items()}


def digits_accuracies(config: LabelsConfig, out: Path, draw: int) -> dict[str, float]:
    """Top-1 [%] of one student for each stored setting, on PRISM's images of one draw."""
    threads = ("--threads", config.threads)
    draw_teachers(out, draw, "--epochs", config.teacher_epochs, *threads)
    run = draw_images(out, draw, "--iteration", config.iterations, *threads)
    return {name: draw_top1(run, name, draw, "--epochs", config.epochs, "--label-format", stored_as,
                            "--label-epochs", max(1, round(share * config.epochs)), *threads,
                            student_flags=threads)
            for name, (_, stored_as, share) in SETTINGS.items() if stored_as}


def main(argv=None) -> None:
    """Prints one line of sizes and one of accuracies."""
    config = parse_config(LabelsConfig, sys.argv[1:] if argv is None else argv, description=__doc__)
    about = {"benchmark": "labels", "threads": set_threads(config.threads), **versions()}
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({**about, "imagenet_ipc10_300_epochs": imagenet_sizes(Path(folder))}), flush=True)
        rows = []
        for draw in range(config.draws):
            with hushed():
                rows.append(digits_accuracies(config, Path(folder), draw))
            say(f"draw {draw}: " + ", ".join(f"{name} {top1:.1f}" for name, top1 in rows[-1].items()))
    print(json.dumps({**about, **dataclasses.asdict(config), "n": len(rows),
                      "digits_formats": {name: digits for name, (_, digits, _) in SETTINGS.items()},
                      "digits": compare(rows, "fp16")}), flush=True)


if __name__ == "__main__":
    command_line(main)
