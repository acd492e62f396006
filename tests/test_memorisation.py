"""Memorisation of a set: classes one after another in bounded memory, starts made once more, what is said."""
import dataclasses
import shutil

import numpy
import pytest
import torch
from helpers import POOL, PROCESS, pixels_of, words, write_pictures
from PIL import Image

from benchmarks.memory import LiveBytes
from models.registry import build_model
from utils.image_sets import open_images
from utils.interrupts import Interrupted
from utils.measures import read_measures
from validate import memorisation, neighbours, starts

pytest_plugins = ["stage_fixtures"]
NAMES = ("precision", "recall", "density", "coverage", "coverage_expected")


def stream(counts, gen, *, batch: int = 7, num_features: int = 5):
    """Batches of features, `counts[k]` of class k, in order."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for part in labels.split(batch):
        yield torch.randn(len(part), num_features, generator=gen) + part[:, None], part


def test_classes_come_whole_whatever_the_batches():
    rows, labels = torch.arange(24.).view(12, 2), torch.tensor([0, 0, 0, 2, 3, 3, 3, 3, 3, 3, 5, 5])
    for batch in (1, 2, 5, 12):
        found = dict(memorisation.by_class(zip(rows.split(batch), labels.split(batch), strict=True)))
        assert list(found) == [0, 2, 3, 5]
        assert all(torch.equal(own, rows[labels == k]) for k, own in found.items())


def test_means_are_over_classes_and_distances_over_images(gen):
    real, made = list(stream([9, 1, 12], gen)), list(stream([3, 2, 1], gen))
    found = memorisation.compare_classes(iter(real), iter(made), None, ["a", "b", "c"], k=2)
    classes = found["classes"]
    each = [neighbours.compare(own, other, k=2) for (_, own), (_, other) in zip(
        memorisation.by_class(iter(real)), memorisation.by_class(iter(made)), strict=True)]
    assert list(classes) == ["a", "b", "c"] and found["real_images"] == 22
    assert found["precision"] == pytest.approx((each[0].precision + each[2].precision) / 2)  # b has no balls
    assert found["recall"] == pytest.approx((each[0].recall + each[1].recall) / 2)
    nearest = torch.cat([own.nearest for own in each])
    assert found["nearest"] == pytest.approx({"mean": nearest.mean().item(), "std": nearest.std().item(),
                                              "least": nearest.min().item()})
    assert classes["b"]["real_nearest"] == {"mean": None, "std": None, "least": None}
    assert classes["c"]["nearest"]["std"] is None and found["moved"] is found["still_closest"] is None


def test_k_is_said_to_shrink(capfd):
    memorisation.say_shrunk({"a": {"k": 5, "k_recall": 2}, "b": {"k": 3, "k_recall": 0}}, 5)
    one, two = capfd.readouterr().err.splitlines()
    assert one.startswith("1 of 2 classes have too few real images for k = 5") and one.endswith("k = 3")
    assert two.startswith("2 of 2") and two.endswith("k = 0 to 2, and none where it is 0")


@pytest.mark.parametrize("n, m, num_features, block", [(300, 12, 64, 256), (200, 150, 16, 32)])
def test_memory_is_that_of_a_class_whatever_their_number(n, m, num_features, block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    peaks = []
    for num_classes in (2, 5):
        sets = [([count] * num_classes, torch.Generator().manual_seed(count)) for count in (n, m, m)]
        with LiveBytes() as live:
            memorisation.compare_classes(*(stream(*own, num_features=num_features) for own in sets),
                                         list(map(str, range(num_classes))), k=5)
        bound = neighbours.bytes_bound(n, m, num_features, num_classes=num_classes)
        assert bound / 4 < live.peak < bound
        peaks.append(live.peak)
    assert peaks[1] - peaks[0] < 3 * 2 * 8 * (n + 2 * m) + 2000  # three more classes


# ---------------------------------------------------------------- the command

@pytest.fixture(scope="module")
def measured(made, tmp_path_factory):
    """A copy of the finished run, whose images started from real ones; its starts; what was found."""
    folder = tmp_path_factory.mktemp("measured")
    run = shutil.copytree(made, folder / "run")
    values = memorisation.main(words("--data", run, "--starts", folder / "made", "--k", 3, *PROCESS))
    return run, folder / "made" / "starts", values


def test_starts_made_once_more_are_the_real_images(measured, tiny):
    _, folder, _ = measured
    real = [numpy.asarray(Image.open(path), int) for name in ("ant", "bee", "cat", "dog")
            for path in sorted((tiny.data / "train" / name).glob("*"))[:2]]
    again = pixels_of(folder)
    assert again.shape == (8, 16, 16, 3) and numpy.array_equal(again, numpy.stack(real))


def test_what_a_run_memorised(measured, tiny):
    run, folder, values = measured
    measure = read_measures(open_images(str(run), flag="--data"))["memorisation_narrow_resnet"]
    assert measure["values"] == values and "--arch-name narrow_resnet" in measure["command"]
    assert (values["arch"], values["taught"], values["k"]) == (POOL[0], True, 3)  # all taught: the primary
    assert values["real_images"] == 24 and list(values["classes"]) == ["ant", "bee", "cat", "dog"]
    for name in NAMES:
        own = [classes[name] for classes in values["classes"].values()]
        assert values[name] == pytest.approx(sum(own) / 4) and all(0 <= value for value in own)
    assert values["nearest"]["least"] <= values["nearest"]["mean"] <= values["moved"]["mean"]
    assert 0 <= values["still_closest"] <= 1 and values["classes"]["ant"]["k_recall"] == 1


def test_copies_have_moved_nowhere(measured, tiny, monkeypatch):
    _, folder, _ = measured
    copies = open_images(str(folder), flag="--data")  # their own starts
    monkeypatch.setattr(memorisation, "remake_starts", lambda *args, **flags: copies)
    values = memorisation.main(words("--data", folder, "--arch-name", POOL[2], "--weights-dir", tiny.teachers,
                                     *PROCESS))
    assert values["nearest"]["mean"] == pytest.approx(0, abs=1e-6) and values["precision"] == 1
    assert values["moved"] == pytest.approx({"mean": 0, "std": 0}, abs=1e-6) and values["still_closest"] == 1


def test_starts_of_other_settings_or_networks_are_not_the_runs(measured):
    run, folder, _ = measured
    images, again = (open_images(str(path), flag="--data") for path in (run, folder))
    starts.check_starts(images, again)
    assert starts.starts_of(images.select(1), again) == again.select(1)
    for change, name in (({"config": images.saved["config"] | {"seed": 7}}, "others are seed"),
                         ({"weights": {}}, None)):
        other = dataclasses.replace(images, saved=images.saved | change)
        if name:
            with pytest.raises(ValueError, match=name):
                starts.check_starts(other, again)
        chosen = dataclasses.replace(again, saved=again.saved | {"weights": {"net": "a digest"}})
        with pytest.raises(ValueError, match="net"):
            starts.check_starts(other, chosen)


@pytest.mark.parametrize("config, reason", [
    ({"init": "real"}, ""), ({"init": "medium", "factor": 0}, ""), ({"init": "noise"}, "--init noise"),
    ({"init": "medium", "factor": 2}, "medium"), ({"init": "mosaic"}, "mosaic"), ({}, "not recorded")])
def test_which_sets_started_from_a_real_image_each(config, reason, measured):
    images = open_images(str(measured[0]), flag="--data")
    found = starts.starts_unknown(dataclasses.replace(images, saved={"config": config}))
    assert reason in found and bool(found) == bool(reason)


def test_a_recover_that_fails_is_said_and_leaves_it_unknown(measured, tmp_path, capfd, monkeypatch):
    asked = []

    def fail(module, argv):
        asked.extend([module, *argv])
        raise ValueError(f"{module} ended with status 2: no such data")
    monkeypatch.setattr(starts, "run_stage", fail)
    images = open_images(str(measured[0]), flag="--data")
    config = memorisation.MemorisationConfig(train_data_path="real images", ipc=1, device="cpu")
    assert memorisation.begun_from(images, images.select(1), config, tmp_path) is None
    assert capfd.readouterr().err.endswith("how far images moved is not known: recover.data_synthesis ended "
                                           "with status 2: no such data\n")
    told = dict(zip(asked[1::2], asked[2::2], strict=True))
    assert asked[0] == "recover.data_synthesis" and told["--train-data-path"] == "real images"
    assert (told["--iteration"], told["--iteration-step"], told["--ipc-end"]) == ("0", "0", "1")


def test_a_recover_that_is_interrupted_ends_the_command(measured, tmp_path, monkeypatch):
    def interrupt(*args):
        raise Interrupted("IPC 0 is kept")
    monkeypatch.setattr(starts, "run_stage", interrupt)
    images = open_images(str(measured[0]), flag="--data")
    config = memorisation.MemorisationConfig(device="cpu")
    with pytest.raises(Interrupted, match="is kept"):
        memorisation.begun_from(images, images.select(1), config, tmp_path)


def test_training_images_alone_serve_a_set_of_others(measured, tiny, tmp_path, monkeypatch):
    numbers = [str(k) for k in range(10)]
    write_pictures(tmp_path / "data" / "train", dict.fromkeys(numbers, 3), size=32)
    write_pictures(tmp_path / "theirs", dict.fromkeys(numbers, 2), size=32, seed=1)
    monkeypatch.chdir(tmp_path)
    net = build_model(POOL[2], num_classes=10, stem="small")
    torch.save(net.state_dict(), tmp_path / "net.pt")
    flags = words("--data", "theirs", "--dataset", "cifar10", "--train-data-path", "data", "--arch-name",
                  POOL[2], "--weights", f"{POOL[2]}={tmp_path / 'net.pt'}", "--k", 1, *PROCESS)
    assert memorisation.main(flags)["real_images"] == 30
    small = memorisation.main([*flags, "--size", "16"])
    assert small["nearest"] != memorisation.main(flags)["nearest"]


def test_bad_input_is_refused(refused, tiny, made, tmp_path):
    assert "no distilled images" in refused(memorisation.main, ["--data", tmp_path, *PROCESS])
    assert "--k must be in [1, 1000], got 0" in refused(memorisation.main, ["--k", 0])
    assert "unknown network" in refused(memorisation.main, ["--arch-name", "resnet19"])
    assert "contradicts --dataset" in refused(memorisation.main, [
        "--data", made, "--train-data-path", tmp_path, *PROCESS])
