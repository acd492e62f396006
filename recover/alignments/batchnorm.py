"""BatchNorm alignment: how far the statistics of a batch are from those that a teacher saw in training.

S slices (batches side by side), N images of one slice, C channels, H W pixels.
"""
from typing import Any

import torch
from torch import nn

from recover.alignments.hooked import HookedAlignment
from utils.compiling import compile_every_shape
from utils.pieces import require


class BNAlignment(HookedAlignment):
    """R_BN of one frozen teacher, from the inputs of its BatchNorm layers, slice by slice.

    R_BN(Z) = sum_l w_l (||mu_l(Z) - running_mean_l||_2 + v ||var_l(Z) - running_var_l||_2), mean and biased
    variance over (N, H, W), w_1 = first_multiplier, w_l = 1 after it, v = variance_weight.  A teacher without
    BatchNorm has the empty sum, 0.
    Source: paper eq. 3; SRe2L's first-BN multiplier; DWA's weight of the variance, baselines.md 9.1.
    """

    def __init__(self, model: nn.Module, *, first_multiplier: float, variance_weight: float = 1.0,
                 precision: str = "fp32", compiled: bool = False):
        """Raises: ValueError if a layer keeps no running statistics."""
        layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        require(all(layer.running_mean is not None for layer in layers),
                "a teacher's BatchNorm layer has track_running_stats=False: nothing to align with")
        self.variance_weight = variance_weight
        super().__init__(model, {m: 1.0 if i else first_multiplier for i, m in enumerate(layers)},
                         precision=precision)
        if compiled:  # after the hooks: those that come later would be ignored
            compile_every_shape()
            self._run = torch.compile(self._model, dynamic=False)

    def _distance(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """(S * N, C, H, W) to (aligned,)."""
        var, mean = torch.var_mean(self._own(x), dim=(1, 3, 4), correction=0)
        return torch.linalg.vector_norm(mean - layer.running_mean, dim=1) \
            + self.variance_weight * torch.linalg.vector_norm(var - layer.running_var, dim=1)
