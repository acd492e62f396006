"""Starts of medium score: neither what a network is surest of, nor what it takes for something else."""
import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from recover.starts.observed import cross_entropies, mean_logits, photographs
from recover.starts.patches import Patch, Patches
from recover.units import Inputs
from utils.data import RealSet
from utils.pieces import option


def around_the_middle(num: int) -> list[int]:
    """Ranks 0 ... num - 1 from the middle m = ceil(num / 2) on: m, m + 1, m - 1, m + 2, m - 2, ...

    Source: DELT, `data_selection.py` 253-257; baselines.md 7.1.
    """
    middle = -(-num // 2)
    steps = [step for distance in range(1, num + 1) for step in (distance, -distance)]
    return [rank for rank in (middle, *(middle + step for step in steps)) if 0 <= rank < num]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Medium(Patches):
    """A class's photographs, or mosaics of crops, by the true class's probability, from the middle on.

    The probability is the pool's first network's.  With factor 0 it is of every whole photograph of a class
    in its test view: DELT's ranking.  Equal ones keep the files' order.   Source: DELT, baselines.md 7.1,
    facts-2026.md 5; with factor 1 and 2 ours: FADRM and CV-DD publish such starts, not how they are made.
    """

    factor: int = option(0, "crops along a side of an image; 0: whole photographs, where the other "
                         "options have no effect", source="DELT", range="in [0, 16]")

    def candidates_of(self, real: RealSet, k: int, seed: int) -> list[int]:
        return super().candidates_of(real, k, seed) if self.factor else real.by_class[k]

    def looks(self, num: int) -> int:
        return super().looks(num) if self.factor else num

    def available(self, real: RealSet, k: int) -> float:
        return super().available(real, k) if self.factor else len(real.by_class[k])

    def patches(self, inputs: Inputs, networks: Sequence[nn.Module],
                k: int) -> tuple[list[Patch], torch.Tensor]:
        if self.factor:
            return super().patches(inputs, networks, k)
        scores = [cross_entropies(mean_logits(networks, views, inputs.device), k)
                  for views in photographs(inputs, k)]
        return [(i, None) for i in inputs.real.by_class[k]], torch.cat(scores)

    def order(self, scores: torch.Tensor) -> list[int]:
        """As `Patches.order`; the least probability is the greatest cross-entropy."""
        ascending = scores.argsort(stable=True, descending=True).tolist()
        return [ascending[rank] for rank in around_the_middle(len(ascending))]
