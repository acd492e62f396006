"""Patch shuffle: the tiles of a mosaic change places before the crop.

N images planned, B in a batch, H W pixels; f tiles a side.
"""
import dataclasses
from typing import ClassVar

import torch

from utils.augment import pick
from utils.pieces import option, require
from utils.randaugment import ImageOperations


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchShuffle(ImageOperations):
    """Changes the places of an image's columns of tiles, then of its rows of tiles.

    Two tiles a side have four arrangements, not 24: a tile keeps its neighbours.
    Source: RDED; facts-2026.md 5, baselines.md 8.3.
    """

    dtypes: ClassVar[dict[str, torch.dtype]] = {"tile_columns": torch.int8, "tile_rows": torch.int8}
    shuffle_factor: int = option(2, "tiles a side of an image, as in its mosaic", source="RDED",
                                 range="in [2, 100]")

    def draw(self, num: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """As `ImageOperations.draw`: which tile comes first, second, ..., a permutation (N, f) each way."""
        uniform = torch.rand(2, num, self.shuffle_factor, generator=generator, dtype=torch.float64)
        return dict(zip(self.dtypes, uniform.argsort(2).to(torch.int8), strict=True))

    def apply(self, pixels: torch.Tensor, drawn: dict[str, torch.Tensor], *, fill: list[int]) -> torch.Tensor:
        """As `ImageOperations.apply`."""
        side = pixels.shape[-1] // self.shuffle_factor
        columns, rows = (
            (drawn[name].to(pixels.device, non_blocking=True).long()[:, :, None] * side
             + torch.arange(side, device=pixels.device)).flatten(1) for name in self.dtypes)
        return pick(pixels, rows, columns)

    def check(self, size: int) -> None:
        """As `ImageOperations.check`."""
        require(size % self.shuffle_factor == 0,
                f"--augment patch-shuffle: images of {size} pixels a side do not fall into --shuffle-factor "
                f"{self.shuffle_factor} equal tiles; choose another factor")

    def fits(self, drawn: dict[str, torch.Tensor]) -> bool:
        """As `ImageOperations.fits`."""
        order = torch.arange(self.shuffle_factor)
        return all(tiles.shape[1:] == order.shape and bool((tiles.sort(1).values == order).all())
                   for tiles in drawn.values())
