"""What is done to the networks before a unit, and undone after it.   PERTURBATIONS: name -> piece."""
import copy
import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from utils.pieces import Options, option, require

Networks = dict[str, nn.Module]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPerturbation(Options):
    """The networks as they were trained.   climbs: gradients of a network's weights for a unit's images."""

    @property
    def climbs(self) -> int:
        return 0

    def check(self, slices: int) -> None:
        """Raises: ValueError where it cannot serve so many slices."""

    def apply(self, networks: Networks, names: tuple[str, ...], first_view: Callable[[], torch.Tensor],
              targets: torch.Tensor) -> Networks:
        """The networks of one unit, by name; those given are left as they are.

        Args: names: of those that the unit's draws hold;  first_view(): its images (N, C, H, W) under the
              first iteration's view;  targets: (N,).
        """
        return networks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Directed(NoPerturbation):
    """Directed weight adjustment: a short ascent of the cross-entropy of the unit's starts.   Source: DWA.

    K times w <- w + (rho / K) g / (||g|| + 1e-12), g the gradient in all weights on the unit's first view,
    one norm over all of them, the network in eval mode.  Every unit starts from the trained weights: ours,
    since the public code lets an index's perturbations add up over its classes, and leaves their gradients in
    the images' and the weights' (facts-2026.md 8.5); neither is reproduced.
    """

    rho: float = option(0.015, "length of the ascent in the space of all weights", source="DWA", range="> 0")
    ascents: int = option(15, "steps of the ascent, K", source="DWA", range="in [1, 10000]")

    @property
    def climbs(self) -> int:
        return self.ascents

    def check(self, slices: int) -> None:
        """As `NoPerturbation.check`."""
        require(slices == 1, "--perturbation needs --slices-per-batch 1: slices share their networks")

    def apply(self, networks: Networks, names: tuple[str, ...], first_view: Callable[[], torch.Tensor],
              targets: torch.Tensor) -> Networks:
        """As `NoPerturbation.apply`."""
        views = first_view()
        return networks | {name: self._ascend(networks[name], views, targets) for name in names}

    def _ascend(self, network: nn.Module, views: torch.Tensor, targets: torch.Tensor) -> nn.Module:
        moved = copy.deepcopy(network).to(views.device).requires_grad_(True)  # from the host, perhaps
        weights = list(moved.parameters())
        for _ in range(self.ascents):
            gradients = torch.autograd.grad(F.cross_entropy(moved(views), targets), weights)
            norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.add_(gradient, alpha=self.rho / self.ascents / (float(norm) + 1e-12))
        return moved.requires_grad_(False)


PERTURBATIONS: dict[str, type[NoPerturbation]] = {"none": NoPerturbation, "directed": Directed}
