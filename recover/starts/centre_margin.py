"""A control: typical images of a class and uncertain ones, after BPS.   n images, F features, P patterns."""
import dataclasses
import itertools
import math

import torch

from recover.starts.coreset import Coreset
from utils.pieces import option
from utils.runtime import generator

ROUNDS = 100  # of Lloyd's, at most


def find_patterns(features: torch.Tensor, num: int, draw: torch.Generator) -> torch.Tensor:
    """k-means from k-means++'s centres: (n, F) to the pattern of each, (n,).   Source: ours, for Infomap."""
    centres = features[torch.randint(len(features), (1,), generator=draw)]
    while len(centres) < min(num, len(features)):
        weight = torch.cdist(features, centres).min(1).values.square()
        if not weight.sum() > 0:  # no more different images
            break
        centres = torch.cat([centres, features[torch.multinomial(weight, 1, generator=draw)]])
    nearest = torch.cdist(features, centres).argmin(1)
    for _ in range(ROUNDS):
        centres = torch.stack([features[nearest == m].mean(0) if (nearest == m).any() else centre
                               for m, centre in enumerate(centres)])
        before, nearest = nearest, torch.cdist(features, centres).argmin(1)
        if torch.equal(before, nearest):
            break
    return nearest


def share_out(num: int, sizes: list[int]) -> list[int]:
    """How many of `num` images each pattern gives: its share, rounded half to even.

    What is missing or too much goes one by one over the patterns, the largest first, none below 0.
    Source: BPS; facts-2026.md 3.2.
    """
    budgets = [round(num * size / sum(sizes)) for size in sizes]
    largest_first = sorted(range(len(sizes)), key=lambda m: -sizes[m])
    for m in itertools.cycle(largest_first):
        missing = num - sum(budgets)
        if missing == 0:
            break
        budgets[m] = max(0, budgets[m] + (1 if missing > 0 else -1))
    return budgets


def entropies(logits: torch.Tensor) -> torch.Tensor:
    """Of the softmax of logits (n, K) [nats]: (n,)."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CentreMargin(Coreset):
    """From each pattern of a class its most typical images, and its most uncertain ones that are no noise.

    Typical: the greatest cosine to the pattern's mean.  Uncertain: the greatest entropy of the same network,
    where the class's images of greatest entropy of all count as mislabelled.  What a pattern cannot give,
    the next typical images of the class do; a class of no more images than are wanted is taken whole.
    Source: ours, a simplified BPS (facts-2026.md 3.3): k-means for Infomap, a share for the mixture of
    Gaussians, the pool's first network for BPS's encoder.  Its figures are not comparable with BPS's rows.
    """

    whole_set = True
    noise_share: float = option(0.1, "share of a class, of greatest entropy, that no margin takes",
                                source="BPS's p", range="in [0, 1)")
    margin_share: float = option(0.5, "share of a pattern's images that are of the margin", source="BPS",
                                 range="in [0, 1]")
    clusters: int = option(4, "patterns of a class", range="in [1, 10000]")

    def choose(self, features: torch.Tensor, logits: torch.Tensor, num: int, *, seed: object) -> list[int]:
        """As `Coreset.choose`."""
        if num >= len(features):
            return list(range(len(features)))
        nearest = find_patterns(features, self.clusters, generator("patterns", seed))
        patterns = [(nearest == m).nonzero().flatten() for m in range(int(nearest.max()) + 1)]
        typical = torch.zeros(len(features), dtype=torch.float64)
        for own in patterns:
            typical[own] = torch.cosine_similarity(features[own], features[own].mean(0, keepdim=True))
        centre = typical.argsort(descending=True, stable=True).tolist()
        uncertain = entropies(logits).argsort(descending=True, stable=True).tolist()
        margin = uncertain[int(self.noise_share * len(features)):]
        chosen: list[int] = []
        for own, budget in zip(patterns, share_out(num, list(map(len, patterns))), strict=True):
            members, least = set(own.tolist()), math.floor((1 - self.margin_share) * budget + 0.5)
            if budget == 1 or budget >= len(own):
                least = budget
            mine = [n for n in centre if n in members][:least]
            rest = members.difference(mine)
            chosen += mine + [n for n in margin if n in rest][:max(0, budget - least)]
        return chosen + [n for n in centre if n not in chosen][:num - len(chosen)]
