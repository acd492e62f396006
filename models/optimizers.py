"""Optimisers of networks that train, as pieces called with the network.

OPTIMIZERS: of students, weight decay on weight matrices alone unless asked;  SQUEEZERS: of teachers, on all
parameters.
"""
import dataclasses

import torch
from torch import nn

from utils.pieces import Options, option

SQUEEZE = "SRe2L squeeze on CIFAR-100"


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay on weight matrices only, not on biases or norm parameters.   Source: published recipe.

    Nor on tokens, positions, scales and bias tables (ViT, ConvNeXt, Swin), which have two dimensions or more
    but do not go by the name of a weight.
    """
    def is_matrix(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and name.endswith("weight")
    matrices = [p for name, p in model.named_parameters() if is_matrix(name, p)]
    others = [p for name, p in model.named_parameters() if not is_matrix(name, p)]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentAdamW(Options):
    """AdamW.   Source: supplement table 1a."""

    adamw_lr: float = option(1e-3, "base learning rate", source="supplement table 1a", flag="--lr",
                             range="> 0")
    adamw_weight_decay: float = option(0.01, "weight decay, on weight matrices only",
                                       source="supplement table 1a", flag="--weight-decay", range=">= 0")
    decay_all: bool = option(False, "weight decay on every parameter, biases and norms too",
                             source="SRe2L and DWA on CIFAR, BPS", neutral=False)

    def groups(self, model: nn.Module) -> list[dict[str, object]]:
        """A network's parameters, grouped by their weight decay."""
        if self.decay_all:
            return [{"params": list(model.parameters()), "weight_decay": self.adamw_weight_decay}]
        return parameter_groups(model, self.adamw_weight_decay)

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.groups(model), lr=self.adamw_lr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentSGD(StudentAdamW):
    """SGD with momentum.   Source: recovery-only protocol, prism.md 3."""

    momentum: float = option(0.9, "momentum of sgd", source="recovery-only protocol, prism.md 3",
                             range="in [0, 1)")

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.groups(model), lr=self.adamw_lr, momentum=self.momentum)


OPTIMIZERS: dict[str, type[StudentAdamW]] = {"adamw": StudentAdamW, "sgd": StudentSGD}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherAdamW(Options):
    """AdamW.   Source: ours, for narrow networks."""

    lr: float = option(0.1, "base learning rate, cosine to 0", source=SQUEEZE, range="> 0")
    weight_decay: float = option(5e-4, "weight decay", source=SQUEEZE, range=">= 0")

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.weight_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherSGD(TeacherAdamW):
    """SGD with momentum.   Source: SRe2L squeeze on CIFAR-100."""

    momentum: float = option(0.9, "momentum of sgd", source=SQUEEZE, range="in [0, 1)")

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum,
                               weight_decay=self.weight_decay)


SQUEEZERS: dict[str, type[TeacherAdamW]] = {"sgd": TeacherSGD, "adamw": TeacherAdamW}
