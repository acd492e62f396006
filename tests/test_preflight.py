"""Preflight: teachers are measured on training and held-out images, which is said and recorded."""
import shutil

import pytest
from helpers import CLASSES, POOL, write_pictures

from utils.data import RealSet
from utils.records import read_json

pytest_plugins = ["stage_fixtures"]
REAL = ("--iteration", 0, "--ipc-end", 1, "--verifier", "--verifier-arch", POOL[0])  # one teacher, no work


def splits(run) -> list[tuple[str, int]]:
    return [(record["split"], record["images"]) for record in read_json(run / "preflight.json").values()]


def test_recover_measures_held_out_images_and_says_what_it_measured(tiny, tmp_path, capfd):
    run = tiny.recover(tmp_path, *REAL)
    said = capfd.readouterr().err
    assert f"teachers' top-1 on 24 training images: {POOL[0]} 100.0%\n" in said
    assert f"teachers' top-1 on 12 held-out images: {POOL[0]} " in said
    assert splits(run) == [("held-out", 12)]
    tiny.recover(tmp_path, *REAL)
    assert "teachers' top-1" not in capfd.readouterr().err  # known


def test_without_held_out_images_it_says_so_until_they_are_named(tiny, tmp_path, capfd):
    data = tmp_path / "data"
    shutil.copytree(tiny.data / "train", data / "train")
    flags = ("--dataset", f"folder:{data}", *REAL)
    run = tiny.recover(tmp_path, *flags)
    said = capfd.readouterr().err
    assert "on training images alone" in said and "--val-dir names some" in said
    assert "held-out images:" not in said
    assert splits(run) == [("training", 24)]
    write_pictures(tmp_path / "held", dict.fromkeys(CLASSES, 2), seed=5)
    tiny.recover(tmp_path, *flags, "--val-dir", tmp_path / "held")
    assert f"teachers' top-1 on 8 held-out images: {POOL[0]} " in capfd.readouterr().err
    assert splits(run) == [("held-out", 8)]


def test_relabel_measures_again_what_only_training_images_vouch_for(tiny, tmp_path, capfd):
    data = tmp_path / "data"
    shutil.copytree(tiny.data / "train", data / "train")
    run = tiny.recover(tmp_path, "--dataset", f"folder:{data}", *REAL)
    labels = ("--pool", POOL[0], "--ensemble", "primary", "--epochs", 1)
    capfd.readouterr()
    tiny.relabel(run, *labels)
    assert "teachers' top-1" not in capfd.readouterr().err
    tiny.relabel(run, *labels, "--val-dir", tiny.data)
    assert "teachers' top-1 on 12 held-out images" in capfd.readouterr().err


def test_held_out_images_of_other_classes_are_left_alone_unless_they_are_named(tiny, tmp_path, refused):
    from recover import data_synthesis
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "val" / "dog").rename(data / "val" / "eel")
    flags = ("--dataset", f"folder:{data}", *REAL)
    assert splits(tiny.recover(tmp_path, *flags)) == [("training", 24)]
    line = refused(data_synthesis.main, tiny.recover_flags(tmp_path / "other", *flags, "--val-dir", data))
    assert "the class names of the held-out images" in line


@pytest.mark.parametrize("num, expected", [(1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]),
                                           (7, [0, 1, 2, 3]), (9, [0, 0, 1, 1, 2, 2, 3, 3])])
def test_no_more_images_are_looked_at_than_were_asked_for(tiny, num, expected):
    real = RealSet(f"folder:{tiny.data}", "", "train", size=16)
    assert [real.labels[i] for i in real.spread(num)] == expected
