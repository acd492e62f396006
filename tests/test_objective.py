"""The objective of recover against plain autograd through every teacher's layers, in float64."""
import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recover.alignments import ENGINES, Aligned, BNAlignment
from recover.data_synthesis import RecoverConfig
from recover.objective import Objective
from recover.priors import L2, PRIORS, Densification, Prior, TotalVariation
from recover.selection import Draw
from recover.units import Inputs
from utils.flags import build_config

N, K, SIZE, FIRST, R_BN = 5, 7, 9, 10.0, 0.3


def draw(primary: str, *aligned: str, reduce: str = "mean") -> Draw:
    """Phi and the aligned teachers as the published recipe (mean) or the paper's eq. 4 (sum) weighs them."""
    return Draw({primary: 1.0}, dict.fromkeys(aligned, 1 / len(aligned) if reduce == "mean" else 1.0))


TEACHERS = [("plain", "plain"), ("a", "a"), ("a", "a", "b"), ("a", "a", "plain"), ("b", "a"),
            ("plain", "a", "b"), ("a", "a", "b", "plain")]
DRAWS = [draw(*names) for names in TEACHERS]
SEVERAL = Draw({"b": 0.25, "a": 2.0, "plain": 0.5}, {"plain": 3.0, "b": 1.7, "a": 0.4})


@pytest.fixture
def models(tiny_teacher):
    return {"a": tiny_teacher(1), "b": tiny_teacher(2), "plain": tiny_teacher(3, bn=False)}


@pytest.fixture
def build(models):
    """f(**settings): the objective over the three models."""
    hooked = {name: BNAlignment(model, first_multiplier=FIRST) for name, model in models.items()}
    return lambda **settings: Objective(hooked, **{"weight": R_BN, **settings})


@pytest.fixture
def reference(models):
    """f(view, targets, draw): the loss, its terms and its gradient, in float64, all graphs kept."""
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

    def compute(view, targets, own):
        x = view.detach().double().requires_grad_()
        ce = sum(weight * -torch.log_softmax(walk(doubles[name], x)[0], 1)[range(N), targets].mean()
                 for name, weight in own.ce.items())
        terms = {name: walk(doubles[name], x)[1] for name in own.align}
        loss = ce + R_BN * sum(weight * terms[name] for name, weight in own.align.items())
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
    terms = objective.backward(views, targets, draws)
    assert not any(value.requires_grad for own in terms for value in own.values())
    return terms, [view.grad for view in views]


def assert_equals_reference(own, gradient, expected):
    loss, terms, expected_gradient = expected
    found = {name: value.item() for name, value in own.items()}
    assert found.pop("loss") == pytest.approx(loss, rel=1e-5)
    assert found == pytest.approx(terms, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- against plain autograd

@pytest.mark.parametrize("keep_graphs", [False, True])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("names", TEACHERS, ids="-".join)
def test_loss_terms_and_gradient_are_those_of_plain_autograd(build, reference, batch, names, reduce,
                                                             keep_graphs):
    views, targets = batch
    own = draw(*names, reduce=reduce)
    (terms,), (gradient,) = loss_and_gradient(build(keep_graphs=keep_graphs), views[:1], targets, [own])
    assert_equals_reference(terms, gradient, reference(views[0], targets, own))


@pytest.mark.parametrize("keep_graphs", [False, True])
def test_several_cross_entropies_and_alignments_are_weighted_one_by_one(build, reference, batch, keep_graphs):
    views, targets = batch
    (terms,), (gradient,) = loss_and_gradient(build(keep_graphs=keep_graphs), views[:1], targets, [SEVERAL])
    assert list(terms) == ["loss", "ce", "bn/b", "bn/a", "bn/plain"]
    assert_equals_reference(terms, gradient, reference(views[0], targets, SEVERAL))


def test_a_weight_of_zero_reports_its_term_and_adds_nothing(build, batch):
    views, targets = batch
    silenced = Draw({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0})
    (with_b, alone), (gradient, expected) = loss_and_gradient(
        build(), [views[0], views[0]], targets, [silenced, Draw({"a": 1.0}, {"a": 1.0})])
    assert with_b["bn/b"] > 0 and "bn/b" not in alone
    assert with_b["loss"].item() == pytest.approx(alone["loss"].item(), rel=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_a_teacher_without_batchnorm_halves_the_mean_and_not_the_sum(build, batch):
    views, targets = batch
    for reduce, share in (("mean", 0.5), ("sum", 1.0)):
        alone, beside = (draw(*names, reduce=reduce) for names in (("a", "a"), ("a", "a", "plain")))
        (with_a,), (with_both,) = (loss_and_gradient(build(), views[:1], targets, [own])[0]
                                   for own in (alone, beside))
        alignment = [(own["loss"] - own["ce"]).item() for own in (with_a, with_both)]
        assert alignment[1] == pytest.approx(share * alignment[0], rel=1e-5)


def test_keeping_all_graphs_and_one_at_a_time_give_the_same_step(build, batch):
    settings = {"priors": {"tv": TotalVariation(tv_l2=0.02), "l2": L2(l2_scale=0.5)}}
    (kept, gradients), (single, others) = (
        loss_and_gradient(build(keep_graphs=keep, **settings), *batch, [DRAWS[2], DRAWS[4], SEVERAL])
        for keep in (True, False))
    for own, other, gradient, expected in zip(kept, single, gradients, others, strict=True):
        assert list(own) == list(other)
        assert all(torch.equal(own[name], other[name]) for name in own)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("keep_graphs", [False, True])
def test_a_scaled_backward_is_undone_to_the_bit(build, batch, keep_graphs):
    settings = {"priors": {"tv": TotalVariation(tv_l2=0.02)}, "keep_graphs": keep_graphs}
    (terms, plain), (same, scaled) = (
        loss_and_gradient(build(loss_scale=scale, **settings), *batch, DRAWS[4:7])
        for scale in (1.0, 2.0**14))
    assert all(torch.equal(a, b) for a, b in zip(plain, scaled, strict=True)) and terms == same


def test_the_gradient_passes_below_the_views_and_adds_up_there(build, batch):
    (views, targets), own = batch, DRAWS[2]
    _, gradients = loss_and_gradient(build(), [1.5 * views[0], views[0]], targets, [own, own])
    pixels = views[0].clone().requires_grad_()
    build().backward([1.5 * pixels, pixels], targets, [own, own])
    torch.testing.assert_close(pixels.grad, 1.5 * gradients[0] + gradients[1])


# ---------------------------------------------------------------- one forward a network

def calls_of(models) -> list:
    """Filled with (name, images) by every forward of the models from now on."""
    calls = []
    for name, model in models.items():
        model.register_forward_hook(lambda _, inputs, __, name=name: calls.append((name, len(inputs[0]))))
    return calls


@pytest.mark.parametrize("keep_graphs", [False, True])
@pytest.mark.parametrize("own", [*DRAWS, SEVERAL], ids=lambda own: "-".join((*own.ce, "with", *own.align)))
def test_each_network_runs_exactly_once_a_step(build, models, batch, own, keep_graphs):
    calls = calls_of(models)
    (terms,), _ = loss_and_gradient(build(keep_graphs=keep_graphs), batch[0][:1], batch[1], [own])
    idle = {"plain"} - own.ce.keys()  # it has nothing to align, and its logits are not wanted
    assert sorted(calls) == [(name, N) for name in sorted({*own.ce, *own.align} - idle)]
    assert {f"bn/{name}" for name in own.align} == terms.keys() - {"loss", "ce"}


@pytest.mark.parametrize("draws, expected", [
    ([draw("a", "a"), draw("b", "a"), draw("a", "b", "plain")], [("a", 3 * N), ("b", 2 * N)]),
    ([draw("a", "a"), draw("b", "plain"), draw("plain", "b")], [("a", N), ("b", 2 * N), ("plain", 2 * N)])])
def test_slices_with_different_draws_share_one_forward_of_each_network(build, models, batch, draws, expected):
    calls = calls_of(models)
    loss_and_gradient(build(), *batch, draws)
    assert sorted(calls) == expected


@pytest.mark.parametrize("keep_graphs", [False, True])
@pytest.mark.parametrize("draws", [[DRAWS[2]] * 3, DRAWS[:3], DRAWS[3:6], [DRAWS[4], DRAWS[1], DRAWS[5]],
                                   [DRAWS[0], SEVERAL, DRAWS[6]]],
                         ids=["same", "zero-one-two", "mixed", "primary-last", "several"])
def test_slices_side_by_side_are_independent_batches(build, reference, batch, draws, keep_graphs):
    views, targets = batch
    terms, gradients = loss_and_gradient(build(keep_graphs=keep_graphs), views, targets, draws)
    for view, own, found, gradient in zip(views, draws, terms, gradients, strict=True):
        assert_equals_reference(found, gradient, reference(view, targets, own))


@pytest.mark.parametrize("keep_graphs", [False, True])
def test_one_slice_has_no_gradient_in_another(build, batch, keep_graphs):
    absent = Draw(dict.fromkeys(DRAWS[2].ce, 0.0), dict.fromkeys(DRAWS[2].align, 0.0))
    _, (own, *others) = loss_and_gradient(build(keep_graphs=keep_graphs), *batch, [DRAWS[2], absent, absent])
    assert own.abs().max() > 0 and all(other.abs().max() == 0 for other in others)


def test_cross_entropy_is_that_of_the_primary(build, models, batch):
    views, targets = batch
    for primary in models:
        (terms,), _ = loss_and_gradient(build(), views[:1], targets, [draw(primary, "b")])
        torch.testing.assert_close(terms["ce"], F.cross_entropy(models[primary](views[0]), targets))


# ---------------------------------------------------------------- priors

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
    x, targets = batch[0][0], batch[1]
    assert TotalVariation()(x, targets).item() == pytest.approx(tv_by_loops(x.double().numpy()), rel=1e-5)
    norms = [np.sqrt((image ** 2).sum()) for image in x.double().numpy()]
    assert L2()(x, targets).item() == pytest.approx(np.mean(norms), rel=1e-5)


def densification(views, targets, temperature: float) -> float:
    """The prior in numpy, by singular values: those squared are the eigenvalues of X X^T."""
    total = 0.0
    for k in set(targets):
        x = np.stack([view for view, own in zip(views, targets, strict=True) if own == k])
        side = x.shape[-1] // 32
        x = x.reshape(len(x), 3, 32, side, 32, side).mean((3, 5)).reshape(len(x), -1)
        values = np.linalg.svd(x, compute_uv=False) ** 2

        def log_softmax(v):
            return v - v.max() - np.log(np.exp(v - v.max()).sum())
        p, q = log_softmax(values / temperature), log_softmax(values)
        total += (np.exp(p) * (p - q)).sum()
    return total


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("temperature", [4.0, 1.5])
def test_densification_is_that_of_numpy(size, temperature, gen):
    targets = [4, 1, 1, 4, 4, 0]
    views = 0.006 * size * torch.randn(6, 3, size, size, generator=gen, dtype=torch.float64)
    prior = Densification(densification_temperature=temperature)
    expected = densification(views.numpy(), targets, temperature)
    assert prior(views, torch.tensor(targets)).item() == pytest.approx(expected, rel=1e-9) and expected > 0.01
    assert prior(views[:1], torch.tensor([3])).item() == 0


def test_densification_has_the_gradient_of_its_softened_side_held_still(gen):
    """Also where eigenvalues are equal or zero, and where no class has two images."""
    views = torch.zeros(3, 3, 4, 4, dtype=torch.float64)  # pooled to 32: each pixel 64 times
    views[0, 0, 0, 0] = views[1, 1, 1, 1] = 0.1  # two equal eigenvalues, and a zero
    views[:, 2] = 0.01 * torch.randn(3, 4, 4, generator=gen, dtype=torch.float64)
    for own in (views, torch.eye(3, 48, dtype=torch.float64).reshape(3, 3, 4, 4), torch.zeros_like(views)):
        own = own.clone().requires_grad_()
        Densification()(own, torch.zeros(3, dtype=torch.long)).backward()
        assert own.grad.isfinite().all()
        x = torch.nn.functional.adaptive_avg_pool2d(own.detach(), 32).flatten(1).numpy()
        values, vectors = np.linalg.eigh(x @ x.T)
        p, q = (np.exp(v) / np.exp(v).sum() for v in (values / 4, values))
        by_hand = 2 * (vectors * (q - p)) @ vectors.T @ x  # dD/dl = q - p;  dl = v^T d(X X^T) v
        by_hand = by_hand.reshape(3, 3, 4, 8, 4, 8).sum((3, 5))
        np.testing.assert_allclose(own.grad, by_hand, rtol=1e-7, atol=1e-12)
    alone = views.clone().requires_grad_()
    Densification()(alone, torch.arange(3)).backward()
    assert torch.equal(alone.grad, torch.zeros_like(alone))


@pytest.mark.parametrize("keep_graphs", [False, True])
def test_weighted_priors_join_the_loss(build, batch, keep_graphs):
    views, targets = batch
    priors = {"tv": TotalVariation(tv_l2=0.02), "l2": L2(l2_scale=0.5)}
    (bare,), (without,) = loss_and_gradient(build(keep_graphs=keep_graphs), views[:1], targets, [DRAWS[1]])
    (own,), (gradient,) = loss_and_gradient(build(keep_graphs=keep_graphs, priors=priors), views[:1], targets,
                                            [DRAWS[1]])
    assert set(own) - set(bare) == {"tv", "l2"}
    x = views[0].double().numpy()
    expected = 0.02 * tv_by_loops(x) + 0.5 * np.mean([np.sqrt((image ** 2).sum()) for image in x])
    assert (own["loss"] - bare["loss"]).item() == pytest.approx(expected, rel=1e-4)
    doubled = views[0].double().requires_grad_()
    sum(prior.weight * prior(doubled, targets) for prior in priors.values()).backward()
    torch.testing.assert_close(gradient - without, doubled.grad.float(), rtol=1e-4, atol=1e-6)


def test_priors_without_a_weight_are_not_computed(build, batch):
    assert {name: piece().weight for name, piece in PRIORS.items()} == {
        "tv": 0, "l2": 0, "densification": 1}  # the last is not among the default's
    objective = build(priors={"tv": TotalVariation(), "l2": L2(l2_scale=0.5)})
    (terms,), _ = loss_and_gradient(objective, batch[0][:1], batch[1], [DRAWS[1]])
    assert set(terms) == {"loss", "ce", "bn/a", "l2"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Brightness(Prior):
    """A prior of somebody's own, that asks for the classes."""

    @property
    def weight(self):
        return 2.0

    def __call__(self, views, targets):
        return (targets[:, None, None, None] * views).mean()


def test_a_prior_sees_each_slice_with_its_targets(build, batch):
    views, targets = batch
    draws = [Draw({"a": 0.0}, {})] * 3
    terms, gradients = loss_and_gradient(build(priors={"brightness": Brightness()}), views, targets, draws)
    for view, own, gradient in zip(views, terms, gradients, strict=True):
        classes = targets.numpy()[:, None, None, None]
        expected = (classes * view.double().numpy()).sum() / view.numel()
        assert own["brightness"].item() == pytest.approx(expected, rel=1e-4)
        assert own["loss"].item() == pytest.approx(2 * expected, rel=1e-4)
        np.testing.assert_allclose(gradient, 2 * classes / view.numel() * np.ones(view.shape), rtol=1e-6)


# ---------------------------------------------------------------- alignments with a memory

class Drifting(Aligned):
    """Distance to a running mean of the earlier batches; its state is replaced, never changed in place."""

    def __init__(self, seed: int):
        self.head = torch.randn(K, 3, generator=torch.Generator().manual_seed(seed))
        self.mean = torch.zeros(3)

    def __len__(self):
        return 1

    def __call__(self, images, targets, *, slices, aligned):
        means = images.mean((2, 3))
        own = means.unflatten(0, (slices, -1))[:aligned].mean(1)
        distances = torch.linalg.vector_norm(own - self.mean, dim=1)
        self.mean = 0.5 * self.mean + 0.5 * own.detach().mean(0)
        return means @ self.head.T, distances

    def state(self):
        return self.mean

    def load(self, state):
        self.mean = state


@pytest.mark.parametrize("keep_graphs", [False, True])
def test_an_alignments_memory_goes_on_from_a_state_and_begins_afresh_without(batch, keep_graphs):
    views, targets = batch
    objective = Objective({name: Drifting(seed) for seed, name in enumerate("xy")}, weight=R_BN, term="drift",
                          keep_graphs=keep_graphs)

    def step(s):
        (terms,), _ = loss_and_gradient(objective, views[s:s + 1], targets, [draw("x", "x", "y")])
        return {name: value.item() for name, value in terms.items()}

    first, second, state = step(0), step(1), objective.state()
    third, fourth = step(2), step(0)
    assert set(first) == {"loss", "ce", "drift/x", "drift/y"} and fourth != first
    objective.load(state)
    assert [step(2), step(0)] == [third, fourth]
    objective.load(None)
    assert [step(0), step(1), step(2)] == [first, second, third]


def test_batchnorm_has_no_memory(build, batch):
    objective = build()
    loss_and_gradient(objective, *batch, DRAWS[:3])
    assert objective.state() == {"a": None, "b": None, "plain": None}
    objective.load(objective.state())


# ---------------------------------------------------------------- as a run builds it

@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_run_builds_this_objective_and_warns_of_silent_teachers(models, reference, batch, reduce, engine,
                                                                  capsys, monkeypatch):
    monkeypatch.setattr("utils.runtime._said", set())
    names = {"a": "narrow_resnet", "b": "narrow_mobilenet", "plain": "narrow_alexnet"}
    config = build_config(RecoverConfig, {
        "pool": tuple(names.values()), "arch_name": names["a"], "engine": engine, "bn_reduce": reduce,
        "first_bn_multiplier": FIRST, "r_bn": R_BN})
    networks = {names[name]: model for name, model in models.items()}
    inputs = Inputs(real=None, pool=config.teacher_pool, networks=networks, seed=0,
                    size=SIZE, mean=config.mean, std=config.std, device=torch.device("cpu"))
    objective = config.objective(inputs)
    warning = capsys.readouterr().err
    assert "warning: narrow_alexnet has no BatchNorm" in warning
    assert "it counts in the mean of --bn-reduce (the published behaviour)" in warning
    expected, _, _ = reference(batch[0][0], batch[1], draw(*TEACHERS[-1], reduce=reduce))
    own = draw(*(names[name] for name in TEACHERS[-1]), reduce=reduce)
    (terms,), _ = loss_and_gradient(objective, batch[0][:1], batch[1], [own])
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert "bn/narrow_mobilenet" in terms and config.alignment.keeps_graphs == (engine == "reference")
