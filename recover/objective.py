"""The objective of recover: weighted cross-entropies, lambda times weighted alignments, and image priors.

S slices (batches side by side), N images of one slice, C channels, H W pixels, K classes.
"""
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from recover.alignments.alignment import Aligned
from recover.memory import Meter
from recover.priors import Prior
from recover.selection import Draw
from utils.pieces import Values

Terms = dict[str, torch.Tensor]


class Objective:
    """L(X) = sum_t ce_t CE(t(X), y) + lambda sum_t align_t R_t(X) + priors, for one slice or several at once.

    Each network runs once a step, over the slices that drew it: one forward serves its logits and its
    alignment.  A network that is only aligned and has nothing to align is not run.
    Source: paper eq. 4 and 5 (ce of phi alone; align 1 for eq. 4's sum, 1 / k for the published mean).
    """

    def __init__(self, networks: dict[str, Aligned], *, weight: float, term: str = "bn",
                 priors: dict[str, Prior] | None = None, keep_graphs: bool = False, loss_scale: float = 1.0,
                 meter: Meter | None = None):
        """Args: networks: name -> aligned network;  weight: lambda;  term: what an alignment is called;
        keep_graphs: every graph alive until one backward, the readable reference, instead of one network's
        at a time;  loss_scale: of the backward passes through networks;  meter: measures first turns."""
        self._networks, self._weight, self._term, self._priors = networks, weight, term, priors or {}
        self._keep_graphs, self._scale, self._fresh = keep_graphs, loss_scale, self.state()
        self._meter = meter

    def aligns(self, draw: Draw) -> bool:
        """Whether any network of a draw has something to align."""
        return any(len(self._networks[name]) for name in draw.align)

    def state(self) -> dict[str, Any]:
        """What the alignments carry from step to step."""
        return {name: network.state() for name, network in self._networks.items()}

    def load(self, state: dict[str, Any] | None) -> None:
        """Goes on from a `state`; None is a unit's beginning."""
        for name, network in self._networks.items():
            network.load((state or self._fresh)[name])

    def backward(self, views: list[torch.Tensor], targets: torch.Tensor, draws: list[Draw]) -> list[Terms]:
        """Accumulates the gradient of all slices' losses below their views.

        The losses share only the views, so the gradients add up on them, network by network; one backward
        through what is below follows.
        Args:    views: S tensors (N, C, H, W);  targets: (N,), shared;  draws: S draws.
        Returns: S dicts of detached scalars: "loss", "ce", "<term>/<network>" for each aligned network, and
                 the priors by name.
        """
        leaves = [view.detach().requires_grad_() for view in views]
        terms: list[Terms] = [{"loss": views[0].new_zeros(()), "ce": views[0].new_zeros(())} for _ in views]
        losses = []
        for name in dict.fromkeys(name for draw in draws for name in draw.names):
            if not len(self._networks[name]) and all(name not in draw.ce for draw in draws):
                for own in (own for own, draw in zip(terms, draws, strict=True) if name in draw.align):
                    own[f"{self._term}/{name}"] = targets.new_zeros((), dtype=torch.float32)
                continue  # neither logits nor an alignment are wanted of it
            with self._turn(name, leaves):
                losses.append(self._scale * self._add_network(name, leaves, targets, draws, terms))
                if not self._keep_graphs:
                    losses.pop().backward()
        if losses:
            torch.stack(losses).sum().backward()
        for leaf in leaves:  # of a slice without any network there is none
            leaf.grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.div_(self._scale)
        self._add_priors(leaves, targets, terms)
        torch.autograd.backward(views, [leaf.grad for leaf in leaves])
        return terms

    @contextlib.contextmanager
    def _turn(self, name: str, images: list[torch.Tensor]) -> Iterator[None]:
        """What surrounds a network's forward and backward."""
        network, meter = self._networks[name], self._meter
        with network.turn, meter.turn(name, network, images) if meter else contextlib.nullcontext():
            yield

    def measured(self) -> list[Values]:
        """What first turns since the last call took, as `Meter.take`."""
        return self._meter.take() if self._meter else []

    def _add_network(self, name: str, leaves: list[torch.Tensor], targets: torch.Tensor, draws: list[Draw],
                     terms: list[Terms]) -> torch.Tensor:
        """One network, once, over the slices that drew it: its part of the loss, () with its graph."""
        network = self._networks[name]
        aligned = [s for s, draw in enumerate(draws) if name in draw.align]
        members = aligned + [s for s, draw in enumerate(draws) if name in draw.ce and name not in draw.align]
        batch = torch.cat([leaves[s] for s in members]) if len(members) > 1 else leaves[members[0]]
        logits, distances = network(batch, targets, slices=len(members), aligned=len(aligned))
        parts = []
        for s, own in zip(members, logits.chunk(len(members)), strict=True):
            if name in draws[s].ce:
                parts.append(draws[s].ce[name] * F.cross_entropy(own, targets))
                terms[s]["ce"] = terms[s]["ce"] + parts[-1].detach()
                terms[s]["loss"] = terms[s]["loss"] + parts[-1].detach()
        for s, distance in zip(aligned, distances, strict=True):
            parts.append(self._weight * (distance * draws[s].align[name]))
            terms[s][f"{self._term}/{name}"] = distance.detach()
            terms[s]["loss"] = terms[s]["loss"] + parts[-1].detach()
        return torch.stack(parts).sum()

    def _add_priors(self, leaves: list[torch.Tensor], targets: torch.Tensor, terms: list[Terms]) -> None:
        """Every prior of every slice, in one backward."""
        losses = []
        for leaf, own in zip(leaves, terms, strict=True):
            for name, prior in ((name, prior) for name, prior in self._priors.items() if prior.weight):
                value = prior(leaf, targets)
                losses.append(prior.weight * value)
                own |= {name: value.detach(), "loss": own["loss"] + losses[-1].detach()}
        if losses:
            torch.stack(losses).sum().backward()
