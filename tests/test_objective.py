"""The objective of recover against plain autograd through every teacher's layers, in float64."""
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recover.alignment import BNAlignment
from recover.objective import ENGINES, Objective, build_objective, l2_prior, total_variation
from recover.selection import Teachers

N, K, SIZE, FIRST, R_BN = 5, 7, 9, 10.0, 0.3
DRAWS = [Teachers("plain", ("plain",)), Teachers("a", ("a",)), Teachers("a", ("a", "b")),
         Teachers("a", ("a", "plain")), Teachers("b", ("a",)), Teachers("plain", ("a", "b")),
         Teachers("a", ("a", "b", "plain"))]


@pytest.fixture
def models(tiny_teacher):
    return {"a": tiny_teacher(1), "b": tiny_teacher(2), "plain": tiny_teacher(3, bn=False)}


@pytest.fixture
def build(models):
    """f(**settings): the objective over the three models."""
    hooked = {name: BNAlignment(model, first_multiplier=FIRST) for name, model in models.items()}
    return lambda **settings: Objective(hooked, **{"r_bn": R_BN, "bn_reduce": "mean", **settings})


@pytest.fixture
def reference(models):
    """f(view, targets, draw, reduce): the loss, its terms and its gradient, in float64, all graphs kept."""
    doubles = {name: copy.deepcopy(model).double() for name, model in models.items()}

    def walk(model, x):
        """The logits and R_BN of one network, layer by layer, without hooks."""
        total, weight = x.new_zeros(()), FIRST
        for layer in model:
            if isinstance(layer, nn.BatchNorm2d):
                mean = x.mean((0, 2, 3))
                var = (x - mean[:, None, None]).square().mean((0, 2, 3))
                total = total + weight * ((mean - layer.running_mean).square().sum().sqrt()
                                          + (var - layer.running_var).square().sum().sqrt())
                weight = 1.0
            x = layer(x)
        return x, total

    def compute(view, targets, draw, reduce):
        x = view.detach().double().requires_grad_()
        ce = -torch.log_softmax(walk(doubles[draw.primary], x)[0], 1)[range(N), targets].mean()
        terms = {name: walk(doubles[name], x)[1] for name in draw.aligned}
        total = sum(terms.values())
        loss = ce + R_BN * (total / len(draw.aligned) if reduce == "mean" else total)
        return loss.item(), {"ce": ce.item(), **{f"bn/{n}": v.item() for n, v in terms.items()}}, \
            torch.autograd.grad(loss, x)[0].float()
    return compute


@pytest.fixture
def batch(gen):
    """Three views and the targets that they share."""
    return [torch.randn(N, 3, SIZE, SIZE, generator=gen) for _ in range(3)], \
        torch.randint(0, K, (N,), generator=gen)


def loss_and_gradient(objective, views, targets, draws):
    views = [view.clone().requires_grad_() for view in views]
    terms = objective(views, targets, draws)
    return terms, torch.autograd.grad(sum(own["loss"] for own in terms), views)


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_loss_terms_and_gradient_are_those_of_plain_autograd(build, reference, batch, draw, reduce):
    views, targets = batch
    (terms,), (gradient,) = loss_and_gradient(build(bn_reduce=reduce), views[:1], targets, [draw])
    loss, expected, expected_gradient = reference(views[0], targets, draw, reduce)
    assert terms.pop("loss").item() == pytest.approx(loss, rel=1e-5)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_a_teacher_without_batchnorm_halves_the_mean_and_not_the_sum(build, batch):
    views, targets = batch
    alone, beside = Teachers("a", ("a",)), Teachers("a", ("a", "plain"))
    for reduce, share in (("mean", 0.5), ("sum", 1.0)):
        (with_a,), (with_both,) = (build(bn_reduce=reduce)(views[:1], targets, [d]) for d in (alone, beside))
        alignment = [(own["loss"] - own["ce"]).item() for own in (with_a, with_both)]
        assert alignment[1] == pytest.approx(share * alignment[0], rel=1e-5)


@pytest.mark.parametrize("draw", DRAWS, ids=str)
def test_each_network_runs_exactly_once_a_step(build, models, batch, draw):
    calls = []
    for name, model in models.items():
        model.register_forward_hook(lambda *_, name=name: calls.append(name))
    build()(batch[0][:1], batch[1], [draw])
    assert sorted(calls) == sorted({draw.primary, *draw.aligned})


def test_slices_with_different_draws_share_one_forward_of_each_network(build, models, batch):
    calls = []
    for name, model in models.items():
        model.register_forward_hook(lambda _, inputs, __, name=name: calls.append((name, len(inputs[0]))))
    build()(*batch, [Teachers("a", ("a",)), Teachers("b", ("a",)), Teachers("a", ("b", "plain"))])
    assert sorted(calls) == [("a", 3 * N), ("b", 2 * N), ("plain", N)]


@pytest.mark.parametrize("draws", [[DRAWS[2]] * 3, DRAWS[:3], DRAWS[3:6], [DRAWS[4], DRAWS[1], DRAWS[5]]],
                         ids=["same", "zero-one-two", "mixed", "primary-last"])
def test_slices_side_by_side_are_independent_batches(build, reference, batch, draws):
    views, targets = batch
    terms, gradients = loss_and_gradient(build(), views, targets, draws)
    for view, draw, own, gradient in zip(views, draws, terms, gradients, strict=True):
        loss, expected, expected_gradient = reference(view, targets, draw, "mean")
        assert own.pop("loss").item() == pytest.approx(loss, rel=1e-5)
        assert {name: value.item() for name, value in own.items()} == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_one_slice_has_no_gradient_in_another(build, batch):
    views = [view.clone().requires_grad_() for view in batch[0]]
    terms = build()(views, batch[1], [DRAWS[2]] * 3)
    own, *others = torch.autograd.grad(terms[0]["loss"], views)
    assert own.abs().max() > 0 and all(other.abs().max() == 0 for other in others)


def tv_by_loops(x):
    """The four neighbour differences of SRe2L's prior, one pixel pair after another."""
    rows, columns = x.shape[-2:]
    total = 0.0
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        squares = [((x[..., i + dy, j + dx] - x[..., i, j]) ** 2).sum() for i in range(rows - dy)
                   for j in range(columns) if 0 <= j + dx < columns]
        total += np.sqrt(sum(squares))
    return total


def test_priors_are_those_of_numpy(batch):
    x = batch[0][0]
    assert total_variation(x).item() == pytest.approx(tv_by_loops(x.double().numpy()), rel=1e-5)
    norms = [np.sqrt((image ** 2).sum()) for image in x.double().numpy()]
    assert l2_prior(x).item() == pytest.approx(np.mean(norms), rel=1e-5)


def test_weighted_priors_join_the_loss(build, batch):
    views, targets = batch
    bare, = build()(views[:1], targets, [DRAWS[1]])
    own, = build(tv_l2=0.02, l2_scale=0.5)(views[:1], targets, [DRAWS[1]])
    assert set(own) - set(bare) == {"tv", "l2"}
    x = views[0].double().numpy()
    expected = 0.02 * tv_by_loops(x) + 0.5 * np.mean([np.sqrt((image ** 2).sum()) for image in x])
    assert (own["loss"] - bare["loss"]).item() == pytest.approx(expected, rel=1e-4)


def test_cross_entropy_is_that_of_the_primary(build, models, batch):
    views, targets = batch
    for primary in models:
        terms, = build()(views[:1], targets, [Teachers(primary, ("b",))])
        torch.testing.assert_close(terms["ce"], F.cross_entropy(models[primary](views[0]), targets))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduce, counted", [("mean", True), ("sum", False)])
def test_a_run_builds_this_objective_and_warns_of_silent_teachers(models, reference, batch, reduce, counted,
                                                                  engine, capsys, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    objective = build_objective(models, engine=engine, alignment="bn", first_multiplier=FIRST,
                                bn_reduce=reduce, r_bn=R_BN)
    warning = capsys.readouterr().err
    assert "plain has no BatchNorm" in warning and ("counts in the mean" in warning) == counted
    expected, _, _ = reference(batch[0][0], batch[1], DRAWS[-1], reduce)
    terms, = objective(batch[0][:1], batch[1], [DRAWS[-1]])
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
