"""Any row of the paper's tables: runs what is missing, shows the paper's figure.

    scripts/reproduce.sh --list                every row and its state
    scripts/reproduce.sh 1 prism-r18-10        one row, through the three stages
    scripts/reproduce.sh 3a --dataset digits   a table, on handwritten digits
    scripts/reproduce.sh 1 --dry-run           its cost and its commands
    NPROC=8 scripts/reproduce.sh 2 multi-4     eight processes, a device each;
                                               --shard i/n: a share

Rows that share images or labels share the work; a rerun goes on where it
stopped.  The rows are in scripts/reproducing.
"""
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from models import train_teachers
from scripts.reproducing.costs import count_cost, describe_cost
from scripts.reproducing.launch import (
    MAINS,
    is_finished,
    run_stage,
    shares_of,
    shown_command,
    stage_lines,
)
from scripts.reproducing.places import PlaceFlags, make_teachers
from scripts.reproducing.plans import Plan, describe_state, plan_row, protocols_of, select_rows
from scripts.reproducing.rows import TABLES, Row
from scripts.reproducing.tables import tables_of
from utils.data import DATASETS
from utils.distributed import parse_shard
from utils.files import last_logged, write_atomically
from utils.flags import ShardFlags, parse_config
from utils.pieces import option, require
from utils.runtime import command_line, readable_time, say
from validate import results


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproduceConfig(PlaceFlags, ShardFlags):
    """What `scripts/reproduce.sh [TABLE [ROW ...]]` takes."""

    dataset: Literal["imagenet-1k", "cifar10", "digits"] = option("imagenet-1k", "whose base recipe to use")
    origin: Literal["chain", "final"] = option(
        "chain", "tables 3 and s: the state that a row inherits, or the published recipe", flag="--from")
    ipc: int = option(0, "images per class instead of the row's (tables 2, s5, s6: IPC of about 1200)",
                       range="in [0, 10000]")
    draws: int = option(1, "redraw images, labels and small teachers so often", range="in [1, 1000]")
    seeds: tuple[int, ...] = option((), "student seeds instead of the row's", range="in (-inf, inf)")
    processes: int = option(1, "side by side, each with a device and its share of a stage: units, epochs, "
                            "seeds (reproduce.sh: NPROC)", range="in [1, 1024]")
    tflops: float = option(0.0, "sustained rate of a device [TFLOP/s], to print hours", range=">= 0")
    list: bool = option(False, "print the rows with their state")
    dry_run: bool = option(False, "print the commands that would run, and their cost")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(set(self.seeds)) == len(self.seeds), f"--seeds must differ, got {self.seeds}")
        parse_shard(self.shard)

    def shares(self, plan: Plan, stage: str) -> Sequence:
        """The configs of this command's share of a stage, one a process."""
        return shares_of(plan, stage, shard=parse_shard(self.shard), processes=self.processes)

    def plan(self, row: Row, draw: int) -> Plan:
        """A row's plan.   Raises: ValueError where it cannot run."""
        return plan_row(row, dataset=self.dataset, origin=self.origin, out=Path(self.out),
                        places=self.places(draw), ipc=self.ipc, draw=draw, seeds=self.seeds)


def plans_of(config: ReproduceConfig, rows: list[Row]) -> dict[str, list[Plan] | str]:
    """Key -> one plan a draw, or why the row cannot run here."""
    plans = {}
    for row in rows:
        try:
            plans[row.key] = [config.plan(row, draw) for draw in range(config.draws)]
        except ValueError as error:
            plans[row.key] = str(error)
    return plans


def list_rows(config: ReproduceConfig, rows: list[Row]) -> None:
    """Prints every row: key, the paper's figure, under which protocol, state, the paper's words."""
    for row, plans in zip(rows, plans_of(config, rows).values(), strict=True):
        figure = results.figure(row.paper, row.std)
        state = plans if isinstance(plans, str) else "; ".join(dict.fromkeys(map(describe_state, plans)))
        print(f"{row.key:<32} {figure:>12}  {protocols_of(row):<14} {state:<10}   {row.label}")


def print_commands(config: ReproduceConfig, plan: Plan, draw: int) -> None:
    """Prints the commands of one draw of a row in the order of the stages, one a line."""
    if words := config.teacher_words(draw):
        print(f"  teachers  {shown_command(['-m', train_teachers.__name__, *words])}")
    for stage in MAINS:
        print("".join(f"{line}\n" for line in stage_lines(stage, config.shares(plan, stage))), end="")
        if not getattr(plan, stage):
            print(f"  {stage:<9} none: hard labels")


def print_plans(config: ReproduceConfig, rows: list[Row]) -> None:
    """Prints each row's state, settings, open questions and cost, and the cost of all, shared work once."""
    shared = {}
    for row, plans in zip(rows, plans_of(config, rows).values(), strict=True):
        if isinstance(plans, str):
            print(f"\n{row.key}: {row.label}: {plans}")
            continue
        print(f"\n{row.key}: {row.label}, the paper's {results.figure(row.paper, row.std)} ({row.source})")
        for draw, plan in enumerate(plans):
            cost = count_cost(plan, config.dataset)
            rate = last_logged(plan.run, "seconds_per_iteration")
            here = f"; recover {readable_time(rate * cost.iterations)} at the {rate:.3g} s per iteration " \
                   f"measured here" if rate else ""
            print(f"  draw {draw}: {describe_state(plan)}; {describe_cost(cost, tflops=config.tflops)}{here}")
            for place, flops in ((plan.run, cost.recover_flops), (plan.labels, cost.relabel_flops),
                                 (plan.students, cost.validate_flops)):
                shared[place] = max(shared.get(place, 0.0), flops)  # IPC 50 holds the images of IPC 10
            print_commands(config, plan, draw)
        for question in row.unknown:
            print(f"  unknown   {question}")
        if row.cost:
            print(f"  cost      {row.cost}")
    total = sum(shared.values())
    hours = f", {total / config.tflops / 3.6e15:.1f} h at {config.tflops:g} TFLOP/s" if config.tflops else ""
    print(f"\nall {len(rows)} rows, shared work once: {total / 1e15:.4g} PFLOPs{hours}")


def run_rows(config: ReproduceConfig, rows: list[Row]) -> None:
    """Runs what is missing of every row that can run, draw by draw; shared work is found done."""
    for draw in range(config.draws):
        make_teachers(config, draw, alone=parse_shard(config.shard)[1] == 1)
        for row, plans in zip(rows, plans_of(config, rows).values(), strict=True):
            if isinstance(plans, str):
                say(f"{row.key} is left out: it {plans}")
                continue
            plan = plans[draw]
            say(f"{row.key}, draw {draw}: {row.label} ({describe_state(plan)})")
            for stage in MAINS if describe_state(plan) != "done" else ():
                if shares := config.shares(plan, stage):
                    run_stage(stage, shares)
                if not is_finished(plan, stage):
                    say(f"{row.key}, draw {draw}: other shards have not finished {stage}; once they have, "
                        f"the same command goes on")
                    break


def entries_of(config: ReproduceConfig, rows: list[Row]) -> list[dict]:
    """What `tables_of` makes tables of: each row's words, figure, folders of students, and state."""
    entries = []
    for row, plans in zip(rows, plans_of(config, rows).values(), strict=True):
        if not isinstance(plans, str):
            wanted = len(plans) * len(plans[0].validate.seeds)
            entries.append({"table": row.table, "key": row.key, "label": row.label, "paper": row.paper,
                            "paper_std": row.std, "protocol": row.protocol, "wanted": wanted,
                            "ipc": plans[0].ipc, "model": plans[0].validate.model,
                            "folders": [plan.students for plan in plans], "other": plans[0].other,
                            "vram_gb": row.vram_gb, "runs": [plan.run for plan in plans]})
    return entries


def main(argv=None) -> list[dict]:
    """Runs, lists or plans rows; returns the entries of the table that it writes."""
    argv = list(sys.argv[1:] if argv is None else argv)
    words = []
    while argv and not argv[0].startswith("-"):
        words.append(argv.pop(0))
    config = parse_config(ReproduceConfig, argv, description=__doc__)
    rows = select_rows(words)
    if config.list:
        list_rows(config, rows)
        return []
    if config.dry_run:
        print_plans(config, rows)
        return []
    require(bool(words), f"say which table, and perhaps rows: {', '.join(TABLES)} (--list shows them)")
    spec = DATASETS[config.dataset]
    require(config.train_data_path or config.dataset == "digits" or spec.open_split is not None,
            f"--dataset {config.dataset} needs --train-data-path, the folder that holds train/ and val/")
    run_rows(config, rows)
    entries, folder = entries_of(config, rows), Path(config.out, config.dataset, "tables")
    tables = tables_of(entries, dataset=config.dataset)
    named = words if len(words) < 9 else (words[0], f"{len(words) - 1}-rows")  # a file's name has its limits
    name = "-".join(named) + ("-from-final" if config.origin == "final" else "") \
        + (f"-ipc{config.ipc}" if config.ipc else "")
    for ending, text in tables.items():
        write_atomically(folder / f"{name}.{ending}", lambda file, text=text: file.write(text.encode()))
    print(tables["md"])
    say(f"the table as {name}.md, .csv and .tex is in {folder}")
    return entries


if __name__ == "__main__":
    command_line(main)
