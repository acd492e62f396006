"""Mosaics of the crops that networks are surest of."""
import dataclasses

import torch

from recover.selection import Pool
from recover.starts.patches import Patches
from utils.pieces import option, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mosaic(Patches):
    """Mosaics of the crops of least cross-entropy; of several observers' mean logits, for EDC's.

    Equal scores keep the files' order.   Source: RDED, baselines.md 8.1; of EDC (6.1,
    facts-2026.md 5) the mean of logits alone: the crops are RDED's here too.
    """

    observers: int = option(1, "the first so many networks of the pool score, by their mean logits; EDC: 4",
                            source="RDED", range="in [1, 100]")

    def networks(self, pool: Pool) -> tuple[str, ...]:
        """As `Start.networks`.   Raises: ValueError where the pool has fewer."""
        require(self.observers <= len(pool.names), f"--observers {self.observers}: the pool has "
                f"{len(pool.names)} networks; lower it, or name more with --pool")
        return pool.names[:self.observers]

    def order(self, scores: torch.Tensor) -> list[int]:
        """As `Patches.order`: the least cross-entropy first."""
        return scores.argsort(stable=True).tolist()
