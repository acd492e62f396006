"""How several teachers' logits become one soft label.  Used by relabel, and by validate's online labels.

ENSEMBLES: name -> piece, called with logits (T, N, K), returning (N, K).
T teachers (the primary first), N images of one batch, C channels, H W pixels, K classes.
"""
import dataclasses
import math
from typing import ClassVar

import torch
from torch import nn

from models.teacher_statistics import Batch, Running
from utils.pieces import Options, option, require
from utils.precision import lowered


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean(Options):
    """The plain mean over teachers.   Source: G-VBSM, EDC."""

    least: ClassVar[int] = 1

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """The combined logits, (T, N, K) to (N, K); some rules scale by statistics of the batch."""
        return logits.mean(0)

    def members(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Which of the pool's networks are asked, the primary first."""
        return names

    def check(self, names: tuple[str, ...], pool: tuple[str, ...]) -> None:
        """Raises: ValueError where these teachers, of --pool, cannot be combined so."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EqualNorm(Mean):
    """Each teacher's (N, K) matrix scaled to the teachers' mean Frobenius norm, then the plain mean.

    Source: published recipe for resnet18 (after G-VBSM); the labels depend on the batch.
    """

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """As `Mean`."""
        norms = torch.linalg.vector_norm(logits, dim=(1, 2), keepdim=True)
        return (logits * (norms.mean() / norms)).mean(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrimaryHalf(Mean):
    """Half the primary, half the mean of the others; then every row scaled to the batch's mean row norm.

    Source: published recipe for resnet50 and resnet101; the labels depend on the batch.
    """

    least: ClassVar[int] = 2

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """As `Mean`; two teachers or more."""
        combined = 0.5 * logits[0] + 0.5 * logits[1:].mean(0)
        norms = torch.linalg.vector_norm(combined, dim=1, keepdim=True)
        return combined * (norms.mean() / norms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Primary(Mean):
    """The first teacher alone.   Source: SRe2L; paper table 3a, first row."""

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """As `Mean`."""
        return logits[0]

    def members(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The primary."""
        return names[:1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighted(Mean):
    """The sum of raw logits under weights softmax(priors / T): who taught students better counts for more.

    Source: CV-DD, which took accuracies of students of one-teacher sets as priors (facts-2026.md 2.2, 2.3).
    """

    label_priors: tuple[float, ...] = option((), "accuracy of every teacher, in --pool's order [percent]",
                                             source="CV-DD", range="in [0, 100]")
    label_temperature: float = option(10.0, "of the softmax over priors [percent]; large: the plain mean",
                                      source="CV-DD", range="> 0")

    @property
    def weights(self) -> list[float]:
        """Of every teacher, their sum is 1."""
        shares = [math.exp((prior - max(self.label_priors)) / self.label_temperature)
                  for prior in self.label_priors]
        return [share / sum(shares) for share in shares]

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """As `Mean`; as many teachers as priors."""
        return torch.stack([weight * own for weight, own in zip(self.weights, logits, strict=True)]).sum(0)

    def check(self, names: tuple[str, ...], pool: tuple[str, ...]) -> None:
        """As `Mean.check`."""
        require(len(self.label_priors) == len(names),
                f"--label-priors: got {len(self.label_priors)}, expected {len(names)}, one of each teacher: "
                f"{' '.join(names)} (--pool, --candidate-number)")
        require(names == pool[:len(names)],
                f"--label-priors are in the order of --pool {' '.join(pool)}, but --arch-name {names[0]} is "
                f"not its first; put it first, and its prior")


ENSEMBLES: dict[str, type[Mean]] = {"equal-norm": EqualNorm, "primary-half": PrimaryHalf, "mean": Mean,
                                    "primary": Primary, "weighted": Weighted}


@torch.no_grad()
def ensemble_logits(views: torch.Tensor, teachers: list[nn.Module], *, ensemble: Mean, precision: str,
                    statistics: Running, batch: Batch) -> torch.Tensor:
    """The combined logits of one batch of views.

    Args:    views: (N, C, H, W) float, normalised and mixed;  teachers: T networks in eval mode, the primary
             first;  precision: of PRECISIONS;  statistics: how teachers normalise;
             batch: what is random in the teachers comes from it.
    Returns: (N, K) float32.
    """
    with lowered(precision, views.device):
        logits = statistics.ask(teachers, views, batch)
    return ensemble(torch.stack([own.float() for own in logits]))
