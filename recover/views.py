"""How the crops of recover change over a unit.   CROP_LAWS: name -> piece."""
import dataclasses

import torch

from utils.pieces import Options
from utils.schedule import crop_curriculum


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropLaw(Options):
    """The same least area fraction in every iteration.   Source: published recipe."""

    def __call__(self, iterations: int, smallest: float) -> float | torch.Tensor:
        """The least area fraction of each iteration's crop: one for all, or (iterations,)."""
        return smallest


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineCrops(CropLaw):
    """From 1 down to the smallest along a cosine.   Source: CDA; paper table 3b."""

    def __call__(self, iterations: int, smallest: float) -> torch.Tensor:
        """As `CropLaw`."""
        return torch.tensor([crop_curriculum(t, iterations, smallest) for t in range(iterations)])


CROP_LAWS: dict[str, type[CropLaw]] = {"none": CropLaw, "cosine": CosineCrops}
