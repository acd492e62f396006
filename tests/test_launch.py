"""Rows on many devices: what reaches the stages, how their work splits, and how several processes end."""
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from helpers import words, write_unit

from scripts import reproduce
from scripts.reproducing.launch import MAINS, is_finished, run_stage, shares_of
from scripts.reproducing.plans import BY_KEY, CONFIGS, STAGES
from utils.distributed import check_devices, my_units, parse_shard
from utils.flags import parse_config
from utils.interrupts import Interrupted
from utils.label_files import label_path, save_labels
from utils.pieces import flatten
from utils.unfinished import StopSignals
from utils.unit_files import unit_path

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
PRISM, HARD = "1/prism-r18-10", "2/multi-4"


def plan(key: str = PRISM, **settings):
    return reproduce.ReproduceConfig(**settings).plan(BY_KEY[key], 0)


def places(own) -> tuple:
    return own.run, own.labels, own.students


# ---------------------------------------------------------------- what reaches the stages

def test_settings_reach_every_stage_that_has_them():
    given = {"device": "cuda:1", "threads": 3, "precision": "bf16", "compile": True, "workers": 7,
             "resident_gb": 2.0, "save_every": 1.5}
    own = plan(**given)
    takers = {name: {stage for stage in STAGES if flatten(getattr(own, stage)).get(name) == value}
              for name, value in given.items()}
    assert takers == {**dict.fromkeys(("device", "threads", "precision"), set(STAGES)),
                      "compile": {"recover", "validate"}, "save_every": {"recover", "validate"},
                      "workers": {"relabel", "validate"}, "resident_gb": {"relabel", "validate"}}


def test_what_changes_bytes_changes_the_folders_and_nothing_else_does():
    usual = places(plan())
    assert usual == places(plan(device="cuda:1", workers=9, resident_gb=1.0, save_every=1.0, processes=8,
                                shard="1/4"))
    for settings in ({"precision": "bf16"}, {"compile": True}):
        assert not set(usual) & set(places(plan(**settings)))


# ---------------------------------------------------------------- how work splits

def all_shares(own, stage: str, *, commands: int, processes: int) -> list:
    return [config for i in range(commands)
            for config in shares_of(own, stage, shard=(i, commands), processes=processes)]


@pytest.mark.parametrize("commands, processes", [(1, 2), (3, 1), (4, 8), (64, 1), (1, 500)])
def test_shares_make_up_the_work_once(commands, processes):
    own = plan()
    for stage, work in (("recover", own.units()), ("relabel", range(own.num_label_files()))):
        configs = all_shares(own, stage, commands=commands, processes=processes)
        assert len(configs) == min(commands * processes, len(work))
        done = [unit for config in configs for unit in my_units(work, parse_shard(config.shard))]
        assert sorted(done) == sorted(work)
        assert {dataclasses.replace(config, shard="") for config in configs} == {getattr(own, stage)}
    students = all_shares(own, "validate", commands=commands, processes=processes)
    assert sorted(seed for config in students for seed in config.seeds) == [0, 1, 2]
    assert {dataclasses.replace(config, seeds=own.validate.seeds) for config in students} == {own.validate}


def test_one_process_has_the_whole_config_and_hard_labels_no_relabel():
    own = plan(HARD)
    assert [shares_of(own, stage, shard=(0, 1), processes=1) for stage in STAGES] == [
        [own.recover], [], [own.validate]]
    assert shares_of(own, "validate", shard=(1, 4), processes=1) == []  # one student, the first shard's


def test_dry_run_prints_each_processs_command(tmp_path, capsys):
    reproduce.main(words("1", PRISM[2:], "--dry-run", "--dataset", "digits", "--weights-dir", "w", "--out",
                         f"{tmp_path}/a b", "--processes", 3, "--precision", "bf16", "--shard", "1/2"))
    lines = capsys.readouterr().out.splitlines()
    own = plan(dataset="digits", weights_dir=("w",), out=f"{tmp_path}/a b", precision="bf16")
    for stage in STAGES:
        shown = [shlex.split(line) for line in lines if line.startswith(f"  {stage} ")]
        cls, presets = CONFIGS[stage]
        assert all(line[:4] == [stage, "python", "-m", cls.__module__] for line in shown)
        assert [parse_config(cls, line[4:], presets=presets) for line in shown] \
            == shares_of(own, stage, shard=(1, 2), processes=3)
    assert sum(" --shard 5/6" in line for line in lines) == 2  # of recover and of relabel


def test_small_datas_teachers_are_among_the_commands(tmp_path, capsys):
    argv = ["3a", "r18-only", "--dry-run", "--dataset", "digits", "--out", str(tmp_path)]
    reproduce.main(argv)
    assert "  teachers  python -m models.train_teachers --dataset digits" in capsys.readouterr().out
    reproduce.main([*argv, "--weights-dir", "w"])
    assert "  teachers " not in capsys.readouterr().out


# ---------------------------------------------------------------- shards of a row

@pytest.fixture
def fakes(monkeypatch) -> list[tuple[str, str]]:
    """(stage, shard or seeds) of each call; recover and relabel write empty files of their share."""
    calls = []

    def fake(stage):
        def run(argv):
            config = parse_config(CONFIGS[stage][0], argv, presets=CONFIGS[stage][1])
            calls.append((stage, config.seeds if stage == "validate" else config.shard))
            shard = (0, 1) if stage == "validate" else parse_shard(config.shard)
            if stage == "recover":
                for unit in my_units([(i, 0) for i in range(config.ipc_end)], shard):
                    write_unit(unit_path(config.run, *unit))
            if stage == "relabel":
                for epoch in my_units(range(config.num_files), shard):
                    save_labels(label_path(Path(config.fkd_path) / str(config.ipc), epoch), {})
        return run
    for stage in STAGES:
        monkeypatch.setitem(MAINS, stage, fake(stage))
    return calls


def test_a_shard_goes_as_far_as_the_others_have_come(fakes, tmp_path, capsys):
    def run(shard):
        fakes.clear()
        reproduce.main(["3a", "r18-only", "--dataset", "digits", "--out", str(tmp_path), "--weights-dir", "w",
                        "--ipc", "4", "--seeds", "5", "6", "7", "--shard", shard])
        return fakes, capsys.readouterr().err
    calls, said = run("0/2")
    assert calls == [("recover", "0/2")] and "other shards have not finished recover" in said
    calls, said = run("1/2")
    assert calls == [("recover", "1/2"), ("relabel", "1/2")] and "have not finished relabel" in said
    calls, said = run("0/2")
    assert calls == [("recover", "0/2"), ("relabel", "0/2"), ("validate", (5, 7))]
    calls, _ = run("1/2")
    assert calls[-1] == ("validate", (6,))
    own = plan("3a/r18-only", dataset="digits", out=str(tmp_path), weights_dir=("w",), ipc=4, seeds=(5, 6, 7))
    assert [is_finished(own, stage) for stage in STAGES] == [True, True, False]


def test_a_shard_does_not_train_teachers(fakes, tmp_path, refused):
    error = refused(reproduce.main, ["3a", "r18-only", "--dataset", "digits", "--out", tmp_path, "--shard",
                                     "0/2"])
    assert "a shard needs all teachers trained" in error and "python -m models.train_teachers" in error
    assert not fakes and not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv, error", [
    (["--processes", "0"], "--processes must be in [1, 1024]"),
    (["--shard", "2/2"], "--shard 2/2: expected i/n")])
def test_bad_shares_are_refused(argv, error, refused, tmp_path):
    assert error in refused(reproduce.main, ["1", "--dry-run", "--out", tmp_path, *argv])


# ---------------------------------------------------------------- several processes

@pytest.fixture
def python(tmp_path, monkeypatch):
    """f(body): sys.executable becomes a shell script; returns a folder where each rank writes its words."""
    def make(body: str) -> Path:
        stub, ranks = tmp_path / "python", tmp_path / "ranks"
        ranks.mkdir()
        stub.write_text(f'#!/bin/sh\necho "$@" > "{ranks}/$LOCAL_RANK"\n{body}\n')
        stub.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(stub))
        return ranks
    return make


def start(processes: int) -> None:
    run_stage("recover", shares_of(plan(), "recover", shard=(0, 1), processes=processes))


def test_processes_have_their_shares_and_devices(python):
    ranks = python("exit 0")
    start(3)
    for i in range(3):
        command = (ranks / str(i)).read_text()
        assert command.startswith("-m recover.data_synthesis ") and f"--shard {i}/3" in command


@pytest.mark.parametrize("statuses, kind", [
    ((0, 2, 2), ValueError), ((0, 2, 1), RuntimeError), ((0, 1, 1), RuntimeError),
    ((1, 75, 0), KeyboardInterrupt)])
def test_the_status_of_several_is_the_worst_that_can_be_mended(python, statuses, kind):
    ranks = python("set -- " + " ".join(map(str, statuses)) + "; shift $LOCAL_RANK; exit $1")
    with pytest.raises(kind) as error:
        start(3)
    assert len(list(ranks.iterdir())) == 3
    if kind is not KeyboardInterrupt:
        assert str(error.value).startswith("2 of 3 processes of recover ended with status")


def test_an_interrupt_is_passed_on_once_and_waited_for(python):
    ranks = python('out="$0.$LOCAL_RANK"\n'
                   "trap 'echo told >> \"$out\"; sleep 0.2; echo saved >> \"$out\"; exit 75' TERM\n"
                   "while :; do sleep 0.05; done")

    def interrupt():
        while len(list(ranks.iterdir())) < 2:
            time.sleep(0.02)
        time.sleep(0.1)  # until they have set their traps
        os.kill(os.getpid(), signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a command line does
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            start(2)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [Path(f"{sys.executable}.{i}").read_text() for i in range(2)] == ["told\nsaved\n"] * 2


def test_a_signal_in_a_stages_last_moment_stops_the_next(monkeypatch):
    def ends(words):
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.asked  # behind its last save
    own = plan()
    monkeypatch.setitem(MAINS, "recover", ends)
    with pytest.raises(Interrupted, match="finished work is kept"):
        run_stage("recover", [own.recover])
    monkeypatch.setitem(MAINS, "recover", lambda words: None)
    run_stage("recover", [own.recover])  # an earlier one is forgotten


def test_students_of_more_processes_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = torch.device("cuda", 0)
    check_devices("auto", cuda)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_devices("auto", cuda)
    with pytest.raises(ValueError, match="2 processes .* --device cuda:0 has 1 CUDA .* use NPROC=1"):
        check_devices("cuda:0", cuda)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    check_devices("cpu", torch.device("cpu"))
    with pytest.raises(ValueError, match="4 processes .* --device auto has 2 CUDA .* use NPROC=2 or fewer"):
        check_devices("auto", cuda)


# ---------------------------------------------------------------- scripts

def run_script(name: str, stub: str, tmp_path, *flags, **env) -> subprocess.CompletedProcess:
    """A script whose interpreter is a shell script of that text."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{stub}\n")
    python.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key not in ("OUT", "IMAGENET", "NPROC")}
    return subprocess.run(
        ["sh", str(ROOT / "scripts" / name), *words(*flags)], text=True, capture_output=True,
        env={**kept, "PYTHON": str(python), "OUT": str(tmp_path / "out"), **env})


def test_reproduce_takes_nproc_and_a_share_before_the_table(tmp_path):
    done = run_script("reproduce.sh", 'echo "$@"', tmp_path, "--shard", "3/8", "2", "multi-4", "--compile",
                      NPROC="2")
    assert done.stdout == f"-m scripts.reproduce 2 multi-4 --out {tmp_path}/out --processes 2 --shard 3/8 " \
                          f"--compile\n"


def test_a_failing_benchmark_stops_no_other(tmp_path):
    stub = 'echo "$2"\ncase "$*" in *--compile*|*precision*) exit 1;; esac'
    done = run_script("benchmarks.sh", stub, tmp_path)
    assert done.returncode == 1
    assert "error: failed: recover_step_compile precision; " in done.stderr
    assert {path.name for path in (tmp_path / "out" / "benchmarks").iterdir()} == {
        "recover_step.jsonl", "parts.jsonl", "augment.jsonl", "labels.jsonl", "memory.jsonl",
        "recover_step_compile.jsonl.tmp", "precision.jsonl.tmp"}
    assert run_script("benchmarks.sh", "exit 0", tmp_path).returncode == 0
