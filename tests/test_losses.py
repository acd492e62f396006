"""Student losses against numpy."""
import numpy as np
import pytest
import torch

from utils.pieces import build_piece, flatten, identity
from validate.losses import LOSSES, ClassShares

B, K, CE_WEIGHT, TEMPERATURE = 6, 5, 0.1, 20.0


@pytest.fixture
def batch(gen):
    """Logits, soft labels, targets."""
    return torch.randn(B, K, generator=gen, dtype=torch.float64) * 3, \
        torch.randn(B, K, generator=gen, dtype=torch.float64) * 4, torch.randint(0, K, (B,), generator=gen)


def softmax(x, temperature=1.0):
    powers = np.exp(x.numpy() / temperature)
    return powers / powers.sum(1, keepdims=True)


def cross_entropy(logits, targets):
    return -np.mean([np.log(softmax(logits)[i, k]) for i, k in enumerate(targets)])


def divergence(logits, soft_labels):
    """Batch mean of KL(label || student) at the temperature, without its square as a factor."""
    p, q = softmax(soft_labels, TEMPERATURE), softmax(logits, TEMPERATURE)
    return (p * np.log(p / q)).sum() / B


EXPECTED = {
    "mse_gt": lambda x, y, k: ((x - y).numpy() ** 2).sum() / (B * K) + CE_WEIGHT * cross_entropy(x, k),
    "mae_gt": lambda x, y, k: np.abs((x - y).numpy()).sum() / (B * K) + CE_WEIGHT * cross_entropy(x, k),
    "kl": lambda x, y, k: divergence(x, y),
    "kl_gt": lambda x, y, k: divergence(x, y) + CE_WEIGHT * cross_entropy(x, k),
    "ce": lambda x, y, k: cross_entropy(x, k),
}


def made(name, ce_weight=CE_WEIGHT):
    return build_piece(LOSSES, name, {"ce_weight": ce_weight, "temperature": TEMPERATURE})


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_numpys(name, batch):
    loss = made(name)(*batch)
    assert loss.shape == () and loss.item() == pytest.approx(EXPECTED[name](*batch), rel=1e-9)


@pytest.mark.parametrize("name, factor", [("kl", 400.0), ("kl_gt", 400.0)])
def test_t_squared_multiplies_the_divergence_alone(name, factor, batch):
    logits, soft_labels, targets = batch
    values = {"ce_weight": CE_WEIGHT, "temperature": TEMPERATURE, "t_squared": True}
    loss = build_piece(LOSSES, name, values)(*batch).item()
    truth = CE_WEIGHT * cross_entropy(logits, targets) if name == "kl_gt" else 0
    assert loss == pytest.approx(factor * divergence(logits, soft_labels) + truth, rel=1e-9)
    halves = build_piece(LOSSES, name, values)(*(tensor.float() if tensor.is_floating_point() else tensor
                                                 for tensor in batch))
    assert halves.dtype == torch.float32 and halves.item() == pytest.approx(loss, rel=1e-4)


def test_the_loss_of_shares_of_classes_is_numpys(batch):
    logits, shares = batch[0], batch[1].softmax(1)
    expected = -(shares.numpy() * np.log(softmax(logits))).sum() / B
    assert ClassShares()(logits, shares, None).item() == pytest.approx(expected, rel=1e-9)
    assert ClassShares not in LOSSES.values()  # a training's, not to be chosen


@pytest.mark.parametrize("name", ["mse_gt", "mae_gt", "kl", "kl_gt"])
def test_soft_losses_pull_the_logits_to_the_soft_labels(name, batch):
    logits, soft_labels, targets = batch
    logits.requires_grad_()
    piece = made(name, ce_weight=0.0)
    loss = piece(logits, soft_labels, targets)
    gradient, = torch.autograd.grad(loss, logits)
    nearer = logits.detach() - 1e-3 * gradient / gradient.norm()
    assert piece(nearer, soft_labels, targets) < loss
    equal = piece(soft_labels, soft_labels, targets)
    assert equal.item() == pytest.approx(0, abs=1e-12)


def test_hard_labels_need_no_soft_ones(batch):
    loss = made("ce")(batch[0], None, batch[2])
    assert loss.item() == pytest.approx(cross_entropy(batch[0], batch[2]))


def test_which_losses_are_soft_and_what_each_can_be_given():
    assert {name for name, piece in LOSSES.items() if piece.soft} == {"mse_gt", "mae_gt", "kl", "kl_gt"}
    assert {name: flatten(piece()) for name, piece in LOSSES.items()} == {
        "mse_gt": {"ce_weight": 0.1}, "mae_gt": {"ce_weight": 0.1},
        "kl": {"temperature": 20.0, "t_squared": False},
        "kl_gt": {"temperature": 20.0, "t_squared": False, "ce_weight": 0.1}, "ce": {}}
    assert all(set(identity(LOSSES[name]())) <= {"temperature", "ce_weight"} for name in LOSSES)


@pytest.mark.parametrize("name, values, named", [
    ("mse_gt", {"ce_weight": -0.1}, "--ce-weight must be >= 0, got -0.1"),
    ("kl_gt", {"ce_weight": float("nan")}, "--ce-weight must be >= 0, got nan"),
    ("kl", {"temperature": 0.0}, "--temperature must be > 0, got 0.0"),
    ("kl_gt", {"temperature": float("inf")}, "--temperature must be > 0, got inf")])
def test_weights_and_temperatures_that_make_no_loss_are_refused(name, values, named):
    with pytest.raises(ValueError, match=named):
        build_piece(LOSSES, name, values)
