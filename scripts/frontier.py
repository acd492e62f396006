"""Accuracy against cost: a method's variants, and the other methods of a comparison, by their work.

    python -m scripts.frontier out/cifar10/comparison/rd3-ipc-10.json
    python -m scripts.frontier A.json B.json --kind hard --out frontier.md

Files are what scripts/compare.sh --variants writes; several are pooled by the draws' numbers.  Below the
table stands whether a variant is at most a quarter of the base's work within one standard error of it.
"""
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from scripts.comparing.cells import UNDER
from scripts.comparing.frontier_picture import draw_frontier
from scripts.comparing.frontier_text import labels_text, page
from scripts.comparing.pareto import Frontier, frontier_of
from scripts.comparing.read import OWN, Compared, ResultFlags, read_comparison
from utils.flags import first_words, parse_config
from utils.methods import STAGES
from utils.pieces import option, require
from utils.runtime import command_line, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontierConfig(ResultFlags):
    """What `python -m scripts.frontier` takes."""

    base: str = option("prism", "method or variant that all are measured against")
    ipc: int = option(10, "images per class", range="in [1, 10000]")
    kind: str = option(OWN, "labels: common, soft under one protocol for all; own, soft under each's own; "
                       "hard, where recover is all the work")
    stages: tuple[str, ...] = option(STAGES, "whose FLOPs are the work", commas=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kind in UNDER, f"--kind {self.kind}: expected one of {', '.join(UNDER)}")
        require(self.stages and set(self.stages) <= set(STAGES),
                f"--stages {' '.join(self.stages)}: expected some of {', '.join(STAGES)}")


def picture_of(compared: Compared, frontier: Frontier) -> bytes | None:
    """The picture; None, and a line that says so, without matplotlib."""
    title = f"{compared.dataset}, IPC {frontier.ipc}, {labels_text(compared, frontier)}"
    try:
        return draw_frontier(frontier, title=title)
    except ImportError as error:
        say(f"no picture ({error}): pip install -r requirements-figures.txt")
        return None


def main(argv: Sequence[str] | None = None) -> Frontier:
    """Prints the table and the statement, and writes them with a picture where --out says so."""
    config = parse_config(FrontierConfig, first_words(argv, "--files"), description=__doc__)
    compared = read_comparison(config.files)
    stages = [stage for stage in STAGES if stage in config.stages]
    frontier = frontier_of(compared, config.base, ipc=config.ipc, kind=config.kind, stages=stages)
    command = config.command("scripts.frontier")
    picture = picture_of(compared, frontier) if config.out else None
    name = Path(config.out).with_suffix(".png").name if picture else ""
    config.write("prism-frontier", page(compared, frontier, command=command, picture=name), {
        "command": command, "dataset": compared.dataset, "common": compared.common, **frontier.values()},
        picture)
    return frontier


if __name__ == "__main__":
    command_line(main)
