"""Values: every flag of every command, and torchrun's variables, with values that nobody means."""
import dataclasses
import itertools
import os
import random
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from models.train_teachers import TeacherConfig
from recover.data_synthesis import RecoverConfig
from relabel.generate_soft_label import RelabelConfig
from scripts import demo, reproduce
from tests.reliability.child import LIMIT, Ended
from tests.reliability.world import STAGES, Command, World, differences, snapshot
from utils.parser import fields_of
from utils.pieces import flag_of, slots
from validate.train_FKD import ValidateConfig

NUMBERS = ("nan", "inf", "-inf", "-1", "0", "-0.0", "1e308", "-1e308", "1e-320", "2000000000", "9" * 20,
           "9" * 5000, "", " ", "²", "1,2", "0x10", "1_0", "1e5", "True", "None")
WORDS = ("", "²", "nan", "..", "a/b", "x" * 300, "x" * 5000, "multi:3", "%s", "a\nb", "\udcff")
PLACES = ("", "..", ".", "/proc/nonexistent/x", "/dev/null", "/dev/full", "x" * 300, "x" * 5000, "x/" * 2500,
          "~", "-", " ", "a\nb", "\udcff", "%s", "../outside/precious.txt", "../outside/none")
RANKS = ("x", "", " ", "-1", "5", "²", "1e308", "nan", "2000000000", "0.5")
HUGE = re.compile(r"9{20}|2000000000|1e5|1e308")  # what is asked for may take that long
ALSO_CALLED = {"mean": ("pixel statistics",), "std": ("pixel statistics",)}
ENDLESS = ("nan", "inf", "-inf")
DIVERGED = re.compile(r"\w+ is -?(nan|inf) at .*: lower the |not saved, \S+ is ")
ENDLESS_IS_RIGHT = {"save_every", "resident_gb", "memory_limit"}  # infinity: never, all, any
CONFIGS = {"teach": TeacherConfig, "recover": RecoverConfig, "relabel": RelabelConfig,
           "validate": ValidateConfig}
UNCHECKED = ("teach", "demo", "reproduce")  # commands without a --dry-run that checks all
MEMORY = 6_000_000_000  # bytes of address space above the parent's


@dataclasses.dataclass(frozen=True)
class Case:
    """A command with one flag more, or one variable."""

    command: str
    flag: str
    value: str
    name: str = ""
    before: tuple[str, ...] = ()
    several: int = 1
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        shown = self.value if len(self.value) < 30 else f"{self.value[:9]}... ({len(self.value)} characters)"
        return f"{self.command} {' '.join(self.before)} {self.flag} {shown!r}".replace("  ", " ")


def _values(field: "dataclasses.Field[Any]", kind: Any) -> tuple[str, ...]:
    if "registry" in field.metadata or typing.get_origin(kind) is typing.Literal:
        return WORDS
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
    if kind in (int, float):
        return NUMBERS
    return () if kind is bool or typing.get_origin(kind) is typing.Literal else PLACES


def _of_class(command: str, cls: Any, before: tuple[str, ...] = ()) -> Iterator[list[Case]]:
    kinds = typing.get_type_hints(cls)
    for field in fields_of(cls):
        several = 3 if field.name in ("mean", "std") else 2 if field.name == "betas" else 1
        flag, prefix = flag_of(field), "narrow_resnet=" if field.name == "weights" else ""
        yield [Case(command, flag, prefix + value, field.name, before, several)
               for value in _values(field, kinds[field.name])]


def groups() -> list[list[Case]]:
    """All cases, a list for each flag of each command, and of each piece that can be chosen."""
    found = []
    for command, cls in CONFIGS.items():
        found += _of_class(command, cls)
        found.append([Case(command, "--config", value, "config") for value in PLACES])
        for slot in slots(cls):
            for name, piece in slot.metadata["registry"].items():
                if dataclasses.fields(piece):
                    found += _of_class(command, piece, (flag_of(slot), name))
        found += [[Case(command, variable, value, variable, environment={variable: value}) for value in RANKS]
                  for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
    found += _of_class("demo", demo.DemoConfig)
    found += _of_class("reproduce", reproduce.ReproduceConfig)
    return [group for group in found if group]


class Attack:
    """All cases over one world."""

    def __init__(self, world: World):
        self.world = world
        out = world.case / "out"
        small = ("--draws", "1", "--ipc", "2", "--iterations", "1", "--teacher-epochs", "1", "--epochs", "1")
        self.commands = world.commands | {
            "demo": Command("demo", demo.main, ("--out", str(out / "demo"), *small), "out/demo"),
            "reproduce": Command("reproduce", reproduce.main, (
                "1", "prism-r18-10", "--dataset", "digits", "--out", str(out), "--dry-run"), "out")}
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        self.memory = MEMORY + pages * os.sysconf("SC_PAGE_SIZE")
        self.right = {}
        for stage in STAGES:
            world.begin(stage)
            self.right[stage] = snapshot(world.case / world.commands[stage].folder)

    def _run(self, command: Command, case: Case, **settings) -> Ended:
        return self.world.run(command, environment=case.environment, memory=self.memory, **settings)

    def attempt(self, case: Case) -> tuple[str, str]:
        """Runs, dry where that can be.   Returns: what is wrong, or "", and what the command did."""
        world = self.world
        world.begin(world.before(case.command) if case.command in STAGES else "nothing")
        before, command = snapshot(world.case), self.commands[case.command].plus(*case.before)
        if not case.environment:
            joined = case.several == 1 and case.value.startswith("-")  # else argparse takes it for a flag
            command = command.plus(*[f"{case.flag}={case.value}"] if joined
                                   else [case.flag, *[case.value] * case.several])
        if case.command not in UNCHECKED:
            ended = self._run(command.plus("--dry-run"), case)
            if wrong := differences(snapshot(world.case), before):
                return f"--dry-run WROTE: {wrong}; {ended}", "wrote"
            if ended.status != 0:
                return self._judge_refused(case, ended, "--dry-run ")
        if HUGE.search(case.value) and case.name not in ("mean", "std", "lr"):
            ended = self._run(command, case, limit=5.0)
            if ended.status is None:
                return "", "still at work after five seconds"
        else:
            ended = self._run(command, case, limit=3 * LIMIT if case.command == "demo" else LIMIT)
        if ended.status is None and case.command == "demo" and _number(case) not in ENDLESS:
            return "", "still at work after a minute"
        if ended.status != 0:
            if ended.status == 2 and (wrong := differences(snapshot(world.case), before)):
                return f"WROTE before it was refused: {wrong}; {ended}", "wrote"
            if ended.status == 2 and case.command not in UNCHECKED:
                return f"LATE, --dry-run found nothing: {ended}", "late"
            if ended.status == 1 and _number(case) not in ENDLESS and DIVERGED.search(ended.error):
                return "", "diverged, and said so"
            return self._judge_refused(case, ended)
        return self._judge_done(case, command, before)

    def _judge_refused(self, case: Case, ended: Ended, how: str = "") -> tuple[str, str]:
        if not ended.refused:
            return f"CRASH: {how}{ended}", "crash"
        value = case.value.encode(errors="backslashreplace").decode()  # as stderr shows it
        named = (case.flag, case.name, " ".join(value.split())[:20], repr(value))
        if not any(text and text in ended.error for text in (*named, *ALSO_CALLED.get(case.name, ()))):
            return f"UNNAMED: {how}{ended}", "unnamed"
        return "", "refused"

    def _judge_done(self, case: Case, command: Command, before: Mapping[str, str]) -> tuple[str, str]:
        folder, there = self.world.case / command.folder, snapshot(self.world.case)
        number = _number(case)
        if number in ENDLESS and not (number == "inf" and case.name in ENDLESS_IS_RIGHT):
            return f"ACCEPTED {number}", "accepted"
        if case.name == "WORLD_SIZE" and case.value.isdecimal():
            return "", "a share done"
        if case.environment:
            wrong = differences(snapshot(folder), self.right[case.command])
            return (f"DONE otherwise: {wrong}", "done otherwise") if wrong else ("", "done right")
        if case.command in STAGES and there == before:
            return "NOTHING was made, status 0", "nothing"
        for name in there.keys() - before.keys():
            if wrong := _not_finite(self.world.case / name):
                return f"NOT FINITE, status 0: {name}: {wrong}", "not finite"
        return "", "done"


def _number(case: Case) -> str:
    return case.value.strip().lower()


def _not_finite(path: Path) -> str:
    if path.suffix in (".json", ".jsonl"):
        found = re.search(r'"\w+": -?(NaN|Infinity)', path.read_text())
        return found.group() if found else ""
    if path.suffix == ".pt" and "unfinished" not in path.name:
        return next((name for name, value in torch.load(path, weights_only=True).items()
                     if value.is_floating_point() and not value.isfinite().all()), "")
    return ""


def attack(world: World, *, n: int, seed: int, only: str = "") -> tuple[list[str], str]:
    """n cases (0: all), spread over flags.   Returns: the bad ones, and the counts."""
    own, rng, bad, counts = Attack(world), random.Random(seed), [], Counter[str]()
    every = [[case for case in group if only in str(case)] for group in groups()]
    for group in every:
        rng.shuffle(group)
    rng.shuffle(every)
    turns = [case for row in itertools.zip_longest(*every) for case in row if case]
    chosen = turns[:n] if n else turns
    for case in chosen:
        wrong, did = own.attempt(case)
        counts[did] += 1
        if wrong:
            bad.append(f"{case}: {wrong}"[:600])
            print(f"bad: {bad[-1]}", flush=True)
    shown = ", ".join(f"{number} {did}" for did, number in counts.most_common())
    return bad, f"{len(chosen)} of {len(turns)} values ({shown})"
