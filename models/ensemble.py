"""How several teachers' logits become one soft label.  Used by relabel, and by validate's online labels.

ENSEMBLES: name -> f(logits) -> (N, K).
T teachers (the primary first), N images of one batch, C channels, H W pixels, K classes.
"""
import torch

from utils.precision import lowered


def equal_norm(logits: torch.Tensor) -> torch.Tensor:
    """Each teacher's (N, K) matrix scaled to the teachers' mean Frobenius norm, then the plain mean.

    Source: published recipe for resnet18 (after G-VBSM); the labels depend on the batch.
    Args:    logits: (T, N, K).    Returns: (N, K).
    """
    norms = torch.linalg.vector_norm(logits, dim=(1, 2), keepdim=True)
    return (logits * (norms.mean() / norms)).mean(0)


def primary_half(logits: torch.Tensor) -> torch.Tensor:
    """Half the primary, half the mean of the others; then every row scaled to the batch's mean row norm.

    Source: published recipe for resnet50 and resnet101; the labels depend on the batch.
    Args:    logits: (T, N, K), T >= 2.    Returns: (N, K).
    """
    combined = 0.5 * logits[0] + 0.5 * logits[1:].mean(0)
    norms = torch.linalg.vector_norm(combined, dim=1, keepdim=True)
    return combined * (norms.mean() / norms)


def mean(logits: torch.Tensor) -> torch.Tensor:
    """The plain mean over teachers, (T, N, K) to (N, K).   Source: G-VBSM, EDC."""
    return logits.mean(0)


def primary(logits: torch.Tensor) -> torch.Tensor:
    """The first teacher alone, (T, N, K) to (N, K).   Source: SRe2L; paper table 3a, first row."""
    return logits[0]


ENSEMBLES = {"equal-norm": equal_norm, "primary-half": primary_half, "mean": mean, "primary": primary}


@torch.no_grad()
def ensemble_logits(views: torch.Tensor, teachers: list, *, ensemble: str, precision: str) -> torch.Tensor:
    """The combined logits of one batch of views.

    Args:    views: (N, C, H, W) float, normalised and mixed;  teachers: T networks in eval mode, the primary
             first;  ensemble: of ENSEMBLES, some of which scale by statistics of the batch;
             precision: of PRECISIONS.
    Returns: (N, K) float32.
    """
    with lowered(precision, views.device):
        logits = [teacher(views) for teacher in teachers]
    return ENSEMBLES[ensemble](torch.stack([own.float() for own in logits]))
