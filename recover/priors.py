"""Priors on the views themselves.   PRIORS: name -> piece, each with a weight of its own."""
import dataclasses

import torch

from utils.pieces import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prior(Options):
    """Base of all priors."""

    @property
    def weight(self) -> float:
        """Of the prior in the loss, its first option; at 0 it is not computed."""
        return float(getattr(self, dataclasses.fields(self)[0].name))

    def __call__(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) views and their classes (N,) to a () scalar."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TotalVariation(Prior):
    """Sum of the L2 norms of the four neighbour differences: right, down, both diagonals.   Source: SRe2L."""

    tv_l2: float = option(0.0, "weight of the total-variation prior", source="published recipe",
                          range="in (-inf, inf)")

    def __call__(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = views
        differences = (x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :],
                       x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:])
        return torch.stack([torch.linalg.vector_norm(d) for d in differences]).sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class L2(Prior):
    """Mean over images of the image's L2 norm.   Source: SRe2L."""

    l2_scale: float = option(0.0, "weight of the L2 prior", source="published recipe", range="in (-inf, inf)")

    def __call__(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(views.flatten(1), dim=1).mean()


PRIORS: dict[str, type[Prior]] = {"tv": TotalVariation, "l2": L2}
