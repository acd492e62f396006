"""Noise."""
import dataclasses
from collections.abc import Callable

import torch

from recover.starts.start import Start
from recover.units import Inputs, Unit
from utils.data import RealSet
from utils.runtime import generator


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(Start):
    """Standard normal pixels in normalised space, from (seed, index, class).   Source: SRe2L."""

    def available(self, real: RealSet, k: int) -> float:
        """As `Start.available`: no end."""
        return float("inf")

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        """As `Start.prepare`."""
        return lambda unit: torch.stack([
            torch.randn(3, inputs.size, inputs.size, generator=generator(inputs.seed, "noise", i, k))
            for i, k in unit.members])
