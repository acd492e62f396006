"""Alignment of convolutions and BatchNorm layers with real images' statistics, by channel and by place.

S slices, N images of one slice, V entries of a vector of statistics, K classes.
"""
import dataclasses
from typing import Any

import torch
from torch import nn

from models.registry import has_batchnorm
from models.statistics import Measured, Measurement, Vectors, layers_of, real_statistics, statistics_of
from recover.alignments.alignment import Aligned, Alignment, warn_of_silent
from recover.alignments.hooked import HookedAlignment
from recover.units import Inputs
from utils.pieces import option, require
from utils.runtime import generator
from utils.views import NoMix, Views

KINDS = ("conv", "batchnorm")


class ConvolutionAlignment(HookedAlignment):
    """Distances of moving averages of a batch's statistics from those of real images, summed over layers.

    Of the input of a convolution: mean and variance by channel and by place; of a BatchNorm layer: by
    channel, from its running statistics.  Each is ||d~ - real||_2 with d <- ema d + (1 - ema) s, d = 0 at a
    unit's beginning (as run), and d~ = d + s - stopgrad(s), whose gradient is that of the batch's own s.
    With class_share c a layer's distance is (1 - c) of that and c of the distance from what the batch's
    classes have: means of single images' statistics.  A convolution is dropped with probability drop_rate:
    its distance is then 0 and its averages stay.  first_multiplier weighs the first layer by name, as
    written: conv1, whose input is the view itself.
    Source: G-VBSM, EDC; baselines.md 5.1, 6.1, facts-2026.md 8.1, 8.3.  The published code swaps the classes'
    means and variances by place when it reads them from a file: not done here.  It carries averages from
    unit to unit: ours are independent, each begins at 0.
    """

    def __init__(self, model: nn.Module, measured: Measured, *, name: str = "", first_multiplier: float,
                 ema: float, drop_rate: float, patch: int, class_share: float, precision: str = "fp32"):
        """Args: measured: of `layers_of` KINDS;  name: of the network, with which its drops are seeded."""
        self._names = {layer: own for own, layer in layers_of(model, KINDS).items() if own in measured.layers}
        self._measured, self._name, self._ema, self._drop_rate = measured, name, ema, drop_rate
        self._patch, self._class_share = patch, class_share
        self._averages: Vectors = {}
        self._drops: torch.Generator | None = None
        multipliers = {layer: 1.0 if i else first_multiplier for i, layer in enumerate(self._names)}
        super().__init__(model, multipliers, precision=precision)

    def __call__(self, images: torch.Tensor, targets: torch.Tensor, *, slices: int,
                 aligned: int) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Aligned`.   Raises: as `HookedAlignment`; ValueError for several slices with averages."""
        require(slices == 1 or not self._ema, "moving averages are one unit's: --ema above 0 needs "
                "--slices-per-batch 1")
        self._targets = targets
        return super().__call__(images, targets, slices=slices, aligned=aligned)

    def _distance(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        """(S * N, C, H, W) to (aligned,)."""
        name = self._names[layer]
        own = self._own(x)
        if isinstance(layer, nn.Conv2d) and self._is_dropped():
            return own.flatten(1)[:, :0].sum(1)  # zeros, with a graph: every layer may be dropped
        parts = []
        for key, batch in statistics_of(layer, own, patch=self._patch).items():
            moved = self._move(f"{name} {key}", batch)
            parts.append((1 - self._class_share) * torch.linalg.vector_norm(
                moved - self._real(layer, name, key), dim=1))
            if self._class_share:
                of_batch = self._measured.classes[name][key][self._targets].mean(0)
                parts.append(self._class_share * torch.linalg.vector_norm(moved - of_batch, dim=1))
        return torch.stack(parts).sum(0)

    def _real(self, layer: Any, name: str, key: str) -> torch.Tensor:
        """What a vector is aligned with, (V,)."""
        running = isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None
        return getattr(layer, f"running_{key}") if running else self._measured.layers[name][key]

    def _move(self, key: str, batch: torch.Tensor) -> torch.Tensor:
        """d~ of a vector (aligned, V): moves its average first, as run."""
        if not self._ema:
            return batch
        before = self._averages.get(key, torch.zeros_like(batch)).to(batch.device)
        self._averages[key] = self._ema * before + (1 - self._ema) * batch.detach()
        return self._averages[key] + batch - batch.detach()

    def _is_dropped(self) -> bool:
        if not self._drop_rate:
            return False
        if self._drops is None:  # a unit's beginning: torch's own generators are seeded with (seed, unit)
            self._drops = generator(torch.initial_seed(), "drops", self._name)
        return float(torch.rand((), generator=self._drops)) < self._drop_rate

    def state(self) -> dict[str, Any]:
        """The averages by layer and statistic, and the generator of the drops."""
        return {"averages": dict(self._averages),
                "drops": self._drops.get_state() if self._drops is not None else None}

    def load(self, state: dict[str, Any]) -> None:
        """As `Aligned.load`."""
        self._averages, self._drops = dict(state["averages"]), None
        if state["drops"] is not None:
            self._drops = torch.Generator()
            self._drops.set_state(state["drops"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Alignment):
    """Statistics of the inputs of convolutions, by channel and by place, and of BatchNorm layers.

    The real ones come from one pass over the training images (cropped and flipped as --crop and --flip say),
    the mean of batches' statistics.
    Source: G-VBSM, EDC; baselines.md 5.1, 6.1, facts-2026.md 8.1, 8.3.
    """

    first_bn_multiplier: float = option(10.0, "weight of a teacher's first aligned layer (bn: its first "
                                       "BatchNorm layer; bn-conv: its first convolution)", source="SRe2L",
                                       range=">= 0")
    ema: float = option(0.4, "share of the past in the moving averages of a batch's statistics",
                        source="G-VBSM; EDC: 0.8", range="in [0, 1)")
    drop_rate: float = option(0.0, "probability that a convolution is left out of a step",
                              source="G-VBSM; 0.4 on small images", range="in [0, 1)")
    patch: int = option(16, "side of a place [pixels of a layer's input]", source="G-VBSM; 4 on small images",
                        range="in [1, 8192]")
    class_share: float = option(0.0, "share of the distance from the classes' own statistics",
                                source="G-VBSM; EDC: 0.5", range="in [0, 1]")
    real_area: float = option(0.08, "least area fraction of the real images' crops, where --crop is resized",
                              source="G-VBSM, EDC", range="in (0, 1]")
    real_batch: int = option(256, "real images in each batch whose statistics are averaged",
                             source="G-VBSM; 64 on small images", range="in [1, 100000]")

    def check(self, *, slices: int, sizes: tuple[int, ...]) -> None:
        """As `Alignment.check`."""
        require(slices == 1 or not self.ema, f"--slices-per-batch {slices}: the averages of --ema are one "
                f"unit's; expected 1, or --ema 0")
        require(len(set(sizes)) == 1, f"--alignment bn-conv compares places: expected views of one size, "
                f"--block-sizes gives {' '.join(map(str, sizes))}")

    def can_align(self, network: nn.Module) -> bool:
        """As `Alignment.can_align`."""
        return has_batchnorm(network) or any(isinstance(m, nn.Conv2d) for m in network.modules())

    def looks(self, num: int) -> int:
        """As `Alignment.looks`."""
        return num

    def prepare(self, inputs: Inputs, names: tuple[str, ...]) -> dict[str, Aligned]:
        """As `Alignment.prepare`; measures what was not measured before."""
        what = Measurement(
            kinds=KINDS, patch=self.patch, by_class=self.class_share > 0, mean=inputs.mean, std=inputs.std,
            precision=inputs.precision,
            views=Views(size=inputs.size, batch_size=self.real_batch, min_scale=self.real_area,
                        flip=inputs.flip, crop=inputs.crop, mix_type=NoMix()))
        networks = {name: inputs.networks[name] for name in names}
        measured = real_statistics(networks, inputs.real, what, weights=inputs.weights, device=inputs.device)
        made: dict[str, Aligned] = {name: ConvolutionAlignment(
            networks[name], measured[name], name=name, first_multiplier=self.first_bn_multiplier,
            ema=self.ema, drop_rate=self.drop_rate, patch=self.patch, class_share=self.class_share,
            precision=inputs.precision) for name in names}
        warn_of_silent(made, "no convolution and no BatchNorm")
        return made
