"""What lower precision of recover does to the images: students on digits, paired with fp32.

    python -m benchmarks.precision            python -m benchmarks.precision --draws 10

Prints one JSON line: over independent draws of teachers, images, labels and students, the top-1 of students
on images that were recovered in each precision (labels and students in fp32), with paired differences.
"""
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.digits import compare, draw_images, draw_teachers, draw_top1
from utils.config import option, parse_config, require
from utils.runtime import choose_device, command_line, hushed, say, set_threads, versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """What `python -m benchmarks.precision` takes."""

    precisions: tuple[str, ...] = option(("fp32", "bf16", "fp16"), "the first is the base of differences")
    draws: int = option(5, "independent draws of everything")
    iterations: int = option(100, "recover iterations")
    teacher_epochs: int = option(6, "epochs of each teacher")
    epochs: int = option(100, "epochs of each student")
    threads: int = option(0, "CPU threads; 0 = all cores")

    def __post_init__(self):
        require(self.draws > 1, f"--draws must be > 1 for a standard error, got {self.draws}")


def accuracies(config: PrecisionConfig, out: Path, draw: int) -> dict[str, float]:
    """Top-1 [%] of one student for each precision of one draw."""
    threads, found = ("--threads", config.threads), {}
    draw_teachers(out, draw, "--epochs", config.teacher_epochs, *threads)
    for precision in config.precisions:
        run = draw_images(out, draw, "--iteration", config.iterations, "--precision", precision, *threads,
                          "--overwrite")
        found[precision] = draw_top1(run, precision, draw, "--epochs", config.epochs, *threads,
                                     student_flags=threads)
    return found


def main(argv=None) -> None:
    """Prints one line."""
    config = parse_config(PrecisionConfig, sys.argv[1:] if argv is None else argv, description=__doc__)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for draw in range(config.draws):
            with hushed():
                rows.append(accuracies(config, Path(folder), draw))
            say(f"draw {draw}: " + ", ".join(f"{name} {top1:.1f}" for name, top1 in rows[-1].items()))
    print(json.dumps({"benchmark": "precision", "device": choose_device("auto").type,
                      "threads": set_threads(config.threads), **versions(), **dataclasses.asdict(config),
                      "n": len(rows), "digits": compare(rows, config.precisions[0])}), flush=True)


if __name__ == "__main__":
    command_line(main)
