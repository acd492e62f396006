"""Logs for others' viewers hold what log.jsonl holds; their packages are asked for in one line."""
import csv
import importlib.util
import json
import sqlite3
import sys

import pytest

from utils import convert_log

pytest_plugins = ["stage_fixtures"]
RECOVER = [
    {"ipc_id": 0, "chunk": 0, "step": 0, "loss": 3.5, "bn/a": 2.0, "elapsed_s": 0.1},
    {"ipc_id": 0, "chunk": 1, "step": 0, "loss": 4.5, "elapsed_s": 0.2},
    {"network": "a", "kept_mb": 12.5, "elapsed_s": 0.3},
    {"ipc_id": 0, "chunk": 0, "step": 10, "loss": 9.5, "elapsed_s": 0.4},
    {"ipc_id": 0, "chunk": 0, "step": 10, "loss": 1.5, "bn/b": 1.0, "elapsed_s": 0.2},  # resumed
    {"ipc_id": 0, "chunk": 0, "step": 20, "done": True, "loss": 1.0, "elapsed_s": 0.5}]
STUDENT = [{"epoch": 0, "lr": 0.001, "top1": 0.1, "elapsed_s": 1.0},
           {"epoch": 1, "lr": 0.0005, "elapsed_s": 2.0}]
TEACHERS = [{"teacher": name, "epoch": 0, "loss": loss, "elapsed_s": 1.0} for name, loss in (("a", 1.0),
                                                                                            ("b", 2.0))]


@pytest.fixture
def run(tmp_path):
    """A folder with the logs of recover, of a student and of teachers."""
    folder = tmp_path / "a run"
    for name, rows in (("log.jsonl", RECOVER), ("validate/x/seed0/log.jsonl", STUDENT),
                       ("teachers/log_0of2.jsonl", TEACHERS)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"epoch": 2, "los')
    return folder


def test_a_table_holds_every_row_of_its_log(run, tmp_path):
    assert convert_log.main([str(run), "--to", "csv"]) == run / "curves" / "csv"
    found = sorted(path.relative_to(run / "curves" / "csv").as_posix() for path in run.rglob("*.csv"))
    assert found == ["log.csv", "teachers/log_0of2.csv", "validate/x/seed0/log.csv"]
    with open(run / "curves/csv/log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{key: value for key, value in row.items() if value} for row in rows] == \
        [{key: str(value) for key, value in row.items()} for row in RECOVER]
    assert list(rows[0]) == ["ipc_id", "chunk", "step", "loss", "bn/a", "elapsed_s", "network", "kept_mb",
                             "bn/b", "done"]
    convert_log.main(["--run", str(run), "--out", str(tmp_path / "out")])
    assert (tmp_path / "out/log.csv").read_bytes() == (run / "curves/csv/log.csv").read_bytes()


CURVES = {  # name -> step -> values but the time: the later row of a step stands
    "log/ipc0000_chunk00": {0: {"loss": 3.5, "bn/a": 2.0}, 10: {"loss": 1.5, "bn/b": 1.0}, 20: {"loss": 1.0}},
    "log/ipc0000_chunk01": {0: {"loss": 4.5}},
    "teachers/log_0of2/a": {0: {"loss": 1.0}}, "teachers/log_0of2/b": {0: {"loss": 2.0}},
    "validate/x/seed0/log": {0: {"lr": 0.001, "top1": 0.1}, 1: {"lr": 0.0005}}}


def test_tensorboard_reads_the_curves(run):
    pytest.importorskip("tensorboard", reason="tensorboard is an extra: scripts/setup.sh curves")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    out = convert_log.main([str(run), "--to", "tensorboard"])
    assert convert_log.main([str(run), "--to", "tensorboard"]) == out  # again, in place of the same files
    found = {}
    for path in out.rglob("*tfevents*"):
        events = EventAccumulator(str(path.parent)).Reload()
        steps = found.setdefault(path.parent.relative_to(out).as_posix(), {})
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                steps.setdefault(event.step, {})[name] = pytest.approx(event.value, rel=1e-6)
                assert name != "elapsed_s" or event.wall_time == pytest.approx(event.value)
    assert {name: {at: {key: value for key, value in values.items() if key != "elapsed_s"}
                   for at, values in steps.items()} for name, steps in found.items()} == CURVES


def test_trackio_reads_the_curves(run, tmp_path, monkeypatch):
    if not importlib.util.find_spec("trackio"):  # which reads its folder when it is imported
        pytest.skip("trackio is nobody's extra: pip install trackio")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/somewhere")
    out = convert_log.main([str(run), "--to", "trackio", "--out", str(tmp_path / "tracked")])
    with sqlite3.connect(out / "a_run.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics").fetchall()
    found = {}
    for name, step, metrics in rows:
        values = json.loads(metrics)
        found.setdefault(name, {})[step] = {key: values[key] for key in values if key != "elapsed_s"}
    assert found == CURVES
    with pytest.raises(ValueError, match="trackio's project a_run is there; delete its files, or name"):
        convert_log.main([str(run), "--to", "trackio", "--out", str(out)])


def test_a_name_in_a_log_leaves_no_folder(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is an extra: scripts/setup.sh curves")
    run = tmp_path / "x/y/z/run"
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text("".join(json.dumps({"teacher": name, "epoch": 0, "loss": 1.0}) + "\n"
                                           for name in ("../../../../pwned", "..", str(tmp_path / "pwned"))))
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(run)}
    out = convert_log.main([str(run), "--to", "tensorboard"])
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(run)} == before
    assert len(list((out / "log").glob("*/events*"))) == len(list(run.rglob("events*"))) == 3


@pytest.mark.parametrize("teacher, shown", [
    ("../../pwned", "log/______pwned"), ("..", "log/__"), ("resnet18-b_2", "log/resnet18-b_2"),
    ([1], "log/_1_"), ("convnext.v2", "log/convnext_v2")])
def test_a_teachers_name_is_one_part_of_its_curves(teacher, shown):
    curve, = convert_log.curves_of("log", [{"teacher": teacher, "epoch": 0, "loss": 1.0}])
    assert curve.name == shown


def test_what_is_missing_is_said_in_one_line(run, tmp_path, monkeypatch, refused):
    main = convert_log.main
    assert "which run? python -m utils.convert_log RUN --to csv" in refused(main, [])
    assert "no such folder; expected a run" in refused(main, [tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    assert "empty: no log*.jsonl in it or below" in refused(main, [tmp_path / "empty"])
    assert "invalid choice: 'wandb'" in refused(main, [run, "--to", "wandb"])
    for module in ("tensorboard", "torch.utils.tensorboard", "trackio"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "bash scripts/setup.sh curves" in refused(main, [run, "--to", "tensorboard"])
    assert "-m pip install trackio" in refused(main, [run, "--to", "trackio"])
    assert not (run / "curves").exists()
