"""A row's stages as commands: in this process, or several side by side, each with its share and its device.

Shares of recover and relabel are `--shard i/n`, those of validate are seeds: no process waits for another.
"""
import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from recover import data_synthesis
from relabel import generate_soft_label
from scripts.reproducing.plans import CONFIGS, STAGES, Plan, words_of
from utils.flags import ShardFlags
from utils.interrupts import EXIT_INTERRUPTED, Interrupted, heeded
from utils.runtime import EXIT_BAD_INPUT
from validate import train_FKD

MAINS = {"recover": data_synthesis.main, "relabel": generate_soft_label.main, "validate": train_FKD.main}


def work_of(plan: Plan) -> dict[str, int]:
    """Stage -> how many pieces its work has: units, epochs of labels, students."""
    return dict(zip(STAGES, (len(plan.units()), plan.num_label_files(), len(plan.validate.seeds)),
                    strict=True))


def is_finished(plan: Plan, stage: str) -> bool:
    """Whether all of a stage's work is done, that of other shards too."""
    return dict(zip(STAGES, plan.state(), strict=True))[stage] >= work_of(plan)[stage]


def shares_of(plan: Plan, stage: str, *, shard: tuple[int, int], processes: int) -> Sequence:
    """The configs of a stage's share, one a process; none where there is less work than processes.

    Args: shard: (i, n), this command's share of all commands';  processes: of each command.
    """
    config, (index, count) = getattr(plan, stage), shard
    if config is None:
        return []
    total = min(count * processes, max(1, work_of(plan)[stage]))
    mine = range(index * processes, min((index + 1) * processes, total))
    if total == 1:
        return [config for _ in mine]
    if isinstance(config, ShardFlags):
        return [dataclasses.replace(config, shard=f"{i}/{total}") for i in mine]
    return [dataclasses.replace(config, seeds=config.seeds[i::total]) for i in mine]


def command_of(stage: str, config) -> list[str]:
    """The words of a stage's command, the interpreter left out."""
    return ["-m", CONFIGS[stage][0].__module__, *words_of(stage, config)]


def shown_command(words: Sequence[str]) -> str:
    """A command as a line for a shell, from PRISM's root."""
    return shlex.join(["python", *words])


def stage_lines(stage: str, configs: Sequence) -> list[str]:
    """A stage's shares as lines for people, its commands behind its name."""
    return [f"  {stage:<9} {shown_command(command_of(stage, config))}" for config in configs]


def run_stage(stage: str, configs: Sequence) -> None:
    """Runs a stage's shares: a single one in this process, several as processes with a device each.

    Raises: as the stage;  of several, once all have ended, ValueError where they refused their input,
            RuntimeError where they failed, KeyboardInterrupt where they were stopped and have saved.
    """
    if len(configs) == 1:
        with heeded():
            MAINS[stage](words_of(stage, configs[0]))
        return
    running: list[subprocess.Popen] = []
    try:
        for i, config in enumerate(configs):
            running.append(subprocess.Popen([sys.executable, *command_of(stage, config)],
                                            start_new_session=True, env={**os.environ, "LOCAL_RANK": str(i)}))
        statuses = [process.wait() for process in running]
    except KeyboardInterrupt:  # theirs to save: each is told once, a terminal's Ctrl-C reaches none
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        raise
    failed = [status for status in statuses if status]
    if EXIT_INTERRUPTED in failed:
        raise Interrupted
    if failed:
        kind = ValueError if set(failed) == {EXIT_BAD_INPUT} else RuntimeError
        raise kind(f"{len(failed)} of {len(running)} processes of {stage} ended with status "
                   f"{', '.join(map(str, sorted(set(failed))))}; each has said why above")
