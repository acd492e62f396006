"""Membership inference: attacks and their figures on cases known by hand, and the command on a student."""
import itertools
import json
import math
import re
import shutil
import statistics

import numpy as np
import pytest
import torch
from helpers import POOL, PROCESS, words

from utils.image_sets import open_images
from utils.measures import read_measures
from validate import attacks, membership, train_FKD
from validate.attacks import (
    Gaussian,
    auc,
    bootstrapped,
    confidence,
    guessed,
    likelihood_ratio,
    one_sided,
    roc,
    shadow_gaussian,
    tpr_at,
)

pytest_plugins = ["stage_fixtures"]


def scores(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---------------------------------------------------------------- confidence

def test_confidence_is_the_logit_of_the_true_class_probability(gen):
    logits, labels = 3 * torch.randn(20, 5, generator=gen), torch.randint(0, 5, (20,), generator=gen)
    raw = logits.double().numpy()
    p = (np.exp(raw) / np.exp(raw).sum(1, keepdims=True))[np.arange(20), labels]
    found = confidence(logits, labels).numpy()
    assert found == pytest.approx(np.log(p / (1 - p)), rel=1e-9)
    assert -np.log1p(np.exp(-found)) == pytest.approx(np.log(p), rel=1e-9)  # log p orders images alike


@pytest.mark.parametrize("margin", [1000.0, -1000.0, 60.0])
def test_confidence_of_a_network_that_is_sure_is_finite(margin):
    assert confidence(scores(margin, 0, 0)[None], torch.tensor([0])).item() \
        == pytest.approx(margin - math.log(2), rel=1e-12)


def test_a_network_is_asked_as_evaluation_asks_it(tiny_teacher, gen):
    model, labels = tiny_teacher(0), torch.tensor([3, 0, 6])
    pixels = torch.randint(0, 256, (3, 3, 8, 8), generator=gen, dtype=torch.uint8)
    expected = confidence(model((pixels / 255 - 0.5) / 0.25), labels)
    found = membership.confidences(model.train(), [(pixels[:2], labels[:2]), (pixels[2:], labels[2:])],
                                   mean=(0.5,) * 3, std=(0.25,) * 3, device=torch.device("cpu"))
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


# ---------------------------------------------------------------- ROC, AUC, TPR

def counted(members, others) -> float:
    """Mann-Whitney's U over all pairs, ties half."""
    return sum((m > o) + (m == o) / 2 for m, o in itertools.product(members, others)) \
        / len(members) / len(others)


@pytest.mark.parametrize("members, others, expected", [
    ([3, 4], [1, 2], 1), ([1, 2], [3, 4], 0), ([1, 1], [1, 1, 1], 0.5), ([1, 3], [2, 0], 0.75),
    ([2, 2], [1, 2], 0.75)])
def test_auc_by_hand(members, others, expected):
    assert auc(scores(*members), scores(*others)) == expected == counted(members, others)


def test_auc_is_the_share_of_pairs_in_order_with_ties_half(gen):
    members, others = torch.randint(0, 9, (30,), generator=gen), torch.randint(0, 7, (45,), generator=gen)
    assert auc(members, others) == pytest.approx(counted(members.tolist(), others.tolist()), abs=1e-12)


def test_the_roc_has_one_point_a_distinct_score_from_none_to_all():
    false, true = roc(scores(5, 3, 3), scores(4, 3, 1, 0))
    assert false.tolist() == [0, 0, 0.25, 0.5, 0.75, 1]
    assert true.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1, 1, 1])


def test_tpr_at_one_percent_is_the_last_step_before_it_and_needs_a_hundred_others():
    others = torch.arange(200).double()  # two false positives are 1 %
    members = scores(500, 198.5, 197.5, 196.5, 3)
    assert tpr_at(members, others) == 3 / 5  # 197.5 is above all but 198 and 199
    assert tpr_at(scores(197, 0), others) == 0  # equal to the third of them
    assert tpr_at(members, others[:100]) == 4 / 5 and math.isnan(tpr_at(members, others[:99]))


def test_separable_members_are_found_and_exchangeable_ones_are_not(gen):
    values = torch.randn(400, 500, generator=gen, dtype=torch.float64)
    assert guessed(values[0] + 20, values[1]) == (1, 1)
    found = [guessed(row[:250], row[250:]) for row in values]
    assert statistics.fmean(own.auc for own in found) == pytest.approx(0.5, abs=0.004)  # s.e. 0.0013
    assert statistics.fmean(own.tpr_at_1 for own in found) == pytest.approx(0.01, abs=0.003)


def test_the_bootstrap_covers_what_the_formula_of_auc_and_its_error_say(gen):
    members, others = (torch.randn(300, generator=gen) + shift for shift in (0.5, 0))
    (low, high), _ = bootstrapped(members, others, resamples=400, draw=gen)
    area = auc(members, others)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)  # Hanley and McNeil 1982
    error = math.sqrt((area * (1 - area) + 299 * (first + second - 2 * area**2)) / 300**2)
    assert low < area < high and (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.15)
    assert bootstrapped(members + 99, others, resamples=5, draw=gen) == ([1, 1], [1, 1])


def test_the_bootstrap_takes_the_middle_95_percent_of_resamples_of_either_side(monkeypatch, gen):
    drawn = iter(range(41))
    monkeypatch.setattr(attacks, "guessed", lambda *sides: [next(drawn), sum(map(len, sides))])
    area, rate = bootstrapped(torch.zeros(5), torch.zeros(7), resamples=41, draw=gen)
    assert area == pytest.approx([1, 39]) and rate == [12, 12]


# ---------------------------------------------------------------- LiRA

def test_lira_is_the_ratio_of_the_densities_of_those_that_saw_and_those_that_did_not():
    shadows = scores(1, 5, 2, 3, 2, 9, 4, 8).reshape(4, 2)  # two images, four models
    inside = torch.tensor([[True, False], [False, True], [True, False], [False, True]])
    seen, unseen = shadow_gaussian(shadows, inside), shadow_gaussian(shadows, ~inside)
    assert seen.mean.tolist() == [1.5, 5.5] and unseen.mean.tolist() == [3, 7]
    assert seen.std == pytest.approx(math.sqrt((0.5 + 12.5) / 2)) and unseen.std == pytest.approx(
        math.sqrt((2 + 8) / 2))
    target = scores(2.5, 6)
    expected = [statistics.NormalDist(m, seen.std).pdf(x) / statistics.NormalDist(n, unseen.std).pdf(x)
                for x, m, n in zip([2.5, 6], [1.5, 5.5], [3, 7], strict=True)]
    assert likelihood_ratio(target, seen, unseen).exp().tolist() == pytest.approx(expected, rel=1e-12)
    below = [statistics.NormalDist(n, unseen.std).cdf(x) for x, n in zip([2.5, 6], [3, 7], strict=True)]
    assert one_sided(target, unseen).exp().tolist() == pytest.approx(below, rel=1e-9)


def test_an_image_that_no_shadow_model_had_in_has_no_ratio_and_models_are_needed():
    shadows = scores(1, 2, 3, 4, 5, 6).reshape(3, 2)
    inside = torch.tensor([[True, False], [True, False], [False, False]])
    seen, unseen = shadow_gaussian(shadows, inside), shadow_gaussian(shadows, ~inside)
    assert likelihood_ratio(scores(1, 1), seen, unseen).isnan().tolist() == [False, True]
    assert (seen.mean[0], seen.std, unseen.std) == (2, pytest.approx(math.sqrt(2)), 2)
    with pytest.raises(ValueError, match="two shadow models"):
        shadow_gaussian(shadows, torch.eye(3, 2).bool())


def test_lira_knows_hard_images_where_a_threshold_does_not(gen):
    hardness = 5 * torch.randn(600, generator=gen)
    inside = torch.rand(17, 600, generator=gen) < 0.5
    values = hardness + 1.5 * inside + torch.randn(17, 600, generator=gen)
    seen, unseen = (shadow_gaussian(values[1:], chosen) for chosen in (inside[1:], ~inside[1:]))
    lira = likelihood_ratio(values[0], seen, unseen)
    areas = [auc(found[inside[0]], found[~inside[0]]) for found in (values[0], lira)]
    assert areas[0] < 0.65 and areas[1] > 0.8 and abs(seen.std - 1) < 0.05
    assert isinstance(seen, Gaussian) and auc(*(one_sided(values[0], unseen)[chosen] for chosen in (
        inside[0], ~inside[0]))) > 0.75


# ---------------------------------------------------------------- the command

def test_the_command_writes_the_measure_of_a_student(made, tmp_path, capfd):
    run = shutil.copytree(made, tmp_path / "run")
    student = run / "validate" / POOL[0] / "seed1"
    values = membership.main(words("--data", run, "--student", student, "--resamples", 100, *PROCESS))
    assert "not resolved" in capfd.readouterr().err
    assert {name: values[name] for name in ("model", "attack", "members", "nonmembers", "tpr_at_1")} == {
        "model": POOL[0], "attack": "loss", "members": 24, "nonmembers": 12,
        "tpr_at_1": {"value": None, "interval": None}}
    low, high = values["auc"]["interval"]
    assert 0 <= low <= values["auc"]["value"] <= high <= 1
    measure = read_measures(open_images(str(run), flag="--data"), "membership")[f"membership_{POOL[0]}_soft"]
    assert measure["values"] == json.loads(json.dumps(values)) and "seed1" in measure["command"]


def test_the_command_names_what_is_no_student_or_one_of_other_images(made, tmp_path, tiny, refused):
    error = refused(membership.main, ["--data", made, "--student", made / "validate"])
    assert re.search(r"--student .*validate: expected a finished student's folder", error)
    other = tiny.recover(tmp_path, "--seed", 5)
    error = refused(membership.main, ["--data", other, "--student", made / "validate" / POOL[0] / "seed0"])
    assert "learnt from other images than --data" in error and not (other / "measured").exists()


def test_a_student_is_attacked_at_the_size_at_which_it_learnt(tiny, made, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "syn", "theirs")
    theirs = ("--dataset", f"folder:{tiny.data}")
    train_FKD.main(words("--train-dir", "theirs", *theirs, "--size", 12, "--loss-type", "ce", "--epochs", 1,
                         "--batch-size", 4, "--model", POOL[2], "--gradient-accumulation-steps", 1,
                         "--output-dir", "students", *PROCESS))
    attack = words("--data", "theirs", *theirs, "--student", "students/seed0", "--resamples", 100, *PROCESS)
    assert "learnt from images of 12 pixels, these are taken at 16; pass --size 12" in refused(
        membership.main, attack)
    assert membership.main([*attack, "--size", "12"])["members"] == 24


def test_a_student_whose_last_weights_are_gone_is_named(made, tmp_path):
    folder = shutil.copytree(made / "validate" / POOL[0] / "seed0", tmp_path / "seed0")
    student, _ = membership.load_student(folder, num_classes=4)
    saved = torch.load(folder / "student_last.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in student.state_dict().items())
    (folder / "student_last.pt").unlink()
    with pytest.raises(ValueError, match="student_last.pt: missing, or not the weights"):
        membership.load_student(folder, num_classes=4)


def test_a_student_of_real_images_alone_is_said_to_have_seen_them_alone(tiny, tmp_path, capfd):
    run = tiny.recover(tmp_path, "--iteration", 0, "--init", "random")
    tiny.validate(run, "--fkd-path", "", "--loss-type", "ce", "--epochs", 1, "--batch-size", 4, "--seeds", 0)
    student = run / "validate" / POOL[0] / "seed0"
    membership.main(words(run, "--student", student, "--resamples", 100, *PROCESS))
    assert "saw 8 real images and no teacher's labels" in capfd.readouterr().err
