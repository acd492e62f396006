"""Methods side by side: each under its own protocol and under one common one, with real images as controls.

    scripts/compare.sh --dataset digits --ipc 10 --draws 5              every method
    scripts/compare.sh --dataset cifar10 --ipc 1,10,50 prism edc        some, at three IPC
    scripts/compare.sh --draws 5 --only-draws 0 1                       a process's share of the draws
    scripts/compare.sh --variants one_thing.json                        a method with one thing changed
    scripts/compare.sh --dry-run                                        its cost and its commands

Per draw all methods have the same teachers and seeds.  What exists is not run again; the tables in
<out>/<data set>/comparison are written after every cell.
"""
import dataclasses
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.comparing import cells
from scripts.comparing.basis import bind
from scripts.comparing.comparison import REFUSALS, Comparison, one_line
from scripts.comparing.variants import Variant, read_variants
from scripts.reproducing.costs import describe_cost
from scripts.reproducing.launch import MAINS, stage_lines
from scripts.reproducing.places import PlaceFlags, make_teachers, train_once
from scripts.reproducing.plans import Plan, describe_state
from scripts.reproducing.small_recipes import data_of
from utils.data import DATASETS
from utils.files import sha256_json
from utils.flags import parse_config
from utils.methods import METHODS
from utils.pieces import option, require
from utils.runtime import choose_device, command_line, hushed, say

STRANGER, STRANGERS_SEED = "narrow_efficientnet", 1000  # of no draw's teachers


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(PlaceFlags):
    """What `scripts/compare.sh [METHOD ...]` takes."""

    dataset: str = option("digits", "digits, cifar10, cifar10-full (full-size networks: a GPU's work), or "
                          "folder:PATH: data whose teachers are trained here")
    ipc: tuple[str, ...] = option(("10",), "images per class", commas=True)
    draws: int = option(3, "independent draws of teachers, images, labels and students",
                        range="in [1, 1000]")
    only_draws: tuple[int, ...] = option((), "run these of the draws, others elsewhere; none: all",
                                         range="in [0, 999]")
    students: int = option(1, "of one image set", range="in [1, 100]")
    common: str = option("rd3", "protocol for all methods")
    variants: str = option("", "JSON of variants of methods, compared too, or named like methods")
    under: tuple[str, ...] = option(
        cells.UNDER, "labels to compare under: the common protocol's, each method's own, hard ones",
        commas=True)
    slices: int = option(10, "IPC indices that recover optimises side by side, where a method allows it",
                         range="in [1, 100]")
    diversity: bool = option(True, "measure intra-class cosine, by a network that is trained for it first")
    tflops: float = option(0.0, "sustained rate of a device [TFLOP/s], to print hours", range=">= 0")
    list: bool = option(False, "print every cell with its state in each draw")
    dry_run: bool = option(False, "print the commands that would run, and their cost")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(text.isdecimal() and 0 < int(text) <= 10000 for text in self.ipc),
                f"--ipc must be numbers in [1, 10000], got {' '.join(self.ipc)}")
        require(all(draw < self.draws for draw in self.only_draws),
                f"--only-draws {self.only_draws}: there are {self.draws}, from 0 (--draws)")
        require(self.common in METHODS and cells.has_own(self.common),
                f"--common {self.common}: expected a protocol with soft labels, one of "
                f"{', '.join(filter(cells.has_own, METHODS))}")
        require(set(self.under) <= set(cells.UNDER) and set(self.under) & {"common", "own"},
                f"--under {' '.join(self.under)}: expected some of {', '.join(cells.UNDER)}, common or own "
                "among them")
        sets = [Path(folder).resolve() for folder in self.weights_dir]
        require(len(set(sets)) == len(sets), f"--weights-dir {' '.join(self.weights_dir)}: one set twice")
        require(self.dataset.startswith("folder:") or self.dataset in ("digits", "cifar10", "cifar10-full"),
                f"--dataset {self.dataset}: expected digits, cifar10, cifar10-full or folder:PATH")

    @functools.cached_property
    def known(self) -> dict[str, Variant]:
        """The variants of --variants."""
        return read_variants(self.variants)

    @property
    def ipcs(self) -> Sequence[int]:
        """Images per class, each once."""
        return sorted({int(text) for text in self.ipc})

    @property
    def running(self) -> Sequence[int]:
        """The draws of this process."""
        return sorted(set(self.only_draws)) or range(self.draws)

    @property
    def comparison(self) -> Path:
        """The folder of tables."""
        return self.base / "comparison"

    @property
    def stranger(self) -> dict[str, str]:
        """The network that measures diversity, and its folder, as validate.diversity takes them."""
        return {"arch_name": STRANGER, "weights_dir": str(self.base / "stranger")}

    def plan(self, cell: cells.Cell, draw: int) -> Plan:
        """A cell's plan.   Raises: ValueError where it cannot run."""
        return cells.plan_cell(cell, self, draw=draw, students=self.students, slices=self.slices,
                               variants=self.known)

    def train_stranger(self) -> None:
        """Trains the network that measures diversity, unless it is there."""
        folder = self.stranger["weights_dir"]
        train_once(self.training_words((STRANGER,), folder, STRANGERS_SEED), Path(folder))


def run_cells(comparison: Comparison, name: str) -> None:
    """Runs every cell of this process's draws, the tables after each."""
    config = comparison.config
    if config.diversity:
        with hushed():
            config.train_stranger()
    for draw in config.running:
        say(f"draw {draw}: teachers")
        with hushed():
            make_teachers(config, draw, alone=True)
        comparison.basis = bind(config.comparison / "basis.json", config, draw)
        for cell in comparison.runnable(draw):
            if comparison.is_whole(cell, draw):
                continue
            try:
                seen = comparison.make(cell, draw)
                say(f"draw {draw}: {cell}: {seen.top1:.1f} %, {sum(seen.seconds.values()):.0f} s")
            except REFUSALS as error:
                comparison.failed[cell, draw] = one_line(error)
                say(f"draw {draw}: {cell} is left out: {comparison.failed[cell, draw]}")
            comparison.write(name, drawn=False)
        comparison.write(name, drawn=True)


def print_cells(comparison: Comparison, *, commands: bool) -> None:
    """Prints every cell's state in each draw.   Args: commands: with its cost and its commands."""
    config = comparison.config
    for cell in comparison.cells:
        if cell in comparison.why:
            print(f"{cell}: left out: {comparison.why[cell]}")
            continue
        for draw in config.running:
            plan, hard = comparison.plans[cell, draw], comparison.hard_plan(cell, draw)
            print(f"{cell}, draw {draw}: {describe_state(plan)}; hard labels "
                  f"{describe_state(hard) if hard else 'none'}")
            if commands:
                print(f"  {describe_cost(comparison.costs[cell], tflops=config.tflops)}")
                print(*(line for stage in MAINS for line in stage_lines(stage, [getattr(plan, stage)])),
                      *(stage_lines("validate", [hard.validate]) if hard else ()), sep="\n")


def split_words(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Methods and variants before the flags, or methods behind them, and the flags."""
    rest, before, behind = list(argv), [], []
    while rest and not rest[0].startswith("-"):
        before.append(rest.pop(0))
    switches = {f"--{no}{field.name.replace('_', '-')}" for field in dataclasses.fields(CompareConfig)
                if field.type is bool for no in ("", "no-")}
    while rest and rest[-1] in METHODS and (rest[-2] in switches or not rest[-2].startswith("-")):
        behind.insert(0, rest.pop())
    return before + behind, rest


def name_of(config: CompareConfig, words: Sequence[str]) -> str:
    """The name of a comparison's files: what it is of, without draws."""
    many = sha256_json(sorted(words))[:4]
    listed = list(words) if len(words) < 6 else [f"{len(words)}-methods", many]
    if config.variants:
        content = {name: variant.values() for name, variant in config.known.items()}
        listed = [Path(config.variants).stem, sha256_json(content)[:4], *listed]
    partial = [] if set(config.under) == set(cells.UNDER) else sorted(set(config.under))
    other = [f"{config.students}-students"] if config.students > 1 else []
    other += [] if config.precision == "fp32" else [config.precision]
    return "-".join([config.common, *listed, *partial, *other, "ipc", *map(str, config.ipcs)])


def main(argv: list[str] | None = None) -> Path | None:
    """Runs, lists or plans a comparison; returns the Markdown table that it writes."""
    words, flags = split_words(sys.argv[1:] if argv is None else argv)
    config = parse_config(CompareConfig, flags, description=__doc__)
    comparison = Comparison(config, cells.compared_methods(words, config.known))
    if config.list or config.dry_run:
        print_cells(comparison, commands=config.dry_run)
        return None
    data = data_of(config.dataset)
    require(config.train_data_path or data not in DATASETS or DATASETS[data].open_split,
            f"--dataset {config.dataset} needs --train-data-path")
    choose_device(config.device)
    name = name_of(config, words)
    run_cells(comparison, name)
    print(comparison.tables().markdown())
    say(f"the tables and their picture are {config.comparison / name}.*")
    return config.comparison / f"{name}.md"


if __name__ == "__main__":
    command_line(main)
