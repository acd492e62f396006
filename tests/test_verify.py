"""What is verified of finished work, and what a rerun makes of what is not whole."""
import json
import shutil
from pathlib import Path

import pytest
from helpers import POOL, Tiny, contents

from models import train_teachers
from utils import verify
from utils.runtime import Log
from validate import training

pytest_plugins = ["stage_fixtures"]


@pytest.fixture
def copied(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "run")


def found(folder: Path) -> dict[str, str]:
    """Path -> what verify says of it, where it is not whole."""
    return {str(path.relative_to(folder)): what for what, path in verify.verify(folder) if what != "whole"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_run_is_whole(made, tiny, capsys):
    assert found(made) == {} and found(tiny.teachers) == {}
    verify.main([str(made)])
    assert capsys.readouterr().out.endswith("files are whole, 0 are not\n")


def test_measured_statistics_beside_teachers_are_ours(tiny, tmp_path):
    shutil.copytree(tiny.teachers, tmp_path / "teachers")
    (tmp_path / "teachers" / f"statistics_{'0' * 16}_{'a' * 16}.pt").write_bytes(b"tensors")
    assert found(tmp_path / "teachers") == {}


def test_what_is_missing_changed_damaged_or_foreign_is_named(copied, capsys):
    students = "validate/narrow_resnet"
    (copied / "syn/ant/ant_ipc0000.png").unlink()
    flip(copied / "syn/bee/bee_ipc0001.png")
    flip(copied / "fkd/2/epoch_001.pt")
    (copied / f"{students}/seed0/student_best.pt").unlink()
    flip(copied / f"{students}/seed1/student_last.pt")
    (copied / "units/ipc0001_chunk01.json").write_text("{}")
    (copied / "syn/ant/mine.png").write_text("")
    (copied / "fkd/2/epoch_002.json").unlink()
    (copied / "fkd/2/manifest.json").write_text("garb")
    assert found(copied) == {"fkd/2/manifest.json": "damaged",
        "syn/ant/ant_ipc0000.png": "missing", "syn/bee/bee_ipc0001.png": "changed",
        "fkd/2/epoch_001.pt": "changed", "fkd/2/epoch_002.pt": "unfinished",
        f"{students}/seed0/student_best.pt": "missing", f"{students}/seed1/student_last.pt": "changed",
        "units/ipc0001_chunk01.json": "damaged", "syn/cat/cat_ipc0001.png": "unfinished",
        "syn/dog/dog_ipc0001.png": "unfinished", "syn/ant/mine.png": "foreign"}
    with pytest.raises(SystemExit) as ended:
        verify.main([str(copied)])
    assert ended.value.code == 1 and "missing    " in capsys.readouterr().out


def test_each_stage_makes_anew_what_is_not_whole(copied, made, tiny: Tiny, capfd):
    """By size for images and labels, by digest for students; the result is the first one's, byte for byte."""
    whole = contents(made)
    (copied / "syn/ant/ant_ipc0000.png").unlink()
    (copied / "units/ipc0001_chunk01.json").write_text('{"ipc_id": 1}')
    tiny.recover(copied.parent, "--exp-name", "run")
    assert "IPC index 0, chunk 0: its record is damaged, or files of it are missing" in capfd.readouterr().err
    truncated = copied / "fkd/2/epoch_001.pt"
    truncated.write_bytes(truncated.read_bytes()[:-1])
    (copied / "fkd/2/epoch_002.json").unlink()
    tiny.relabel(copied)
    flip(copied / "validate/narrow_resnet/seed0/student_last.pt")
    (copied / "validate/narrow_resnet/seed1/student_best.pt").unlink()
    tiny.validate(copied)
    assert contents(copied) == whole and found(copied) == {}
    lines = (copied / "validate/narrow_resnet/results.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [0, 1]  # once each, though both were trained twice
    assert all(json.loads(line)["wall_s"] > 0 for line in lines)


def test_a_best_student_that_is_lost_before_the_end_is_made_again(made, tiny: Tiny, tmp_path, monkeypatch):
    """What the save says of it is not believed: a result never promises a file that is not there."""
    def students():
        return tiny.validate(made, "--output-dir", tmp_path / "out", "--seeds", 0, "--save-every", 0)
    train_batch, calls = training.train_batch, []

    def interrupted(*args):
        calls.append(None)
        if len(calls) == 5:  # in the last of three epochs
            raise KeyboardInterrupt
        return train_batch(*args)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train_batch", interrupted)
        students()
    best = tmp_path / "out" / "seed0" / "student_best.pt"
    best.unlink()
    students()
    assert best.is_file() and found(tmp_path / "out") == {}


def test_leftovers_of_finished_work_go(copied, tiny: Tiny):
    """A kill may come between a record and the end of the save."""
    whole = contents(copied)
    for name in ("unfinished/ipc0000_chunk00.pt", "validate/narrow_resnet/seed1/unfinished.pt"):
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_text("")
    tiny.recover(copied.parent, "--exp-name", "run")
    tiny.validate(copied)
    assert contents(copied) == whole


def test_teachers_are_verified(tiny: Tiny, tmp_path, refused):
    teachers = shutil.copytree(tiny.teachers, tmp_path / "teachers")
    whole, argv = contents(teachers), tiny.teacher_flags(teachers)
    (teachers / f"{POOL[0]}.pt").unlink()
    flip(teachers / f"{POOL[2]}.pt")
    line = refused(train_teachers.main, tiny.teacher_flags(teachers, "--epochs", 7))
    assert "another configuration" in line
    assert set(train_teachers.main(argv)) == {POOL[0], POOL[2]}  # trained again, alone
    assert contents(teachers) == whole
    foreign = teachers / "narrow_mobilenet.pt"
    foreign.write_text("mine")
    line = refused(train_teachers.main, tiny.teacher_flags(teachers, "--models", "narrow_mobilenet"))
    assert f"{foreign}: not made here" in line and foreign.read_text() == "mine"


def test_changed_teachers_are_not_used(tiny: Tiny, tmp_path, refused):
    from recover import data_synthesis
    teachers = shutil.copytree(tiny.teachers, tmp_path / "teachers")
    flip(teachers / f"{POOL[0]}.pt")
    line = refused(data_synthesis.main, tiny.recover_flags(tmp_path / "out", "--weights-dir", teachers))
    assert f"{POOL[0]}.pt: " in line and not (tmp_path / "out").exists()


def test_a_torn_line_of_a_log_stays_alone(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"epoch": 0}\n{"epo')
    with Log(tmp_path / "log.jsonl") as log:
        log.write(epoch=1)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert lines[:2] == ['{"epoch": 0}', '{"epo'] and json.loads(lines[2])["epoch"] == 1
