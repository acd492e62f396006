"""Student optimisers.   OPTIMIZERS: name -> piece, called as optimizer(student)."""
import dataclasses

import torch
from torch import nn

from utils.pieces import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Options):
    """AdamW.   Source: supplement table 1a."""

    adamw_lr: float = option(1e-3, "base learning rate", source="supplement table 1a", flag="--lr", range="> 0")
    adamw_weight_decay: float = option(0.01, "weight decay, on weight matrices only",
                                       source="supplement table 1a", flag="--weight-decay")

    def __call__(self, student: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a student's parameters."""
        return torch.optim.AdamW(parameter_groups(student, self.adamw_weight_decay), lr=self.adamw_lr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(AdamW):
    """SGD with momentum.   Source: recovery-only protocol, prism.md 3."""

    momentum: float = option(0.9, "momentum of sgd", source="recovery-only protocol, prism.md 3")

    def __call__(self, student: nn.Module) -> torch.optim.Optimizer:
        """As `AdamW`."""
        return torch.optim.SGD(parameter_groups(student, self.adamw_weight_decay), lr=self.adamw_lr,
                               momentum=self.momentum)


OPTIMIZERS: dict[str, type[AdamW]] = {"adamw": AdamW, "sgd": SGD}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on weight matrices only, not on biases or norm parameters.   Source: published recipe."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
