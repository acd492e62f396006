"""Student losses.  LOSSES: name -> f(logits, soft_labels, targets, ce_weight=, temperature=) -> () scalar.

B images of a micro-batch, K classes.  `targets` is the class of the un-mixed image.
"""
import torch
import torch.nn.functional as F


def mse_gt(logits, soft_labels, targets, *, ce_weight: float, temperature: float) -> torch.Tensor:
    """Mean squared error on logits plus the ground-truth term.   Source: paper table 3a, GT = 0.1.

    Args:    logits, soft_labels: (B, K);  targets: (B,);  ce_weight: of the cross-entropy.
    Returns: () scalar, mean over B * K of the squared error + ce_weight * mean cross-entropy.
    """
    return F.mse_loss(logits, soft_labels) + ce_weight * F.cross_entropy(logits, targets)


def mae_gt(logits, soft_labels, targets, *, ce_weight: float, temperature: float) -> torch.Tensor:
    """`mse_gt` with the mean absolute error on logits.   Source: paper table 3a.   Shapes as mse_gt."""
    return F.l1_loss(logits, soft_labels) + ce_weight * F.cross_entropy(logits, targets)


def kl(logits, soft_labels, targets, *, ce_weight: float, temperature: float) -> torch.Tensor:
    """Batch-mean KL(softmax(label / T) || softmax(logits / T)), without the T^2 factor.   Source: SRe2L.

    Shapes as mse_gt; the ground truth is not used.
    """
    return F.kl_div(F.log_softmax(logits / temperature, 1), F.log_softmax(soft_labels / temperature, 1),
                    reduction="batchmean", log_target=True)


def kl_gt(logits, soft_labels, targets, *, ce_weight: float, temperature: float) -> torch.Tensor:
    """`kl` plus ce_weight times the cross-entropy.   Source: ours, the pair of mse_gt.   Shapes as mse_gt."""
    return kl(logits, soft_labels, targets, ce_weight=ce_weight, temperature=temperature) \
        + ce_weight * F.cross_entropy(logits, targets)


def ce(logits, soft_labels, targets, *, ce_weight: float, temperature: float) -> torch.Tensor:
    """Cross-entropy with the hard class alone.   Source: recovery-only protocol, paper table 2."""
    return F.cross_entropy(logits, targets)


LOSSES = {"mse_gt": mse_gt, "mae_gt": mae_gt, "kl": kl, "kl_gt": kl_gt, "ce": ce}
