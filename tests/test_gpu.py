"""One command for a GPU: its steps, the limit, what is kept of them.  The commands here are of moments."""
import functools
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import words
from test_launch import run_script

from benchmarks import memory, recover_step
from benchmarks.augment import AugmentConfig
from benchmarks.memory import MemoryConfig
from benchmarks.recover_step import StepConfig
from scripts import compare, gpu
from scripts.comparing.cells import cells_of, compared_methods
from scripts.gpu_steps import counted_tests, plan, running
from scripts.gpu_steps.plan import Command, Step
from utils.flags import parse_config
from utils.interrupts import Interrupted
from utils.records import read_json
from utils.runtime import versions

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
SMALL = {"benchmarks.recover_step": StepConfig, "benchmarks.memory": MemoryConfig,
         "benchmarks.augment": AugmentConfig}
SAYS_A_LINE = "print('not JSON'); print('{\"found\": 1}')"
SAVES = """
import pathlib, signal, sys, time
kept = pathlib.Path({path!r})
def save(*_):
    kept.write_text("half")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
if not kept.exists():
    print('{{"begun": 1}}', flush=True)
    time.sleep(60)
print('{{"ended": 1}}')
"""


def python(code: str, *found: Path) -> Command:
    return Command(("-c", code), found)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """f({name: codes}, *flags): the command over these steps; its result's states."""
    def call(steps: dict[str, list[str]], *flags) -> dict[str, str]:
        own = [Step(name, "a test", tuple(map(python, codes))) for name, codes in steps.items()]
        monkeypatch.setattr(gpu.GpuConfig, "plan", property(lambda config: own))
        return gpu.main(words("--out", tmp_path, "--device", "cpu", *flags))
    return call


def result(tmp_path, name: str) -> dict:
    return read_json(tmp_path / "gpu" / f"{name}.json")


def appends(path: Path, then: str = "") -> str:
    return f"open({str(path)!r}, 'a').write('x'); {then}"


# ---------------------------------------------------------------- what is planned

def test_the_steps_are_commands_that_their_modules_take(tmp_path):
    config = parse_config(gpu.GpuConfig, words("--out", tmp_path, "--train-data-path", "cifar"))
    assert tuple(step.name for step in config.plan) == gpu.STEPS
    assert len(gpu.STEPS) <= 8  # so many files come back from a lent machine
    taken = []
    for command in (command for step in config.plan for command in step.commands):
        flag, module, *rest = command.words
        assert flag == "-m"
        if module in SMALL:
            own = parse_config(SMALL[module], rest)
            taken.append((module, own))
            assert own.device == "cuda"
    steps = [own for module, own in taken if module == "benchmarks.recover_step"]
    assert {(own.precision, own.compile, own.teachers) for own in steps} == {
        *(("fp32", False, (k,)) for k in range(1, 6)), *((name, True, (5,)) for name in plan.PRECISIONS)}
    assert [own.gradients for own in steps if not own.compile] == [(k,) for k in range(1, 6)]
    assert {own.batch_size for own in steps} == {100}
    trained = [own for module, own in taken if module == "benchmarks.augment"]
    assert [own.model for own in trained if own.training] == list(plan.TRAINED)
    assert [own.views for own in trained] == [False, False, False, True]  # they have no student


def test_every_test_is_in_one_command():
    step = plan.correctness("cuda:0")
    assert all((ROOT / name).is_file() for name in plan.TEST_FILES)
    assert [command.words[-3:] for command in step.commands] == [("cuda", "-k", own) for own in plan.TESTS]
    ids = [f"{test}[cuda-{precision}]" for test in re.findall(
        r"def (test_\w+)", (ROOT / plan.TEST_FILES[0]).read_text()) for precision in ("fp32", "tf32", "bf16")]
    for own in [*ids, "test_the_compiled_engine_is_as_near[cuda-float64]"]:
        holds = {word: word in own for word in re.findall(r"\w+", " ".join(plan.TESTS))}
        assert sum(eval(words, {}, holds) for words in plan.TESTS) == 1, own


def test_the_comparison_reads_the_table_that_it_writes(tmp_path):
    step = plan.comparison("cpu", out=tmp_path, data="cifar", draws=2)
    methods, flags = compare.split_words(step.commands[0].words[2:])
    config = parse_config(compare.CompareConfig, flags)
    assert config.comparison == step.commands[0].found[0].parent and compared_methods(methods)
    assert step.commands[0].found[0].stem == compare.name_of(config, methods)
    own = config.plan(cells_of(compared_methods(methods), common=config.common, ipcs=config.ipcs)[-1], 1)
    assert own.recover.dataset == "cifar10" and own.validate.model == "resnet18"
    assert str(tmp_path / "cifar10-full" / "teachers1") == own.recover.weights_dir
    told = config.teacher_words(0)
    assert told[told.index("--dataset") + 1] == "cifar10" and "efficientnet_b0" in told


@pytest.mark.parametrize("data", ["", "elsewhere"])
def test_the_comparison_has_the_given_data_and_else_downloads(tmp_path, data):
    step = plan.comparison("cpu", out=tmp_path, data=data, draws=2)
    config = parse_config(compare.CompareConfig, compare.split_words(step.commands[0].words[2:])[1])
    assert config.train_data_path == data  # none: utils.data downloads, or says why not


# ---------------------------------------------------------------- what is run, and run again

def test_a_failing_step_stops_no_other_and_is_tried_again(run, tmp_path, capsys):
    marks, fault = tmp_path / "marks", tmp_path / "fault"
    fails = appends(marks, f"import os, sys; os.path.exists({str(fault)!r}) and sys.exit('error: broken')")
    steps = {"first": [fails, SAYS_A_LINE], "second": [appends(marks)]}
    fault.touch()
    with pytest.raises(RuntimeError, match="failed: first; .* tries again$"):
        run(steps)
    assert marks.read_text() == "xx"
    found = result(tmp_path, "first")
    assert [own["state"] for own in found["commands"]] == ["failed", "done"] and not found["whole"]
    assert found["commands"][0]["said"] == ["error: broken"] and found["commands"][0]["status"] == 1
    assert found["commands"][1]["rows"] == [{"found": 1}] and result(tmp_path, "second")["whole"]
    run(steps, "--list")
    assert capsys.readouterr().out == "first        failed: a test\nsecond       done: a test\n"
    fault.unlink()
    assert run(steps) == {"first": "done", "second": "done"} and marks.read_text() == "xxx"
    (tmp_path / "gpu" / "second.json").unlink()  # to have it anew
    assert run(steps) == {"first": "done", "second": "done"} and marks.read_text() == "xxxx"


def test_a_file_says_device_versions_commands_and_seconds(run, tmp_path):
    run({"one": [SAYS_A_LINE]})
    found = result(tmp_path, "one")
    assert [found[name] for name in ("device", "device_name", "step", "whole")] == ["cpu", "cpu", "one", True]
    assert found["versions"] == versions() and found["cuda"] == (torch.version.cuda or "none")
    own, = found["commands"]
    assert own["command"].startswith("python -c ") and own["status"] == 0 and own["calls"] == 1
    assert 0 < own["seconds"] == found["seconds"] < 60


def test_a_step_ends_within_its_limit_and_goes_on(run, tmp_path):
    marks, saved = tmp_path / "marks", tmp_path / "saved"
    steps = {"long": [appends(marks), SAVES.format(path=str(saved)), appends(marks, "'last'")],
             "short": [SAYS_A_LINE]}
    began = time.monotonic()
    with pytest.raises(Interrupted, match="--limit 4 stopped long; what is finished is in"):
        run(steps, "--limit", 4)
    assert time.monotonic() - began < 40 and saved.read_text() == "half" and marks.read_text() == "x"
    found = result(tmp_path, "long")
    assert [own["state"] for own in found["commands"]] == ["done", "stopped"] and not found["whole"]
    assert found["commands"][1]["rows"] == [{"begun": 1}] and result(tmp_path, "short")["whole"]
    assert run(steps, "--limit", 30) == {"long": "done", "short": "done"} and marks.read_text() == "xx"
    own = result(tmp_path, "long")["commands"][1]
    assert (own["state"], own["calls"], own["rows"]) == ("done", 2, [{"ended": 1}])
    assert own["seconds"] > found["commands"][1]["seconds"]


def test_what_does_not_save_in_time_is_killed():
    deaf = python("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)")
    found = running.run_command(deaf, seconds=1.0)
    assert found["state"] == "stopped" and found["status"] == -9 and 1 <= found["seconds"] < 30


def test_a_commands_files_are_among_its_rows(tmp_path):
    path, missing = tmp_path / "table.json", tmp_path / "missing.json"
    writes = f"open({str(path)!r}, 'w').write('{{\"cells\": []}}')"
    assert running.run_command(python(writes, path, missing), seconds=None)["rows"] == [{"cells": []}]


def test_a_comparison_is_done_when_every_cell_is(tmp_path):
    path = tmp_path / "table.json"

    def found(*left_out: str) -> dict:
        table = {"cells": [{"method": f"m{i}", "protocol": "rd3", "left_out": own}
                           for i, own in enumerate(left_out)]}
        return running.run_command(python(f"open({str(path)!r}, 'w').write({json.dumps(table)!r})", path),
                                   seconds=None)
    whole, partly = found("", ""), found("", "draw 0: CUDA error")
    assert whole["state"] == "done" and "said" not in whole
    assert partly["state"] == "failed" and partly["said"] == ["m1 under rd3: draw 0: CUDA error"]
    missing = running.run_command(python("", tmp_path / "none.json"), seconds=None)
    assert missing["state"] == "failed" and missing["said"] == [f"it wrote no {tmp_path / 'none.json'}"]


def test_nan_is_a_finding(run, tmp_path):
    assert run({"one": ["print('{\"cosine\": NaN, \"largest\": -Infinity}')"]}) == {"one": "done"}
    assert result(tmp_path, "one")["commands"][0]["rows"] == [{"cosine": "NaN", "largest": "-Infinity"}]


def test_what_failed_starves_nothing_and_nothing_begins_at_the_end(run, tmp_path):
    marks, fault = tmp_path / "marks", tmp_path / "fault"
    fails = appends(marks, f"import os, sys; os.path.exists({str(fault)!r}) and sys.exit('error: broken')")
    waits = f"import time; open({str(marks)!r}, 'a').write('y'); time.sleep(60)"
    last = f"open({str(marks)!r}, 'a').write('z')"
    fault.touch()
    with pytest.raises(RuntimeError, match="failed: one"):
        run({"one": [fails]})
    with pytest.raises(Interrupted):  # it was tried; what was not is before it, and takes all the time
        run({"one": [fails, waits]}, "--limit", 1)
    with pytest.raises(Interrupted):  # as what was stopped is behind what was never tried
        run({"one": [fails, waits, last]}, "--limit", 1)
    assert marks.read_text() == "xyzy"
    assert [own["state"] for own in result(tmp_path, "one")["commands"]] == ["failed", "stopped", "done"]


def test_a_command_outlives_nobody(run, tmp_path, monkeypatch):
    ready = tmp_path / "ready"
    deaf = ("import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            f"print('{{\"a\": 1}}', flush=True); open({str(ready)!r}, 'w').close(); time.sleep(60)")
    seen = []

    def told(process, seconds):
        seen.append(process)
        while not ready.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt
    monkeypatch.setattr(running, "_wait", told)
    monkeypatch.setattr(running, "ENDING", 0.2)
    with pytest.raises(Interrupted):
        run({"one": [deaf], "two": [SAYS_A_LINE]})
    assert seen[0].poll() == -9 and len(seen) == 1
    own, = result(tmp_path, "one")["commands"]
    assert own["state"] == "stopped" and own["rows"] == [{"a": 1}]


def test_a_device_is_asked_elsewhere(monkeypatch):
    assert running.in_a_process(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        running.in_a_process(int, "no number")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "in_a_process", lambda function, *words: (function, *words))
    assert gpu.ask("cuda:1") == (gpu.about, "cuda:1") and gpu.ask("cpu")["device"] == "cpu"


def test_json_lines_are_objects_alone():
    assert running.json_lines('.... [100%]\n{"a": 1}\n[1]\n3\n{"b": 2\n') == [{"a": 1}]


def stale(line: str):
    raise RuntimeError(line)


def full(*_, **__):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def measure():
    """f(): a row of one small network."""
    models = {"narrow_resnet": recover_step.calibrated("narrow_resnet", 16, torch.device("cpu"))}
    return lambda: recover_step.measure(
        models, recover_step.smooth_images(2, 16, seed=0), torch.arange(2), rounds=1,
        ways=("published", "reference", "fused"), precision="bf16")


def test_a_way_that_memory_does_not_hold_is_said_and_the_others_are_timed(measure, monkeypatch):
    monkeypatch.setattr(recover_step.PublishedStep, "backward", full)
    row = measure()
    assert row.keys() == {"convolutions", "published", "reference", "fused"}
    assert row["published"] == "out of memory" and "time_ratio" not in row["fused"]
    assert row["fused"]["over_convolutions"] > 0 and row["fused"]["saved_mb"] < row["reference"]["saved_mb"]


def test_a_figure_that_memory_does_not_hold_is_said_too(measure, monkeypatch):
    def no_engine(*_):
        raise RuntimeError("GET was unable to find an engine to execute this computation")
    monkeypatch.setattr(recover_step.Convolutions, "seconds", full)
    monkeypatch.setattr(recover_step.Step, "saved_bytes", no_engine)
    row = measure()
    assert row["convolutions"] == row["fused"]["saved_mb"] == "out of memory"
    assert row["fused"]["time_ratio"] > 0 and not {"over", "saved_ratio"} & row["fused"].keys()
    with pytest.raises(RuntimeError, match="stale"):  # nothing else is hidden
        recover_step.held(functools.partial(stale, "stale hooks"))


def test_a_network_that_memory_does_not_hold_stops_no_other(monkeypatch, capsys):
    fits = memory.figures_of
    monkeypatch.setattr(memory, "figures_of", lambda name, images, *, recomputed: (
        fits if recomputed else full)(name, images, recomputed=recomputed))
    memory.main(words("--networks", "narrow_plain,narrow_plain", "--size", 16, "--batch-size", 2))
    for own in running.json_lines(capsys.readouterr().out):
        assert own["plain"] == "out of memory" and own["recomputed"]["repeats"] and "same_bits" not in own


@pytest.mark.parametrize("factor", [1, -1])
def test_the_compiled_gradient_is_compared_with_the_fused_engines(factor, monkeypatch):
    started = recover_step.started

    def changed(models, way, *rest):
        made = started(models, way, *rest)
        if way == "compiled":
            made.gradient = lambda own=made.gradient: factor * own()
        return made
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(recover_step, "started", changed)
    models = {"narrow_resnet": recover_step.calibrated("narrow_resnet", 16, torch.device("cpu"))}
    row = recover_step.measure(models, recover_step.smooth_images(2, 16, seed=0), torch.arange(2), rounds=1,
                               ways=("fused", "compiled"), precision="fp32")
    assert row["compiled"]["gradient"]["cosine"] == pytest.approx(factor, abs=1e-5)
    assert row["compiled"]["gradient"]["relative"] == pytest.approx(1 - factor, abs=1e-4)
    assert "gradient" not in row["fused"]


def test_the_published_way_has_torchs_own_tf32_beside_bf16(measure, monkeypatch):
    seen, backward = [], recover_step.PublishedStep.backward
    monkeypatch.setattr(recover_step.PublishedStep, "backward", lambda *own: (
        seen.append(torch.backends.cudnn.allow_tf32), backward(*own))[1])
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    measure()
    assert seen and all(seen) and not torch.backends.cudnn.allow_tf32


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("flags, said", [
    (("--steps", "speed"), "--steps speed: expected some of correctness, step, compiled"),
    (("--limit", "-1"), "--limit must be >= 0"),
    (("--batch-size", "0"), "--batch-size must be in")])
def test_bad_words_are_refused_before_anything_is_written(flags, said, refused, tmp_path):
    assert said in refused(gpu.main, ("--out", tmp_path / "out", *flags))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_machine_without_a_device_is_refused(refused, tmp_path):
    assert "--device cuda: not usable here" in refused(gpu.main, ("--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_results_of_another_device_are_not_gone_on_with(run, refused, tmp_path):
    run({"one": [SAYS_A_LINE]})
    path = tmp_path / "gpu" / "one.json"
    path.write_text(json.dumps(read_json(path) | {"device_name": "NVIDIA H200"}))
    line = refused(gpu.main, ("--out", tmp_path, "--device", "cpu"))
    assert f"{path}: found with device_name NVIDIA H200, here it is cpu; choose another --out" in line


# ---------------------------------------------------------------- tests as a line, the script

def test_tests_end_as_one_line(tmp_path, capsys):
    path = tmp_path / "test_few.py"
    path.write_text("import pytest\ndef test_a(record_property): record_property('error', 0.25)\n"
                    "def test_b(): assert 1 == 2\n"
                    "@pytest.mark.skip(reason='no device')\ndef test_c(): pass\n")
    with pytest.raises(RuntimeError, match="1 tests failed: .*test_b"):
        counted_tests.main([str(path)])
    row, = running.json_lines(capsys.readouterr().out)
    failed, = row["tests"]["failed"]
    assert row["tests"]["passed"] == 1 and failed.endswith("test_b")
    assert row["tests"]["skipped"] == {"no device": 1}
    assert row["tests"]["messages"][failed].startswith("assert 1 == 2")
    assert list(row["tests"]["measured"].values()) == [{"error": 0.25}]
    path = tmp_path / "test_none.py"
    path.write_text("import pytest\n@pytest.mark.skip(reason='no device')\ndef test_c(): pass\n")
    with pytest.raises(RuntimeError, match='no test passed: {"no device": 1} skipped'):
        counted_tests.main([str(path)])


def test_a_machine_without_pytest_is_told_the_word(monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "pytest", None)
    line = refused(counted_tests.main, ())
    assert "the tests need pytest" in line and line.endswith("bash scripts/setup.sh dev")


def test_the_script_gives_the_callers_flags_last(tmp_path):
    done = run_script("gpu.sh", 'echo "$@"', tmp_path, "--steps", "correctness", "--limit", "500")
    assert done.stdout == f"-m scripts.gpu --out {tmp_path}/out --steps correctness --limit 500\n"


@pytest.mark.slow
def test_the_benchmarks_of_memory_run_as_a_step_on_a_cpu(tmp_path):
    flags = ("--out", tmp_path, "--device", "cpu", "--steps", "memory", "--size", 32, "--batch-size", 2)
    assert gpu.main(words(*flags)) == {"memory": "done"}
    rows = result(tmp_path, "memory")["commands"][0]["rows"]
    assert len(rows) == 6 and all(row["same_bits"] for row in rows)
