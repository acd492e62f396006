"""Never start over: killed at any moment, a stage goes on from its last save and ends in the same bytes."""
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import contents, words

from recover import data_synthesis
from recover.units import Block, UnitLaws, UnitPlan
from utils.augment import plan_shared_views
from utils.files import save_tensors
from utils.records import read_json
from utils.runtime import command_line, generator
from utils.unfinished import StopSignals, Unfinished
from validate import train_FKD

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
LONG = ("--iteration", 30, "--log-every", 7)


class Killed(BaseException):
    """What a kill -9 looks like from inside: nothing runs after it."""


class Clock:
    """Minutes that pass by the step, and kills at seeded steps."""

    def __init__(self, monkeypatch, kills):
        self.steps, self._kills = 0, set(kills)
        monkeypatch.setattr("utils.unfinished.monotonic", lambda: 60 * self.steps)

    def step(self):
        self.steps += 1
        if self.steps in self._kills:
            raise Killed


def run_until_done(stage, limit: int = 100):
    """Reruns a stage until it ends by itself; returns how often it was killed."""
    for killed in range(limit):
        try:
            stage()
        except Killed:
            continue
        return killed
    raise AssertionError("it never ends")


def patched(monkeypatch, where: str, clock: Clock) -> None:
    """Makes every call of a function (module.name) one step of the clock."""
    module, name = where.rsplit(".", 1)
    function = getattr(sys.modules[module], name)

    def stepped(*args, **kwargs):
        clock.step()
        return function(*args, **kwargs)
    monkeypatch.setattr(where, stepped)


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    """Runs that nobody killed: of recover, and of validate on it with dropout."""
    run = tiny.recover(tmp_path_factory.mktemp("whole"), *LONG)
    tiny.relabel(run, "--epochs", 8)
    tiny.validate(run, "--model", "narrow_alexnet")
    return run


# ---------------------------------------------------------------- killed, simulated and real

@pytest.mark.parametrize("slices", [1, 2])
def test_recover_survives_twenty_kills_at_seeded_steps(slices, tiny, uninterrupted, tmp_path, monkeypatch):
    flags = (*LONG, "--slices-per-batch", slices)
    whole = uninterrupted if slices == 1 else tiny.recover(tmp_path / "whole", *flags)
    clock = Clock(monkeypatch, kills=random.Random(slices).sample(range(2, 60), 20))
    patched(monkeypatch, "recover.synthesis.shared_view", clock)
    killed = run_until_done(lambda: tiny.recover(tmp_path, *flags, "--save-every", 3))
    expected = {path: digest for path, digest in contents(whole).items()
                if not path.startswith(("fkd", "validate"))}
    assert contents(tmp_path / "run") == expected and killed == 20
    assert clock.steps <= 4 * 30 + 20 * (3 * slices + 1)  # no kill cost more than the interval


def test_units_of_two_blocks_survive_ten_kills(tiny, uninterrupted, tmp_path, monkeypatch):
    plan_whole = UnitLaws.plan

    def resized(size):
        return lambda images, start: F.interpolate(images + 0.1 * start.mean(), size=(size, size))

    def plan_blocks(laws, unit):
        """The usual unit, but its last 13 iterations are at 12 pixels."""
        usual, = plan_whole(laws, unit).blocks
        views = plan_shared_views(13, size=12, min_scale=0.5, flip=True, jitter=2, generator=generator(unit))
        return UnitPlan(unit, (Block(usual.rates[:17], usual.views, usual.draws[:17], resized(12)),
                               Block(usual.rates[17:], views, usual.draws[17:], resized(16))))

    monkeypatch.setattr(UnitLaws, "plan", plan_blocks)
    whole = tiny.recover(tmp_path / "whole", *LONG)
    ours, usual = (read_json(run / "units" / "ipc0000_chunk00.json") for run in (whole, uninterrupted))
    assert ours["iterations"] == usual["iterations"] == 30 and ours["primary"] == usual["primary"]
    assert ours["aligned"] == usual["aligned"] and ours["files"] != usual["files"]
    clock = Clock(monkeypatch, kills=random.Random(6).sample(range(2, 120), 10))
    patched(monkeypatch, "recover.synthesis.shared_view", clock)
    killed = run_until_done(lambda: tiny.recover(tmp_path, *LONG, "--save-every", 3))
    assert contents(tmp_path / "run") == contents(whole) and killed == 10
    assert clock.steps <= 4 * 30 + 10 * 4


def test_validate_survives_twenty_kills_at_seeded_steps(tiny, uninterrupted, tmp_path, monkeypatch):
    out, model = tmp_path / "out", "narrow_alexnet"
    clock = Clock(monkeypatch, kills=random.Random(5).sample(range(2, 45), 20))
    patched(monkeypatch, "validate.training.train_batch", clock)
    killed = run_until_done(lambda: tiny.validate(uninterrupted, "--model", model, "--output-dir", out,
                                                  "--save-every", 2))
    assert killed == 20 and contents(out) == contents(uninterrupted / "validate" / model)
    rows = (out / "seed1" / "log.jsonl").read_text().splitlines()
    assert sum('"epoch"' in row for row in rows) == 8 and len(rows) == 9  # an epoch is logged once
    assert clock.steps <= 2 * 8 * 2 + 20 * 3


def stage_process(module: str, flags) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", module, *flags], stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})


def wait_for(path: Path, process: subprocess.Popen, *, newer_than: float = 0.0) -> None:
    """Waits until a file is there and newer than a time, while the process lives."""
    for _ in range(6000):
        if path.is_file() and path.stat().st_mtime > newer_than:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_three_real_kills(tiny, tmp_path):
    flags = ("--ipc-end", 1, "--iteration", 400, "--log-every", 50)
    whole = tiny.recover(tmp_path / "whole", *flags)
    command = tiny.recover_flags(tmp_path, *flags, "--save-every", 0)
    unfinished = tmp_path / "run" / "unfinished"
    for name in ("ipc0000_chunk00.pt", "ipc0000_chunk00.pt", "ipc0000_chunk01.pt"):
        process, started = stage_process("recover.data_synthesis", command), time.time()
        wait_for(unfinished / name, process, newer_than=started)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert torch.load(unfinished / name, weights_only=True)["state"]["step"] > 0
    tiny.recover(tmp_path, *flags)
    left = [path for path in contents(tmp_path / "run") if path.endswith(".tmp")]
    for path in left:  # what a kill in the middle of a write leaves is swept an hour later
        os.utime(tmp_path / "run" / path, (0, 0))
    tiny.recover(tmp_path, *flags)
    assert contents(tmp_path / "run") == contents(whole)


# ---------------------------------------------------------------- told to stop

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["recover", "validate"])
def test_a_signal_saves_and_ends_with_75(stage, number, tiny, uninterrupted, tmp_path, monkeypatch, capfd):
    if stage == "recover":
        main, flags, where = data_synthesis.main, tiny.recover_flags(tmp_path, *LONG), "recover.synthesis"
        where, folder, whole = f"{where}.shared_view", tmp_path / "run", uninterrupted
        saved = folder / "unfinished" / "ipc0000_chunk00.pt"
    else:
        folder, whole = tmp_path / "out", uninterrupted / "validate" / "narrow_alexnet"
        main, where = train_FKD.main, "validate.training.train_batch"
        flags = tiny.validate_flags(uninterrupted, "--model", "narrow_alexnet", "--output-dir", folder)
        saved = folder / "seed0" / "unfinished.pt"
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        clock = Clock(patch, kills=())
        clock.step = lambda: (setattr(clock, "steps", clock.steps + 1),
                              clock.steps == 5 and os.kill(os.getpid(), number))
        patched(patch, where, clock)
        patch.setattr("utils.unfinished.monotonic", lambda: 0)
        patch.setattr(sys, "argv", ["stage", *flags])
        with pytest.raises(SystemExit) as ended:
            command_line(main)
    assert ended.value.code == 75 and clock.steps == 5  # it stopped at the end of that step
    assert saved.is_file() and "interrupted; work is kept" in capfd.readouterr().err
    signal.signal(signal.SIGTERM, handlers[0])
    assert signal.getsignal(signal.SIGINT) == handlers[1]
    main(flags)
    expected = {path: digest for path, digest in contents(whole).items()
                if stage == "validate" or not path.startswith(("fkd", "validate"))}
    assert contents(folder) == expected and not saved.exists()


def test_the_second_signal_stops_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        assert stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


def test_other_ranks_leave_the_decision_to_rank_0(tmp_path, monkeypatch):
    stop = StopSignals()
    stop.asked = True
    assert Unfinished(tmp_path / "x", minutes=5, stop=stop).due()
    monkeypatch.setenv("RANK", "1")
    assert not Unfinished(tmp_path / "x", minutes=0, stop=stop).due()
    with pytest.raises(KeyboardInterrupt), stop:
        raise RuntimeError("connection closed by peer")


# ---------------------------------------------------------------- damage

def test_a_full_disk_is_named_and_costs_nothing(tiny, uninterrupted, tmp_path, monkeypatch):
    saved = tmp_path / "run" / "unfinished" / "ipc0000_chunk00.pt"
    with monkeypatch.context() as patch:
        clock = Clock(patch, kills=())
        patched(patch, "recover.synthesis.shared_view", clock)
        fsync = os.fsync

        def full(descriptor):
            if clock.steps >= 6:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            tiny.recover(tmp_path, *LONG, "--save-every", 3)
    assert caught.value.filename == str(saved) and "run the same command again" in str(caught.value)
    unit = Unfinished(saved, minutes=0, stop=StopSignals())
    assert unit.load()["step"] == 3  # the earlier save is whole
    assert not list(tmp_path.rglob("*.tmp"))
    tiny.recover(tmp_path, *LONG)
    assert contents(tmp_path / "run")["manifest.json"] == contents(uninterrupted)["manifest.json"]


def test_a_damaged_save_starts_the_unit_over(tiny, uninterrupted, tmp_path, capfd):
    shutil.copytree(uninterrupted, tmp_path / "run", ignore=shutil.ignore_patterns("fkd", "validate"))
    (tmp_path / "run" / "units" / "ipc0001_chunk01.json").unlink()
    damaged = tmp_path / "run" / "unfinished" / "ipc0001_chunk01.pt"
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"PK\x03\x04 half of a file")
    tiny.recover(tmp_path, *LONG)
    assert f"{damaged}: damaged" in capfd.readouterr().err and not damaged.exists()
    assert contents(tmp_path / "run")["manifest.json"] == contents(uninterrupted)["manifest.json"]


@pytest.mark.parametrize("place", [0, 40, 0.5, 0.9, -1])
def test_one_changed_byte_of_a_save_is_noticed(place, tmp_path, capfd):
    unit = Unfinished(tmp_path / "unit.pt", minutes=0, stop=StopSignals())
    unit.save({"images": torch.randn(4, 3, 8, 8)})
    content = bytearray((tmp_path / "unit.pt").read_bytes())
    content[int(len(content) * place) if isinstance(place, float) else place] ^= 1
    (tmp_path / "unit.pt").write_bytes(content)
    assert unit.load() is None and "unit.pt: damaged (truncated or changed)" in capfd.readouterr().err


def test_a_save_that_cannot_be_read_is_not_lost(tmp_path, monkeypatch):
    """An error of the system is no damage: it ends the run, and the work stays."""
    unit = Unfinished(tmp_path / "unit.pt", minutes=0, stop=StopSignals())
    unit.save({"step": 35})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "denied")))
        with pytest.raises(PermissionError):
            unit.load()
    assert unit.load() == {"step": 35}


def test_generators_go_on_where_they_were(tmp_path):
    unit = Unfinished(tmp_path / "unit.pt", minutes=0, stop=StopSignals())
    unit.save({"step": 3})
    expected = torch.rand(4)
    torch.rand(10)
    assert unit.load() == {"step": 3} and torch.equal(torch.rand(4), expected)
    unit.discard()
    assert unit.load() is None


def test_tensors_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    save_tensors(tmp_path / "x.pt", {"a": torch.arange(3)})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        save_tensors(tmp_path / "x.pt", {"a": torch.arange(9)})
    assert words(*torch.load(tmp_path / "x.pt", weights_only=True)["a"].tolist()) == ["0", "1", "2"]
    assert len(list(tmp_path.iterdir())) == 1
