"""Tiny data and four commands, and the state of their folders after each: where every attack begins."""
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from models import train_teachers
from recover import data_synthesis
from relabel import generate_soft_label
from tests.helpers import Tiny, words, write_data
from tests.reliability.child import Death, Ended, age, replace_folder, run_command, run_together
from validate import train_FKD

POOL = ("narrow_resnet", "narrow_plain")
STAGES = ("teach", "recover", "relabel", "validate")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line, and the folder below the case that it makes."""

    stage: str
    main: Callable[[list[str]], object]
    argv: tuple[str, ...]
    folder: str

    def plus(self, *flags: object) -> "Command":
        return dataclasses.replace(self, argv=(*self.argv, *words(*flags)))


class World:
    """A folder `case` in which every attack happens, and copies of it after each stage: `states`.

    Runs name absolute places, so a state is put where it was made.
    """

    def __init__(self, root: Path):
        self.root, self.case, self.states = root, root / "case", root / "states"
        tiny, run = Tiny(self.case / "data", self.case / "teachers"), self.case / "out" / "run"
        every = ("--save-every", 0)
        self.commands = {name: Command(name, main, tuple(argv), folder) for name, main, argv, folder in (
            ("teach", train_teachers.main, tiny.teacher_flags(
                tiny.teachers, "--models", *POOL, "--epochs", 3, *every), "teachers"),
            ("recover", data_synthesis.main, tiny.recover_flags(
                self.case / "out", "--pool", *POOL, *every), "out/run"),
            ("relabel", generate_soft_label.main, tiny.relabel_flags(run, "--pool", *POOL), "out/run/fkd/2"),
            ("validate", train_FKD.main, tiny.validate_flags(run, *every), "out/run/validate/narrow_resnet"))}
        write_data(self.case / "data")
        (self.case / "outside").mkdir()
        (self.case / "outside" / "precious.txt").write_text("not yours")
        (self.case / "a" / "place").mkdir(parents=True)
        self.keep("nothing")
        for name, command in self.commands.items():
            done = self.run(command)
            assert done.status == 0, f"{name}: {done}\n{done.err}"
            self.keep(name)

    def begin(self, state: str) -> None:
        """The case is as it was kept under that name."""
        replace_folder(self.case, self.states / state)

    def keep(self, state: str) -> None:
        """Remembers the case under a name."""
        age(self.case)
        replace_folder(self.states / state, self.case)

    def run(self, command: Command, death: Death | None = None, **settings) -> Ended:
        """Runs a command in the case."""
        return run_command(command.main, list(command.argv), root=self.case, death=death, **settings)

    def run_together(self, *commands: Command, death: Death | None = None) -> list[Ended]:
        """Runs several commands in the case at once.   Args: death: of the first."""
        return run_together([(command.main, list(command.argv)) for command in commands], root=self.case,
                            death=death)

    def before(self, stage: str) -> str:
        """The state in which a stage has its inputs and has not run."""
        return ("nothing", *STAGES)[STAGES.index(stage)]

    def remove(self) -> None:
        """Removes all of it."""
        shutil.rmtree(self.root, ignore_errors=True)


def snapshot(folder: Path) -> dict[str, str]:
    """Path -> what is there: digests of files, targets of links; of logs only which students they record."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() and not path.is_file():
            found[name] = f"link to {os.readlink(path)}"
        elif path.suffix == ".jsonl":
            found[name] = f"log of seeds {_seeds(path)}" if path.name == "results.jsonl" else "log"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif not path.is_dir():
            found[name] = "neither file nor folder"
    return found


def _seeds(path: Path) -> list[object]:
    seeds = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            seeds.append(json.loads(line)["seed"])
        except (ValueError, KeyError):
            seeds.append("half a line")
    return sorted(seeds, key=str)


def differences(there: dict[str, str], expected: dict[str, str]) -> str:
    """In what two snapshots differ, in a few words; "" if in nothing."""
    missing, more = sorted(expected.keys() - there.keys()), sorted(there.keys() - expected.keys())
    other = sorted(name for name in expected.keys() & there.keys() if expected[name] != there[name])
    parts = [f"{len(names)} {what}: {', '.join(names[:4])}" for what, names in (
        ("missing", missing), ("left over", more), ("different", other)) if names]
    if other and not other[0].endswith((".pt", ".png")):
        parts.append(f"({there[other[0]][:40]} for {expected[other[0]][:40]})")
    return "; ".join(parts)
