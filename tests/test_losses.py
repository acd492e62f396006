"""Student losses against numpy."""
import numpy as np
import pytest
import torch

from validate.losses import LOSSES

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


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_numpys(name, batch):
    loss = LOSSES[name](*batch, ce_weight=CE_WEIGHT, temperature=TEMPERATURE)
    assert loss.shape == () and loss.item() == pytest.approx(EXPECTED[name](*batch), rel=1e-9)


@pytest.mark.parametrize("name", ["mse_gt", "mae_gt", "kl", "kl_gt"])
def test_soft_losses_pull_the_logits_to_the_soft_labels(name, batch):
    logits, soft_labels, targets = batch
    logits.requires_grad_()
    loss = LOSSES[name](logits, soft_labels, targets, ce_weight=0.0, temperature=TEMPERATURE)
    gradient, = torch.autograd.grad(loss, logits)
    nearer = logits.detach() - 1e-3 * gradient / gradient.norm()
    assert LOSSES[name](nearer, soft_labels, targets, ce_weight=0.0, temperature=TEMPERATURE) < loss
    equal = LOSSES[name](soft_labels, soft_labels, targets, ce_weight=0.0, temperature=TEMPERATURE)
    assert equal.item() == pytest.approx(0, abs=1e-12)


def test_hard_labels_need_no_soft_ones(batch):
    loss = LOSSES["ce"](batch[0], None, batch[2], ce_weight=CE_WEIGHT, temperature=TEMPERATURE)
    assert loss.item() == pytest.approx(cross_entropy(batch[0], batch[2]))
