"""How far a batch is from what a network saw in training: the interface of all alignments.

S slices (batches side by side), N images of one slice, C channels, H W pixels, K classes.
"""
import contextlib
import dataclasses
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from recover.units import Inputs
from utils.memory import Offloaded
from utils.pieces import Options, option
from utils.runtime import warn_once


class Aligned:
    """One network with its alignment.   turn: is entered around each forward with its backward."""

    turn: AbstractContextManager[Any] = contextlib.nullcontext()

    def __len__(self) -> int:
        """The number of things that are aligned; without any the network's distance is 0."""
        raise NotImplementedError

    def __call__(self, images: torch.Tensor, targets: torch.Tensor, *, slices: int,
                 aligned: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs the network once, for its logits and its distances.

        Args:    images: (S * N, C, H, W), slice after slice;  targets: (N,), of every slice;  slices: S;
                 aligned: the first so many slices are aligned, the others want logits only.
        Returns: logits (S * N, K);  distances (aligned,) >= 0, differentiable in the images.
        """
        raise NotImplementedError

    def state(self) -> Any:
        """What changes from step to step of a unit: tensors and numbers that later steps leave alone."""

    def load(self, state: Any) -> None:
        """Goes on from a `state`, perhaps on the CPU; every unit starts from that of a fresh alignment."""

    def tensors(self) -> list[torch.Tensor]:
        """Weights and buffers of all that is run: of the networks that it holds as attributes."""
        found = (tensor for network in vars(self).values() if isinstance(network, nn.Module)
                 for tensor in (*network.parameters(), *network.buffers()))
        return list({id(tensor): tensor for tensor in found}.values())

    def offload(self, device: torch.device) -> None:
        """From now on `tensors` are on the device during its turns alone, else on the host."""
        self.turn = Offloaded(self.tensors(), device)

    def recompute(self, size: int) -> None:
        """From now on most of what its forward makes is not kept but made again in the backward.

        Args:   size: side of the images [pixels].   Raises: ValueError as `models.segments.split`.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignment(Options):
    """Base of all alignments.   keeps_graphs: every network's graph is alive until one backward."""

    r_bn: float = option(0.01, "lambda, weight of the alignment", source="supplement table 1b", range=">= 0")

    @property
    def keeps_graphs(self) -> bool:
        return False

    def check(self, *, slices: int, sizes: tuple[int, ...]) -> None:
        """Raises: ValueError where it cannot serve so many slices, or views of these sizes [pixels]."""

    def can_align(self, network: nn.Module) -> bool:
        """Whether a network, perhaps one of shapes alone, has something to align."""
        return True

    def looks(self, num: int) -> int:
        """Of a training set of `num` real images, how many `prepare` shows to each network."""
        return 0

    @property
    def saves_memory(self) -> tuple[str, ...]:
        """Of "offload" and "recompute", those that its networks can do.

        Offloading wants `prepare` to run no network (it is on the host) and every tensor among `tensors`;
        recomputing, that a layer that runs a second time changes nothing.
        """
        return ()

    def prepare(self, inputs: Inputs, names: tuple[str, ...]) -> dict[str, Aligned]:
        """The aligned networks, by name; once a run."""
        raise NotImplementedError


def warn_of_silent(networks: dict[str, Aligned], why: str, remark: str = "") -> None:
    """Says once which networks have nothing to align.   Args: why: what they have not."""
    if silent := [name for name, network in networks.items() if not len(network)]:
        warn_once(f"{', '.join(silent)} has {why}: drawn as a BN teacher its term is 0, and it counts in the "
                  f"mean of --bn-reduce{remark}")
