"""Learning-rate factors, the crop laws and the varying iterations at known points."""
import numpy as np
import pytest

from utils.pieces import build_piece
from utils.schedule import (
    CROP_LAWS,
    SCHEDULES,
    CosineCrops,
    cosine,
    half_cosine,
    linear,
    num_iterations,
    ssrs,
)


@pytest.mark.parametrize("epoch, factor",
                         [(0, 1), (150, 0.9045), (250, 0.7500), (251, 0.1225), (299, 0.0025)])
def test_ssrs_of_300_epochs(epoch, factor):
    assert round(ssrs(epoch, 300, 2.5), 4) == factor


def test_ssrs_falls_and_drops_only_at_five_sixths():
    factors = [ssrs(t, 600, 2.5) for t in range(600)]
    falls = [a - b for a, b in zip(factors, factors[1:], strict=False)]
    assert min(falls) > 0
    assert [t for t, fall in enumerate(falls) if fall > 0.01] == [500]
    assert factors[500] - factors[501] == pytest.approx(0.75 - 0.75 * 99 / 600)


def test_zeta_slows_the_cosine_down():
    assert ssrs(5, 10, 1.0) == pytest.approx(0.5)
    assert ssrs(5, 10, 2.0) == pytest.approx((1 + 0.5 ** 0.5) / 2)


@pytest.mark.parametrize("schedule, quarter", [(cosine, (1 + 0.5 ** 0.5) / 2), (linear, 0.75)])
def test_cosine_and_linear_go_from_one_to_zero(schedule, quarter):
    points = [schedule(t, 80) for t in (0, 20, 40, 80)]
    assert points == pytest.approx([1, quarter, 0.5, 0], abs=1e-12)


def test_every_schedule_takes_the_same_arguments():
    assert set(SCHEDULES) == {"ssrs", "cosine", "linear", "half-cosine", "smoothed-cosine", "multistep",
                              "warmup-cosine"}
    assert {name: piece()(0, 7) for name, piece in SCHEDULES.items()} == \
        dict.fromkeys(SCHEDULES, 1) | {"warmup-cosine": 0.01}


@pytest.mark.parametrize("name, values, factor", [
    ("ssrs", {}, lambda t: ssrs(t, 60, 2.5)), ("ssrs", {"zeta": 4.0}, lambda t: ssrs(t, 60, 4.0)),
    ("cosine", {}, lambda t: cosine(t, 60)), ("linear", {}, lambda t: linear(t, 60)),
    ("half-cosine", {}, lambda t: half_cosine(t, 60))])
def test_a_schedule_is_its_function_at_every_step(name, values, factor):
    schedule = build_piece(SCHEDULES, name, values)
    assert [schedule(t, 60) for t in range(60)] == [factor(t) for t in range(60)]
    assert all(0 <= schedule(t, 60) <= 1 for t in range(60))


@pytest.mark.parametrize("eta", [1.0, 1.5, 2.0, 2.5])
def test_a_smoothed_cosine_is_the_start_of_a_longer_one(eta):
    schedule, epochs = build_piece(SCHEDULES, "smoothed-cosine", {"eta": eta}), np.arange(300)
    expected = (1 + np.cos(np.pi * epochs / (eta * 300))) / 2
    assert [schedule(int(e), 300) for e in epochs] == pytest.approx(expected.tolist(), rel=1e-12)


def test_at_eta_2_it_is_the_half_cosine_to_the_bit():
    half, smoothed = SCHEDULES["half-cosine"](), SCHEDULES["smoothed-cosine"]()
    assert [half(e, 300) for e in range(300)] == [smoothed(e, 300) for e in range(300)]


def test_a_multistep_rate_falls_at_each_share_of_the_epochs():
    edc = SCHEDULES["multistep"]()  # 1000 epochs, halved at 800, 900 and 950
    assert [edc(e, 1000) for e in (0, 799, 800, 899, 900, 949, 950, 999)] == \
        [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    other = build_piece(SCHEDULES, "multistep", {"milestones": (0.55,), "gamma": 0.1})
    assert 0.55 * 100 > 55 and [other(e, 100) for e in (54, 55, 99)] == [1, 0.1, 0.1]


def test_a_warm_up_is_linear_and_a_cosine_over_the_other_epochs_follows():
    schedule = SCHEDULES["warmup-cosine"]()
    factors = [schedule(e, 100) for e in range(100)]
    assert factors[:5] == pytest.approx(np.linspace(0.01, 1, 6)[:5].tolist())
    assert factors[5:] == pytest.approx(((1 + np.cos(np.pi * np.arange(95) / 95)) / 2).tolist())
    short = [schedule(e, 3) for e in range(3)]  # ends within its warm-up
    assert short == factors[:3]
    without = build_piece(SCHEDULES, "warmup-cosine", {"warmup_epochs": 0})
    assert [without(e, 100) for e in range(100)] == [cosine(e, 100) for e in range(100)]


@pytest.mark.parametrize("name, values, named", [
    ("smoothed-cosine", {"eta": 0.5}, r"--eta must be in \[1, 1000\], got 0.5"),
    ("multistep", {"milestones": (0.8, 1.0)}, r"--milestones must be in \(0, 1\), got 1.0"),
    ("multistep", {"gamma": 1.5}, r"--gamma must be in \(0, 1\], got 1.5"),
    ("warmup-cosine", {"warmup_epochs": -1}, "--warmup-epochs must be in"),
    ("warmup-cosine", {"warmup_factor": 2.0}, "--warmup-factor must be in")])
def test_schedules_that_cannot_be_are_refused(name, values, named):
    with pytest.raises(ValueError, match=named):
        build_piece(SCHEDULES, name, values)


@pytest.mark.parametrize("zeta", [0.0, -1.0, float("nan"), float("inf")])
def test_zeta_is_positive_and_finite(zeta):
    with pytest.raises(ValueError, match=f"--zeta must be > 0, got {zeta}"):
        build_piece(SCHEDULES, "ssrs", {"zeta": zeta})


def test_delts_cosine_ends_at_a_half():
    assert [half_cosine(t, 300) for t in (0, 100, 200, 299, 300)] == pytest.approx(
        [1, 0.9330127, 0.75, 0.5026179, 0.5], abs=1e-6)


def test_iterations_fall_by_500_and_start_again():
    law = {"iteration": 4000, "iteration_step": 500, "iteration_period": 8}
    assert [num_iterations(i, **law) for i in range(10)] == \
        [4000, 3500, 3000, 2500, 2000, 1500, 1000, 500, 4000, 3500]


def test_step_zero_is_the_fixed_schedule():
    law = {"iteration": 4000, "iteration_step": 0, "iteration_period": 8}
    assert {num_iterations(i, **law) for i in range(20)} == {4000}


def test_the_crop_curriculum_falls_from_the_whole_image():
    low = CROP_LAWS["cosine"]()(1000, 0.08)
    assert low.shape == (1000,) and low[[0, 500]].tolist() == pytest.approx([1, 0.54])
    expected = 0.08 + 0.92 * (1 + np.cos(np.pi * np.arange(1001) / 1000)) / 2
    assert low.tolist() == pytest.approx(expected[:-1])
    assert expected[-1] == pytest.approx(0.08) and 0.08 < low[-1] < 0.08001  # the end, which no crop has


def test_without_a_curriculum_every_crop_has_the_same_bound():
    assert CROP_LAWS["none"]()(5, 0.08).tolist() == [0.08] * 5
    assert [len(piece()(0, 0.08)) for piece in CROP_LAWS.values()] == [0] * 4
    assert CROP_LAWS["cosine"] is CosineCrops and set(CROP_LAWS) == {"none", "cosine", "linear", "step"}
