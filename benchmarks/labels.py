"""Soft labels in fewer bytes: what each format takes at 1000 classes, and what it costs a student on digits.

    python -m benchmarks.labels            python -m benchmarks.labels --draws 10

Prints JSON lines.  First, for each setting, the bytes of ImageNet-1K's labels at IPC 10 for 300 epochs: one
epoch's file is written and its size multiplied.  Then, over independent draws of teachers, images, labels and
students on handwritten digits, each setting's top-1, and its paired difference to fp16 with standard error.
Ten classes show what rounding and reuse do; a topk:2 of 10 says little of a topk:50 of 1000.
"""
import dataclasses
import functools
import json
import tempfile
from pathlib import Path

import torch

from benchmarks.digits import DrawFlags, compare, draw_images, draw_teachers, draw_top1, over_draws
from utils.files import save_tensors
from utils.flags import parse_config
from utils.label_formats import LABEL_FORMATS
from utils.pieces import build_piece, spell_out
from utils.runtime import command_line, generator, set_threads, versions
from utils.views import CutMix, Views

# name -> format at 1000 classes, the same on digits, share of the epochs that are stored.
SETTINGS = {"fp16": ("fp16", "fp16", 1.0), "int8": ("int8", "int8", 1.0),
            "int8, a fifth of the epochs": ("int8", "int8", 0.2), "topk": ("topk:50", "topk:2", 1.0),
            "online": ("online", None, 1.0)}
CLASSES, IMAGES, EPOCHS = 1000, 10000, 300


def imagenet_sizes(folder: Path) -> dict:
    """Bytes and files of 300 epochs of labels of 10,000 images of 1000 classes, by setting."""
    logits = torch.randn(IMAGES, CLASSES, generator=generator("logits"))
    laws = Views(size=224, batch_size=50, min_scale=0.25, flip=True, mix_type=CutMix(mix_alpha=1.0))
    views = laws.draw_labelled(IMAGES, seed=0, epoch=0).tensors()
    sizes = {}
    for name, (stored_as, _, share) in SETTINGS.items():
        label_format = build_piece(LABEL_FORMATS, *spell_out(LABEL_FORMATS, stored_as, "--label-format"))
        save_tensors(folder / "epoch.pt", {**views, **label_format.encode(logits)})
        files = label_format.num_files(round(share * EPOCHS))
        sizes[name] = {"format": stored_as, "files": files,
                       "bytes": files * (folder / "epoch.pt").stat().st_size}
    return {name: {**own, "of_fp16": own["bytes"] / sizes["fp16"]["bytes"]} for name, own in sizes.items()}


def digits_accuracies(config: DrawFlags, out: Path, draw: int) -> dict[str, float]:
    """Top-1 [%] of one student for each stored setting, on PRISM's images of one draw."""
    draw_teachers(out, draw, epochs=config.teacher_epochs, threads=config.threads)
    run = draw_images(out, draw, iteration=config.iterations, threads=config.threads)
    return {name: draw_top1(run, name, draw, epochs=config.epochs, threads=config.threads,
                            label_format=stored_as, label_epochs=max(1, round(share * config.epochs)))
            for name, (_, stored_as, share) in SETTINGS.items() if stored_as}


def main(argv=None) -> None:
    """Prints one line of sizes and one of accuracies."""
    config = parse_config(DrawFlags, argv, description=__doc__)
    about = {"benchmark": "labels", "threads": set_threads(config.threads), **versions()}
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({**about, "imagenet_ipc10_300_epochs": imagenet_sizes(Path(folder))}), flush=True)
    rows = over_draws(config.draws, functools.partial(digits_accuracies, config))
    print(json.dumps({**about, **dataclasses.asdict(config), "n": len(rows),
                      "digits_formats": {name: digits for name, (_, digits, _) in SETTINGS.items()},
                      "digits": compare(rows, "fp16")}), flush=True)


if __name__ == "__main__":
    command_line(main)
