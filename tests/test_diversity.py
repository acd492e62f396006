"""Diversity of a set, and of two paired over classes or draws: what is measured, saved, said and refused."""
import json
import shutil

import pytest
from helpers import POOL, PROCESS, words

from utils.formats import Entry, ImageManifest
from utils.image_sets import open_images
from utils.measures import read_measures
from utils.metrics import paired
from validate import diversity

pytest_plugins = ["stage_fixtures"]


def test_a_measure_names_its_classes_and_whether_its_network_taught(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "run")
    found = diversity.main(words("--data", run, "--arch-name", POOL[1], *PROCESS))
    measure = read_measures(open_images(str(run), flag="--data"))[f"diversity_{POOL[1]}"]
    values = measure["values"]
    assert (values["arch"], values["taught"]) == (POOL[1], True)
    assert list(values["classes"]) == ["ant", "bee", "cat", "dog"]
    assert list(values["classes"].values()) == found["classes"]
    assert (values["mean"], values["std"]) == (found["mean"], found["std"])
    assert measure["command"] == (f"python -m validate.diversity --threads 1 --device cpu --data {run} "
                                  f"--arch-name {POOL[1]}")  # --weights-dir is the run's own


def test_two_sets_are_paired_by_class(tiny, tmp_path, capsys):
    a = tiny.recover(tmp_path, "--exp-name", "a", "--init", "noise", "--teachers", "single")
    b = tiny.recover(tmp_path, "--exp-name", "b", "--iteration", 0)
    found = diversity.main(words("--data", a, b, "--weights-dir", tiny.teachers, *PROCESS))
    one, two = (diversity.main(words("--data", run, "--weights-dir", tiny.teachers, "--arch-name", POOL[1],
                                     *PROCESS)) for run in (a, b))
    expected = paired([right - left for left, right in zip(one["classes"], two["classes"], strict=True)])
    difference = found["difference"]
    assert difference["each"] == pytest.approx(expected.each) and difference["n"] == 4
    assert difference["mean"] == pytest.approx(two["mean"] - one["mean"])
    assert difference["interval"] == pytest.approx(expected.interval)
    assert difference["decided"] == (expected.interval[0] > 0 or expected.interval[1] < 0)
    first, second, third, fourth, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"A  {one['mean']:.4f} +- {one['std']:.4f}  (n = 4 classes)  {a}")
    assert second.endswith(str(b)) and f"B - A  {expected.mean:+.4f}, standard error" in third
    assert "over 4 classes" in third and "The spread over image sets is not in this interval" in fourth
    assert last == f"lower is more diverse; {POOL[1]} measures"  # the first that taught neither


def drawn(folder, digest: str, seed: int, mean: float):
    """A set of one image with that digest, and a measure of that mean."""
    entry = Entry("a.png", digest, 0)
    return (ImageManifest(run=folder, dataset="digits", class_names=["a"], ipc=1, size=16, mean=(0.5,) * 3,
                          std=(0.5,) * 3, stem="small", entries=(entry,), saved={"config": {"seed": seed}}),
            {"mean": mean})


def test_draws_are_paired_in_order(tmp_path):
    a = [drawn(tmp_path, f"a{i}", i, 0.6 + i / 10) for i in range(3)]
    b = [drawn(tmp_path, f"b{i}", i, 0.5 + i / 8) for i in range(3)]
    found, says = diversity.compare([a, b])
    assert found.each == pytest.approx([-0.1, -0.075, -0.05]) and found.n == 3
    half = 4.302653 * 0.025 / 3 ** 0.5  # Student's t of 2 degrees of freedom
    assert found.interval == pytest.approx((-0.075 - half, -0.075 + half))
    assert len(says) == 1 and "over 3 draws (-0.1000, -0.0750, -0.0500): decided over draws" in says[0]
    same = [drawn(tmp_path, "r", i, 0.9) for i in range(3)]
    assert diversity.compare([a, same])[1][1].startswith("B's sets hold the same images: over its images")
    for others, error in ((b[:2], "A lists 3 sets and B 2"), (b[::-1], "recover --seed 0 and 2"),
                          ([b[0], b[0], b[2]], "recover --seed 1 and 0"),
                          ([drawn(tmp_path, f"b{i // 2}", i, 0.5) for i in range(3)], "no two draws")):
        with pytest.raises(ValueError, match=error):
            diversity.compare([a, others])
    with pytest.raises(ValueError, match="which are no draws"):
        diversity.compare([same, same])


def test_draws_on_the_command_line(tiny, tmp_path, capsys):
    runs = [[tiny.recover(tmp_path, "--exp-name", f"{name}{seed}", "--init", init, "--seed", seed,
                          "--iteration", 1) for seed in range(2)]
            for name, init in (("a", "noise"), ("b", "random"))]
    sides = [",".join(map(str, side)) for side in runs]
    found = diversity.main(words("--data", *sides, "--arch-name", POOL[1], *PROCESS))
    assert found["difference"]["n"] == 2 and "(n = 2 draws)" in capsys.readouterr().out
    each = [right["mean"] - left["mean"] for left, right in zip(*found["sides"], strict=True)]
    assert found["difference"]["each"] == pytest.approx(each)
    json.dumps(found)
    alone = diversity.main(words("--data", sides[0], "--arch-name", POOL[1], *PROCESS))
    assert [own["mean"] for own in alone["draws"]] == [own["mean"] for own in found["sides"][0]]


def test_what_cannot_be_compared_is_refused(tiny, made, tmp_path, refused):
    flags = ["--arch-name", POOL[1], *PROCESS]
    assert "--data takes one set, or two to compare, got 3" in refused(
        diversity.main, ["--data", made, made, made, *flags])
    assert "a folder is listed twice" in refused(diversity.main, ["--data", f"{made},{made}", *flags])
    one = tiny.recover(tmp_path, "--ipc-end", 1)
    assert "one image a class has no pairs" in refused(diversity.main, ["--data", one, *flags])
    assert "unknown network 'resnet19'" in refused(diversity.main, ["--arch-name", "resnet19"])


def test_a_set_of_others_is_measured_at_the_size_that_is_said(tiny, tmp_path, monkeypatch):
    run = tiny.recover(tmp_path, "--iteration", 0)
    shutil.copytree(run / "syn", tmp_path / "theirs")
    monkeypatch.chdir(tmp_path)
    argv = words("--data", "theirs", "--dataset", f"folder:{tiny.data}", "--weights-dir", tiny.teachers,
                 "--arch-name", POOL[1], *PROCESS)
    own, small = diversity.main(argv), diversity.main([*argv, "--size", "12"])
    assert own["mean"] != small["mean"]

    def read(size):
        images = open_images("theirs", flag="--data", dataset=f"folder:{tiny.data}", size=size)
        return read_measures(images, "diversity")
    measure = read(12)[f"diversity_{POOL[1]}"]
    assert "--size 12" in measure["command"] and measure["values"]["mean"] == small["mean"]
    assert read(None) == {}  # what was measured at another size is of other images
