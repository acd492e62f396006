"""Was an image among those that a network learnt from?  Membership inference, and how well it guesses.

    python -m validate.membership --data RUN --student RUN/validate/resnet18/seed0

Attacks: the loss threshold (Yeom et al. 2018) takes what a network is surest of for what it has seen; LiRA
(Carlini et al. 2022) asks shadow models, which saw other images, how sure such networks are of an image that
they saw and of one that they did not.  The command makes the first; the second needs many worlds
(`python -m scripts.privacy`).  N images, S shadow models, K classes; scores: higher means seen.
"""
import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from models.registry import build_model
from utils.augment import normalize
from utils.files import is_whole, load_tensors
from utils.metrics import Batches, logits_of
from utils.pieces import require
from utils.records import Result, read_record


# ---------------------------------------------------------------- what a network says of an image

def confidence(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of the probability p of the true class, without rounding p to 0 or 1.

    It is z_y - log sum_{j != y} exp z_j, near to Gaussian over networks where p is not; log p, the negative
    cross-entropy, is -softplus of its negative: the same order of images.
    Source: Carlini et al. 2022, section IV.C.
    Args:    logits: (N, K);  labels: (N,).
    Returns: (N,) float64.
    """
    logits, own = logits.double(), F.one_hot(labels, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


@torch.no_grad()
def confidences(model: nn.Module, batches: Batches, *, mean: tuple[float, ...], std: tuple[float, ...],
                device: torch.device) -> torch.Tensor:
    """`confidence` of every image as it is, in eval mode: (N,) float64.   Args: as `utils.metrics.evaluate`."""
    model = model.eval().to(device)
    return torch.cat([confidence(logits_of(model, normalize(pixels.to(device), mean, std)).cpu(), labels.cpu())
                      for pixels, labels in batches])


def load_student(folder: Path, *, num_classes: int) -> nn.Module:
    """The student of a seed folder, as it was at the last epoch.

    Raises: FileNotFoundError or ValueError naming what is missing, changed or damaged.
    """
    result = read_record(folder / "result.json", Result)
    path = folder / "student_last.pt"
    require(is_whole(path, result["files"][path.name]), f"{path}: missing, or not the weights that "
            f"result.json beside it was written for; run validate again")
    model = build_model(result["config"]["model"], num_classes=num_classes, stem=result["config"]["stem"])
    model.load_state_dict(load_tensors(path.read_bytes()))
    return model.eval()


# ---------------------------------------------------------------- attacks

class Gaussians(NamedTuple):
    """How sure shadow models are of each image: (N,) means where it was in and out, NaN where it never was;
    one standard deviation of either, of a model around an image's mean."""

    mean_in: torch.Tensor
    mean_out: torch.Tensor
    std_in: float
    std_out: float


def shadow_gaussians(shadows: torch.Tensor, inside: torch.Tensor) -> Gaussians:
    """The Gaussians of shadow models.

    Means are an image's own; the variance is one for all images, pooled within them, as the paper takes it
    below some 64 shadow models.   Source: Carlini et al. 2022, section VI.C.
    Args:   shadows: (S, N) confidences;  inside: (S, N) bool, whether a model learnt from an image.
    Raises: ValueError where no image was in, or out, of two models.
    """
    found = [_pooled(shadows.double(), chosen) for chosen in (inside, ~inside)]
    (mean_in, std_in), (mean_out, std_out) = found
    return Gaussians(mean_in, mean_out, std_in, std_out)


def _pooled(values: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, float]:
    num = chosen.sum(0)
    mean = (values * chosen).sum(0) / num  # 0 / 0 where there is none
    freedom = int((num - 1).clamp(min=0).sum())
    require(freedom, "LiRA needs an image that was in two shadow models, and one that was out of two: "
            "take more")
    return mean, float(((values - mean).nan_to_num().square() * chosen).sum() / freedom) ** 0.5


def likelihood_ratio(target: torch.Tensor, known: Gaussians) -> torch.Tensor:
    """LiRA online: log N(target; in) - log N(target; out), of each image.

    Args:    target: (N,) confidences of the attacked network.
    Returns: (N,), NaN where no shadow model had the image in, or none had it out.
    Source:  Carlini et al. 2022, algorithm 1, with a fixed variance.
    """
    def log_density(mean: torch.Tensor, std: float) -> torch.Tensor:
        return -0.5 * ((target.double() - mean) / std).square() - math.log(std)
    return log_density(known.mean_in, known.std_in) - log_density(known.mean_out, known.std_out)


def one_sided(target: torch.Tensor, mean_out: torch.Tensor, std_out: float) -> torch.Tensor:
    """LiRA offline, from models that never saw the image: log P(out <= target), NaN where there are none.

    Args: target: (N,) confidences;  mean_out, std_out: of `Gaussians`.
    Source: Carlini et al. 2022, section V.C.
    """
    return torch.special.log_ndtr((target.double() - mean_out) / std_out)


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
