"""Files: one is damaged, a command that reads it is run, and must do right, make it anew or name it."""
import dataclasses
import itertools
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.reliability import damage
from tests.reliability.child import Death, Ended
from tests.reliability.damage import Damage
from tests.reliability.world import Command, World, differences, snapshot
from utils import verify
from utils.unfinished import DIGEST
from validate import results

RUN, LABELS, STUDENTS = "out/run", "out/run/fkd/2", "out/run/validate/narrow_resnet"
IMAGE_READERS = (("recover", "recover"), ("relabel", "recover"), ("validate", "relabel"))
# File -> (commands that read it, and the state before each).
JSON = {
    "teachers/config.json": (("teach", "teach"),),
    "teachers/narrow_resnet.json": (("teach", "teach"), ("recover", "teach"), ("relabel", "recover")),
    f"{RUN}/config.json": IMAGE_READERS, f"{RUN}/manifest.json": IMAGE_READERS,
    f"{RUN}/units/ipc0000_chunk01.json": IMAGE_READERS,
    f"{RUN}/preflight.json": (("recover", "recover"), ("relabel", "recover")),
    f"{LABELS}/config.json": (("relabel", "relabel"), ("validate", "relabel")),
    f"{LABELS}/manifest.json": (("relabel", "relabel"), ("validate", "relabel")),
    f"{STUDENTS}/config.json": (("validate", "validate"),),
    f"{STUDENTS}/seed0/result.json": (("validate", "validate"), ("results", "validate")),
    f"{STUDENTS}/results.json": (("validate", "validate"),),
    "settings.json": (("recover --config", "teach"),)}
TENSORS = {
    "teachers/narrow_resnet.pt": (("teach", "teach"), ("recover", "teach"), ("relabel", "recover")),
    f"{LABELS}/epoch_001.pt": (("relabel", "relabel"), ("validate", "relabel")),
    f"{STUDENTS}/seed0/student_last.pt": (("validate", "validate"),),
    f"{STUDENTS}/seed0/student_best.pt": (("validate", "validate"),)}
UNFINISHED = ("teach", "recover", "validate")
PICTURES = {f"{RUN}/syn/bee/bee_ipc0001.png": IMAGE_READERS,
            "data/train/bee/01.png": (("teach", "nothing"), ("recover", "teach")),
            "data/val/bee/01.png": (("teach", "nothing"), ("validate", "relabel"))}
SWAPPED = {"teachers/narrow_resnet.pt": "teachers/narrow_plain.pt",
           f"{LABELS}/epoch_001.pt": f"{LABELS}/epoch_000.pt",
           f"{STUDENTS}/seed0/student_last.pt": f"{STUDENTS}/seed1/student_last.pt",
           f"{RUN}/syn/bee/bee_ipc0001.png": f"{RUN}/syn/ant/ant_ipc0001.png"}
SYSTEM = re.compile(r"error: \w+Error: \[Errno \d+\]")
MAKERS = (("teachers", "teach"), (LABELS, "relabel"), (STUDENTS, "validate"), (RUN, "recover"))
MENDED = (f"{RUN}/manifest.json", f"{LABELS}/manifest.json")  # whoever finds all units writes these


@dataclasses.dataclass(frozen=True)
class Case:
    """A file, what happens to it, the command that is run then, and the state before."""

    path: str
    damage: Damage
    command: str
    state: str

    def __str__(self) -> str:
        return f"{self.path} {self.damage.name!r}, {self.command}"


class Attack:
    """All cases over one world.   unfinished: stages whose saves are damaged, too."""

    def __init__(self, world: World, unfinished: tuple[str, ...] = UNFINISHED):
        self.world, case, commands = world, world.case, world.commands
        self.marker, self.outside = world.root / "executed", case / "outside"
        self._path = world.root / "bin"
        self._path.mkdir()
        (self._path / "gs").write_text(f"#!/bin/sh\ntouch '{self.marker}'\nexit 1\n")
        (self._path / "gs").chmod(0o755)
        self.right = {}
        for stage, command in commands.items():
            world.begin(stage)
            self.right[stage] = snapshot(case / command.folder)
        students = str(case / STUDENTS)
        self.commands = commands | {
            "results": Command("validate", results.main, (students, students), STUDENTS),
            "recover --config": commands["recover"].plus("--config", case / "settings.json"),
            "teach and recover": commands["teach"]}
        world.begin("teach")
        (case / "settings.json").write_bytes((world.states / "recover" / RUN / "config.json").read_bytes())
        world.keep("teach")
        self.saves = {stage: self._begun(stage) for stage in unfinished}

    def _begun(self, stage: str) -> str:
        """A state in which the stage was killed just after a save; returns the save's path."""
        world, command = self.world, self.world.commands[stage]
        world.begin(world.before(stage))
        events = world.run(command).events
        saves = [i for i, event in enumerate(events) if event.startswith("rename") and "unfinished" in event]
        world.begin(world.before(stage))
        world.run(command, Death(saves[len(saves) // 2] + 1))
        world.keep(f"{stage} begun")
        found = (path.relative_to(world.case) for path in (world.case / command.folder).rglob("*.pt"))
        return str(next(path for path in found if "unfinished" in str(path)))

    def _targets(self) -> Iterator[tuple[str, str, str, Callable[[Path], Iterator[Damage]]]]:
        """(file, command, state, its damages)."""
        def json_damages(path):
            return itertools.chain(damage.of_any(self.outside), damage.of_json(path))

        def tensor_damages(path):
            return itertools.chain(damage.of_any(self.outside), damage.of_weights(self.marker),
                                   damage.of_tensors(path, DIGEST if "unfinished" in str(path) else 0))

        def picture_damages(path):
            return itertools.chain(damage.of_any(self.outside), damage.of_pictures())
        for table, damages in ((JSON, json_damages), (TENSORS, tensor_damages), (PICTURES, picture_damages)):
            for path, readers in table.items():
                for command, state in readers:
                    yield path, command, state, damages
        for stage, path in self.saves.items():
            yield path, stage, f"{stage} begun", tensor_damages
        yield "data", "teach and recover", "nothing", lambda path: damage.of_class_names()

    def cases(self) -> list[list[Case]]:
        """All there are, a list for each file and command."""
        found = []
        for path, command, state, damages in self._targets():
            every = [*damages(self.world.states / state / path)]
            if path in SWAPPED:
                other = self.world.states / state / SWAPPED[path]
                every.append(Damage(f"as {other.name}",
                                    lambda path, other=other: damage.put(path, other.read_bytes())))
            found.append([Case(path, one, command, state) for one in every])
        return found

    def attempt(self, case: Case) -> tuple[str, str]:
        """Damages, runs, judges.   Returns: what is wrong, or "", and what the command did."""
        world = self.world
        world.begin(case.state)
        case.damage.apply(world.case / case.path)
        before = snapshot(world.case)
        command = self.commands[case.command]
        ended = self._run(command)
        if case.command == "teach and recover" and ended.status == 0:
            before, command = snapshot(world.case), world.commands["recover"]
            ended = self._run(command)
        if self.marker.exists():
            self.marker.unlink()
            return "EXECUTED", "executed"
        own = command.folder
        strayed = [name for name, what in (before | snapshot(world.case)).items()
                   if not name.startswith(own) and name not in MENDED
                   and (before.get(name) != what or not (world.case / name).parent.exists())]
        if strayed:
            return f"WROTE OUTSIDE its folder: {strayed[0]}; {ended}", "wrote outside"
        if ended.status == 0:
            return self._judge_done(case, command)
        return self._judge_refused(case, command, ended)

    def _run(self, command: Command) -> Ended:
        return self.world.run(command, environment={"PATH": f"{self._path}:{os.environ['PATH']}"})

    def _judge_done(self, case: Case, command: Command) -> tuple[str, str]:
        if case.damage.readable or self._legal(case) or case.command in ("results", "teach and recover"):
            return "", "done"
        folder = self.world.case / command.folder
        there, right = snapshot(folder), self.right[command.stage]
        wrong = differences(there, right)
        own = {Path(case.path).name, "manifest.json", "result.json", "results.json"}  # which repeat others
        other = {name for name in there.keys() | right.keys() if there.get(name) != right.get(name)}
        claimed = case.path == f"{command.folder}/config.json"  # compared with the command, all of it
        if case.damage.information and not claimed and {Path(name).name for name in other} <= own \
                or case.path.startswith("teachers/") and other == {"preflight.json"}:  # the floor that it set
            return "", "kept, nothing is computed from it" if wrong else "done right"
        if not wrong:
            return "", "done right"
        if self._verified(case, folder):
            return "", "named by utils.verify"
        return f"SILENT: {wrong}", "silent"

    def _legal(self, case: Case) -> bool:
        """Whether it only says something else: fewer pictures, weights without a record, another seed."""
        if case.path.startswith(("data/", "teachers/")) and case.damage.name == "missing":
            return case.command != "teach" or case.path.startswith("data/")
        number = re.search(r" is -?[0-9.e+]+$", case.damage.name)
        earlier = re.fullmatch(r"config\.\S+ is null|without config\.\S+", case.damage.name)  # a default
        return bool(earlier or case.command == "recover --config" and number)

    def _verified(self, case: Case, folder: Path) -> bool:
        """Whether `python -m utils.verify` names a file that has its size and other bytes."""
        original = self.world.states / case.state / case.path
        damaged = self.world.case / case.path
        if not damaged.is_file() or damaged.stat().st_size != original.stat().st_size:
            return False
        ended = self._run(Command("verify", verify.main, (str(folder),), str(folder)))
        return ended.status not in (0, None) and damaged.name in ended.out + ended.err

    def _judge_refused(self, case: Case, command: Command, ended: Ended) -> tuple[str, str]:
        if case.damage.name.endswith("in its place") and SYSTEM.match(ended.error) \
                and Path(case.path).name in ended.error and "Traceback" not in ended.err:
            return "", "named by the system's error"
        if not ended.refused:
            return f"CRASH: {ended}", "crash"
        name, path = Path(case.path), self.world.case / case.path
        if case.path != "data" and name.stem not in ended.error and name.parent.name not in ended.error:
            return f"UNNAMED: {ended}", "unnamed"
        claim = f"{command.folder}/config.json"
        new = (self.world.case / claim).exists() and not (self.world.states / case.state / claim).exists()
        if new and not case.path.startswith(LABELS):  # labels are gigabytes, and compared as they are read
            return f"CLAIMED before it was refused: {ended}", "claimed"
        wrong = self._way_out(case, command, ended, path)
        return (f"WAY OUT of \"{ended.error}\": {wrong}", "no way out") if wrong else ("", "named")

    def _way_out(self, case: Case, command: Command, ended: Ended, path: Path) -> str:
        """Does what the message says; returns what is wrong then, "" if nothing or it says nothing."""
        maker = next((self.commands[stage] for prefix, stage in MAKERS if case.path.startswith(prefix)), None)
        if maker is None or case.command == "results":
            return ""
        error = ended.error
        for _ in range(3):  # one step may name the next
            step = self._follow(error, case, maker, path)
            if step is None:
                return "" if error == ended.error else f"{maker.stage} then ends with {error}"
            again = self._run(step)
            if again.status == 0:
                break
            error = again.error
        again = self._run(command)
        if again.status != 0:
            return f"in the end {again}"
        folder = self.world.case / command.folder
        return differences(snapshot(folder), self.right[command.stage])

    def _follow(self, error: str, case: Case, maker: Command, path: Path) -> Command | None:
        """Does what a message says, and returns the command to run then; None where it says none."""
        if not re.search(r"\bdelete (it|the)\b", error):
            return maker.plus("--overwrite") if "--overwrite" in error else None
        if "delete the manifest" in error:
            path = path.with_name("manifest.json")
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if "units" in error and "/syn/" in case.path:
            for record in (self.world.case / RUN / "units").glob("*.json"):
                if path.name in record.read_text():
                    record.unlink()
        return maker


def attack(world: World, *, n: int, seed: int, only: str = "") -> tuple[list[str], str]:
    """n cases (0: all), spread over files and commands.   Returns: the bad ones, and the counts."""
    own, rng, bad, counts = Attack(world), random.Random(seed), [], Counter[str]()
    groups = [[case for case in group if only in str(case)] for group in own.cases()]
    for group in groups:
        rng.shuffle(group)
    turns = [case for row in itertools.zip_longest(*groups) for case in row if case]
    chosen = turns[:n] if n else turns
    for case in chosen:
        wrong, did = own.attempt(case)
        counts[did] += 1
        if wrong:
            bad.append(f"{case}: {wrong}")
            print(f"bad: {bad[-1]}", flush=True)
    shown = ", ".join(f"{number} {did}" for did, number in counts.most_common())
    return bad, f"{len(chosen)} of {len(turns)} damaged files ({shown})"
