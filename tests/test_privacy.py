"""The privacy experiment: its halves, one world at a tiny budget, and the table of made-up worlds."""
import json
import re

import pytest
import torch

from scripts import privacy
from scripts.auditing import worlds
from scripts.auditing.attacking import NAMES, OFFLINE, ONLINE, Worlds
from scripts.auditing.summary import minus, sign, summary, verdict, widened
from utils.data import DATASETS, RealSet
from utils.runtime import generator

pytest.importorskip("sklearn", reason="the experiment is on scikit-learn's digits")
NUM = 1347
LEARNT = ("PRISM, soft labels", "random real images, hard labels", "whole half, hard labels")
TINY = ("--iterations", "1", "--teacher-epochs", "1", "--epochs", "1", "--ipc", "2", "--threads", "1")


def made_up(world: int, leaks: dict[str, float], *, settings=None, of_shown: bool = False) -> dict:
    """A world's line: confidence is an image's own ease, noise, and so much more where it was in (shown)."""
    draw, inside = generator("made-up", world), worlds.half(world)
    marks = torch.zeros(NUM).index_fill(0, torch.tensor(inside[::7] if of_shown else inside), 1)
    ease = 3 * torch.randn(NUM, generator=generator("ease"))
    students = {name: {"accuracy": 90.0 + world, "confidence": (100 * (
        ease + leaks.get(name, 0) * marks + torch.randn(NUM, generator=draw))).round().int().tolist()}
        for name in NAMES}
    return {"world": world, "settings": settings, "inside": inside, "shown": inside[::7],
            "students": students, "seconds": 1, "versions": {}}


def test_a_half_is_half_of_every_class_and_other_worlds_have_others():
    real = RealSet("digits", "", "train", size=16)
    halves = [set(worlds.half(world)) for world in range(4)]
    assert all(len(half & set(own)) == len(own) // 2 for half in halves for own in real.by_class)
    assert all(0.4 < len(a & b) / len(a) < 0.6 for a in halves for b in halves if a is not b)


def test_a_world_is_a_data_set_only_while_it_runs():
    before = dict(DATASETS)
    whole = RealSet("digits", "", "train", size=16)
    with worlds.registered(3) as name:
        real, test = (RealSet(name, "", split, size=16) for split in ("train", "val"))
    assert DATASETS == before and len(test) == 450
    assert all(torch.equal(real[i][0], whole[j][0]) for i, j in enumerate(worlds.half(3)))


def few(world: int) -> list[int]:
    """A half of four images a class."""
    by_class = RealSet("digits", "", "train", size=16).by_class
    return sorted(i for own in by_class for i in own[world::9][:4])


@pytest.fixture(scope="module")
def tiny_world(tmp_path_factory):
    """(folder, lines) of a world of few images, few students and a budget of moments."""
    out = tmp_path_factory.mktemp("privacy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "half", few)
        patch.setattr(worlds, "TARGETS", tuple(target for target in worlds.TARGETS if str(target) in LEARNT))
        return out, privacy.main(["--out", str(out), "--only-worlds", "1", *TINY])


def test_a_world_keeps_who_was_in_and_how_sure_every_student_is(tiny_world, monkeypatch):
    out, lines = tiny_world
    assert list(lines) == [1] and set(lines[1]["students"]) == {*LEARNT, worlds.TEACHER} <= set(NAMES)
    assert all(len(own["confidence"]) == NUM and 0 <= own["accuracy"] <= 100
               for own in lines[1]["students"].values())
    assert lines[1]["inside"] == few(1) and set(lines[1]["shown"]) < set(lines[1]["inside"])
    assert len(list(out.glob("world1/whole_half/syn/*/*"))) == 40
    monkeypatch.setattr(privacy, "run_world", None)  # it is finished
    assert privacy.main(["--out", str(out), "--only-worlds", "1", *TINY]) == lines
    with pytest.raises(ValueError, match="world 1 was made with .*'ipc': 2.*choose another --out"):
        privacy.main(["--out", str(out), "--only-worlds", "1", *TINY, "--ipc", "3"])


def test_the_images_shown_are_those_of_the_random_set(tiny_world):
    out, lines = tiny_world
    real = RealSet("digits", "", "train", size=16)
    made = RealSet(f"folder:{out}/world1/random_real_images/syn", "", "train", size=16)
    shown = torch.stack([real[i][0] for i in lines[1]["shown"]]).int()
    for i in range(len(made)):
        distance = (shown - made[i][0]).abs().amax((1, 2, 3))
        assert distance.min() <= 1 and real.labels[lines[1]["shown"][int(distance.argmin())]] == made[i][1]
    assert len(made) == len(shown) == 20


def test_what_leaks_is_found_and_what_does_not_is_not():
    leaky = {"PRISM, soft labels": 1.0, "random real images, hard labels": 2.0}
    found = Worlds.of([made_up(world, leaky) for world in range(9)])
    ratios = {name: [guess.auc for guess in found.attack(name)[ONLINE]] for name in NAMES}
    mean = {name: sum(own) / len(own) for name, own in ratios.items()}
    assert all(mean[name] > 0.6 if name in leaky else abs(mean[name] - 0.5) < 0.02 for name in NAMES)
    assert min(guess.auc for guess in found.attack("random real images, hard labels")[OFFLINE]) > 0.75
    shown = found.attack_shown("PRISM, soft labels")  # shown or not, all of these are in the half
    assert abs(sum(guess.auc for guess in shown[OFFLINE]) / 9 - 0.5) < 0.03 and ONLINE not in shown


def test_images_shown_are_told_apart_from_those_of_the_half_by_models_that_were_not_shown_them():
    name = "random real images, soft labels"
    found = Worlds.of([made_up(world, {name: 1.5}, of_shown=True) for world in range(9)]).attack_shown(name)
    assert 0.81 < sum(guess.auc for guess in found[OFFLINE]) / 9 < 0.87  # Phi(1.5 / sqrt(2 + 2 / 8)) = 0.84


def test_the_table_says_what_is_decided():
    text = summary([made_up(world, {"PRISM, soft labels": 1.5}) for world in range(6)])
    assert "6 worlds, 671 members and 676 others" in text
    assert re.search(r"PRISM against SRe2L, soft labels: more leaks by \d of 6 figures", text)
    assert re.search(r"\| PRISM - SRe2L, soft labels \| \+0\.0 \(\+0\.0 to \+0\.0\) \|", text)
    assert len(re.findall(r"^\| a teacher \| 92\.5 \(", text, re.M)) == 1
    with pytest.raises(ValueError, match="four worlds or more, there are 3"):
        summary([made_up(world, {}) for world in range(3)])


@pytest.mark.parametrize("a, b, expected", [
    ([2, 3, 4], [1, 2, 3.1], 1), ([1, 2], [5, 6.1], -1), ([1, 5], [2, 3], 0)])
def test_the_sign_of_a_difference_is_that_of_its_interval(a, b, expected):
    assert sign(minus(a, b)) == expected


def test_an_interval_is_widened_around_its_mean():
    once, wide = widened([1.0, 2, 6]), widened([1.0, 2, 6], 2)
    assert wide.mean == once.mean == 3 and wide.standard_error == 2 * once.standard_error
    assert [bound - 3 for bound in wide.interval] == pytest.approx([2 * (own - 3) for own in once.interval])
    assert minus([1.0, 2, 6], [0.0, 0, 0], 2) == wide


@pytest.mark.parametrize("signs, expected", [
    ([0, 0], "none of 2 figures tells them apart"), ([0, -1], "less leaks by 1 of 2 figures"),
    ([1, 1, 0], "more leaks by 2 of 3 figures"),
    ([1, -1, -1], "the figures disagree: more leaks by 1 of 3, less by 2")])
def test_a_verdict_counts_the_figures_that_leave_out_zero(signs, expected):
    assert verdict(signs) == expected


def test_the_table_is_made_of_lines_that_lie_there(tmp_path, capsys):
    settings = json.loads(json.dumps(privacy.identity(privacy.PrivacyConfig())))
    (tmp_path / "worlds.jsonl").write_text("".join(
        json.dumps(made_up(world, {}, settings=settings)) + "\n" for world in range(4)))
    privacy.main(["--out", str(tmp_path), "--worlds", "4"])
    assert (tmp_path / "privacy.md").read_text() in capsys.readouterr().out
