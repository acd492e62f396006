"""What the benchmarks of accuracy share: draws of teachers, images, labels and students on digits.

A draw is independent in everything; settings are compared within it, so that differences are paired.
"""
import statistics
from pathlib import Path

from models import train_teachers
from recover import data_synthesis
from relabel import generate_soft_label
from scripts.demo import PRIMARY, TEACHERS
from validate import train_FKD

CROPS = ("--min-scale-crops", 0.5)  # less of a digit is no digit
LABELLERS = tuple(name for name in TEACHERS if name != "narrow_plain")


def _run(main, *words):
    return main([str(word) for word in words])


def draw_teachers(out: Path, draw: int, *flags) -> Path:
    """Trains the pool of one draw; returns its folder."""
    folder = out / f"teachers{draw}"
    _run(train_teachers.main, "--dataset", "digits", "--output-dir", folder, "--models", *TEACHERS,
         "--batch-size", 64, "--optimizer", "adamw", "--lr", 0.005, "--seed", draw, *CROPS, *flags)
    return folder


def draw_images(out: Path, draw: int, *flags) -> Path:
    """PRISM's images of one draw, ten a class from noise, as the demo makes them; returns the run."""
    return _run(data_synthesis.main, "--dataset", "digits", "--syn-data-path", out, "--arch-name", PRIMARY,
                "--exp-name", f"draw{draw}", "--pool", *TEACHERS, "--weights-dir", out / f"teachers{draw}",
                "--lr", 0.1, "--r-bn", 0.3, "--iteration-step", 0, "--init", "noise", "--ipc-end", 10,
                "--slices-per-batch", 10, "--seed", draw, *CROPS, *flags)


def draw_top1(run: Path, name: str, draw: int, *label_flags, student_flags=()) -> float:
    """Top-1 [%] of one student of a draw, taught by labels of their own: folder `name` of the run."""
    folder = run / name.replace(" ", "_").replace(",", "")
    labels = _run(generate_soft_label.main, "--data", run, "--fkd-path", folder, "--arch-name", PRIMARY,
                  "--pool", *LABELLERS, "--weights-dir", run.parent / f"teachers{draw}", "--seed", draw,
                  "--batch-size", 50, *CROPS, *label_flags)
    done = _run(train_FKD.main, "--train-dir", run, "--fkd-path", labels, "--output-dir", folder / "students",
                "--model", PRIMARY, "--seeds", draw, "--gradient-accumulation-steps", 1, "--eval-every", 1000,
                *student_flags)
    return 100 * done["last_top1"]["mean"]


def compare(rows: list[dict[str, float]], base: str) -> dict:
    """Each setting's mean and std over draws [%], and its paired difference to `base` with standard error."""
    table = {}
    for name in rows[0]:
        values, differences = [row[name] for row in rows], [row[name] - row[base] for row in rows]
        error, mean = statistics.stdev(differences) / len(rows) ** 0.5, statistics.fmean(differences)
        table[name] = {"top1": statistics.fmean(values), "std": statistics.stdev(values), "difference": mean,
                       "standard_error": error, "worse_by_two_errors": mean < -2 * error, "each": differences}
    return table
