"""Alignment of any network: its chosen layers' inputs with statistics measured once on real images."""
import dataclasses
from typing import Any

import torch
from torch import nn

from models.statistics import Measured, Measurement, layers_of, real_statistics, statistics_of
from recover.alignments.alignment import Aligned, Alignment, warn_of_silent
from recover.alignments.hooked import HookedAlignment
from recover.units import Inputs
from utils.pieces import option, require
from utils.views import NoMix, Views

CHOICES = ("auto", "norm", "conv", "linear")


def chosen_kinds(network: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of layers that are aligned: of `auto` norms, in a network without any all others."""
    if layers != ("auto",):
        return layers
    return ("norm",) if layers_of(network, ("norm",)) else ("conv", "linear")


class MeasuredAlignment(HookedAlignment):
    """sum_l ||mu_l - mu*_l||_2 / s_l + ||var_l - var*_l||_2 / s_l^2, channel by channel, * of real images.

    s_l^2 is the mean of var*_l over the channels: eq. 3 of inputs that are brought to unit variance first, so
    that a network counts the same whatever the scale of its activations (a Transformer's reach thousands, and
    would leave no gradient to the others).
    Source: ours, for the paper's second limitation: networks without BatchNorm have nothing to align.
    """

    def __init__(self, model: nn.Module, measured: Measured, *, precision: str = "fp32"):
        """Args: measured: the layers that are aligned."""
        self._real = {model.get_submodule(name): vectors for name, vectors in measured.layers.items()}
        self._variance = {layer: own["var"].mean().clamp(min=torch.finfo(torch.float32).tiny)
                          for layer, own in self._real.items()}
        super().__init__(model, dict.fromkeys(self._real, 1.0), precision=precision)

    def _distance(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """(S * N, C, H, W), or (S * N, ..., C), to (aligned,)."""
        own, real, variance = statistics_of(layer, self._own(x)), self._real[layer], self._variance[layer]
        return torch.linalg.vector_norm(own["mean"] - real["mean"], dim=1) / variance.sqrt() \
            + torch.linalg.vector_norm(own["var"] - real["var"], dim=1) / variance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics(Alignment):
    """Mean and variance of chosen layers' inputs, measured once on real images: of any network.

    AlexNet then contributes, and ConvNeXt, ViT and Swin are teachers like others.   Source: ours, for the
    paper's second limitation.
    """

    layers: tuple[str, ...] = option(
        ("auto",), "whose inputs are aligned: norm (BatchNorm, LayerNorm, GroupNorm), conv, linear; auto: "
        "norm, and of a network without any conv and linear", commas=True)
    real_images: int = option(10000, "real images, spread over the classes, that statistics are measured on; "
                              "0: all", range="in [0, 100000000]")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.layers and set(self.layers) <= set(CHOICES) and len(set(self.layers)) == len(self.layers)
                and (self.layers == ("auto",) or "auto" not in self.layers),
                f"--layers {' '.join(self.layers)}: expected auto, or of norm, conv, linear, each once")

    @property
    def saves_memory(self) -> tuple[str, ...]:
        """Not "offload": `prepare` may run networks."""
        return ("recompute",)

    def can_align(self, network: nn.Module) -> bool:
        """As `Alignment.can_align`."""
        return bool(layers_of(network, chosen_kinds(network, self.layers)))

    def looks(self, num: int) -> int:
        """As `Alignment.looks`."""
        return min(self.real_images or num, num)

    def prepare(self, inputs: Inputs, names: tuple[str, ...]) -> dict[str, Aligned]:
        """As `Alignment.prepare`; measures what was not measured before, as images are tested: uncropped."""
        measured: dict[str, Measured] = {}
        by_kinds: dict[tuple[str, ...], dict[str, nn.Module]] = {}
        for name in names:
            kinds = chosen_kinds(inputs.networks[name], self.layers)
            by_kinds.setdefault(kinds, {})[name] = inputs.networks[name]
        views = Views(size=inputs.size, batch_size=256, min_scale=1.0, flip=False, mix_type=NoMix())
        for kinds, networks in by_kinds.items():
            what = Measurement(kinds=kinds, mean=inputs.mean, std=inputs.std, images=self.real_images,
                               precision=inputs.precision, views=views)
            measured |= real_statistics(networks, inputs.real, what, weights=inputs.weights,
                                        device=inputs.device)
        made: dict[str, Aligned] = {name: MeasuredAlignment(
            inputs.networks[name], measured[name], precision=inputs.precision) for name in names}
        warn_of_silent(made, f"no layer of --layers {' '.join(self.layers)}")
        return made
