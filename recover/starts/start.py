"""What a unit starts from, as an object with a life: prepared once a run, then asked for each unit."""
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch

from recover.selection import Pool
from recover.units import Inputs, Unit
from utils.data import RealSet
from utils.pieces import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start(Options):
    """Base of all starts: those of one real image a member.

    whole_set: the images of an index depend on how many indices there are, which then joins the identity.
    """

    whole_set: ClassVar[bool] = False

    def networks(self, pool: Pool) -> tuple[str, ...]:
        """The networks that `prepare` needs."""
        return ()

    def looks(self, num: int) -> int:
        """How many views of a class of `num` real images its networks see, to choose among them."""
        return 0

    def available(self, real: RealSet, k: int) -> float:
        """How many IPC indices of class `k` there is a start for."""
        return len(real.by_class[k])

    def positions(self, real: RealSet, unit: Unit, seed: int) -> list[int]:
        """The real images that a unit starts from, which are opened before a run claims its folder."""
        return []

    def digests(self, real: RealSet) -> dict[str, str]:
        """What images depend on beside settings, real images and networks: its name -> SHA-256.

        Asked before a run claims its folder.  Raises: ValueError naming what the start misses.
        """
        return {}

    def prepare(self, inputs: Inputs) -> Callable[[Unit], torch.Tensor]:
        """Does once what units share.

        Returns: unit -> (N, 3, H, W) float in normalised space, on any device, one image a member.
        """
        raise NotImplementedError
