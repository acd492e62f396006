"""Ensembles of logits against numpy, teacher by teacher and row by row."""
import numpy as np
import pytest
import torch

from models.ensemble import ENSEMBLES, Weighted, ensemble_logits
from models.teacher_statistics import Running
from utils.pieces import build_piece

T, N, K = 4, 6, 5


@pytest.fixture
def logits(gen):
    """(T, N, K) with teachers and rows of very different norms."""
    scale = torch.tensor([1.0, 5.0, 0.2, 20.0])[:, None, None] * torch.linspace(0.5, 3, N)[:, None]
    return torch.randn(T, N, K, generator=gen, dtype=torch.float64) * scale


def test_equal_norm_scales_each_matrix_to_the_mean_frobenius_norm(logits):
    norms = [np.sqrt((matrix.numpy() ** 2).sum()) for matrix in logits]
    scaled = [matrix.numpy() * np.mean(norms) / norm for matrix, norm in zip(logits, norms, strict=True)]
    expected = sum(scaled) / T
    np.testing.assert_allclose(ENSEMBLES["equal-norm"]()(logits), expected, rtol=1e-10)


def test_equal_norm_does_not_depend_on_one_teachers_scale_but_for_the_mean(logits):
    louder = logits * torch.tensor([1.0, 1.0, 1.0, 7.0])[:, None, None]
    one, other = (ENSEMBLES["equal-norm"]()(x).numpy() for x in (logits, louder))
    ratio = other / one
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)


def test_primary_half_scales_each_row_to_the_mean_row_norm(logits):
    numbers, rows = logits.numpy(), []
    for n in range(N):
        others = (numbers[1, n] + numbers[2, n] + numbers[3, n]) / 3
        rows.append((numbers[0, n] + others) / 2)
    norms = [np.sqrt((row ** 2).sum()) for row in rows]
    expected = [row * np.mean(norms) / norm for row, norm in zip(rows, norms, strict=True)]
    np.testing.assert_allclose(ENSEMBLES["primary-half"]()(logits), expected, rtol=1e-10)


def test_mean_and_primary(logits):
    np.testing.assert_allclose(ENSEMBLES["mean"]()(logits), logits.numpy().sum(0) / T)
    np.testing.assert_array_equal(ENSEMBLES["primary"]()(logits), logits.numpy()[0])


def test_a_weighted_sum_of_raw_logits(logits):
    priors, temperature = (47.0, 52.5, 40.0, 61.0), 7.0
    shares = np.exp(np.array(priors) / temperature)
    expected = np.einsum("t,tnk->nk", shares / shares.sum(), logits.numpy())
    piece = Weighted(label_priors=priors, label_temperature=temperature)
    np.testing.assert_allclose(piece(logits), expected, rtol=1e-10)
    np.testing.assert_allclose(Weighted(label_priors=(3.0,) * T)(logits), logits.numpy().mean(0))
    sharp = Weighted(label_priors=(0.0, 100.0, 99.0, 1.0), label_temperature=1e-3)
    np.testing.assert_allclose(sharp(logits), logits[1])  # and no overflow


@pytest.mark.parametrize("priors, published", [
    ((56.4, 42.3, 52.5, 44.2, 40.6), (0.413, 0.101, 0.279, 0.122, 0.085)),
    ((63.0, 65.3, 68.5, 67.6, 67.4), (0.140, 0.177, 0.243, 0.222, 0.218)),
    ((46.5, 28.3, 43.6, 44.8, 41.5), (0.298, 0.048, 0.223, 0.251, 0.180))], ids=["in1k", "c10", "tiny"])
def test_the_weights_of_cv_dd(priors, published):
    np.testing.assert_allclose(Weighted(label_priors=priors).weights, published, atol=6e-4)


def test_an_ensemble_of_one_teacher_is_that_teacher(logits):
    for name in ("equal-norm", "mean", "primary"):
        np.testing.assert_allclose(ENSEMBLES[name]()(logits[:1]), logits[0], rtol=1e-10)


def test_whom_an_ensemble_asks_and_how_many_it_needs():
    names = ("resnet18", "alexnet", "mobilenet_v2")
    asked = {name: piece().members(names) for name, piece in ENSEMBLES.items()}
    assert asked == {"equal-norm": names, "primary-half": names, "mean": names, "primary": names[:1],
                     "weighted": names}
    assert {name: piece.least for name, piece in ENSEMBLES.items()} == {
        "equal-norm": 1, "primary-half": 2, "mean": 1, "primary": 1, "weighted": 1}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_logits_of_a_batch_are_those_of_the_teachers_combined(name, tiny_teacher, gen):
    teachers, views = [tiny_teacher(seed) for seed in range(3)], torch.randn(5, 3, 8, 8, generator=gen)
    ensemble = build_piece(ENSEMBLES, name, {"label_priors": (40.0, 60.0, 50.0)})
    combined = ensemble_logits(views, teachers, ensemble=ensemble, precision="fp32", statistics=Running(),
                               batch=(0, 0, 0))
    expected = ensemble(torch.stack([teacher(views) for teacher in teachers]))
    assert combined.dtype == torch.float32 and not combined.requires_grad
    assert torch.equal(combined, expected)
