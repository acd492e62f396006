"""Student losses.  LOSSES: name -> piece, called as loss(logits, soft_labels, targets) -> () scalar.

B images of a micro-batch, K classes.  `targets` is the class of the un-mixed image.
"""
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F

from utils.pieces import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class CE(Options):
    """Cross-entropy with the hard class alone.   Source: recovery-only protocol, paper table 2."""

    soft: ClassVar[bool] = False

    def __call__(self, logits: torch.Tensor, soft_labels: torch.Tensor | None,
                 targets: torch.Tensor) -> torch.Tensor:
        """The loss, () scalar.

        Args: logits: (B, K);  soft_labels: (B, K), None for losses that are not `soft`;  targets: (B,).
        """
        return F.cross_entropy(logits, targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MSE(CE):
    """Mean squared error on logits plus the ground-truth term.   Source: paper table 3a, GT = 0.1."""

    soft: ClassVar[bool] = True
    error: ClassVar[Callable[..., torch.Tensor]] = staticmethod(F.mse_loss)  # mean over B * K
    ce_weight: float = option(0.1, "weight of the ground-truth term", source="paper table 3a", range=">= 0")

    def __call__(self, logits, soft_labels, targets):
        return self.error(logits, soft_labels) + self.ce_weight * F.cross_entropy(logits, targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAE(MSE):
    """`mse_gt` with the mean absolute error on logits.   Source: paper table 3a."""

    error: ClassVar[Callable[..., torch.Tensor]] = staticmethod(F.l1_loss)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KL(CE):
    """Batch-mean KL(softmax(label / T) || softmax(logits / T)), without the T^2 factor unless asked.

    Source: SRe2L on ImageNet-1K, RDED, DELT, FADRM (none of them with T^2); baselines.md 1.5.
    """

    soft: ClassVar[bool] = True
    temperature: float = option(20.0, "temperature T", source="SRe2L", flag="-T", range="> 0")
    t_squared: bool = option(False, "multiply the divergence by T^2", neutral=False,
                             source="SRe2L and DWA on Tiny-ImageNet, BPS")

    def __call__(self, logits, soft_labels, targets):
        """As `CE`; the ground truth is not used."""
        divergence = F.kl_div(F.log_softmax(logits / self.temperature, 1),
                              F.log_softmax(soft_labels / self.temperature, 1), reduction="batchmean",
                              log_target=True)
        return divergence * self.temperature**2 if self.t_squared else divergence


@dataclasses.dataclass(frozen=True, kw_only=True)
class KLGT(KL):
    """`kl` plus ce_weight times the cross-entropy.   Source: ours, the pair of mse_gt."""

    ce_weight: float = option(0.1, "weight of the ground-truth term", source="paper table 3a", range=">= 0")

    def __call__(self, logits, soft_labels, targets):
        truth = F.cross_entropy(logits, targets)
        return super().__call__(logits, soft_labels, targets) + self.ce_weight * truth


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassShares(CE):
    """Cross-entropy at T = 1 with labels that are shares of classes; of a training, not to be chosen.

    Source: HALD's hard phase; facts-2026.md 4.
    """

    soft: ClassVar[bool] = True

    def __call__(self, logits, soft_labels, targets):
        """As `CE`; the labels are probabilities, the class of the un-mixed image is not used."""
        return F.cross_entropy(logits, soft_labels)


LOSSES: dict[str, type[CE]] = {"mse_gt": MSE, "mae_gt": MAE, "kl": KL, "kl_gt": KLGT, "ce": CE}
