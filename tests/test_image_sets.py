"""Sets that others made: every layout is recognised without a manifest, classes in the data set's order."""
import os
import re
import shutil
import time
from pathlib import Path

import numpy
import pytest
import torch
from helpers import CLASSES, write_data, write_pictures
from PIL import Image

from models.places import inherited_case
from relabel import generate_soft_label
from utils import image_sets
from utils.files import sha256_bytes, sha256_file
from utils.formats import image_set_digest
from utils.image_sets import open_images
from utils.loading import load_distilled, open_distilled
from utils.records import read_json
from utils.unit_files import index_of
from validate import results, train_FKD

pytest_plugins = ["stage_fixtures"]
TWELVE = [f"class {letter}" for letter in "abcdefghijkl"]


def grey(path: Path, value: int, *, size=(8, 8)) -> None:
    """A picture of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.full((size[1], size[0], 3), value, numpy.uint8)).save(path)


@pytest.fixture
def real(tmp_path):
    """Data of twelve named classes: only their names matter."""
    for name in TWELVE:
        grey(tmp_path / "real" / "val" / name / "0.png", 0)
    return tmp_path / "real"


def opened(folder, real, **how):
    return open_images(str(folder), flag="--data", dataset=f"folder:{real}", **how)


NAMES = {  # class k, image i -> path below the set
    "sre2l": lambda k, i: f"new{k:03d}/class{k:03d}_id{i:03d}.jpg",
    "sre2l of FADRM": lambda k, i: f"new{k:03d}/class{k:03d}_id{i:03d}.png",
    "numbered": lambda k, i: f"{k:05d}/{i:05d}.jpg",
    "numbered by RDED": lambda k, i: f"{k:05d}/class{k:05d}_id{i:05d}.jpg",
    "numbered as text sorts": lambda k, i: f"{k}/{i}.png",
    "imagefolder": lambda k, i: f"{TWELVE[k]}/photo {i}.jpg",
    "numbered in images": lambda k, i: f"images/{k:05d}/{i:05d}.jpg",
    "imagefolder in train": lambda k, i: f"train/{TWELVE[k]}/{i}.jpg",
    "prism": lambda k, i: f"syn/{TWELVE[k]}/{TWELVE[k]}_ipc{i:04d}.png"}


@pytest.mark.parametrize("case", NAMES)
def test_a_layout_is_recognised_and_its_classes_are_the_data_sets(real, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    for k in range(12):
        for i in range(11):
            grey(tmp_path / "theirs" / NAMES[case](k, i), 20 * k + i)
    images = opened(tmp_path / "theirs", real)
    assert (images.foreign, images.ipc, images.class_names) == (case.split()[0], 11, TWELVE)
    assert (images.size, images.stem, images.home.parent) == (8, "small", Path("out"))
    assert re.fullmatch("theirs-[0-9a-f]{8}", images.home.name)
    assert [entry.label for entry in images.entries] == [k for k in range(12) for _ in range(11)]
    assert images.select(3) == [entry for i, entry in enumerate(images.entries) if i % 11 < 3]
    assert images.select(0) == images.select(11) == list(images.entries)
    pixels, labels = load_distilled(images.run, images.select(11), size=8)
    seen = pixels.float().mean(dim=(1, 2, 3)).round().int()  # 10 after 9, in classes and in images
    assert seen.tolist() == [20 * k + i for k in range(12) for i in range(11)]
    assert labels.tolist() == [entry.label for entry in images.entries]
    assert [index_of(entry.path) for entry in images.entries] == 12 * list(range(11))
    first = images.entries[0]
    assert first.sha256 == sha256_bytes((images.run / first.path).read_bytes())
    with pytest.raises(ValueError, match="--ipc 12: the smallest class in .* holds 11 images"):
        images.select(12)
    assert not (tmp_path / "out").exists()


def rename(folder, old, new):
    (folder / old).rename(folder / new)


@pytest.mark.parametrize("change, error", [
    (lambda f: rename(f, "new003", "new012"), "new012: class 12, the data set has 12, from 0"),
    (lambda f: shutil.rmtree(f / "new003"), r"class 3 \('class d'\) has no folder \(1 such\)"),
    (lambda f: rename(f, "new003", "3"), None),
    (lambda f: shutil.copytree(f / "new003", f / "new3"), "'new003' and 'new3' are one class"),
    (lambda f: (f / "notes").mkdir(), "'notes' is no number of a class as 'new000' is"),
    (lambda f: rename(f, "new003/class003_id001.png", "new004/class003_id001.png"),
     "class003_id001.png: by its name of another class than the folder"),
    (lambda f: [path.unlink() for path in (f / "new003").iterdir()], "class 'class d' holds no image"),
    (lambda f: (f / "new003/class003_id000.png").write_bytes(b"none"), "class003_id000.png: not a readable"),
    (lambda f: (f / "new003/class003_id002.png").symlink_to("nowhere.png"), None),
    (lambda f: [(f / "new003/class003_id000.png").unlink(),
                (f / "new003/class003_id000.png").symlink_to("nowhere.png")],
     "class003_id000.png: a broken link; replace or delete it"),
    (lambda f: [rename(f, f"new{k:03d}", name) for k, name in enumerate(TWELVE[:11])],
     r"'new011' is none of them \(1 such\) and 'class l' is missing"),
    (lambda f: [rename(f, f"new{k:03d}", f"x{k}") for k in range(12)], "'x0' is none of them"),
    (lambda f: shutil.rmtree(f), "no distilled images there")])
def test_what_does_not_fit_is_named(real, tmp_path, change, error):
    folder = tmp_path / "theirs"
    for k in range(12):
        for i in range(2):
            grey(folder / f"new{k:03d}/class{k:03d}_id{i:03d}.png", 20 * k + i)
    change(folder)
    if error is None:
        assert opened(folder, real).ipc == 2
        return
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        opened(folder, real)


def test_a_name_without_a_number_has_no_index():
    with pytest.raises(ValueError, match="a/photo.jpg: its name says no index"):
        index_of("a/photo.jpg")


def test_numbers_that_may_be_names_or_places_are_refused(tmp_path):
    for k in range(12):  # 0, 1, 10, 11, 2: as text, the order of real data
        grey(tmp_path / "real/val" / str(k) / "0.png", 0)
        grey(tmp_path / "theirs" / str(k) / "0.png", 20 * k)
        grey(tmp_path / "padded" / f"{k:05d}" / "0.png", 20 * k)
    (tmp_path / "real/val").rename(tmp_path / "real/train")  # where there are no others, these say the names
    images = opened(tmp_path / "theirs", tmp_path / "real")  # these are names
    assert [int(Path(entry.path).parent.name) for entry in images.entries] == [0, 1, 10, 11, *range(2, 10)]
    with pytest.raises(ValueError, match="class 2 is called '10', so a folder's number may be a name or a"):
        opened(tmp_path / "padded", tmp_path / "real")


def test_the_smallest_class_says_how_many(real, tmp_path, capsys):
    for k, name in enumerate(TWELVE):
        for i in range(3 + (k != 4)):
            grey(tmp_path / "photos" / name / f"{i}.png", k, size=(9 + i, 12))
    images = opened(tmp_path / "photos", real)
    assert images.ipc == 3 and len(images.entries) == 36 and images.size == 224  # of no common side
    assert "class 'class e' holds 3 images (1 such), others up to 4: the first 3 of every" in \
        capsys.readouterr().err


def test_pictures_of_another_size_become_as_real_ones_do(tmp_path):
    rng = numpy.random.default_rng(0)
    for k in range(10):
        (tmp_path / str(k)).mkdir()
        for i, shape in enumerate([(16, 16, 3), (24, 20, 3)]):
            Image.fromarray(rng.integers(0, 256, shape, numpy.uint8)).save(tmp_path / str(k) / f"{i}.png")
    pytest.importorskip("sklearn")
    images = open_images(str(tmp_path), flag="--data", dataset="digits")
    pixels, _ = load_distilled(images.run, images.select(2), size=images.size)
    kept = numpy.asarray(Image.open(tmp_path / "3" / "0.png")).transpose(2, 0, 1)
    assert images.size == 16 and (pixels[6].numpy() == kept).all()
    short = Image.open(tmp_path / "3" / "1.png").resize((16, 19), Image.Resampling.BILINEAR)
    cropped = numpy.asarray(short)[1:17].transpose(2, 0, 1)  # round(1.5) = 2 at torchvision, or 1
    other = numpy.asarray(short)[2:18].transpose(2, 0, 1)
    assert any((pixels[7].numpy() == picture).all() for picture in (cropped, other))
    streamed = open_distilled(images.run, images.select(2), size=16, device=torch.device("cpu"), workers=0,
                              resident_gb=0.0)
    assert (next(streamed.batches(torch.arange(20), 20)) == pixels).all()
    assert open_images(str(tmp_path), flag="--data", dataset="digits", size=12).size == 12


def test_a_set_says_no_data_set_and_is_never_written_into(real, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for k in range(12):
        grey(tmp_path / "out/theirs/train" / f"{k:05d}/00000.png", k)
    with pytest.raises(ValueError, match="--data .*train: images that no manifest describes .* --dataset"):
        open_images("out/theirs", flag="--data")
    home = opened("out/theirs", real).home
    assert home.parent == Path("out") and not home.resolve().is_relative_to(Path("out/theirs").resolve())


def test_sets_of_one_name_have_homes_of_their_own_however_they_are_called(real, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B"):
        for k in range(12):
            grey(tmp_path / name / "ipc1" / str(k) / "0.png", 10 * k)
    homes = [opened(f"{name}/ipc1", real).home for name in ("A", "B")]
    assert homes[0] != homes[1] and all(re.fullmatch("ipc1-[0-9a-f]{8}", home.name) for home in homes)
    assert opened(tmp_path / "B" / ".." / "A" / "ipc1", real).home == homes[0]
    monkeypatch.chdir(tmp_path / "A" / "ipc1" / "3")
    assert opened("..", real).home == homes[0]


def test_a_file_is_hashed_once_a_process_until_it_changes(real, tmp_path, monkeypatch):
    for k in range(12):
        grey(tmp_path / "theirs" / str(k) / "0.png", 10 * k)
    hashed = []
    monkeypatch.setattr(image_sets, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    first = opened(tmp_path / "theirs", real)
    assert len(hashed) == 12 and opened(tmp_path / "theirs", real).entries == first.entries
    assert len(hashed) == 12
    changed, stat = tmp_path / "theirs" / "3" / "0.png", (tmp_path / "theirs" / "3" / "0.png").stat()
    time.sleep(0.02)  # the clock of files ticks in steps of milliseconds
    grey(changed, 31)
    os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = opened(tmp_path / "theirs", real)
    assert hashed[12:] == [changed] and again.entries[3] != first.entries[3]


def test_training_images_name_the_classes_where_they_are_what_there_is(tmp_path):
    write_data(tmp_path / "real", classes=[str(k) for k in range(10)], train=1)
    (tmp_path / "real" / "val").rename(tmp_path / "val")
    for k in range(10):
        grey(tmp_path / "theirs" / str(k) / "0.png", 10 * k)
    images = open_images(str(tmp_path / "theirs"), flag="--data", dataset="cifar10",
                         train_data_path=str(tmp_path / "real"))
    assert images.class_names == [str(k) for k in range(10)]


@pytest.fixture(scope="module")
def theirs(tiny, tmp_path_factory):
    """f(layout): a tiny recovered set laid out so, with nothing of ours in it."""
    run = tiny.recover(tmp_path_factory.mktemp("run"))

    def lay(layout: str) -> Path:
        folder = tmp_path_factory.mktemp(layout) / f"a set ({layout})"
        for k, name in enumerate(CLASSES):
            for i in range(2):
                source = next((run / "syn" / name).glob(f"*_ipc{i:04d}.*"))
                path = folder / {
                    "sre2l": f"new{k:03d}/class{k:03d}_id{i:03d}", "prism": f"{name}/{source.stem}",
                    "numbered": f"{k:05d}/{i:05d}", "imagefolder": f"train/{name}/{i}"}[layout]
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, path.with_name(path.name + source.suffix))
        return folder
    return lay


@pytest.mark.parametrize("layout", ["sre2l", "numbered", "imagefolder", "prism"])
def test_labels_and_students_are_those_of_the_same_images_of_ours(tiny, made, theirs, tmp_path, monkeypatch,
                                                                  capsys, layout):
    monkeypatch.chdir(tmp_path)
    folder, data = theirs(layout), ("--dataset", f"folder:{tiny.data}")
    before = sorted(folder.rglob("*"))
    labels = tiny.relabel(folder, *data)
    home = opened(folder, tiny.data).home
    assert labels == home / "fkd" / "2"
    for name in ("epoch_000.pt", "epoch_002.pt"):
        ours, others = (torch.load(path / name, weights_only=True) for path in (made / "fkd" / "2", labels))
        assert all(torch.equal(ours[key], others[key]) for key in ours)
    students = tiny.validate(folder, *data, "--fkd-path", labels)["results"]
    expected = read_json(made / "validate" / "narrow_resnet" / "results.json")["results"]
    assert [student["last"] for student in students] == [student["last"] for student in expected]
    assert sorted(folder.rglob("*")) == before
    result, = results.read_results(home / "validate" / "narrow_resnet")[:1]
    assert (result["images_layout"], result["images_config"]["layout"]) == (layout, layout)
    assert result["images"] == image_set_digest(opened(folder, tiny.data).select(2))
    assert f"images of others (layout {layout}); labels prism" in results.describe_students(result)
    results.main([str(home / "validate" / "narrow_resnet"), str(made / "validate" / "narrow_resnet")])
    shown = capsys.readouterr()
    assert "recover layout: " in shown.out and "images: others" in shown.out
    assert shown.err.count("nothing is written there") == 1


def test_the_stages_refuse_what_does_not_fit(tiny, theirs, tmp_path, monkeypatch, refused, dry_run):
    monkeypatch.chdir(tmp_path)
    folder, data = theirs("sre2l"), ("--dataset", f"folder:{tiny.data}")
    relabel, validate = generate_soft_label.main, train_FKD.main
    assert "with --dataset" in refused(relabel, tiny.relabel_flags(folder))
    assert "with --dataset" in refused(validate, tiny.validate_flags(folder))
    shown, error = dry_run(relabel, tiny.relabel_flags(folder, *data))
    assert not error and f"{opened(folder, tiny.data).home}/fkd/2" in shown
    assert not Path("out").exists()
    assert "trained with --size 16, the images here have 12" in \
        refused(relabel, tiny.relabel_flags(folder, *data, "--size", 12))
    labels = tiny.relabel(folder, *data)
    again = tiny.validate_flags(folder, *data, "--fkd-path", labels)
    shown, error = dry_run(validate, again)
    assert not error and f"{opened(folder, tiny.data).home}/validate/narrow_resnet" in shown
    assert "labels of images of 16 pixels, these are taken at 12; pass --size 16" in \
        refused(validate, [*again, "--size", "12"])
    (folder / "new001/class001_id001.png").write_bytes((folder / "new001/class001_id000.png").read_bytes())
    assert "the labels were made from other images" in refused(validate, again)
    assert "images is" in refused(relabel, tiny.relabel_flags(folder, *data))


def test_real_images_of_other_sizes_are_a_set_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("data/train"), dict(zip(CLASSES, (3, 4, 3, 5), strict=True)), size=20)
    write_data(Path("data16"), train=1)
    Path("data16/val").rename("data/val")
    found = train_FKD.main(["--train-dir", "data", "--dataset", "folder:data", "--size", "16", "--loss-type",
                            "ce", "--epochs", "1", "--batch-size", "4", "--model", "narrow_plain",
                            "--gradient-accumulation-steps", "1", "--threads", "1", "--device", "cpu"])
    assert found["n"] == 1 and found["results"][0]["config"]["ipc"] == 3
    assert len(list(Path("out").glob("data-*/validate/narrow_plain/results.json"))) == 1


def test_a_protocol_knows_the_ipc_of_a_set_of_others(tiny, theirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, data = theirs("numbered"), {"dataset": f"folder:{tiny.data}", "protocol": "edc"}
    assert inherited_case(str(folder), data).ipc == 2
    assert inherited_case(str(tmp_path), data).ipc == 10
