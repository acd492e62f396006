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
    assert set(SCHEDULES) == {"ssrs", "cosine", "linear", "half-cosine"}
    assert [piece()(0, 7) for piece in SCHEDULES.values()] == [1, 1, 1, 1]


@pytest.mark.parametrize("name, values, factor", [
    ("ssrs", {}, lambda t: ssrs(t, 60, 2.5)), ("ssrs", {"zeta": 4.0}, lambda t: ssrs(t, 60, 4.0)),
    ("cosine", {}, lambda t: cosine(t, 60)), ("linear", {}, lambda t: linear(t, 60)),
    ("half-cosine", {}, lambda t: half_cosine(t, 60))])
def test_a_schedule_is_its_function_at_every_step(name, values, factor):
    schedule = build_piece(SCHEDULES, name, values)
    assert [schedule(t, 60) for t in range(60)] == [factor(t) for t in range(60)]
    assert all(0 <= schedule(t, 60) <= 1 for t in range(60))


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
    assert [len(piece()(0, 0.08)) for piece in CROP_LAWS.values()] == [0, 0]
    assert CROP_LAWS["cosine"] is CosineCrops and set(CROP_LAWS) == {"none", "cosine"}
