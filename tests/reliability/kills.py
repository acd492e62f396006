"""Kills: a command dies at an event of its files, and run again must make what an undisturbed run makes."""
import dataclasses
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.child import Death, Ended, age
from tests.reliability.world import STAGES, Command, World, differences, snapshot
from utils.files import last_logged

OLD = {"teach": ("--seed", 7, "--models", "narrow_resnet", "narrow_plain", "narrow_shufflenet"),
       "recover": ("--seed", 7, "--ipc-end", 3), "relabel": ("--seed", 7, "--epochs", 4),
       "validate": ("--weight-decay", 0.02, "--seeds", 0, 1, 2)}
FOREIGN = {"teach": ("notes.txt", "resnet18-mine.pt", "notes.json", "mine/x.pt", ".mynotes.tmp"),
           "recover": ("notes.txt", "mymodel.pt", "mine/x.txt", "syn/ant/notes.txt", "units/notes.txt",
                       "log_notes.jsonl", ".mynotes.tmp"),
           "relabel": ("notes.txt", "epoch_mine.pt", "log_notes.jsonl", "mine/x.txt", ".mynotes.tmp"),
           "validate": ("seeds.txt", "seed_bank/x.txt", "results.json.bak", "seed0/notes.txt",
                        ".mynotes.tmp")}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A command over a state, and what follows a kill.

    then: what is run after the kill and must end with 0;  expected: the folder that this must give;
    beside: whether the same command runs at the same time.
    """

    name: str
    state: str
    command: Command
    then: tuple[Command, ...]
    expected: dict[str, str]
    events: int
    beside: bool = False


def add_foreign(folder: Path, stage: str) -> dict[str, str]:
    """Adds files, a folder and a link that no run made; returns the snapshot of these."""
    before = snapshot(folder)
    for name in FOREIGN[stage]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")
    (folder / "linked").symlink_to("../../outside")
    return {name: what for name, what in snapshot(folder).items() if name not in before}


def made_anew(folder: Path) -> list[str]:
    """Images, labels and weights that were written in the last hour: `keep` made all others older."""
    return [path.name for path in sorted(folder.rglob("*")) if path.suffix in (".pt", ".png") and
            path.is_file() and path.stat().st_mtime > time.time() - 3600]


class Attack:
    """All scenarios over one world."""

    def __init__(self, world: World):
        self.world = world
        self.found: list[str] = []

    def _bad(self, text: str) -> None:
        self.found.append(text)
        print(f"bad: {text}", flush=True)

    def _undisturbed(self, state: str, *commands: Command) -> tuple[dict[str, str], int]:
        """The folder of the last command, and the events of the first, when nothing goes wrong."""
        self.world.begin(state)
        ended = [self.world.run(command) for command in commands]
        for one in ended:
            if one.status != 0:
                self._bad(f"undisturbed over {state}: {one}")
        return snapshot(self.world.case / commands[-1].folder), len(ended[0].events)

    def scenarios(self, stages: tuple[str, ...] = STAGES) -> Iterator[Scenario]:
        """Every stage fresh, resumed, in shards, with --overwrite over another and the same configuration."""
        for stage in stages:
            new, fresh = self.world.commands[stage], self.world.before(stage)
            expected, events = self._undisturbed(fresh, new)
            yield Scenario(f"{stage}, fresh", fresh, new, (new,), expected, events)
            self.world.begin(fresh)
            self.world.run(new, Death(events * 6 // 10))
            self.world.keep(f"{stage} begun")
            _, left = self._undisturbed(f"{stage} begun", new)
            yield Scenario(f"{stage}, resumed", f"{stage} begun", new, (new,), expected, left)
            if stage in ("recover", "relabel"):
                shards = tuple(new.plus("--shard", f"{i}/2") for i in range(2))
                whole, mine = self._undisturbed(fresh, *shards)
                yield Scenario(f"{stage}, shard", fresh, shards[0], shards, whole, mine)
                yield Scenario(f"{stage}, shard, the other first", fresh, shards[0], shards[::-1], whole,
                               mine)
            yield from self._overwriting(stage, new, expected)

    def _overwriting(self, stage: str, new: Command, fresh: dict[str, str]) -> Iterator[Scenario]:
        world, over, folder = self.world, new.plus("--overwrite"), self.world.case / new.folder
        for name, state in (("begun", f"{stage} begun"), ("finished", stage)):
            world.begin(state)
            foreign = add_foreign(folder, stage)
            world.keep(f"{stage} {name}, foreign")
            there, events = self._undisturbed(f"{stage} {name}, foreign", over)
            self._compare(f"{stage}, --overwrite over the same, {name}, undisturbed", there, fresh | foreign)
            if name == "finished" and (made := made_anew(folder)):
                self._bad(f"{stage}, --overwrite over the same, finished: made anew: {', '.join(made[:3])}")
            yield Scenario(f"{stage}, --overwrite over the same, {name}", f"{stage} {name}, foreign", over,
                           (over,), fresh | foreign, events)
        old = new.plus(*OLD[stage])
        alone, _ = self._undisturbed(world.before(stage), old)
        foreign = add_foreign(folder, stage)
        world.keep(f"{stage} other")
        there, events = self._undisturbed(f"{stage} other", over)
        self._compare(f"{stage}, --overwrite over another, undisturbed", there, fresh | foreign)
        yield Scenario(f"{stage}, --overwrite, two at once", f"{stage} other", over, (over,), fresh | foreign,
                       events, beside=True)
        for name, then, result in (("the same again", over, fresh), ("then the new without", new, fresh),
                                   ("then the old", old, alone)):
            yield Scenario(f"{stage}, --overwrite, {name}", f"{stage} other", over, (then,), result | foreign,
                           events)

    def _compare(self, name: str, there: dict[str, str], expected: dict[str, str]) -> None:
        if wrong := differences(there, expected):
            self._bad(f"{name}: {wrong}")

    def kill(self, scenario: Scenario, deaths: list[Death]) -> tuple[str, str]:
        """Kills, runs again (and kills that), then to the end.   Returns: what is wrong, or ""; where."""
        world = self.world
        world.begin(scenario.state)
        where = ""
        for death in deaths:
            ended, *others = world.run_together(*[scenario.command] * (1 + scenario.beside), death=death)
            if any(other.status != 0 and not other.refused for other in others):
                return f"the other at the same time: {others[0]}", where
            died = ended.events[death.at] if death.at < len(ended.events) else "its end"
            where += f" {death.number.name} at {death.at} ({died})"
            age(world.case)
            wrong = self._badly_stopped(ended, death, scenario.beside)
            if wrong:
                return wrong, where
        for command in scenario.then:
            ended = world.run(command)
            if ended.refused and "--overwrite" in ended.error and "--overwrite" not in command.argv:
                ended = world.run(command.plus("--overwrite"))
            if ended.status != 0:
                return f"run again: {ended}", where
        folder = world.case / scenario.then[-1].folder
        wrong = differences(snapshot(folder), scenario.expected)
        if (world.case / "outside" / "precious.txt").read_text() != "not yours":
            wrong += "; a file outside was changed"
        try:
            last_logged(folder, "elapsed_s")
        except Exception as error:
            wrong += f"; log unreadable ({type(error).__name__})"
        return wrong, where

    def _badly_stopped(self, ended: Ended, death: Death, beside: bool) -> str:
        """What is wrong with the end of a run that got a signal."""
        if ended.refused and beside:
            return ""
        if death.number == signal.SIGKILL:
            return "" if ended.status in (-signal.SIGKILL, 0) else f"at the kill: {ended}"
        if ended.status not in (0, 75) or "Traceback" in ended.err:
            return f"stopped: {ended}"
        return ""


def attack(world: World, *, n: int, seed: int, only: str = "") -> tuple[list[str], str]:
    """n kills, spread over scenarios and events.   Returns: the bad ones, and the counts."""
    own = Attack(world)
    scenarios = [s for s in own.scenarios() if only in s.name]
    bad, counts, rng = own.found, Counter[str](), random.Random(seed)
    for case in range(n):
        scenario = scenarios[case % len(scenarios)]
        turn, turns = case // len(scenarios), -(-n // len(scenarios))
        at = int((turn + rng.random()) / turns * scenario.events)
        deaths = [Death(at, SIGNALS[rng.randrange(len(SIGNALS))])]
        if rng.random() < 0.25:
            deaths.append(Death(rng.randrange(scenario.events), rng.choice(SIGNALS)))
        wrong, where = own.kill(scenario, deaths)
        counts[scenario.name] += 1
        counts.update(death.number.name for death in deaths)
        if wrong:
            bad.append(f"{scenario.name};{where}: {wrong}")
            print(f"bad: {bad[-1]}", flush=True)
    signals = ", ".join(f"{counts[number.name]} {number.name}" for number in dict.fromkeys(SIGNALS))
    events = sum(scenario.events for scenario in scenarios)
    return bad, f"{n} kills ({signals}) over {len(scenarios)} scenarios, {events} events"
