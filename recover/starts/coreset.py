"""Controls: original images of a class that its features choose.   n images, F features.

Features are penultimate, of the pool's first network in its test view, and of length 1; sums are float64, of
equals the first in file order is taken.   Source: facts-2026.md 6, our reading.
"""
import dataclasses
import functools
from collections.abc import Callable

import torch

from recover.selection import Pool
from recover.starts.observed import Features
from recover.starts.real import load
from recover.starts.start import Start
from recover.units import Inputs, Unit
from utils.data import RealSet
from utils.runtime import progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coreset(Start):
    """Base of the controls that select real images by their features."""

    def networks(self, pool: Pool) -> tuple[str, ...]:
        return pool.names[:1]

    def looks(self, num: int) -> int:
        return num

    def positions(self, real: RealSet, unit: Unit, seed: int) -> list[int]:
        """As `Start.positions`: all images of its classes."""
        return [i for k in dict.fromkeys(unit.classes) for i in real.by_class[k]]

    def choose(self, features: torch.Tensor, logits: torch.Tensor, num: int, *, seed: object) -> list[int]:
        """The places of `num` <= n images of one class, in their order.

        Args: features: (n, F) float64, rows of length 1;  logits: (n, K) float64;  seed: of this class.
        """
        raise NotImplementedError

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        """As `Start.prepare`; of a class is kept which images, not their features."""
        seen = Features(inputs, *self.networks(inputs.pool))

        @functools.cache
        def chosen(k: int) -> list[int]:
            own = inputs.real.by_class[k]
            features, logits = seen(k)
            return [own[n] for n in self.choose(features, logits, min(inputs.ipc, len(own)),
                                                seed=f"{inputs.seed}/{k}")]

        def start(unit: Unit) -> torch.Tensor:
            own = {k: chosen(k) for k in progress(dict.fromkeys(unit.classes), text="select real images")}
            return load(inputs, [own[k][i] for i, k in unit.members])
        return start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Herding(Coreset):
    """Herding: each image brings the mean of those chosen nearest to the class's mean.

    Step k takes argmin over unused x of ||mu - (sum of chosen + x) / k||; mu is not of length 1.  DeepCore
    (74ec709) takes the largest distance instead, which is no herding: its figures are not this control's.
    Source: iCaRL's form; facts-2026.md 6.
    """

    def choose(self, features: torch.Tensor, logits: torch.Tensor, num: int, *, seed: object) -> list[int]:
        """As `Coreset.choose`."""
        mean, total, chosen = features.mean(0), torch.zeros_like(features[0]), list[int]()
        for step in range(1, num + 1):
            distance = (mean - (total + features) / step).norm(dim=1)
            distance[chosen] = float("inf")
            chosen.append(int(distance.argmin()))
            total += features[chosen[-1]]
        return chosen


@dataclasses.dataclass(frozen=True, kw_only=True)
class KCentre(Coreset):
    """Greedy k-centre: the image nearest to the class's mean, then always the one farthest from those chosen.

    Distances are Euclidean.   Source: facts-2026.md 6 (the first point as in the line of papers after dataset
    condensation; DeepCore's is random).
    """

    def choose(self, features: torch.Tensor, logits: torch.Tensor, num: int, *, seed: object) -> list[int]:
        """As `Coreset.choose`."""
        chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
        nearest = torch.full_like(features[:, 0], float("inf"))
        while len(chosen) < num:
            nearest = nearest.minimum((features - features[chosen[-1]]).norm(dim=1))
            nearest[chosen] = -1.0
            chosen.append(int(nearest.argmax()))
        return chosen
