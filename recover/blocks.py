"""How a unit's iterations are cut: resolutions, and what happens between them.   BLOCKS: name -> piece.

A block has an optimiser of its own, whose moments start at zero; learning rates run on over all blocks.
N images, C channels, H W pixels.
"""
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from utils.pieces import Options, option, require


class Cut(NamedTuple):
    """One block.   before(images, start): what it starts from, of `size` pixels; none: the images."""

    iterations: int
    size: int
    before: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneBlock(Options):
    """All iterations at one resolution, under one optimiser.   Source: SRe2L; supplement table 1b."""

    def check(self, size: int, iterations: int) -> None:
        """Raises: ValueError where images of `size` pixels, or so few iterations, do not go with it."""

    def cut(self, iterations: int, size: int) -> list[Cut]:
        """The blocks of a unit."""
        return [Cut(iterations, size)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Residual(OneBlock):
    """Blocks at a resolution each; between two the images are blended with their start.   Source: FADRM.

    x <- keep * resize(x) + (1 - keep) * resize(start), both bilinear without antialiasing, the start always
    from its full size; none after the last block.   facts-2026.md 1.1.
    """

    num_blocks: int = option(4, "blocks of equally many iterations", source="FADRM", range="in [1, 1000]")
    block_sizes: tuple[int, ...] = option((), "side of the images in each block, in turn [pixels]; none: the "
                                          "run's", source="FADRM: 200 224", range="in [1, 8192]")
    keep: float = option(0.5, "share of the optimised image in a blend, the start has the rest",
                         source="FADRM", range="in [0, 1]")

    def check(self, size: int, iterations: int) -> None:
        """As `OneBlock.check`."""
        require(not iterations or iterations >= self.num_blocks,
                f"--num-blocks {self.num_blocks} needs as many iterations or more, got {iterations}")
        last = self.size_of(self.num_blocks - 1, size)
        require(last == size, f"--block-sizes {' '.join(map(str, self.block_sizes))}: the last of "
                f"--num-blocks {self.num_blocks} has {last} pixels, the images have --size {size}")

    def size_of(self, number: int, size: int) -> int:
        """The side of a block's images."""
        return self.block_sizes[number % len(self.block_sizes)] if self.block_sizes else size

    def cut(self, iterations: int, size: int) -> list[Cut]:
        """As `OneBlock.cut`; what does not divide goes to the first blocks."""
        lengths = [iterations // self.num_blocks + (number < iterations % self.num_blocks)
                   for number in range(self.num_blocks)]
        sizes = [self.size_of(number, size) for number in range(self.num_blocks)]
        return [Cut(length, own, self._blend(own, self.keep if number else 0.0))
                for number, (length, own) in enumerate(zip(lengths, sizes, strict=True))]

    @staticmethod
    def _blend(size: int, keep: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        def before(images: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
            anchor = resize(start, size)
            return keep * resize(images, size) + (1 - keep) * anchor if keep else anchor
        return before


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """(N, C, H, H) to (N, C, size, size), bilinear without antialiasing; as they are where sizes agree."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


BLOCKS: dict[str, type[OneBlock]] = {"one": OneBlock, "residual": Residual}
