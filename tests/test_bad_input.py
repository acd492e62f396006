"""Every bad input ends in one clear line and exit status 2, and leaves nothing half-written."""
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from helpers import (
    CLASSES,
    POOL,
    contents,
    modification_times,
    pixels_of,
    words,
    write_data,
    write_pictures,
)
from PIL import Image

from models import train_teachers
from models.registry import build_model
from recover import data_synthesis
from relabel import generate_soft_label
from scripts import demo
from utils import files
from utils.files import write_json
from utils.records import read_json
from utils.runtime import command_line
from validate import diversity, train_FKD

pytest_plugins = ["stage_fixtures"]
ROOT = Path(__file__).parents[1]
RECOVER, RELABEL, VALIDATE = data_synthesis.main, generate_soft_label.main, train_FKD.main


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """The finished run, to be damaged."""
    return shutil.copytree(made, tmp_path / "copied")


@pytest.fixture
def recover_refused(refused, tiny, tmp_path):
    """f(*flags): the line with which recover refuses, having written nothing."""
    def run(*flags) -> str:
        line = refused(RECOVER, tiny.recover_flags(tmp_path / "out", *flags))
        assert not (tmp_path / "out").exists()
        return line
    return run


@pytest.fixture
def stage_refused(refused, tiny, copied):
    """f(main, *flags): the line with which relabel or validate refuses, the run left as it was."""
    def run(main, *flags) -> str:
        before = contents(copied)
        make = tiny.relabel_flags if main is RELABEL else tiny.validate_flags
        line = refused(main, make(copied, *flags))
        assert contents(copied) == before
        return line
    return run


def names(line: str, *parts) -> bool:
    """Whether a line names all of these; shows it otherwise."""
    missing = [str(part) for part in parts if str(part) not in line]
    assert not missing, f"{missing} not in: {line}"
    return True


def mislabelled(run: Path) -> Path:
    """A copy of a run's real data, beside it, with an ant among the bees."""
    data = Path(read_json(run / "config.json")["config"]["dataset"].removeprefix("folder:"))
    data = shutil.copytree(data, run.parent / "mislabelled")
    for split in ("train", "val"):
        shutil.copy(data / split / "ant" / "00.png", data / split / "bee" / "00.png")
    return data


def save_weights(folder: Path, names, *, num_classes: int = len(CLASSES)) -> Path:
    """Random weights without a record beside them."""
    folder.mkdir()
    torch.manual_seed(0)
    for name in names:
        model = build_model(name, num_classes=num_classes, stem="small")
        torch.save(model.state_dict(), folder / f"{name}.pt")
    return folder


# ---------------------------------------------------------------- real data

@pytest.mark.parametrize("flags, named", [
    (("--dataset", "imagenet-1k", "--train-data-path", "/nowhere"), ("/nowhere", "--train-data-path")),
    (("--dataset", "imagenet-1k"), ("no data folder given", "--train-data-path", "IMAGENET")),
    (("--dataset", "folder:/nowhere"), ("--dataset folder:/nowhere", "expected a folder of class folders")),
    (("--dataset", "imagenet"), ("--dataset imagenet", "imagenet-1k", "folder:PATH")),
])
def test_missing_data(flags, named, recover_refused):
    assert names(recover_refused(*flags), *named)


def test_empty_data(recover_refused, tmp_path):
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    assert names(recover_refused("--dataset", f"folder:{data}"), data, "expected a folder of class folders")
    for name in CLASSES:
        (data / "train" / name).mkdir()
    assert names(recover_refused("--dataset", f"folder:{data}"), data / "train", "no images found")
    for name in CLASSES[1:]:
        write_pictures(data / "more", {name: 1})
        (data / "more" / name / "00.png").rename(data / "train" / name / "00.png")
    line = recover_refused("--dataset", f"folder:{data}", "--ipc-end", 1)
    assert names(line, data / "train", "'ant' holds no image")


@pytest.mark.parametrize("name, expected", [("cifar10", 10), ("cifar100", 100), ("imagenet-1k", 1000)])
def test_a_wrong_number_of_classes(name, expected, recover_refused, tiny):
    line = recover_refused("--dataset", name, "--train-data-path", tiny.data)
    assert names(line, tiny.data, f"expected {expected} classes", "got 4", "--dataset folder:PATH")


def test_a_class_with_too_few_images(recover_refused):
    line = recover_refused("--ipc-end", 7)
    assert names(line, "'ant'", "6 training images", "--ipc-end needs 7", "--allow-short-classes")


@pytest.mark.parametrize("damage", [lambda content: content[:len(content) // 2], lambda content: b"no image",
                                    lambda content: b""])
def test_a_corrupt_image_is_found_before_anything_is_written(damage, refused, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    bad = data / "train" / "cat" / "01.png"
    bad.write_bytes(damage(bad.read_bytes()))
    argv = tiny.recover_flags(tmp_path / "out", "--dataset", f"folder:{data}")
    assert names(refused(RECOVER, argv), bad, "not a readable image", "replace or delete it")
    assert not (tmp_path / "out").exists()


def test_a_corrupt_image_met_late_leaves_whole_units(refused, tiny, made, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    bad = data / "train" / "cat" / "01.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    flags = ("--dataset", f"folder:{data}", "--min-teacher-accuracy", 0)
    assert names(refused(RECOVER, tiny.recover_flags(tmp_path, *flags)), bad, "not a readable image")
    run = tmp_path / "run"
    assert len(list(run.glob("units/*"))) == 3 and len(list(run.glob("syn/*/*"))) == 6
    bad.write_bytes(whole)
    tiny.recover(tmp_path, *flags)
    assert numpy.array_equal(pixels_of(run), pixels_of(made))


def test_a_starting_image_that_cannot_be_opened_is_found_before_anything_is_written(refused, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    bad = data / "train" / "dog" / "01.png"
    argv = tiny.recover_flags(tmp_path / "out", "--dataset", f"folder:{data}", "--min-teacher-accuracy", 0)
    bad.write_bytes(b"no image")
    assert names(refused(RECOVER, argv), bad, "not a readable image")
    assert names(refused(RECOVER, [*argv, "--init", "random", "--ipc-end", 6]), bad, "not a readable image")
    bad.unlink()
    bad.symlink_to("gone.png")
    assert names(refused(RECOVER, argv), bad, "a broken link")
    assert not (tmp_path / "out").exists()
    RECOVER([*argv, "--ipc-end", "1"])  # which starts from others


def test_corrupt_images_of_teachers_and_tests_are_found_before_anything_is_written(
        refused, tiny, made, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    out = tmp_path / "out"
    for split in ("train", "val"):
        bad = data / split / "cat" / "02.png"
        whole = bad.read_bytes()
        bad.write_bytes(whole[:200])
        line = refused(train_teachers.main, tiny.teacher_flags(out, "--dataset", f"folder:{data}"))
        assert names(line, bad, "not a readable image")
        bad.write_bytes(whole)
    bad.write_bytes(b"no image")
    line = refused(VALIDATE, tiny.validate_flags(made, "--val-dir", data, "--output-dir", out))
    assert names(line, bad, "not a readable image") and not out.exists()


@pytest.mark.parametrize("name, named", [
    ("../../escaped", "without / and"), ("a\\b", "without / and"), ("..", "no dot before it"),
    (".hidden", "no dot before it"), ("x" * 206, "of 206 bytes, expected at most 205")])
def test_class_names_that_no_folder_of_images_can_have(name, named, recover_refused, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    shutil.rmtree(data / "train")
    rows = [f"{i}.png\t{name if kind == 'dog' else kind}\t0\t0\n" for kind in CLASSES for i in range(2)]
    (data / "train" / "images").mkdir(parents=True)
    (data / "train" / "val_annotations.txt").write_text("".join(rows))
    assert names(recover_refused("--dataset", f"folder:{data}"), data / "train", "class", named)
    (data / "train" / "val_annotations.txt").write_text("dog_1.png dog\n")
    line = recover_refused("--dataset", f"folder:{data}")
    assert names(line, data / "train" / "val_annotations.txt", "line 1", "a tab and its class")


def test_the_longest_class_name_goes_through(tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "train" / "dog").rename(data / "train" / ("x" * 205))
    weights = save_weights(tmp_path / "weights", POOL)
    run = tiny.recover(tmp_path, "--dataset", f"folder:{data}", "--iteration", 0, "--ipc-end", 1,
                       "--weights-dir", weights, "--min-teacher-accuracy", 0)
    assert len(list(run.glob("syn/*/*.png"))) == 4


def test_data_that_would_be_ignored(refused, tiny, tmp_path):
    pytest.importorskip("sklearn")
    for flags in (("--train-data-path", "/nowhere"), ("--val-dir", "/nowhere")):
        argv = tiny.teacher_flags(tmp_path / "out", "--dataset", "digits", *flags)
        line = refused(train_teachers.main, argv)
        assert names(line, "--dataset digits", "/nowhere", "--val-dir")
    assert not (tmp_path / "out").exists()


def test_every_kind_of_image_is_converted(tiny, tmp_path):
    data = write_data(tmp_path / "data", train=1)
    rng = numpy.random.default_rng(0)
    grey, deep = rng.integers(0, 256, (16, 16), numpy.uint8), rng.integers(0, 65536, (16, 16), numpy.uint16)
    colours = rng.integers(0, 256, (16, 16, 3), numpy.uint8)
    rgb = Image.fromarray(colours)
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(grey))
    palette = rgb.quantize(64)
    pictures = {"cmyk": rgb.convert("CMYK"), "deep": Image.fromarray(deep), "grey": Image.fromarray(grey),
                "palette": palette, "rgba": alpha}
    shutil.rmtree(data / "train")
    for name, picture in pictures.items():
        (data / "train" / name).mkdir(parents=True)
        picture.save(data / "train" / name / ("0.tif" if name == "cmyk" else "0.png"))
    weights = save_weights(tmp_path / "weights", POOL, num_classes=5)
    run = tiny.recover(tmp_path, "--dataset", f"folder:{data}", "--iteration", 0, "--ipc-end", 1,
                       "--weights-dir", weights, "--min-teacher-accuracy", 0)
    stored = dict(zip(sorted(pictures), pixels_of(run), strict=True))
    assert numpy.array_equal(stored["grey"], numpy.repeat(grey[..., None], 3, 2))
    assert numpy.abs(stored["deep"] - deep[..., None] / 257).max() < 1  # scaled, not clipped at 255
    assert numpy.array_equal(stored["rgba"], colours)
    assert numpy.array_equal(stored["cmyk"], colours)
    assert numpy.array_equal(stored["palette"], palette.convert("RGB"))


# ---------------------------------------------------------------- teachers

def test_unknown_networks(recover_refused, stage_refused, refused, tiny, tmp_path):
    for flags in (("--arch-name", "resnet19"), ("--pool", "narrow_resnet,resnet19"),
                  ("--verifier", "--verifier-arch", "resnet19"), ("--weights", "resnet19=a.pt")):
        assert names(recover_refused(*flags), "resnet19", "narrow_resnet", "mobilenet_v2")
    assert names(stage_refused(RELABEL, "--arch-name", "resnet19"), "resnet19", "narrow_resnet")
    assert names(stage_refused(VALIDATE, "--model", "resnet19"), "resnet19", "narrow_resnet")
    line = refused(train_teachers.main, tiny.teacher_flags(tmp_path / "out", "--models", "resnet19"))
    assert names(line, "resnet19", "narrow_resnet") and not (tmp_path / "out").exists()


def test_weights_of_the_wrong_shape(recover_refused, tiny, tmp_path):
    folder = save_weights(tmp_path / "weights", ["narrow_resnet"], num_classes=7)
    line = recover_refused("--weights", f"narrow_resnet={folder / 'narrow_resnet.pt'}")
    assert names(line, folder / "narrow_resnet.pt", "does not fit narrow_resnet", "(7,)", "expected (4,)",
                 "number of classes")
    line = recover_refused("--weights", f"narrow_plain={tiny.teachers / 'narrow_resnet.pt'}")
    assert names(line, "does not fit narrow_plain")


def test_weights_that_are_not_there(recover_refused, tmp_path):
    line = recover_refused("--weights-dir", tmp_path / "nowhere")
    assert names(line, tmp_path / "nowhere" / "narrow_resnet.pt", "models.train_teachers", "--weights")
    assert names(recover_refused("--weights", "narrow_resnet=/nowhere.pt"), "/nowhere.pt", "narrow_resnet")
    assert names(recover_refused("--weights", "narrow_plain"), "--weights narrow_plain", "expected name=path")


def test_weights_that_are_damaged(recover_refused, tiny, tmp_path):
    bad = tmp_path / "bad.pt"
    bad.write_bytes((tiny.teachers / "narrow_resnet.pt").read_bytes()[:5000])
    assert names(recover_refused("--weights", f"narrow_resnet={bad}"), bad, "not a weights file")
    torch.save({"epoch": 3}, bad)
    assert names(recover_refused("--weights", f"narrow_resnet={bad}"), bad, "expected a state dict")


def test_teachers_below_the_floor(recover_refused, tiny, tmp_path):
    weights = save_weights(tmp_path / "weights", POOL)
    line = recover_refused("--weights-dir", weights)  # no record: min(0.5, 10 / classes)
    assert names(line, "teacher narrow_resnet gets", "of 24 real images", "expected at least 50.0%",
                 "--min-teacher-accuracy 0")
    write_json(weights / "narrow_resnet.json", {"accuracy": 0.9})
    assert names(recover_refused("--weights-dir", weights), "expected at least 63.0%")
    line = recover_refused("--weights-dir", weights, "--min-teacher-accuracy", 0.9)
    assert names(line, "teacher narrow_resnet gets", "expected at least 90.0%")


def test_labels_in_another_order_than_the_teachers(recover_refused, tiny, tmp_path):
    """The commonest silent failure: the same class names, the classes themselves exchanged."""
    data = shutil.copytree(tiny.data, tmp_path / "data")
    shutil.rmtree(data / "train")
    for name, other in zip(CLASSES, reversed(CLASSES), strict=True):
        shutil.copytree(tiny.data / "train" / other, data / "train" / name)
    line = recover_refused("--dataset", f"folder:{data}")
    assert names(line, "teacher narrow_resnet gets 0.0%", "expected at least 70.0%", "check the class order")


def test_teachers_are_checked_again_for_other_data(refused, tiny, copied, tmp_path):
    """A preflight.json of the data that --overwrite replaces says nothing about the new data."""
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "train" / "ant").rename(data / "train" / "swap")
    (data / "train" / "bee").rename(data / "train" / "ant")
    (data / "train" / "swap").rename(data / "train" / "bee")
    before = contents(copied)
    argv = tiny.recover_flags(copied.parent, "--exp-name", copied.name, "--dataset", f"folder:{data}")
    line = refused(RECOVER, [*argv, "--overwrite"])
    assert names(line, "teacher narrow_resnet gets 50.0%", "at least 70.0%")
    assert contents(copied) == before


def test_teachers_of_other_class_names(recover_refused, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    (data / "train" / "dog").rename(data / "train" / "eel")
    line = recover_refused("--dataset", f"folder:{data}", "--min-teacher-accuracy", 0)
    assert names(line, "narrow_resnet was trained with other class names", "class 3 is 'dog'", "'eel'")


@pytest.mark.parametrize("name, there, here", [
    ("size", 64, 16), ("mean", [0.5] * 3, "0.485 0.456 0.406"), ("std", [1, 1, 1], "0.229 0.224 0.225")])
def test_teachers_trained_otherwise_than_the_images_are(name, there, here, recover_refused, stage_refused,
                                                        tiny, tmp_path):
    weights = shutil.copytree(tiny.teachers, tmp_path / "weights")
    record = read_json(weights / "narrow_resnet.json")
    assert record["recipe"]["size"] == 16
    write_json(weights / "narrow_resnet.json", {**record, "recipe": {**record["recipe"], name: there}})
    for refuse in (recover_refused, lambda *flags: stage_refused(RELABEL, *flags)):
        assert names(refuse("--weights-dir", weights), f"narrow_resnet was trained with --{name}", here,
                     "--min-teacher-accuracy")
    tiny.recover(tmp_path, "--weights-dir", weights, "--min-teacher-accuracy", 0.5, "--dry-run")


@pytest.mark.parametrize("accuracy, words", [
    ("NaN", ("not JSON", "NaN")), ("-1", ("accuracy is -1", "in [0, 1]")),
    ("95.0", ("accuracy is 95.0", "in [0, 1]")), ('"high"', ('accuracy is "high"', "a finite number"))])
def test_a_teachers_record_of_an_impossible_accuracy(accuracy, words, recover_refused, tiny, tmp_path):
    weights = shutil.copytree(tiny.teachers, tmp_path / "weights")
    record = weights / "narrow_resnet.json"
    write_json(record, {**read_json(record), "accuracy": "here"})
    record.write_text(record.read_text().replace('"here"', accuracy))
    assert names(recover_refused("--weights-dir", weights), record, *words)


def test_relabel_checks_the_teachers_that_recover_did_not(stage_refused, tiny, copied, tmp_path):
    shutil.rmtree(copied / "fkd")
    weights = save_weights(tmp_path / "weights", [POOL[1]])
    flags = ("--weights", f"{POOL[1]}={weights / POOL[1]}.pt")
    line = stage_refused(RELABEL, *flags)
    assert names(line, f"teacher {POOL[1]} gets", "of 12 real images", "at least 50.0%")
    assert names(stage_refused(RELABEL, *flags, "--min-teacher-accuracy", 0.9), "at least 90.0%")
    known = read_json(copied / "preflight.json")  # of recover's teachers, below the floor that holds now
    write_json(copied / "preflight.json", {sha: {**own, "accuracy": 0.98} for sha, own in known.items()})
    line = stage_refused(RELABEL, "--val-dir", mislabelled(copied), "--min-teacher-accuracy", 0.99)
    assert names(line, "gets 91.7% of 12 real images", "at least 99.0%")
    tiny.relabel(copied, *flags, "--min-teacher-accuracy", 0)


def test_weights_that_are_not_numbers_stop_the_run(tiny, copied, tmp_path, monkeypatch, capfd):
    state = torch.load(tiny.teachers / "narrow_resnet.pt", weights_only=True)
    torch.save({name: torch.full_like(value, float("nan")) if value.is_floating_point() else value
                for name, value in state.items()}, tmp_path / "nan.pt")
    flags = ("--weights", f"narrow_resnet={tmp_path / 'nan.pt'}", "--min-teacher-accuracy", 0)
    for main, argv, named in (
            (RECOVER, tiny.recover_flags(tmp_path / "out", *flags),
             ("loss is nan", "iteration 0 of IPC index 0")),
            (RELABEL, tiny.relabel_flags(copied, *flags, "--fkd-path", tmp_path / "fkd"),
             ("soft label of epoch 0 is not finite",))):
        monkeypatch.setattr(sys, "argv", ["stage", *argv])
        with pytest.raises(SystemExit) as ended:
            command_line(main)
        assert ended.value.code == 1 and names(capfd.readouterr().err.splitlines()[-1], *named)
    assert not list(tmp_path.glob("out/**/*.png")) and not list(tmp_path.glob("fkd/**/*.pt"))


# ---------------------------------------------------------------- earlier stages

def test_a_missing_run(refused, tiny, tmp_path):
    for main, argv, flag in ((RELABEL, tiny.relabel_flags(tmp_path / "run"), "--data"),
                             (VALIDATE, tiny.validate_flags(tmp_path / "run"), "--train-dir"),
                             (diversity.main, ["--data", tmp_path / "run"], "--data")):
        line = refused(main, argv)
        assert names(line, f"{flag} {tmp_path / 'run'}", "no distilled images", "recover/recover_r18.sh")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run(refused, tiny, tmp_path):
    run = tiny.recover(tmp_path, "--shard", "0/2")  # every first chunk of two
    before = contents(run)
    for main, argv in ((RELABEL, tiny.relabel_flags(run)), (VALIDATE, tiny.validate_flags(run))):
        assert names(refused(main, argv), run, "IPC index 0 is not finished", "recover.data_synthesis")
    assert contents(run) == before


def test_more_images_than_there_are(stage_refused):
    line = stage_refused(RELABEL, "--ipc", 4)
    assert names(line, "--ipc 4", "2 complete IPC indices", "--ipc-end 4")


def test_missing_labels(stage_refused, copied):
    line = stage_refused(VALIDATE, "--fkd-path", copied / "fkd", "--ipc", 4)
    assert names(line, "--fkd-path", "no soft labels", "relabel_r18.sh", "relabel.generate_soft_label")
    line = stage_refused(VALIDATE, "--fkd-path", copied)
    assert names(line, copied / "config.json", "'prism-images', expected 'prism-labels'")
    line = stage_refused(RELABEL, "--data", copied / "fkd" / "2")
    assert names(line, copied / "fkd" / "2", "'prism-labels', expected 'prism-images'")


def test_unfinished_labels(stage_refused, copied):
    (copied / "fkd" / "2" / "manifest.json").unlink()
    (copied / "fkd" / "2" / "epoch_001.pt").unlink()
    line = stage_refused(VALIDATE)
    assert names(line, copied / "fkd" / "2", "epochs of labels are missing", "relabel/relabel_r18.sh")


def test_labels_of_other_images(refused, tiny, copied):
    tiny.recover(copied.parent, "--exp-name", copied.name, "--seed", 5, "--overwrite")
    before = contents(copied)
    line = refused(VALIDATE, tiny.validate_flags(copied))
    assert names(line, copied / "fkd" / "2", "made from other images", "--overwrite", "--train-dir")
    line = refused(RELABEL, tiny.relabel_flags(copied))
    assert names(line, copied / "fkd" / "2", "holds another configuration", "images is", "--overwrite")
    assert contents(copied) == before
    tiny.relabel(copied, "--overwrite")
    assert tiny.validate(copied, "--overwrite")["n"] == 2


@pytest.mark.parametrize("flag, value, stored", [
    ("--batch-size", 4, 5), ("--epochs", 2, 3), ("--epochs", 4, 3), ("--mix-type", "none", "cutmix"),
    ("--min-scale-crops", 0.5, 0.25), ("--steps-per-epoch", 1, None), ("--ipc", 1, 2)])
def test_flags_that_contradict_the_labels(flag, value, stored, stage_refused):
    line = stage_refused(VALIDATE, flag, value)
    assert names(line, f"{flag} {value} contradicts the labels, made with {stored}")
    assert ("--allow-fewer-epochs" in line) == (flag == "--epochs" and value < 3)


def test_labels_of_another_resampler(stage_refused, copied):
    for name in ("config.json", "manifest.json"):
        path = copied / "fkd" / "2" / name
        write_json(path, {**read_json(path), "resampler": "nearest/0"})
    assert names(stage_refused(VALIDATE), "nearest/0", "rerun relabel with --overwrite")


def test_another_data_set_than_the_images(stage_refused):
    for main in (RELABEL, VALIDATE):
        assert names(stage_refused(main, "--dataset", "cifar10"), "--dataset cifar10 contradicts")


def test_test_images_of_other_classes(refused, tiny, tmp_path):
    data = shutil.copytree(tiny.data, tmp_path / "data")
    run = tiny.recover(tmp_path, "--dataset", f"folder:{data}", "--iteration", 0)
    tiny.relabel(run)
    (data / "val" / "dog").rename(data / "val" / "eel")
    before = contents(run)
    line = refused(VALIDATE, tiny.validate_flags(run))
    assert names(line, f"--val-dir {data / 'val'}", "class names are not those of the distilled images",
                 "'dog' is missing", "'eel' is none of them")
    shutil.rmtree(data / "val" / "eel")
    assert names(refused(VALIDATE, tiny.validate_flags(run)), "class names are not those", "'dog' is missing")
    assert contents(run) == before
    argv = tiny.teacher_flags(tmp_path / "teachers", "--dataset", f"folder:{data}")
    assert names(refused(train_teachers.main, argv), f"--val-dir {data / 'val'}", "of the training data",
                 "'dog' is missing")
    assert not (tmp_path / "teachers").exists()


@pytest.mark.parametrize("main", [RELABEL, VALIDATE])
def test_a_truncated_distilled_image(main, stage_refused, copied):
    bad = copied / "syn" / "cat" / "cat_ipc0001.png"
    bad.write_bytes(bad.read_bytes()[:300])
    assert names(stage_refused(main), bad, "its bytes are not those", "rerun recover")
    bad.unlink()
    assert names(stage_refused(main), bad, "is missing", "rerun recover")


def test_a_truncated_label_file(refused, tiny, copied):
    shutil.rmtree(copied / "validate")
    bad = copied / "fkd" / "2" / "epoch_002.pt"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:len(whole) // 2])
    line = refused(VALIDATE, tiny.validate_flags(copied))
    assert names(line, copied / "fkd" / "2", "missing or cut short", "run relabel")
    tiny.relabel(copied)
    assert bad.read_bytes() == whole
    bad.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    line = refused(VALIDATE, tiny.validate_flags(copied))
    assert names(line, bad, "its bytes are not those", "delete it and rerun relabel")
    assert not list(copied.glob("validate/**/result*.json"))
    bad.unlink()
    tiny.relabel(copied)
    assert bad.read_bytes() == whole and tiny.validate(copied)["n"] == 2


def test_damaged_records(refused, tiny, copied):
    unit = copied / "units" / "ipc0001_chunk00.json"
    unit.write_text(unit.read_text()[:50])
    assert names(refused(RELABEL, tiny.relabel_flags(copied)), unit, "damaged, not JSON", "delete it")
    (copied / "config.json").write_text("")
    argv = tiny.recover_flags(copied.parent, "--exp-name", copied.name)
    assert names(refused(RECOVER, argv), copied / "config.json", "damaged, not JSON")


# ---------------------------------------------------------------- flags

@pytest.mark.parametrize("flags, named", [
    (("--iteration", 4000, "--iteration-step", 600, "--ipc-end", 10),
     ("--iteration 4000", "--iteration-step 600", "-200 iterations", "expected > 0")),
    (("--iteration", 500, "--iteration-step", 500), ("some index 0 iterations",)),
    (("--ipc-start", 2), ("--ipc-end must be > --ipc-start", "got 2 and 2")),
    (("--ipc-end", 3, "--slices-per-batch", 2), ("--ipc-end 3", "multiples of --slices-per-batch 2")),
    (("--slices-per-batch", 2, "--allow-short-classes"), ("--allow-short-classes needs",)),
    (("--teachers", "dual", "--pool", "narrow_resnet,narrow_alexnet"), ("--teachers dual needs", "--pool")),
    (("--teachers", "dual", "--pool", "narrow_resnet,narrow_alexnet", "--primary", "drawn"), ("BatchNorm",)),
    (("--shard", "3/2"), ("--shard 3/2", "expected i/n with 0 <= i < n")),
    (("--shard", "2"), ("--shard 2", "expected i/n")),
    (("--shard", "\u00b2/3"), ("--shard \u00b2/3", "expected i/n")),
    (("--shard", "0/2", "--overwrite"), ("--overwrite",)),
    (("--device", "cuda:99"), ("--device cuda:99", "try cpu")),
    (("--cos",), ("--cos is not a flag", "--schedule")),
    (("--store-best-images",), ("--store-best-images is not a flag", "always stored")),
    (("--wandb-api-key=1234",), ("--wandb-api-key is not a flag", "log.jsonl")),
    (("--batch_size", 3), ("--batch_size", "--help")),
    (("--iterations", 3), ("--iterations", "--help")),
    (("--teachers", "many"), ("--teachers", "many", "single", "multi")),
    (("--lr", "fast"), ("--lr", "fast")),
    (("--threads", -1), ("--threads must be in [0, 1024]", "got -1")),
    (("--batch-size", 0), ("--batch-size must be in [1, 100000]", "got 0")),
    (("--min-scale-crops", 1.5), ("--min-scale-crops must be in (0, 1]", "got 1.5")),
    (("--r-bn", "nan"), ("--r-bn must be >= 0", "got nan")),
    (("--teachers", "single", "--max-bn-teachers", 2),
     ("--max-bn-teachers is of --teachers multi", "this run has --teachers single", "or leave")),
    (("--priors", "tv", "--l2-scale", 0.1), ("--l2-scale is of --priors l2", "this run has --priors tv")),
    (("--priors", "tv", "l3"), ("--priors", "l3", "tv, l2")),
])
def test_flags_of_recover(flags, named, recover_refused):
    assert names(recover_refused(*flags), *named)


@pytest.mark.parametrize("flags, named", [
    (("--shard", "1/1"), ("--shard 1/1", "expected i/n")),
    (("--shard", "0/2", "--overwrite"), ("--overwrite",)),
    (("--ensemble", "primary-half", "--candidate-number", 1),
     ("--ensemble", "needs 2 teachers or more", "got narrow_resnet", "--candidate-number")),
    (("--batch-size", 1), ("--batch-size", "got 1")),
    (("--mix-type", "none", "--mix-alpha", 0.5),
     ("--mix-alpha is of --mix-type cutmix or --mix-type mixup", "this run has --mix-type none")),
    (("--topk", 3), ("--topk is of --label-format topk", "this run has --label-format fp16")),
    (("--label-format", "topk:many"), ("--label-format topk:many", "expected topk:TOPK")),
    (("--label-format", "topk:\u00b2"), ("--label-format topk:\u00b2", "expected topk:TOPK")),
    (("--label-format", "int8:4"), ("--label-format int8:4", "int8 has no option to set")),
    (("--label-format", "topk:4"), ("--label-format topk:4", "below the 4 classes")),
    (("--label-format", "fp8"), ("--label-format", "fp8", "fp16, int8, topk, online")),
    (("--use-fp16",), ("--use-fp16 is not a flag", "fp16")),
    (("--mode", "fkd_save"), ("--mode is not a flag", "relabel writes labels")),
])
def test_flags_of_relabel(flags, named, stage_refused):
    assert names(stage_refused(RELABEL, *flags), *named)


@pytest.mark.parametrize("flags, named", [
    (("--loss-type", "ce"), ("--loss-type ce", "leave out --fkd-path")),
    (("--fkd-path", ""), ("--loss-type mse_gt", "give --fkd-path")),
    (("--fkd-path", "", "--loss-type", "ce", "--batch-size", 4), ("--epochs is required",)),
    (("--fkd-path", "", "--loss-type", "ce", "--epochs", 4), ("--batch-size is required",)),
    (("--seeds", 1, 1), ("--seeds must differ",)),
    (("--threads", -1), ("--threads must be in [0, 1024]", "got -1")),
    (("--eval-batch-size", 0), ("--eval-batch-size must be in [1, 1000000]", "got 0")),
    (("--adamw-lr", -1), ("--adamw-lr must be > 0", "got -1.0")),
    (("--train-dir", "nowhere", "--dry-run"), ("--dry-run then needs --ipc",)),
    (("--train-dir", "nowhere", "--dry-run", "--ipc", 1), ("--train-dir nowhere: no distilled images",)),
    (("--cos",), ("--cos is not a flag", "--schedule ssrs")),
    (("--temperature", 4), ("--temperature is of --loss-type kl or --loss-type kl_gt", "--loss-type mse_gt")),
    (("--schedule", "cosine", "--zeta", 3), ("--zeta is of --schedule ssrs", "has --schedule cosine")),
    (("--momentum", 0.5), ("--momentum is of --optimizer sgd", "this run has --optimizer adamw")),
    (("--loss-type", "kl", "--ce-weight", 1), ("--ce-weight is of --loss-type mse_gt", "has --loss-type kl")),
    (("--mix-type", "mosaic"), ("--mix-type mosaic", "cutmix, mixup, none")),
])
def test_flags_of_validate(flags, named, stage_refused):
    assert names(stage_refused(VALIDATE, *flags), *named)


def test_a_later_choice_forgets_the_flags_of_an_earlier_one(made, tiny, tmp_path, refused):
    """So that "$@" behind a script's flags wins; a flag that no choice of the line has is refused still."""
    script = ("--loss-type", "mse_gt", "--ce-weight", 0.1, "--schedule", "ssrs", "--zeta", 2.5)
    caller = ("--loss-type", "kl", "--schedule", "cosine", "--seeds", 0, "--output-dir", tmp_path)
    tiny.validate(made, *script, *caller)
    config = read_json(tmp_path / "config.json")["config"]
    assert (config["loss_type"], config["temperature"], config["schedule"]) == ("kl", 20.0, "cosine")
    assert not {"ce_weight", "zeta"} & config.keys()
    line = refused(VALIDATE, tiny.validate_flags(made, *script, *caller, "--momentum", 0.5))
    assert names(line, "--momentum is of --optimizer sgd")


def test_more_processes_than_micro_batches(stage_refused, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert names(stage_refused(VALIDATE), "2 processes", "--gradient-accumulation-steps is 1")


def test_config_files(recover_refused, stage_refused, made, tmp_path):
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps({"lr": 0.1, "learning_rate": 0.1}))
    line = recover_refused("--config", saved)
    assert names(line, f"--config {saved}", "fields of RecoverConfig", "learning_rate")
    saved.write_text("lr: 0.1")
    assert names(recover_refused("--config", saved), f"--config {saved}", "not JSON")
    assert names(recover_refused("--config", tmp_path / "none.json"), "none.json: no such file")
    line = stage_refused(VALIDATE, "--config", made / "config.json")
    assert names(line, "fields of ValidateConfig", "iteration_step")


# ---------------------------------------------------------------- output folders

def test_folders_that_cannot_be_written(refused, tiny, made, tmp_path):
    (tmp_path / "file").write_text("kept")
    out, before = tmp_path / "file" / "out", contents(made)
    for main, argv in ((RECOVER, tiny.recover_flags(out)),
                       (RELABEL, tiny.relabel_flags(made, "--fkd-path", out)),
                       (VALIDATE, tiny.validate_flags(made, "--output-dir", out)),
                       (train_teachers.main, tiny.teacher_flags(out))):
        assert names(refused(main, argv), out, "cannot be written", "choose another output folder")
    assert (tmp_path / "file").read_text() == "kept" and contents(made) == before


def test_too_little_disk(refused, tiny, made, tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    line = refused(RECOVER, tiny.recover_flags(tmp_path))
    assert names(line, tmp_path, "6.1 kB are needed", "1 B are free")
    line = refused(RELABEL, tiny.relabel_flags(made, "--fkd-path", tmp_path / "fkd"))
    assert names(line, tmp_path / "fkd", "12.8 kB are needed", "1 B are free")
    assert not list(tmp_path.glob("**/*.png")) and not list(tmp_path.glob("**/*.pt"))


def test_a_run_of_another_configuration(refused, tiny, made, copied):
    before = contents(copied)
    flags = ("--exp-name", copied.name, "--lr", 0.1)
    line = refused(RECOVER, tiny.recover_flags(copied.parent, *flags))
    assert names(line, copied, "another configuration", "config.lr is 0.05 there and 0.1 here", "--overwrite")
    assert contents(copied) == before
    tiny.recover(copied.parent, *flags, "--overwrite")
    assert read_json(copied / "config.json")["config"]["lr"] == 0.1
    assert (pixels_of(copied) != pixels_of(made)).mean() > 0.5
    tiny.recover(copied.parent, "--exp-name", copied.name, "--overwrite")
    assert contents(copied) == before


def test_runs_differ_by_teachers_and_threads(refused, tiny, copied, tmp_path):
    argv = tiny.recover_flags(copied.parent, "--exp-name", copied.name)
    assert names(refused(RECOVER, [*argv, "--threads", "2"]), "config.threads is 1 there and 2 here")
    state = torch.load(tiny.teachers / "narrow_plain.pt", weights_only=True)
    torch.save({name: value * 1.001 if value.is_floating_point() else value for name, value in state.items()},
               tmp_path / "other.pt")
    line = refused(RECOVER, [*argv, "--weights", f"narrow_plain={tmp_path / 'other.pt'}"])
    assert names(line, "weights.narrow_plain is")


def test_labels_and_students_of_another_configuration(stage_refused, tiny, made, copied):
    line = stage_refused(RELABEL, "--epochs", 4)
    assert names(line, copied / "fkd" / "2", "config.epochs is 3 there and 4 here", "--overwrite")
    line = stage_refused(VALIDATE, "--adamw-lr", 0.01)
    assert names(line, copied / "validate", "config.adamw_lr is 0.001 there and 0.01 here", "--overwrite")
    tiny.validate(copied, "--adamw-lr", 0.01, "--overwrite")
    tiny.relabel(copied, "--epochs", 4, "--overwrite")
    assert len(list(copied.glob("fkd/2/*.pt"))) == 4
    tiny.relabel(copied, "--overwrite")
    tiny.validate(copied, "--overwrite")
    assert contents(copied) == contents(made)


def test_teachers_of_another_configuration(refused, tiny, tmp_path):
    folder = shutil.copytree(tiny.teachers, tmp_path / "teachers")
    argv = tiny.teacher_flags(folder, "--epochs", 1)
    line = refused(train_teachers.main, argv)
    assert names(line, folder, "config.epochs is 6 there and 1 here", "--overwrite")
    assert contents(folder) == contents(tiny.teachers)
    train_teachers.main([*argv, "--models", "narrow_alexnet", "--overwrite"])
    assert {path.name for path in folder.glob("*.pt")} == {"narrow_alexnet.pt"}


# ---------------------------------------------------------------- values

ABSURD = {
    RECOVER: ["--threads 100000", "--ipc-end 2000000000", "--iteration 2000000000", "--iteration-step -1",
              "--lr inf", "--r-bn inf", "--tv-l2 nan", "--l2-scale inf", "--first-bn-multiplier nan",
              "--betas 0 1", "--mean nan 0 0", "--std 0 0 0", "--size 0", "--size 100000",
              "--min-teacher-accuracy nan",
              "--min-teacher-accuracy 1.01", "--save-every inf", "--batch-size " + "9" * 400,
              "--max-bn-teachers 0", "--preflight-images 0"],
    RELABEL: ["--ipc -1", "--epochs 2000000000", "--workers 100000", "--resident-gb inf", "--mix-alpha 1e-30",
              "--label-epochs -1", "--steps-per-epoch 0", "--label-format topk --topk 0", "--threads 100000"],
    VALIDATE: ["--ipc -1", "--weight-decay -1", "--weight-decay nan", "--optimizer sgd --momentum -2",
               "--loss-type kl --temperature inf", "--zeta inf", "--ce-weight inf", "--workers 100000",
               "--gradient-accumulation-steps 2000000000", "--eval-batch-size " + "9" * 30],
    train_teachers.main: ["--lr nan", "--lr -1", "--lr inf", "--optimizer sgd --momentum -1",
                          "--weight-decay -1", "--mean nan 0 0", "--std 0 0 0", "--memory-limit nan",
                          "--batch-size 1"],
    demo.main: ["--lr nan", "--lr -1", "--r-bn inf", "--ipc 500", "--min-scale-crops 2", "--draws 0"]}


@pytest.mark.parametrize("main", ABSURD, ids=lambda main: main.__module__)
def test_absurd_values_are_refused_before_anything_is_written(main, refused, tiny, made, tmp_path):
    before, out = modification_times(made), tmp_path / "out"
    make = {RECOVER: tiny.recover_flags, train_teachers.main: tiny.teacher_flags,
            demo.main: lambda out, *flags: ["--out", out, *flags],
            RELABEL: lambda out, *flags: tiny.relabel_flags(made, "--fkd-path", out, *flags),
            VALIDATE: lambda out, *flags: tiny.validate_flags(made, "--output-dir", out, *flags)}[main]
    for flags in ABSURD[main]:
        line = refused(main, make(out, *flags.split()))
        spelt = {"--weight-decay": "--adamw-weight-decay"} if main is VALIDATE else {}
        flag = next(word for word in reversed(flags.split()) if word.startswith("--"))
        assert names(line, f"{spelt.get(flag, flag)} must be ", "got ") and len(line) < 600
    assert not out.exists() and modification_times(made) == before


@pytest.mark.parametrize("name", ["..", ".", "", "syn", "a/b", "a\\b", ".hidden", "x" * 300])
def test_run_names_that_are_no_folders_of_their_own(name, recover_refused):
    assert names(recover_refused("--exp-name", name), f"--exp-name {name[:10]!r}"[:-1].replace("'syn", "syn"))


@pytest.mark.parametrize("settings, named", [
    ({"RANK": "x"}, "RANK=x"), ({"WORLD_SIZE": "-1"}, "WORLD_SIZE=-1"),
    ({"RANK": "5"}, "RANK=5 and WORLD_SIZE=1"), ({"RANK": "\u00b2"}, "expected a whole number"),
    ({"RANK": "2", "WORLD_SIZE": "2"}, "0 <= RANK < WORLD_SIZE"),
    ({"LOCAL_RANK": "first"}, "LOCAL_RANK=first"), ({"LOCAL_RANK": ""}, "expected a whole number")])
def test_environments_that_no_launcher_sets(settings, named, recover_refused, monkeypatch):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert names(recover_refused(), named, "unset")


def test_names_too_long_and_records_that_may_not_be_read_are_bad_input(refused, tiny, copied, monkeypatch):
    assert names(refused(RECOVER, tiny.recover_flags("x" * 256)), "File name too long")
    real = Path.read_text

    def read(path, *args, **kwargs):  # a root may read everything
        if path.name == "config.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **kwargs)
    monkeypatch.setattr(Path, "read_text", read)
    argv = tiny.recover_flags(copied.parent, "--exp-name", copied.name)
    assert names(refused(RECOVER, argv), "Permission denied", copied / "config.json")


def test_a_pipe_is_no_record(refused, tiny, copied):
    (copied / "config.json").unlink()
    os.mkfifo(copied / "config.json")
    argv = tiny.recover_flags(copied.parent, "--exp-name", copied.name)
    assert names(refused(RECOVER, argv), copied / "config.json", "not a file")


def test_a_folder_that_is_removed_during_the_run(tiny, copied, tmp_path, monkeypatch):
    def removing(method):
        def run(*args, **kwargs):
            result = method(*args, **kwargs)
            for claim in (*tmp_path.glob("out/**/config.json"),):
                claim.unlink()
            return result
        return run
    monkeypatch.setattr(data_synthesis.Synthesis, "make", removing(data_synthesis.Synthesis.make))
    monkeypatch.setattr(generate_soft_label, "label_epoch", removing(generate_soft_label.label_epoch))
    monkeypatch.setattr(train_FKD.training.Study, "train", removing(train_FKD.training.Study.train))
    monkeypatch.setattr(train_teachers, "train_teacher", removing(train_teachers.train_teacher))
    for main, argv in ((RECOVER, tiny.recover_flags(tmp_path / "out")),
                       (RELABEL, tiny.relabel_flags(copied, "--fkd-path", tmp_path / "out")),
                       (VALIDATE, tiny.validate_flags(copied, "--output-dir", tmp_path / "out" / "v")),
                       (train_teachers.main, tiny.teacher_flags(tmp_path / "out" / "t", "--epochs", 1))):
        with pytest.raises(RuntimeError, match="config.json is gone"):
            main(argv)


# ---------------------------------------------------------------- dry runs

def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def nowhere(run: Path) -> Path:
    """A folder below a file."""
    (run / "file").write_text("")
    return run / "file" / "out"


# Case -> what is done to a copy of a finished run, flags, words of the line that both runs say.
REFUSED = {
    RECOVER: {
        "data": (None, ("--dataset", "folder:/nowhere"), "folder:/nowhere"),
        "too few images": (None, ("--ipc-end", 7), "--ipc-end needs 7"),
        "weights": (None, ("--weights-dir", "/nowhere"), "no weights for narrow_resnet"),
        "floor": (lambda run: (run / "preflight.json").unlink(), (
            "--dataset", lambda run: f"folder:{mislabelled(run)}", "--min-teacher-accuracy", 0.99),
            "expected at least 99.0%"),
        "another configuration": (None, ("--lr", 0.1), "config.lr is 0.05 there and 0.1 here"),
        "no claim": (lambda run: (run / "config.json").unlink(), (), "but no config.json"),
        "claim of another kind": (lambda run: shutil.copy(run / "fkd" / "2" / "config.json", run),
                                  ("--overwrite",), "is a folder of prism-labels, this makes"),
        "damaged claim": (lambda run: (run / "config.json").write_text(""), (), "damaged, not JSON"),
        "device": (None, ("--device", "cuda:99"), "--device cuda:99"),
        "shard": (None, ("--shard", "4/4"), "--shard 4/4"),
        "file": (None, ("--syn-data-path", nowhere), "cannot be written"),
    },
    RELABEL: {
        "images": (lambda run: shutil.rmtree(run / "units"), ("--ipc", 2), "IPC index 0 is not finished"),
        "more images": (None, ("--ipc", 4), "2 complete IPC indices"),
        "weights": (None, ("--weights-dir", "/nowhere"), "no weights for narrow_resnet"),
        "floor": (lambda run: (run / "preflight.json").unlink(), (
            "--val-dir", mislabelled, "--min-teacher-accuracy", 0.99), "expected at least 99.0%"),
        "data set": (None, ("--dataset", "cifar10"), "--dataset cifar10 contradicts"),
        "another configuration": (None, ("--epochs", 4), "config.epochs is 3 there and 4 here"),
        "a truncated image": (lambda run: truncate(run / "syn/cat/cat_ipc0001.png"), (), "rerun recover"),
        "too few classes": (None, ("--label-format", "topk:4"), "--label-format topk:4"),
        "file": (None, ("--fkd-path", nowhere), "cannot be written"),
    },
    VALIDATE: {
        "images": (lambda run: shutil.rmtree(run / "units"), ("--ipc", 2), "IPC index 0 is not finished"),
        "labels": (lambda run: shutil.rmtree(run / "fkd"), ("--ipc", 2), "no soft labels there"),
        "an epoch": (lambda run: (run / "fkd/2/epoch_001.pt").unlink(), ("--ipc", 2), "labels are missing"),
        "a truncated epoch": (lambda run: truncate(run / "fkd/2/epoch_001.pt"), (), "missing or cut short"),
        "contradiction": (None, ("--batch-size", 4), "contradicts the labels, made with 5"),
        "real data": (None, ("--val-dir", "/nowhere"), "/nowhere: expected a folder of class folders"),
        "another configuration": (None, ("--adamw-lr", 0.01), "config.adamw_lr is 0.001 there and 0.01 here"),
        "a truncated image": (lambda run: (truncate(run / "syn/cat/cat_ipc0001.png"),
                                           shutil.rmtree(run / "validate")), (), "rerun recover"),
        "file": (None, ("--output-dir", nowhere), "cannot be written"),
    }}


@pytest.mark.parametrize("main, case", [
    pytest.param(main, case, id=f"{main.__module__.split('.')[0]}: {case}")
    for main, cases in REFUSED.items() for case in cases])
def test_a_dry_run_refuses_what_the_run_does_and_writes_nothing(main, case, tiny, copied, refused, dry_run):
    damage, flags, named = REFUSED[main][case]
    if damage:
        damage(copied)
    flags = [flag(copied) if callable(flag) else flag for flag in flags]
    argv = tiny.recover_flags(copied.parent, "--exp-name", copied.name, *flags) if main is RECOVER else \
        tiny.relabel_flags(copied, *flags) if main is RELABEL else tiny.validate_flags(copied, *flags)
    before = modification_times(copied.parent)
    _, line = dry_run(main, argv)
    assert names(line, named) and modification_times(copied.parent) == before
    reason = " (Not a directory)"  # the system's, of which only who tries to write hears
    assert refused(main, argv).replace(reason, "") == line


def test_a_dry_run_before_there_are_labels_plans_the_images_that_are_there(tiny, copied, dry_run):
    shutil.rmtree(copied / "fkd")
    for flags in (("--ipc", 2), ()):
        plan, line = dry_run(VALIDATE, tiny.validate_flags(copied, *flags))
        assert names(line, f"--fkd-path {copied}", "no soft labels there", "relabel.generate_soft_label")
        assert "images        8, batches of 50" in plan and "narrow_resnet (small stem)" in plan
        assert str(copied / "validate" / "narrow_resnet") in plan


def test_a_dry_run_of_an_unfinished_run_plans_its_own_data_set(tiny, copied, dry_run):
    for path in (copied / "manifest.json", copied / "units" / "ipc0000_chunk00.json"):
        path.unlink()
    plan, line = dry_run(RELABEL, tiny.relabel_flags(copied, "--ipc", 2))
    assert names(line, "IPC index 0 is not finished") and "images        8, batches of 5" in plan


def test_a_dry_run_refuses_labels_of_other_images(tiny, copied, dry_run):
    tiny.recover(copied.parent, "--exp-name", copied.name, "--seed", 5, "--overwrite")
    before = modification_times(copied)
    plan, line = dry_run(VALIDATE, tiny.validate_flags(copied))
    assert names(line, copied / "fkd" / "2", "made from other images", "--overwrite")
    plan, line = dry_run(RELABEL, tiny.relabel_flags(copied))
    assert names(line, "holds another configuration", "images is") and "0 to do" in plan
    assert dry_run(RELABEL, tiny.relabel_flags(copied, "--overwrite"))[1] == ""
    assert modification_times(copied) == before


def test_a_dry_run_refuses_weights_that_online_labels_were_not_made_for(tiny, made, tmp_path, dry_run):
    folder = tiny.relabel(made, "--fkd-path", tmp_path / "fkd", "--label-format", "online")
    flags = ("--fkd-path", folder, "--output-dir", tmp_path / "out", "--weights-dir", tiny.teachers)
    assert dry_run(VALIDATE, tiny.validate_flags(made, *flags))[1] == ""
    other = f"narrow_resnet={made}/validate/narrow_resnet/seed0/student_last.pt"
    plan, line = dry_run(VALIDATE, tiny.validate_flags(made, *flags, "--weights", other))
    assert names(line, "weights of narrow_resnet are not those that the labels were made for")
    assert "2 to do" in plan and not (tmp_path / "out").exists()


def test_a_dry_run_refuses_test_images_of_other_classes(tiny, made, tmp_path, dry_run):
    data = shutil.copytree(tiny.data / "val", tmp_path / "val")
    (data / "dog").rename(data / "eel")
    plan, line = dry_run(VALIDATE, tiny.validate_flags(made, "--val-dir", data))
    assert names(line, f"--val-dir {data}", "class names are not those") and "2 x narrow_resnet" in plan


def test_a_dry_run_refuses_too_little_disk(tiny, made, tmp_path, monkeypatch, dry_run):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    for main, argv in ((RECOVER, tiny.recover_flags(tmp_path / "out")),
                       (RELABEL, tiny.relabel_flags(made, "--fkd-path", tmp_path / "out")),
                       (VALIDATE, tiny.validate_flags(made, "--output-dir", tmp_path / "out"))):
        plan, line = dry_run(main, argv)
        assert names(line, tmp_path / "out", "are needed", "1 B are free") and "to do" in plan
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- whole processes

def test_a_process_ends_with_one_line_and_status_2(tmp_path):
    commands = {("recover.data_synthesis", "--dataset", "folder:nowhere"): "folder:nowhere",
                ("relabel.generate_soft_label", "--data", "nowhere"): "--data nowhere",
                ("validate.train_FKD", "--train-dir", "nowhere", "--fkd-path", "x"): "--train-dir nowhere",
                ("models.train_teachers", "--epochs", "0"): "--epochs must be in [1, 100000], got 0"}
    running = [subprocess.Popen([sys.executable, "-m", *command], cwd=tmp_path, text=True,
                                env={**os.environ, "PYTHONPATH": str(ROOT)},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    for process, named in zip(running, commands.values(), strict=True):
        shown, error = process.communicate(timeout=120)
        assert process.returncode == 2 and shown == ""
        assert len(error.splitlines()) == 1 and error.startswith("error: ") and named in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("raised, status, shown", [
    (ValueError("two\nlines"), 2, "error: two lines\n"), (FileNotFoundError("no x"), 2, "error: no x\n"),
    (RuntimeError("nan"), 1, "error: RuntimeError: nan\n"), (OSError("full"), 1, "error: OSError: full\n"),
    (KeyboardInterrupt("x is saved"), 75, "interrupted: x is saved; run the same command again\n"),
    (KeyboardInterrupt(), 75, "interrupted: nothing was saved just now; finished work and earlier saves are "
                              "kept; run the same command again\n")])
def test_exit_statuses(raised, status, shown, monkeypatch, capsys):
    def main(argv):
        raise raised
    monkeypatch.setattr(sys, "argv", words("stage", "--seed", 3))
    with pytest.raises(SystemExit) as ended:
        command_line(main)
    assert ended.value.code == status and capsys.readouterr().err == shown
    assert command_line(lambda argv: argv == ["--seed", "3"] or pytest.fail(str(argv))) is None
