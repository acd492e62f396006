"""Real data: how files decode, how images are resized, and how each data set splits."""
import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils import files, pictures
from utils.data import (
    DATASETS,
    RealSet,
    count_classes,
    dataset_preset,
    dataset_spec,
)
from utils.files import sha256_bytes
from utils.formats import Entry
from utils.loading import (
    EvaluationBatches,
    ResidentImages,
    StreamedImages,
    fits,
    load_distilled,
    load_pixels,
    open_distilled,
    planned_images,
)
from utils.pictures import (
    LONGEST_ENDING,
    check_folder_name,
    check_readable,
    decode_image,
    resize_and_crop,
)
from utils.unit_files import image_path

CPU = torch.device("cpu")


def encoded(picture: Image.Image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


@pytest.fixture
def picture(gen):
    """A 20 x 15 RGB picture of noise."""
    return Image.fromarray(torch.randint(0, 256, (15, 20, 3), generator=gen, dtype=torch.uint8).numpy())


# ---------------------------------------------------------------- files

@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_an_rgb_picture_comes_back_as_it_is(picture, kind):
    np.testing.assert_array_equal(decode_image(encoded(picture, kind)), picture)


def test_grey_is_repeated(picture):
    grey = picture.convert("L")
    decoded = np.asarray(decode_image(encoded(grey, "PNG")))
    assert decoded.shape == (15, 20, 3)
    for channel in range(3):
        np.testing.assert_array_equal(decoded[..., channel], grey)


def test_alpha_is_dropped(picture):
    transparent = picture.copy()
    transparent.putalpha(Image.fromarray(np.tile(np.arange(0, 200, 10, dtype=np.uint8), (15, 1))))
    np.testing.assert_array_equal(decode_image(encoded(transparent, "PNG")), picture)


def test_a_palette_is_looked_up():
    indices = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    indices.putpalette([255, 0, 0, 0, 255, 0, 7, 8, 9])
    assert np.asarray(decode_image(encoded(indices, "PNG"))).tolist() == [[[255, 0, 0], [0, 255, 0]],
                                                                        [[7, 8, 9], [0, 255, 0]]]


def test_cmyk_is_converted():
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = np.asarray(decode_image(encoded(ink, "JPEG", quality=95)))[8, 8].tolist()
    assert red < 10 and green > 245 and blue > 245


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(kind):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    decoded = np.asarray(decode_image(encoded(Image.fromarray(values), kind)))
    assert decoded[0, [0, 1, 3]].tolist() == [[0] * 3, [1] * 3, [255] * 3] and decoded[0, 2, 0] in (127, 128)


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow's, of TIFF
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("keep", [0, 0.1, 0.6])
def test_a_truncated_file_is_named(picture, kind, keep, tmp_path):
    content = encoded(picture, kind)
    path = tmp_path / "broken.img"
    path.write_bytes(content[:int(len(content) * keep)])
    with pytest.raises(ValueError, match="broken.img: not a readable image"):
        decode_image(path)


def test_a_picture_that_names_a_program_is_not_opened(tmp_path, monkeypatch):
    stub = tmp_path / "gs"
    stub.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "00.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match="00.png: not a readable image"):
        decode_image(path)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("width, height, most", [(1, 101, None), (30300, 300, None), (20, 30, 599)])
def test_a_picture_too_large_or_too_long_is_refused_undecoded(width, height, most, tmp_path, monkeypatch):
    if most:
        monkeypatch.setattr(pictures, "MOST_PIXELS", most)
    path = tmp_path / "long.png"
    Image.new("L", (width, height)).save(path)
    path.write_bytes(path.read_bytes()[:60])  # its size is there, its pixels are not
    with pytest.raises(ValueError, match=rf"long.png: {width} x {height} pixels, .* at most .* 100 times"):
        decode_image(path)


def test_a_picture_of_the_largest_size_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 600)
    Image.new("L", (20, 30)).save(tmp_path / "a.png")
    Image.new("L", (100, 1)).save(tmp_path / "b.png")
    assert decode_image(tmp_path / "a.png").size == (20, 30)
    assert decode_image(tmp_path / "b.png").size == (100, 1)


def test_only_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("gone.png")
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(ValueError, match=f"{name}: not a file"):
            decode_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="link.png: a broken link"):
        check_readable([tmp_path / "link.png"])


def test_a_file_that_the_system_does_not_give_is_not_called_damaged(tmp_path, picture, monkeypatch):
    picture.save(tmp_path / "a.png")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(Image, "open", refuse)  # a root may read everything
    with pytest.raises(ValueError, match=r"a.png: cannot be read \(Permission denied\); mend"):
        decode_image(tmp_path / "a.png")


@pytest.mark.parametrize("length, ending, fits_in", [
    (255, 0, True), (256, 0, False), (205, LONGEST_ENDING, True), (206, LONGEST_ENDING, False)])
def test_a_folders_name_leaves_room_for_its_files(length, ending, fits_in):
    for name in ("x" * length, "\u00e4" * (length // 2) + "x" * (length % 2)):  # counted in bytes
        if fits_in:
            check_folder_name(name, "class", ending=ending)
        else:
            with pytest.raises(ValueError, match=f"of {length} bytes, expected at most {255 - ending}"):
                check_folder_name(name, "class", ending=ending)


def test_the_longest_ending_is_that_of_a_file_while_it_is_written(tmp_path, monkeypatch):
    name = []
    monkeypatch.setattr(files.os, "replace", lambda a, b: name.append(a.name))
    files.write_bytes(tmp_path / Path(image_path("owl", 9999, "jpg")).name, b"")
    assert len(name[0]) == len("owl") + LONGEST_ENDING


@pytest.mark.parametrize("name", ["", ".", "..", ".git", "a/b", "/a", "a\\b", "a\0b"])
def test_a_folders_name_is_one_plain_word(name):
    with pytest.raises(ValueError, match="class .*: expected the name of a folder"):
        check_folder_name(name, "class")


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        decode_image(tmp_path / "gone.png")


# ---------------------------------------------------------------- resizing

@pytest.mark.parametrize("size, short", [(224, 256), (64, 72), (32, 32)])
@pytest.mark.parametrize("width, height", [(300, 400), (500, 260), (32, 48)])
def test_the_short_side_is_resized_and_the_centre_kept(size, short, width, height, gen):
    coarse = Image.fromarray(torch.randint(0, 256, (6, 7, 3), generator=gen, dtype=torch.uint8).numpy())
    picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
    scale = short / min(width, height)
    resized = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BILINEAR)
    left, top = round((resized.width - size) / 2), round((resized.height - size) / 2)
    expected = np.asarray(resized.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
    pixels = resize_and_crop(picture, size)
    assert pixels.shape == (3, size, size) and pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("size", [8, 9, 13, 16, 20, 28, 41, 48, 96, 128])
def test_no_size_leaves_a_border(size):
    assert (resize_and_crop(Image.new("RGB", (50, 60), "white"), size) == 255).all()


# ---------------------------------------------------------------- presets

def test_presets_follow_the_data_set_and_its_size():
    def fields(name, size=None):
        preset = dataset_spec(name).preset(size)
        return preset["size"], preset["stem"], preset["image_format"], preset["jitter"]
    assert fields("imagenet-1k") == fields("imagenette") == fields("folder:x") == (224, "imagenet", "jpg", 32)
    assert fields("imagenet-1k", 32) == fields("folder:x", 32) == (32, "small", "png", 4)
    assert fields("folder:x", 16) == (16, "small", "png", 2) == fields("digits")
    assert fields("folder:x", 128) == (128, "imagenet", "jpg", 32)
    assert fields("cifar10") == fields("cifar100") == (32, "small", "png", 4)
    assert fields("tiny-imagenet")[:2] == (64, "small")


def test_presets_carry_statistics_and_flips():
    assert dataset_preset({})["mean"] == (0.485, 0.456, 0.406) and dataset_preset({})["flip"]
    digits = dataset_preset({"dataset": "digits", "size": 32})
    assert not digits["flip"] and digits["mean"] == (0.3053,) * 3 and digits["size"] == 32


def test_an_unknown_data_set_lists_the_known_ones():
    with pytest.raises(ValueError, match="--dataset mnist: expected one of imagenet-1k.*digits or folder:"):
        dataset_spec("mnist")


# ---------------------------------------------------------------- sets

def test_digits_are_split_once_and_by_class():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    train, test = (RealSet("digits", "", split, size=16) for split in ("train", "val"))
    assert (len(train), len(test)) == (1347, 450)
    assert train.class_names == test.class_names == [str(k) for k in range(10)]
    whole = np.bincount(load_digits().target)
    for k in range(10):
        assert len(train.by_class[k]) + len(test.by_class[k]) == whole[k]
        assert abs(len(test.by_class[k]) - whole[k] / 4) < 1
    pixels, labels = load_pixels(test)
    again, _ = load_pixels(RealSet("digits", "", "val", size=16))
    assert torch.equal(pixels, again) and pixels.shape == (450, 3, 16, 16) and labels.tolist() == test.labels
    assert pixels.max() == 255 and torch.equal(pixels[:, 0], pixels[:, 2])


def test_digits_have_the_presets_statistics():
    pytest.importorskip("sklearn")
    pixels, _ = load_pixels(RealSet("digits", "", "train", size=16))
    spec = DATASETS["digits"]
    assert pixels.double().mean().item() / 255 == pytest.approx(spec.mean[0], abs=2e-3)
    assert pixels.double().std().item() / 255 == pytest.approx(spec.std[0], abs=2e-3)


def test_a_folder_is_read_class_by_class_in_file_order(tmp_path, image_folder):
    image_folder(tmp_path / "train", {"b": 2, "a": 9})
    image_folder(tmp_path / "val", {"b": 1, "a": 1})
    train = RealSet(f"folder:{tmp_path}", "", "train", size=8)
    assert train.class_names == ["a", "b"] and train.labels == [0] * 9 + [1] * 2
    assert train.by_class == [list(range(9)), [9, 10]] and count_classes(f"folder:{tmp_path}") == 2
    assert [int(train[i][0].max()) for i in range(11)] == [*range(20, 29), 0, 1]
    assert [train[i][1] for i in range(11)] == train.labels
    assert len(RealSet(f"folder:{tmp_path}", "", "val", size=8)) == 2
    assert len(RealSet(f"folder:{tmp_path / 'val'}", "", "train", size=8)) == 2  # the classes themselves


def test_training_images_are_never_the_test_set_unasked(tmp_path, image_folder):
    image_folder(tmp_path / "bare", {"a": 2})
    image_folder(tmp_path / "other", {"a": 3})
    name = f"folder:{tmp_path / 'bare'}"
    with pytest.raises(ValueError, match="no test set.*--val-dir"):
        RealSet(name, "", "val", size=8)
    assert len(RealSet(name, str(tmp_path / "other"), "val", size=8)) == 3
    with pytest.raises(ValueError, match="--train-data-path.*contradicts --dataset folder:"):
        RealSet(name, str(tmp_path / "other"), "train", size=8)
    with pytest.raises(ValueError, match="no test set.*--val-dir"):
        RealSet("imagenette", str(tmp_path / "bare"), "val", size=8, bare=False)


def test_test_stands_in_for_val(tmp_path, image_folder):
    image_folder(tmp_path / "train", {"a": 2})
    image_folder(tmp_path / "test", {"a": 1})
    assert len(RealSet(f"folder:{tmp_path}", "", "val", size=8)) == 1


def test_tiny_imagenets_val_is_read_as_shipped(tmp_path, image_folder, picture):
    for name in ("n01", "n02"):
        image_folder(tmp_path / "train" / name, {"images": 2})
    (tmp_path / "val" / "images").mkdir(parents=True)
    rows = [("val_0.png", "n02"), ("val_1.png", "n01"), ("val_2.png", "n02")]
    for i, (name, _) in enumerate(rows):
        Image.new("RGB", (12, 12), (i, i, i)).save(tmp_path / "val" / "images" / name)
    lines = [f"{name}\t{label}\t0\t0\t9\t9" for name, label in rows]
    (tmp_path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    train, val = (RealSet(f"folder:{tmp_path}", "", split, size=8) for split in ("train", "val"))
    assert train.class_names == val.class_names == ["n01", "n02"] and train.labels == [0, 0, 1, 1]
    assert val.labels == [1, 0, 1] and [int(val[i][0].max()) for i in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("text, named", [
    ("a.png bee\n", "line 1 is 'a.png bee'"), ("a.png\tbee\n../b.png\tbee\n", "line 2 is '../b.png'"),
    (b"\xff\xfe", "not text")])
def test_a_list_of_tiny_imagenet_that_is_none_is_named(text, named, tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "val_annotations.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="val_annotations.txt") as refused:
        RealSet(f"folder:{tmp_path}", "", "val", size=16)
    assert named in str(refused.value)


def test_files_that_are_left_out_are_said_once(tmp_path, image_folder, capsys):
    image_folder(tmp_path / "train", {"bee": 2, "ant": 1})
    for name in ("a.gif", "b.gif", "notes", ".hidden"):
        (tmp_path / "train" / "bee" / name).write_bytes(b"")
    (tmp_path / "train" / "ant" / "more").mkdir()
    for _ in range(2):
        assert len(RealSet(f"folder:{tmp_path}", "", "train", size=8)) == 3
    said = capsys.readouterr().err
    assert said.count("left out") == 1 and "3 files" in said and "2 .gif, 1 without ending" in said


def test_classes_that_are_not_those_expected_are_named(tmp_path, image_folder):
    image_folder(tmp_path / "val", {"ant": 1, "zed": 1, "bee": 1})
    real = RealSet(f"folder:{tmp_path}", "", "val", size=8)
    real.check_classes(["ant", "bee", "zed"], flag="--val-dir", whose="the images")
    for expected, named in ((["ant", "bee", "cat", "dog"], "'cat' is missing (2 such) and 'zed' is none of "),
                            (["ant", "bee"], "'zed' is none of them (1 such)"),
                            (["bee", "ant", "zed"], "their order is another")):
        with pytest.raises(ValueError) as refused:
            real.check_classes(expected, flag="--val-dir", whose="the images")
        line = str(refused.value)
        assert f"--val-dir {tmp_path / 'val'}: its class names are not those of the images" in line
        assert named in line


@pytest.mark.parametrize("counts, message", [
    ({}, "no images found"), ({"a": 2, "b": 0}, "class folder 'b' holds no image")])
def test_an_empty_folder_is_named(counts, message, tmp_path, image_folder):
    image_folder(tmp_path, counts)
    with pytest.raises(ValueError, match=message):
        RealSet(f"folder:{tmp_path}", "", "train", size=8)


def test_a_missing_folder_and_a_wrong_class_count_are_named(tmp_path, image_folder):
    with pytest.raises(ValueError, match="nowhere: expected a folder of class folders"):
        RealSet("imagenet-1k", "nowhere", "train", size=8)
    image_folder(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="expected 10 classes for --dataset imagenette, got 2"):
        RealSet("imagenette", str(tmp_path), "train", size=8)
    with pytest.raises(ValueError, match="folder:nowhere"):
        count_classes("folder:nowhere")


def test_evaluation_batches_are_the_set_in_order(tmp_path, image_folder):
    image_folder(tmp_path, {"a": 3, "b": 2})
    real = RealSet(f"folder:{tmp_path}", "", "train", size=8)
    pixels, labels = load_pixels(real)
    for resident_gb in (1, 0):
        batches = EvaluationBatches(real, batch_size=2, workers=0, device=CPU, resident_gb=resident_gb)
        for _ in range(2):
            seen = list(batches)
            assert [len(part) for _, part in seen] == [2, 2, 1]
            assert torch.equal(torch.cat([p for p, _ in seen]), pixels)
            assert torch.equal(torch.cat([part for _, part in seen]), labels)


def test_sets_kept_on_another_device_are_never_whole_on_the_host(tmp_path, image_folder):
    image_folder(tmp_path / "real", {"a": 3, "b": 2})
    elsewhere = torch.device("meta")  # holds shapes alone: what is written to it is nowhere
    real = RealSet(f"folder:{tmp_path / 'real'}", "", "train", size=8)
    pixels, labels = load_pixels(real, device=elsewhere)
    assert pixels.is_meta and pixels.shape == (5, 3, 8, 8) and labels.is_meta
    entries = write_distilled(tmp_path, 3)
    pixels, labels = load_distilled(tmp_path, entries, size=8, device=elsewhere)
    assert pixels.is_meta and pixels.shape == (3, 3, 8, 8) and labels.tolist() == [0, 1, 2]


def test_a_spread_takes_as_many_of_each_class(tmp_path, image_folder):
    image_folder(tmp_path, {"a": 9, "b": 4, "c": 1})
    real = RealSet(f"folder:{tmp_path}", "", "train", size=8)
    spread = real.spread(6)
    assert [real.labels[i] for i in spread] == [0, 0, 1, 1, 2] and spread == sorted(set(spread))


def test_distilled_files_are_checked_when_read(tmp_path, picture):
    content = encoded(picture.crop((0, 0, 8, 8)), "PNG")
    (tmp_path / "x.png").write_bytes(content)
    entries = [Entry("x.png", sha256_bytes(content), 3)]
    pixels, targets = load_distilled(tmp_path, entries, size=8)
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0), picture.crop((0, 0, 8, 8)))
    assert targets.tolist() == [3]
    with pytest.raises(ValueError, match="x.png: expected 16 x 16"):
        load_distilled(tmp_path, entries, size=16)
    (tmp_path / "x.png").write_bytes(content[:-9])
    with pytest.raises(ValueError, match="x.png: its bytes are not those.*rerun recover"):
        load_distilled(tmp_path, entries, size=8)
    (tmp_path / "x.png").unlink()
    with pytest.raises(FileNotFoundError, match="x.png is missing.*rerun recover"):
        load_distilled(tmp_path, entries, size=8)


def write_distilled(folder, num: int) -> list[Entry]:
    """`num` images of 8 pixels as a finished run has them."""
    rng, entries = np.random.default_rng(0), []
    for i in range(num):
        content = encoded(Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)), "PNG")
        (folder / f"{i}.png").write_bytes(content)
        entries.append(Entry(f"{i}.png", sha256_bytes(content), i % 3))
    return entries


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_are_the_resident_ones(tmp_path, workers):
    entries, index = write_distilled(tmp_path, 7), torch.tensor([6, 0, 3, 3, 1], dtype=torch.int32)
    kept = open_distilled(tmp_path, entries, size=8, device=CPU, resident_gb=1, workers=workers)
    streamed = open_distilled(tmp_path, entries, size=8, device=CPU, resident_gb=0, workers=workers)
    assert (type(kept), type(streamed)) == (ResidentImages, StreamedImages)
    assert len(kept) == len(streamed) == 7
    pixels, _ = load_distilled(tmp_path, entries, size=8)
    for images in (kept, streamed):
        for _ in range(2):
            batches = list(images.batches(index, 2))
            assert [len(batch) for batch in batches] == [2, 2, 1]
            assert torch.equal(torch.cat(batches), pixels[index.long()])


def test_a_damaged_file_is_named_before_it_is_streamed(tmp_path):
    entries = write_distilled(tmp_path, 3)
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:-5])
    with pytest.raises(ValueError, match="2.png: its bytes are not those.*rerun recover"):
        open_distilled(tmp_path, entries, size=8, device=CPU, resident_gb=0, workers=0)


def test_the_budget_is_the_flag_and_half_of_the_free_memory(monkeypatch):
    monkeypatch.setattr("utils.loading._free_memory", lambda: 2e6)
    assert fits(5, 224, device=CPU, resident_gb=1) and not fits(7, 224, device=CPU, resident_gb=1)
    assert fits(5, 224, device=CPU, resident_gb=0.00076) and not fits(5, 224, device=CPU, resident_gb=0.0007)


def test_planned_images_have_the_shape_of_a_run():
    manifest = planned_images("cifar10", 3)
    assert (manifest.ipc, manifest.size, len(manifest.class_names), manifest.num_classes) == (3, 32, 10, 10)
    assert (manifest.dataset, manifest.stem, manifest.mean) == ("cifar10", "small", DATASETS["cifar10"].mean)
    assert [entry.label for entry in manifest.entries] == [k for k in range(10) for _ in range(3)]
    assert manifest.select(2) == [entry for i, entry in enumerate(manifest.entries) if i % 3 < 2]
    assert planned_images("", 1).dataset == "imagenet-1k" and planned_images("", 1).num_classes == 1000
    with pytest.raises(ValueError, match="--ipc"):
        planned_images("cifar10", 0)
