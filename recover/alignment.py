"""BatchNorm alignment: how far the statistics of a batch are from those that a teacher saw in training.

ALIGNMENTS: name -> class.  The only hooks in this repository live here.
S slices (batches side by side), N images of one slice, C channels, H W pixels.
"""
import torch
from torch import nn


class BNAlignment:
    """R_BN of one frozen teacher, from the inputs of its BatchNorm layers, slice by slice.

    R_BN(Z) = sum_l w_l (||mu_l(Z) - running_mean_l||_2 + ||var_l(Z) - running_var_l||_2), mean and biased
    variance over (N, H, W), w_1 = first_multiplier, w_l = 1 after it.  A teacher without BatchNorm has the
    empty sum, 0.   Source: paper eq. 3; SRe2L's first-BN multiplier.
    """

    def __init__(self, model: nn.Module, *, first_multiplier: float):
        """Args: model: in eval mode, frozen.   Raises: ValueError if a layer keeps no running statistics."""
        self._model, self._first = model, first_multiplier
        self._layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        if any(layer.running_mean is None for layer in self._layers):
            raise ValueError("a teacher's BatchNorm layer has track_running_stats=False: "
                             "nothing to align with")
        self._terms, self._aligned = [], 0
        for i, layer in enumerate(self._layers):
            layer.register_forward_pre_hook(self._hook(first_multiplier if i == 0 else 1.0))

    def __len__(self) -> int:
        """The number of aligned layers."""
        return len(self._layers)

    def _hook(self, weight: float):
        def measure(layer, inputs):
            if self._aligned:
                self._terms.append(weight * self._distance(layer, inputs[0]))
        return measure

    def _distance(self, layer: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
        """(S * N, C, H, W), the aligned slices first, to (S,): the distance of each slice's statistics."""
        aligned = x[:self._aligned * self._per_slice].float().unflatten(0, (self._aligned, self._per_slice))
        var, mean = torch.var_mean(aligned, dim=(1, 3, 4), correction=0)
        return torch.linalg.vector_norm(mean - layer.running_mean, dim=1) \
            + torch.linalg.vector_norm(var - layer.running_var, dim=1)

    def __call__(self, images: torch.Tensor, *, slices: int,
                 aligned: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs the teacher once, for its logits and its alignment.

        Args:    images: (S * N, C, H, W), slice after slice;  slices: S;  aligned: the first so many slices
                 are aligned, the others want logits only.
        Returns: logits (S * N, K);  R_BN (aligned,) >= 0, differentiable in the images.
        Raises:  RuntimeError when the hooks did not see every layer once (a layer was replaced or reused).
        """
        self._terms, self._aligned, self._per_slice = [], aligned, len(images) // slices
        logits = self._model(images).float()
        terms, self._terms, self._aligned = self._terms, [], 0
        if aligned and len(terms) != len(self._layers):
            raise RuntimeError(f"stale hooks: {len(terms)} of {len(self._layers)} BatchNorm layers "
                               f"were measured")
        return logits, torch.stack(terms).sum(0) if terms else logits.new_zeros(aligned)


ALIGNMENTS = {"bn": BNAlignment}
