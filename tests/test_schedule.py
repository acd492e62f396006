"""Learning-rate factors, the crop curriculum and the varying iterations at known points."""
import pytest

from utils.schedule import SCHEDULES, cosine, crop_curriculum, half_cosine, linear, num_iterations, ssrs


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
    assert [factor(0, 7, 2.5) for factor in SCHEDULES.values()] == [1, 1, 1, 1]


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
    points = [crop_curriculum(t, 1000, 0.08) for t in (0, 500, 1000)]
    assert points == pytest.approx([1, 0.54, 0.08])
