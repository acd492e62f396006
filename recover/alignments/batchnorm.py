"""BatchNorm alignment: how far the statistics of a batch are from those that a teacher saw in training.

The only hooks of the stages live here.
S slices (batches side by side), N images of one slice, C channels, H W pixels.
"""
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.segments import split
from recover.alignments.alignment import Aligned
from utils.compiling import compile_every_shape
from utils.pieces import require
from utils.precision import lowered


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Statistics and losses are taken in float32, or float64 where the network is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class BNAlignment(Aligned):
    """R_BN of one frozen teacher, from the inputs of its BatchNorm layers, slice by slice.

    R_BN(Z) = sum_l w_l (||mu_l(Z) - running_mean_l||_2 + ||var_l(Z) - running_var_l||_2), mean and biased
    variance over (N, H, W), w_1 = first_multiplier, w_l = 1 after it.  A teacher without BatchNorm has the
    empty sum, 0.   Source: paper eq. 3; SRe2L's first-BN multiplier.
    """

    def __init__(self, model: nn.Module, *, first_multiplier: float, precision: str = "fp32",
                 compiled: bool = False):
        """Raises: ValueError if a layer keeps no running statistics."""
        layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        require(all(layer.running_mean is not None for layer in layers),
                "a teacher's BatchNorm layer has track_running_stats=False: nothing to align with")
        self.terms: list[torch.Tensor] = []
        self.aligned, self.per_slice = 0, 0
        self._num_layers = len(layers)
        weights: dict[nn.Module, float] = {m: 1.0 if i else first_multiplier for i, m in enumerate(layers)}
        self._precision = precision
        self._model = self._prepare(model, weights)
        self._run: Callable[[torch.Tensor], torch.Tensor] = self._model
        if compiled:  # after the hooks: those that come later would be ignored
            compile_every_shape()
            self._run = torch.compile(self._model, dynamic=False)

    def _prepare(self, model: nn.Module, multipliers: dict[nn.Module, float]) -> nn.Module:
        """The network to run, its BatchNorm layers hooked.   Args: multipliers: layer -> w_l."""
        for layer, weight in multipliers.items():
            layer.register_forward_pre_hook(self._hook(weight))
        return model

    def __len__(self) -> int:
        """The number of aligned layers."""
        return self._num_layers

    def _hook(self, weight: float) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def measure(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if self.aligned:
                self.terms.append(weight * self._distance(layer, inputs[0]))
        return measure

    def _distance(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """(S * N, C, H, W), the aligned slices first, to (S,): the distance of each slice's statistics."""
        own = at_least_float32(x[:self.aligned * self.per_slice]).unflatten(0, (self.aligned, self.per_slice))
        var, mean = torch.var_mean(own, dim=(1, 3, 4), correction=0)
        return torch.linalg.vector_norm(mean - layer.running_mean, dim=1) \
            + torch.linalg.vector_norm(var - layer.running_var, dim=1)

    def recompute(self, size: int) -> None:
        """As `Aligned`: segments keep their input alone, but for the last, whose backward is next."""
        *segments, last = split(self._model, size=size)

        def run(images: torch.Tensor) -> torch.Tensor:
            x = images
            for segment in segments:
                x, *terms = checkpoint(self._run_segment, segment, x, self.aligned, self.per_slice,
                                       use_reentrant=False, preserve_rng_state=False)
                self.terms += terms
            return last(x)
        self._run = run

    def _run_segment(self, segment: nn.Module, x: torch.Tensor, aligned: int,
                     per_slice: int) -> tuple[torch.Tensor, ...]:
        """What a segment returns, and its layers' terms; in the backward again, beside the tape."""
        tape = self.terms, self.aligned, self.per_slice
        self.terms, self.aligned, self.per_slice = [], aligned, per_slice
        try:
            return segment(x), *self.terms
        finally:  # a recomputation is stopped by an exception as soon as it has what it needs
            self.terms, self.aligned, self.per_slice = tape

    def __call__(self, images: torch.Tensor, targets: torch.Tensor, *, slices: int,
                 aligned: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Aligned`; the targets are not used.

        Raises:  RuntimeError when the hooks did not see every layer once (a layer was replaced or reused).
        """
        self.terms, self.aligned, self.per_slice = [], aligned, len(images) // slices
        with lowered(self._precision, images.device):
            logits = at_least_float32(self._run(images))
        terms, self.terms, self.aligned = self.terms, [], 0
        if aligned and len(terms) != self._num_layers:
            raise RuntimeError(f"stale hooks: {len(terms)} of {self._num_layers} BatchNorm layers "
                               f"were measured")
        return logits, torch.stack(terms).sum(0) if terms else logits.new_zeros(aligned)
