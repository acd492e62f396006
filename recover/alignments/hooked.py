"""A network whose layers are hooked: each measures, on its input, how far a slice is from what is wanted.

The stages' only hooks but those that measure real images (models/statistics.py).
S slices (batches side by side), N images of one slice, C channels, H W pixels.
"""
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.segments import split
from recover.alignments.alignment import Aligned
from utils.precision import at_least_float32, lowered

Network = Callable[[torch.Tensor], torch.Tensor]


class HookedAlignment(Aligned):
    """The sum over layers of w_l times the distance of the layer's input, slice by slice."""

    def __init__(self, model: nn.Module, multipliers: dict[nn.Module, float], *, precision: str = "fp32"):
        """Args: multipliers: layer -> w_l, every layer that is aligned;  precision: of PRECISIONS."""
        self.terms: list[torch.Tensor] = []
        self.aligned, self.per_slice = 0, 0
        self._num_layers, self._precision = len(multipliers), precision
        self._model = self._prepare(model, dict(multipliers))
        self._run: Network = self._model

    def _prepare(self, model: nn.Module, multipliers: dict[nn.Module, float]) -> nn.Module:
        """The network to run, its layers hooked.   Args: multipliers: layer -> w_l."""
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

    def _own(self, x: torch.Tensor) -> torch.Tensor:
        """(S * N, ...), the aligned slices first, as (aligned, N, ...) in which statistics are taken."""
        own = at_least_float32(x[:self.aligned * self.per_slice])
        return own.unflatten(0, (self.aligned, self.per_slice))

    def _distance(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """The input (S * N, ...) of a layer to (aligned,): the distance of each slice."""
        raise NotImplementedError

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
        """As `Aligned`.

        Raises:  RuntimeError when the hooks did not see every layer once (a layer was replaced or reused).
        """
        self.terms, self.aligned, self.per_slice = [], aligned, len(images) // slices
        with lowered(self._precision, images.device):
            logits = at_least_float32(self._run(images))
        terms, self.terms, self.aligned = self.terms, [], 0
        if aligned and len(terms) != self._num_layers:
            raise RuntimeError(f"stale hooks: {len(terms)} of {self._num_layers} layers were measured")
        return logits, torch.stack(terms).sum(0) if terms else logits.new_zeros(aligned)
