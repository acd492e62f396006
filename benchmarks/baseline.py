"""The published way of a recover step, written anew: what the ratios of `recover_step` are measured against.

The primary is loaded and run twice, once for logits and once for its statistics; the TV and L2 terms are
computed though their weights are 0; statistics come from a permuted copy of every BatchNorm input; all graphs
live until one backward; the loss is read on the host at every iteration.
"""
import copy

import torch
import torch.nn.functional as F
from torch import nn


class _CopyingHook:
    def __init__(self, layer: nn.BatchNorm2d):
        self.distance = None
        layer.register_forward_hook(self._measure)

    def _measure(self, layer, inputs, output):
        x = inputs[0]
        rows = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1)
        mean, var = x.mean((0, 2, 3)), rows.var(1, unbiased=False)
        self.distance = torch.norm(layer.running_var - var, 2) + torch.norm(layer.running_mean - mean, 2)


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Sum of the L2 norms of the differences to four neighbours."""
    right, down = images[:, :, :, :-1] - images[:, :, :, 1:], images[:, :, :-1, :] - images[:, :, 1:, :]
    falling = images[:, :, :-1, :-1] - images[:, :, 1:, 1:]
    rising = images[:, :, :-1, 1:] - images[:, :, 1:, :-1]
    return torch.norm(right) + torch.norm(down) + torch.norm(falling) + torch.norm(rising)


class PublishedStep:
    """Forward and backward of one batch, all graphs at once."""

    def __init__(self, models: dict, primary: str, *, r_bn: float, first_multiplier: float):
        """Args: models: name -> frozen network, the aligned teachers;  primary: phi, which is theta_1 too."""
        self._primary = copy.deepcopy(models[primary])
        self._aligned = [copy.deepcopy(model) for model in models.values()]
        self._hooks = [[_CopyingHook(m) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
                       for model in self._aligned]
        self._r_bn, self._first = r_bn, first_multiplier
        self.models = [self._primary, *self._aligned]

    def backward(self, view: torch.Tensor, targets: torch.Tensor) -> float:
        """Accumulates the gradient below `view` (N, C, H, W); returns the loss, read on the host."""
        loss = F.cross_entropy(self._primary(view), targets)
        total = 0.0
        for model, hooks in zip(self._aligned, self._hooks, strict=True):
            model(view)
            distances = [hook.distance for hook in hooks]
            total = total + sum(d * (self._first if i == 0 else 1.0) for i, d in enumerate(distances))
        unused = 0.0 * total_variation(view) + 0.0 * torch.norm(view.reshape(len(view), -1), dim=1).mean()
        loss = loss + self._r_bn * total / len(self._aligned) + unused
        loss.backward()
        return loss.item()
