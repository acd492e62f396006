"""Membership inference: was an image among those that a network learnt from?

A threshold on the loss (Yeom et al. 2018) guesses that a network is surest of what it has seen.  LiRA
(Carlini et al. 2022, arXiv:2112.03570) asks shadow models, which saw other images, how sure such networks are
of an image that they saw and of one that they did not.  N images, S shadow models, K classes; of every score
more means: seen.
"""
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from utils.pieces import require


def confidence(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of the probability p of the true class, without rounding p to 0 or 1.

    It is z_y - log sum_{j != y} exp z_j, near to Gaussian over networks where p is not; log p, the negative
    cross-entropy, is -softplus of its negative: the same order of images.
    Source: Carlini et al. 2022.
    Args:    logits: (N, K);  labels: (N,).
    Returns: (N,) float64.
    """
    logits, own = logits.double(), F.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


class Gaussian(NamedTuple):
    """How sure some shadow models are of each image.

    mean: (N,), NaN where there are none;  std: of one model around an image's mean, the same for all images.
    """

    mean: torch.Tensor
    std: float

    def log_density(self, values: torch.Tensor) -> torch.Tensor:
        """log N(values; mean, std^2) of each image, less log sqrt(2 pi)."""
        return -0.5 * ((values.double() - self.mean) / self.std).square() - math.log(self.std)


def shadow_gaussian(shadows: torch.Tensor, chosen: torch.Tensor) -> Gaussian:
    """The Gaussian of some shadow models: for LiRA those that had an image in, or those that had it out.

    The variance is pooled within images: the paper fixes one for all images below some 64 shadow models.
    Source: Carlini et al. 2022.
    Args:   shadows: (S, N) confidences;  chosen: (S, N) bool, the models that count for each image.
    Raises: ValueError where no image has two models that count.
    """
    values, num = shadows.double(), chosen.sum(0)
    freedom = int((num - 1).clamp(min=0).sum())
    require(freedom, "LiRA needs an image that was in two shadow models, and one that was out of two; take "
            "more of them")
    mean = (values * chosen).sum(0) / num
    residuals = ((values - mean).nan_to_num() * chosen).square().sum()
    return Gaussian(mean, math.sqrt(float(residuals) / freedom))


def likelihood_ratio(target: torch.Tensor, seen: Gaussian, unseen: Gaussian) -> torch.Tensor:
    """LiRA online: log N(target; seen) - log N(target; unseen), NaN where either has no model.

    Args:    target: (N,) confidences of the attacked network;  seen, unseen: of models that had an image in,
             and out.
    Source:  Carlini et al. 2022, algorithm 1.
    """
    return seen.log_density(target) - unseen.log_density(target)


def one_sided(target: torch.Tensor, unseen: Gaussian) -> torch.Tensor:
    """LiRA offline, from models that had an image out alone: log P(N(unseen) <= target), NaN without one.

    Source: Carlini et al. 2022.   Args: as `likelihood_ratio`.
    """
    return torch.special.log_ndtr((target.double() - unseen.mean) / unseen.std)


# ---------------------------------------------------------------- how well an attack guesses

def roc(members: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """False and true positive rates of "score >= threshold", one pair a distinct score, from (0, 0) on.

    Args: members, others: scores of those that were seen, (P,), and of those that were not, (Q,).
    """
    scores = torch.cat([members, others]).double()
    levels, place = scores.unique(return_inverse=True)

    def rates(part: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(part, minlength=len(levels)).flip(0).cumsum(0).double()
        return torch.cat([counts.new_zeros(1), counts / len(part)])
    return rates(place[len(members):]), rates(place[:len(members)])


def auc(members: torch.Tensor, others: torch.Tensor) -> float:
    """P(a member's score > another's) + P(equal) / 2: the area under the ROC, Mann-Whitney's U / (P Q)."""
    false, true = roc(members, others)
    return float(torch.trapezoid(true, false))


def tpr_at(members: torch.Tensor, others: torch.Tensor, rate: float = 0.01) -> float:
    """The largest true positive rate whose false positive rate is at most `rate`: a step, not interpolated.

    NaN below 1 / rate non-members (100 at 1 %), where a single false positive is more than that.
    """
    if len(others) * rate < 1:
        return math.nan
    false, true = roc(members, others)
    return float(true[false <= rate].max())


class Guessed(NamedTuple):
    """How well scores tell members from others: `auc` and `tpr_at` 1 %."""

    auc: float
    tpr_at_1: float


def guessed(members: torch.Tensor, others: torch.Tensor) -> Guessed:
    """Both figures of one attack.   Args: as `roc`."""
    return Guessed(auc(members, others), tpr_at(members, others))


def bootstrapped(members: torch.Tensor, others: torch.Tensor, *, resamples: int,
                 draw: torch.Generator) -> tuple[list[float], list[float]]:
    """95 % intervals, [low, high], of both figures: percentiles over resampled members and resampled others.

    They are of the choice of images; what another student would give is not in them.
    Args: as `roc`;  draw: of the resamples.
    """
    drawn = [guessed(*(part[torch.randint(len(part), (len(part),), generator=draw)]
                       for part in (members, others))) for _ in range(resamples)]
    middle = torch.tensor([0.025, 0.975], dtype=torch.float64)
    area, rate = torch.tensor(drawn, dtype=torch.float64).quantile(middle, 0).T.tolist()
    return area, rate
