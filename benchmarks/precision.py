"""What lower precision of recover does to the images: students on digits, paired with fp32.

    python -m benchmarks.precision            python -m benchmarks.precision --draws 10

Prints one JSON line: over independent draws of teachers, images, labels and students, the top-1 of students
on images that were recovered in each precision (labels and students in fp32), with paired differences.
"""
import dataclasses
import functools
import json
from pathlib import Path

from benchmarks.digits import DrawFlags, compare, draw_images, draw_teachers, draw_top1, over_draws
from utils.flags import parse_config
from utils.pieces import option
from utils.runtime import choose_device, command_line, set_threads, versions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionConfig(DrawFlags):
    """What `python -m benchmarks.precision` takes."""

    precisions: tuple[str, ...] = option(("fp32", "bf16", "fp16"), "the first is the base of differences")


def accuracies(config: PrecisionConfig, out: Path, draw: int) -> dict[str, float]:
    """Top-1 [%] of one student for each precision of one draw."""
    draw_teachers(out, draw, epochs=config.teacher_epochs, threads=config.threads)
    found = {}
    for precision in config.precisions:
        run = draw_images(out, draw, iteration=config.iterations, precision=precision, threads=config.threads,
                          overwrite=True)
        found[precision] = draw_top1(run, precision, draw, epochs=config.epochs, threads=config.threads)
    return found


def main(argv=None) -> None:
    """Prints one line."""
    config = parse_config(PrecisionConfig, argv, description=__doc__)
    rows = over_draws(config.draws, functools.partial(accuracies, config))
    print(json.dumps({"benchmark": "precision", "device": choose_device("auto").type,
                      "threads": set_threads(config.threads), **versions(), **dataclasses.asdict(config),
                      "n": len(rows), "digits": compare(rows, config.precisions[0])}), flush=True)


if __name__ == "__main__":
    command_line(main)
