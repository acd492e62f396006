"""Neighbours against a double loop of numpy, and where the answer is known by hand."""
import math

import numpy
import pytest
import torch

from validate import neighbours
from validate.neighbours import compare, expected_coverage, moved


def on_circle(*degrees: float) -> torch.Tensor:
    """Points by their angle, of any length: distances are chords, 2 sin(half the angle between)."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1, len(degrees) + 1)[:, None]


def chord(degrees: float) -> float:
    return 2 * math.sin(math.radians(degrees) / 2)


def looped(real, distilled, k):
    """The same, a pair at a time."""
    real, distilled = ([row / numpy.sqrt((row ** 2).sum()) for row in rows] for rows in (real, distilled))

    def far(a, b):
        return numpy.sqrt(((a - b) ** 2).sum())

    def radius(rows, i, k):
        return sorted(far(rows[i], other) for j, other in enumerate(rows) if j != i)[k - 1]
    k_recall = min(k, len(distilled) - 1)
    balls = [radius(real, i, k) for i in range(len(real))]
    reach = [radius(distilled, j, k_recall) for j in range(len(distilled))]
    inside = [[far(x, y) <= r for x, r in zip(real, balls, strict=True)] for y in distilled]
    recalled = [any(far(x, y) <= r for y, r in zip(distilled, reach, strict=True)) for x in real]
    return {"precision": numpy.mean([any(row) for row in inside]), "recall": numpy.mean(recalled),
            "density": sum(map(sum, inside)) / (k * len(distilled)),
            "coverage": numpy.mean([any(row[i] for row in inside) for i in range(len(real))]),
            "nearest": [min(far(x, y) for x in real) for y in distilled],
            "real_nearest": [radius(real, i, 1) for i in range(len(real))]}


@pytest.mark.parametrize("n, m, k", [(23, 9, 5), (9, 23, 3), (12, 4, 5), (30, 2, 1)])
def test_as_a_double_loop(n, m, k, gen, monkeypatch):
    real = torch.randn(n, 4, generator=gen)
    distilled = torch.randn(m, 4, generator=gen) + 0.5
    expected = looped(real.double().numpy(), distilled.double().numpy(), k)
    for block in (5, 256):
        monkeypatch.setattr(neighbours, "BLOCK", block)
        found = compare(real, distilled, k=k)
        assert (found.k, found.k_recall, found.real_images) == (k, min(k, m - 1), n)
        for name in ("precision", "recall", "density", "coverage"):
            assert getattr(found, name) == pytest.approx(expected[name]), name
        for name in ("nearest", "real_nearest"):
            assert getattr(found, name).tolist() == pytest.approx(expected[name])


def test_equal_sets_have_precision_recall_and_coverage_one(gen):
    real = torch.randn(40, 6, generator=gen)
    for distilled in (real, 3 * real + 1e-8, real.float()):  # length does not count, nor rounding
        found = compare(real, distilled, k=5)
        assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
        assert found.density == pytest.approx(6 / 5)  # each ball holds its centre and five more
        assert found.nearest.max() < 1e-6 < found.real_nearest.min()


def test_sets_far_apart_share_nothing():
    found = compare(on_circle(0, 1, 2, 3), on_circle(180, 181, 182, 183), k=2)
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)
    assert found.nearest.tolist() == pytest.approx([chord(177), chord(178), chord(178), chord(177)])
    assert found.real_nearest.tolist() == pytest.approx([chord(1)] * 4)


def test_by_hand_on_a_circle():
    """Real at 0, 10, 30, 60: to the nearest other 10, 10, 20, 30 degrees."""
    found = compare(on_circle(0, 10, 30, 60), on_circle(5, 120), k=1)
    assert found.density == pytest.approx(2 / 2)  # 5 lies in the balls of 0 and 10, 120 in none
    assert (found.precision, found.coverage, found.recall) == (0.5, 0.5, 1)  # 115 degrees hold all of them
    assert found.nearest.tolist() == pytest.approx([chord(5), chord(60)])
    crowded = compare(on_circle(0, 10, 30, 60), on_circle(5, 6), k=1)
    assert (crowded.precision, crowded.density, crowded.coverage) == (1, 2, 0.5)  # above 1: where it is dense
    assert crowded.recall == 0  # within one degree of 5 or 6 there is nobody


def test_k_shrinks_to_what_there_is():
    found = compare(on_circle(0, 10, 20), on_circle(5), k=5)
    assert (found.k, found.k_recall, found.recall) == (2, 0, None) and found.precision == 1
    alone = compare(on_circle(0), on_circle(5, 8), k=5)
    assert (alone.k, alone.k_recall) == (0, 1) and len(alone.real_nearest) == 0
    assert alone.precision is alone.density is alone.coverage is None
    assert alone.nearest.tolist() == pytest.approx([chord(5), chord(8)]) and alone.recall == 0


def test_how_far_images_moved(monkeypatch):
    real, starts = on_circle(0, 20, 40, 60), on_circle(41, 0, 60)  # 41: 40, compressed
    for block in (2, 256):
        monkeypatch.setattr(neighbours, "BLOCK", block)
        found = moved(real, on_circle(45, 19, 60), starts)
        assert found.tolist() == pytest.approx([chord(5), chord(19), 0], abs=1e-7)


def test_the_coverage_to_expect_is_that_of_draws(gen):
    drawn = [compare(torch.randn(12, 3, generator=gen), torch.randn(4, 3, generator=gen), k=3).coverage
             for _ in range(400)]
    mean, error = numpy.mean(drawn), numpy.std(drawn) / 20
    assert abs(mean - expected_coverage(12, 4, 3)) < 4 * error
    assert expected_coverage(5, 1, 1) == pytest.approx(1 / 5)  # one of five others is the nearest
