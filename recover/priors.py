"""Priors on the views themselves.   PRIORS: name -> piece, each with a weight of its own."""
import dataclasses

import torch
import torch.nn.functional as F

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Densification(Prior):
    """Data densification: the images of a class are to differ, in as many directions as there are images.

    X (n, 3072): a class's views of the batch, average-pooled to 32 x 32;  l: the eigenvalues of X X^T.
    D = sum over classes of KL(softmax(l / T) || softmax(l)), without a gradient through the first; a single
    image adds 0.   Source: G-VBSM; baselines.md 5.1, facts-2026.md 8.2.
    """

    densification: float = option(1.0, "weight of data densification", source="G-VBSM", range=">= 0")
    densification_temperature: float = option(4.0, "softens the eigenvalues that are aimed at",
                                              source="G-VBSM", range="> 0")

    def __call__(self, views: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(views, 32).flatten(1)
        total = pooled[:0].sum()  # 0 with a graph, also where no class has two images
        classes = targets.tolist()  # waits for the device, as eigenvalues do
        for k in sorted(k for k in set(classes) if classes.count(k) > 1):
            own = pooled[[i for i, other in enumerate(classes) if other == k]]
            eigenvalues = torch.linalg.eigvalsh(own @ own.T)
            aim = F.log_softmax(eigenvalues.detach() / self.densification_temperature, dim=0)
            total = total + (aim.exp() * (aim - F.log_softmax(eigenvalues, dim=0))).sum()
        return total


PRIORS: dict[str, type[Prior]] = {"tv": TotalVariation, "l2": L2, "densification": Densification}
