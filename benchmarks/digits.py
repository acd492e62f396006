"""What the benchmarks of accuracy share: draws of teachers, images, labels and students on digits.

A draw is independent in everything; settings are compared within it, so that differences are paired.
"""
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

from models import train_teachers
from recover import data_synthesis
from relabel import generate_soft_label
from scripts.demo import PRIMARY, TEACHERS
from scripts.reproducing.small_recipes import RECIPES
from utils.flags import to_words
from utils.metrics import mean_and_std, paired
from utils.pieces import Options, option
from utils.runtime import hushed, say
from validate import train_FKD

LABELLERS = tuple(name for name in TEACHERS if name != "narrow_plain")
RECIPE = RECIPES["digits"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawFlags(Options):
    """What the benchmarks of accuracy take."""

    draws: int = option(5, "independent draws of everything; a standard error needs 2", range="in [2, 1000]")
    iterations: int = option(100, "recover iterations", range="in [0, 100000]")
    teacher_epochs: int = option(6, "epochs of each teacher", range="in [1, 100000]")
    epochs: int = option(100, "epochs of each student", range="in [1, 100000]")
    threads: int = option(0, "CPU threads; 0 = all cores", range="in [0, 1024]")


def over_draws(num: int, measure: Callable[[Path, int], dict[str, float]]) -> list[dict[str, float]]:
    """`measure(folder, draw)` for every draw, setting -> top-1 [%], a line said for each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for draw in range(num):
            with hushed():
                rows.append(measure(Path(folder), draw))
            say(f"draw {draw}: " + ", ".join(f"{name} {top1:.1f}" for name, top1 in rows[-1].items()))
    return rows


def draw_teachers(out: Path, draw: int, **settings) -> Path:
    """Trains the pool of one draw; returns its folder."""
    folder = out / f"teachers{draw}"
    train_teachers.main(to_words({"dataset": "digits", "output_dir": folder, "models": TEACHERS, "seed": draw,
                                  **RECIPE.teachers, **settings}))
    return folder


def draw_images(out: Path, draw: int, **settings) -> Path:
    """PRISM's images of one draw, ten a class from noise; returns the run."""
    return data_synthesis.main(to_words({
        "dataset": "digits", "syn_data_path": out, "arch_name": PRIMARY, "exp_name": f"draw{draw}",
        "pool": TEACHERS, "weights_dir": out / f"teachers{draw}", "iteration_step": 0, "ipc_end": 10,
        "slices_per_batch": 10, "seed": draw, **RECIPE.recover, **settings}))


def draw_top1(run: Path, name: str, draw: int, *, threads: int, **label_settings) -> float:
    """Top-1 [%] of one student of a draw, taught by labels of their own: folder `name` of the run."""
    folder = run / name.replace(" ", "_").replace(",", "")
    labels = generate_soft_label.main(to_words({
        "data": run, "fkd_path": folder, "arch_name": PRIMARY, "pool": LABELLERS, "seed": draw,
        "weights_dir": run.parent / f"teachers{draw}", "batch_size": 50, "threads": threads,
        **RECIPE.relabel, **label_settings}))
    done = train_FKD.main(to_words({
        "train_dir": run, "fkd_path": labels, "output_dir": folder / "students", "model": PRIMARY,
        "seeds": (draw,), "gradient_accumulation_steps": 1, "eval_every": 1000, "threads": threads}))
    return 100 * done["last_top1"]["mean"]


def compare(rows: list[dict[str, float]], base: str) -> dict:
    """Each setting's mean and std over draws [%], and its paired difference to `base` with standard error."""
    table = {}
    for name in rows[0]:
        found = paired([row[name] - row[base] for row in rows])
        top1, std = mean_and_std(row[name] for row in rows)
        table[name] = {"top1": top1, "std": std, "difference": found.mean,
                       "standard_error": found.standard_error, "each": found.each,
                       "worse_by_two_errors": found.mean < -2 * found.standard_error}
    return table
