"""Real training images, and noise."""
import dataclasses
from collections.abc import Callable, Iterable

import torch

from recover.starts.start import Start
from recover.units import Inputs, Unit
from utils.augment import normalize
from utils.data import RealSet
from utils.runtime import generator


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealImage(Start):
    """Each class's i-th real training image, in file order.   Source: paper 4.1; published recipe."""

    def positions(self, real: RealSet, unit: Unit, seed: int) -> list[int]:
        """As `Start.positions`."""
        return [real.by_class[k][i] for i, k in unit.members]

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        return lambda unit: load(inputs, self.positions(inputs.real, unit, inputs.seed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomImage(RealImage):
    """A random real training image of each class, none twice: a shuffle by (seed, class).   Source: ours."""

    def positions(self, real: RealSet, unit: Unit, seed: int) -> list[int]:
        """As `Start.positions`."""
        def position(i: int, k: int) -> int:
            own = real.by_class[k]
            return own[int(torch.randperm(len(own), generator=generator(seed, "real image", k))[i])]
        return [position(i, k) for i, k in unit.members]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noise(Start):
    """Standard normal pixels in normalised space, from (seed, index, class).   Source: SRe2L."""

    def available(self, real: RealSet, k: int) -> float:
        """As `Start.available`: no end."""
        return float("inf")

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        return lambda unit: torch.stack([
            torch.randn(3, inputs.size, inputs.size, generator=generator(inputs.seed, "noise", i, k))
            for i, k in unit.members])


def load(inputs: Inputs, positions: Iterable[int]) -> torch.Tensor:
    """The images at these positions of the real set, (N, 3, H, W) normalised."""
    return normalize(torch.stack([inputs.real[i][0] for i in positions]), inputs.mean, inputs.std)
