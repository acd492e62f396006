"""What one wants to know of a CUDA device, in steps of at most ten minutes that go on where they stopped.

    sh scripts/gpu.sh                            all steps
    sh scripts/gpu.sh --steps correctness step   some
    sh scripts/gpu.sh --list                     states;  --dry-run: commands too

Each step has a JSON file in <out>/gpu: device, versions, commands, seconds, and what was found.  What is
whole is not run again; delete its file to have it anew.
"""
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from scripts.gpu_steps.plan import Step, benchmarks, comparison, correctness
from scripts.gpu_steps.running import DONE, FAILED, STOPPED, Told, in_a_process, run_command
from scripts.reproducing.launch import shown_command
from utils.files import write_json
from utils.flags import parse_config
from utils.interrupts import Interrupted
from utils.pieces import Options, Values, option, require
from utils.records import read_json
from utils.runtime import choose_device, command_line, readable_time, say, versions

TURN = (DONE, None, STOPPED, FAILED)  # what was never tried starves behind nothing
BEGINNING = 0.05  # share of a limit below which no command is begun
STEPS = ("correctness", "step", "compiled", "memory", "students", "comparison")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GpuConfig(Options):
    """What `scripts/gpu.sh` takes."""

    out: str = option("out", "folder of everything that is made; results in its gpu/")
    steps: tuple[str, ...] = option(STEPS, "which steps", commas=True)
    limit: float = option(600.0, "seconds each step takes at most; what is unfinished is saved in their last "
                          "tenth, and goes on at the next call; 0: no limit", range=">= 0")
    device: str = option("cuda", "cuda, cuda:1, ...; cpu: to try the command out, with small settings")
    batch_size: int = option(100, "images of a recover step", range="in [1, 32767]")
    size: int = option(224, "side of the benchmarks' images [pixels]", range="in [8, 8192]")
    rounds: int = option(5, "interleaved rounds of the benchmarks", range="in [1, 1000]")
    train_data_path: str = option("", "CIFAR-10, for the comparison; none: torchvision downloads it to data/")
    draws: int = option(3, "of the comparison", range="in [1, 1000]")
    list: bool = option(False, "print every step with its state")
    dry_run: bool = option(False, "print every step with its state and its commands")

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.steps if name not in STEPS]
        require(self.steps and not unknown,
                f"--steps {' '.join(unknown)}: expected some of {', '.join(STEPS)}")

    @property
    def plan(self) -> Sequence[Step]:
        """The chosen steps, in order."""
        every = [correctness(self.device),
                 *benchmarks(self.device, batch_size=self.batch_size, size=self.size, rounds=self.rounds),
                 comparison(self.device, out=Path(self.out), draws=self.draws, data=self.train_data_path)]
        return [step for step in every if step.name in self.steps]

    def record(self, step: Step) -> Path:
        """Where a step's results are."""
        return Path(self.out, "gpu", f"{step.name}.json")


def about(name: str) -> Values:
    """Device and versions, of which all results of a folder are.   Raises: as `choose_device`."""
    device = choose_device(name)
    cuda = device.type == "cuda"
    return {"device": device.type, "device_name": torch.cuda.get_device_name(device) if cuda else "cpu",
            "devices": torch.cuda.device_count() if cuda else 0, "cuda": torch.version.cuda or "none",
            "cudnn": torch.backends.cudnn.version() if cuda else None, "versions": versions()}


def ask(name: str) -> Values:
    """As `about`; a CUDA device is opened elsewhere: here its memory would lie beside what is measured."""
    opened = name.startswith("cuda") and torch.cuda.is_available()
    return in_a_process(about, name) if opened else about(name)


def earlier(path: Path, here: Values | None) -> dict[str, Values]:
    """What an earlier call found of a step: command -> result.

    Args:   here: of `about`; None: whatever it was found on.
    Raises: ValueError where it was found on another device or with other versions.
    """
    if not path.is_file():
        return {}
    saved = read_json(path)
    for name, value in (here or {}).items():
        require(saved.get(name) == value, f"{path}: found with {name} {saved.get(name)}, here it is {value}; "
                f"choose another --out, or delete it")
    return {result["command"]: result for result in saved["commands"]}


def describe(step: Step, found: dict[str, Values]) -> str:
    """A step's state, as people read it."""
    states = [found.get(shown_command(command.words), {}).get("state") for command in step.commands]
    if all(state == DONE for state in states):
        return "done"
    if FAILED in states:
        return "failed"
    return f"{states.count(DONE)} of {len(states)} commands done" if any(states) else "missing"


def print_steps(config: GpuConfig) -> None:
    """Prints every step's state.   With --dry-run its commands too."""
    for step in config.plan:
        print(f"{step.name:<12} {describe(step, earlier(config.record(step), None))}: {step.about}")
        for command in step.commands if config.dry_run else ():
            print(f"  {shown_command(command.words)}")


def save(path: Path, step: Step, here: Values, found: dict[str, Values], result: Values) -> None:
    """Adds a command's result to a step's, and writes the step's file; what was stopped before went on."""
    own = result["command"]
    if found.get(own, {}).get("state") == STOPPED:
        result |= {name: result[name] + found[own][name] for name in ("seconds", "calls")}
    found[own] = result
    shown = [shown_command(command.words) for command in step.commands]
    known = [found[own] for own in shown if own in found]
    write_json(path, {**here, "step": step.name, "about": step.about, "commands": known,
                      "whole": describe(step, found) == "done",
                      "seconds": round(sum(own["seconds"] for own in known), 3)})


def run_step(config: GpuConfig, step: Step, here: Values) -> str:
    """Runs what a step lacks, writes its file, and returns its state: done, stopped or failed.

    A command that fails stops no other; those behind one that was stopped wait for the next call, which
    begins with them.
    """
    path, left = config.record(step), config.limit or None
    found = earlier(path, here)
    shown = {shown_command(command.words): command for command in step.commands}
    states = {own: found.get(own, {}).get("state") for own in shown}
    for own in sorted(shown, key=lambda own: TURN.index(states[own])):
        if states[own] == DONE:
            continue
        if left is not None and left < config.limit * BEGINNING:
            return STOPPED
        say(f"{step.name}: {own}")
        try:
            result = run_command(shown[own], seconds=left)
        except Told as told:
            save(path, step, here, found, told.result)
            raise
        left, states[own] = left and left - result["seconds"], result["state"]
        say(f"{step.name}: {states[own]} after {readable_time(result['seconds'])}")
        save(path, step, here, found, result)
        if states[own] == STOPPED:
            return STOPPED
    return FAILED if FAILED in states.values() else DONE


def main(argv: Sequence[str] | None = None) -> dict[str, str]:
    """Runs, lists or plans the steps; returns step -> state.

    Raises: ValueError before anything is run where there is no such device, or results are of another;
            RuntimeError after all others where a step failed, Interrupted where the limit stopped one.
    """
    config = parse_config(GpuConfig, argv, description=__doc__)
    if config.list or config.dry_run:
        print_steps(config)
        return {}
    here, states = ask(config.device), dict[str, str]()
    for step in config.plan:
        earlier(config.record(step), here)
    for step in config.plan:
        states[step.name] = run_step(config, step, here)
    folder = Path(config.out, "gpu")
    failed, stopped = ([name for name, state in states.items() if state == own] for own in (FAILED, STOPPED))
    if failed:
        more = f"; stopped by --limit: {', '.join(stopped)}" if stopped else ""
        raise RuntimeError(f"failed: {', '.join(failed)}; why is in {folder}/<step>.json under \"said\"; the "
                           f"same command tries again{more}")
    if stopped:
        raise Interrupted(f"--limit {config.limit:g} stopped {', '.join(stopped)}; what is finished is in "
                          f"{folder}")
    say(f"{folder}: {', '.join(states)} done")
    return states


if __name__ == "__main__":
    command_line(main)
