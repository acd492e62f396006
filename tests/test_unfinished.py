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
from recover.plans import Block, UnitLaws, UnitPlan
from recover.synthesis import Synthesis
from utils import interrupts
from utils.augment import plan_shared_views
from utils.files import save_tensors
from utils.records import read_json
from utils.runtime import command_line, generator, progress, say
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
        """The usual unit, but its first 13 iterations are at 12 pixels."""
        usual, = plan_whole(laws, unit).blocks
        views = plan_shared_views(13, size=12, min_scale=0.5, flip=True, jitter=2, generator=generator(unit))
        return UnitPlan(unit, (Block(usual.rates[:13], views, usual.draws[:13], resized(12)),
                               Block(usual.rates[13:], usual.views, usual.draws[13:], resized(16))))

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
    assert len(rows) == 8  # an epoch is logged once
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
    flags = ("--ipc-end", 1, "--iteration", 120, "--log-every", 50)
    whole = tiny.recover(tmp_path / "whole", *flags)
    command = tiny.recover_flags(tmp_path, *flags, "--save-every", 0)
    unfinished = tmp_path / "run" / "unfinished"
    for name in ("ipc0000_chunk00.pt", "ipc0000_chunk00.pt", "ipc0000_chunk01.pt"):
        process, started = stage_process("recover.data_synthesis", command), time.time()
        wait_for(unfinished / name, process, newer_than=started)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        assert Unfinished(unfinished / name, minutes=0, stop=StopSignals()).load()["step"] > 0
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
    said = capfd.readouterr().err
    assert saved.is_file() and f"interrupted: unfinished work is saved in {saved}; run" in said
    assert "error" not in said and "goes on" not in said
    assert handlers == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    main(flags)
    done = "IPC index 0, chunk 0: goes on from its save, 5 of 30 iterations are done" if stage == "recover" \
        else "student, seed 0: goes on from its save, 2 of 8 epochs and 1 batches are done"
    assert done in capfd.readouterr().err
    expected = {path: digest for path, digest in contents(whole).items()
                if stage == "validate" or not path.startswith(("fkd", "validate"))}
    assert contents(folder) == expected and not saved.exists()


def test_a_second_signal_stops_at_once_but_an_echo_does_not(monkeypatch, capfd):
    """SLURM without proctrack/cgroup signals the stage, and the shell above it, which passes its own on."""
    now = [100.0]
    monkeypatch.setattr("utils.interrupts.monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
            assert stop.asked
            now[0] += 1.9
        said = capfd.readouterr().err
        assert "SIGINT: saving unfinished work; once more, after 2 s," in said and said.count("\n") == 1
        now[0] += 0.2
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it went on")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_starts_ends_with_75(number, tmp_path):
    """Before torch is imported: here a module of a package of ours that waits."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "__init__.py").write_text((ROOT / "validate" / "__init__.py").read_text())
    (tmp_path / "slow" / "work.py").write_text("import time\nprint(1, flush=True)\ntime.sleep(30)\n")
    process = subprocess.Popen([sys.executable, "-m", "slow.work"], text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, cwd=tmp_path, start_new_session=True,
                               env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert process.stdout.readline() == "1\n"
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 75 and said == "interrupted: nothing was begun, run the same command again\n"


def test_a_library_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupts.answer_early()
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


END = """import atexit, os, sys, signal
from utils.runtime import command_line
def main(argv):
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
    atexit.register(os.kill, os.getpid(), signal.SIGTERM)
    exec("os.kill(os.getpid(), signal.SIGTERM); done = 1")
command_line(main)
"""


def test_the_status_stands_while_a_command_ends(tmp_path):
    (tmp_path / "ends.py").write_text(END)
    done = subprocess.run([sys.executable, "-m", "ends"], capture_output=True, text=True, timeout=60,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 75 and done.stderr.startswith("interrupted: nothing was saved just now;")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_relabel_with_workers_stops_without_tracebacks(number, tiny, uninterrupted, tmp_path):
    """The signal goes to the whole group, as a terminal's Ctrl-C and SLURM's do: workers leave it to us."""
    flags = tiny.relabel_flags(uninterrupted, "--epochs", 5000, "--resident-gb", 0, "--workers", 2,
                               "--fkd-path", tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "relabel.generate_soft_label", *flags], text=True,
                               stderr=subprocess.PIPE, cwd=ROOT, start_new_session=True)
    wait_for(tmp_path / "2" / "epoch_001.pt", process)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert not [word for word in ("Traceback", "unexpectedly", "killed by") if word in said], said
    assert "interrupted: finished epochs of labels are kept, this one starts over; run" in said


def test_progress_in_a_log_is_lines(capfd):
    bar = progress(total=4, text="recover")
    for _ in range(3):
        bar.start_t -= 90  # a minute and a half goes by
        bar.last_print_t -= 90
        bar.update()
        say("between")
    bar.close()
    said = capfd.readouterr().err
    assert "\r" not in said and "\x1b" not in said
    lines = said.splitlines()
    assert [line for line in lines if line != "between"][0].startswith("recover:  25% 1/4 [01:30<")
    assert len(lines) == 6 and all(lines)


def test_what_is_not_finite_is_never_saved(tmp_path):
    unit = Unfinished(tmp_path / "unit.pt", minutes=0, stop=StopSignals())
    state = {"step": 3, "images": [torch.ones(2)], "optimizers": [{"state": {0: {"exp_avg": torch.ones(2)}}}]}
    unit.save(state)
    state["optimizers"][0]["state"][0]["exp_avg"][1] = float("inf")
    with pytest.raises(RuntimeError, match=r"unit.pt: not saved, state.optimizers.0.state.0.exp_avg is not"):
        unit.save({**state, "step": 4})
    assert unit.load()["step"] == 3


def test_other_ranks_leave_the_decision_to_rank_0(tmp_path, monkeypatch):
    stop = StopSignals()
    stop.asked = True
    assert Unfinished(tmp_path / "x", minutes=5, stop=stop).due()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Unfinished(tmp_path / "x", minutes=5, stop=stop).due()  # recover's ranks have units of their own
    monkeypatch.setattr("utils.unfinished.dist.is_initialized", lambda: True)
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


def test_a_run_without_iterations_stops_between_its_units(tiny, tmp_path, monkeypatch):
    make, made = Synthesis.make, []

    def signalled(work, group):
        make(work, group)
        made.append(group)
        os.kill(os.getpid(), signal.SIGTERM)
    control = ("--iteration", 0, "--init", "random")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="finished units are kept"):
        patch.setattr(Synthesis, "make", signalled)
        tiny.recover(tmp_path, *control)
    assert len(made) == 1 and len(list(tmp_path.glob("run/units/*"))) == 1
    tiny.recover(tmp_path, *control)
    assert len(list(tmp_path.glob("run/units/*"))) == 4


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
