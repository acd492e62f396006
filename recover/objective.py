"""The objective of recover: cross-entropy of phi plus lambda times the aligned teachers' R_BN.  Paper eq. 4.

S slices (batches side by side), N images of one slice, C channels, H W pixels, K classes.
"""
import torch
import torch.nn.functional as F

from models.registry import has_batchnorm
from recover.alignment import ALIGNMENTS
from recover.fused import FUSED_ALIGNMENTS
from recover.selection import Teachers
from utils.precision import LOSS_SCALE
from utils.runtime import warn_once

REDUCTIONS = {"mean": torch.mean, "sum": torch.sum}


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Sum of the L2 norms of the four neighbour differences (right, down, both diagonals).   Source: SRe2L.

    Args: images: (N, C, H, W).    Returns: () scalar.
    """
    differences = (images[..., :, 1:] - images[..., :, :-1], images[..., 1:, :] - images[..., :-1, :],
                   images[..., 1:, 1:] - images[..., :-1, :-1], images[..., 1:, :-1] - images[..., :-1, 1:])
    return sum(torch.linalg.vector_norm(d) for d in differences)


def l2_prior(images: torch.Tensor) -> torch.Tensor:
    """Mean over images of the image's L2 norm, (N, C, H, W) to ().   Source: SRe2L."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1).mean()


def networks_of(teachers: list[Teachers]) -> list[str]:
    """The networks that a step runs, each once, in the order of the draws."""
    return list(dict.fromkeys(name for draw in teachers for name in draw.names))


class Objective:
    """L(X) = CE(phi(X), y) + r_bn * reduce_t R_BN^t(X) + priors, for one slice or several side by side.

    Each network runs once a step, over the slices that drew it: the primary's one forward serves its logits
    and its alignment.  A teacher without BatchNorm counts in the mean with 0 (the published behaviour: it
    weakens the others).   Source: paper eq. 4 and 5; the mean is the published recipe's, `sum` the paper's.
    """

    def __init__(self, alignments: dict, *, r_bn: float, bn_reduce: str, tv_l2: float = 0.0,
                 l2_scale: float = 0.0, loss_scale: float = 1.0):
        """Args: alignments: name -> aligned teacher;  r_bn: lambda;  bn_reduce: of REDUCTIONS;
        tv_l2, l2_scale: weights of the image priors;  loss_scale: of the backward pass alone."""
        self._alignments, self._r_bn, self._reduce = alignments, r_bn, REDUCTIONS[bn_reduce]
        self._tv_l2, self._l2_scale, self._scale = tv_l2, l2_scale, loss_scale

    def __call__(self, views: list[torch.Tensor], targets: torch.Tensor,
                 teachers: list[Teachers]) -> list[dict]:
        """The terms of each slice.

        Args:    views: S tensors (N, C, H, W);  targets: (N,), shared;  teachers: S draws.
        Returns: S dicts of scalars, differentiable in that slice's view only: "loss", "ce" and
                 "bn/<teacher>" for each aligned teacher ("tv", "l2" where weighted).
        """
        logits, alignment = {}, {}
        for name in networks_of(teachers):
            own, r_bn = self._forward(name, views, teachers)
            logits |= own
            alignment |= {(s, name): value for s, value in r_bn.items()}
        return [self._terms(view, targets, logits[s], [alignment[s, name] for name in draw.aligned], draw)
                for s, (view, draw) in enumerate(zip(views, teachers, strict=True))]

    def _forward(self, name: str, views, teachers) -> tuple[dict, dict]:
        """One network, once: logits of the slices whose primary it is, R_BN of those that it aligns."""
        aligned = [s for s, draw in enumerate(teachers) if name in draw.aligned]
        members = aligned + [s for s, draw in enumerate(teachers)
                             if name == draw.primary and name not in draw.aligned]
        batch = torch.cat([views[s] for s in members]) if len(members) > 1 else views[members[0]]
        out, r_bn = self._alignments[name](batch, slices=len(members), aligned=len(aligned))
        logits = {s: own for s, own in zip(members, out.chunk(len(members)), strict=True)
                  if teachers[s].primary == name}
        return logits, {s: r_bn[i] for i, s in enumerate(aligned)}

    def backward(self, views: list[torch.Tensor], targets: torch.Tensor,
                 teachers: list[Teachers]) -> list[dict]:
        """Accumulates the gradient of all slices' losses below their views; returns the terms, detached.

        The readable reference: every graph is alive until one backward.   Args: as `__call__`.
        """
        terms = self(views, targets, teachers)
        if self._scale != 1:
            for view in views:
                view.register_hook(lambda grad: grad / self._scale)
        (self._scale * sum(own["loss"] for own in terms)).backward()
        return [{name: value.detach() for name, value in own.items()} for own in terms]

    def _terms(self, view, targets, logits, r_bn, draw) -> dict:
        terms = {"ce": F.cross_entropy(logits, targets)}
        terms |= {f"bn/{name}": value for name, value in zip(draw.aligned, r_bn, strict=True)}
        loss = terms["ce"] + self._r_bn * self._reduce(torch.stack(r_bn))
        if self._tv_l2:
            terms["tv"] = total_variation(view)
            loss = loss + self._tv_l2 * terms["tv"]
        if self._l2_scale:
            terms["l2"] = l2_prior(view)
            loss = loss + self._l2_scale * terms["l2"]
        return {"loss": loss, **terms}


class SequentialObjective(Objective):
    """The same objective in the memory of one teacher: forward and backward of one network at a time.

    The losses are a sum that shares only the view, so the gradients add up on it; one backward through the
    augmentation follows.   Source: ours; equal to `Objective` to rounding.
    """

    def backward(self, views, targets, teachers):
        """As `Objective.backward`, with the graph of one network alive at a time."""
        leaves = [view.detach().requires_grad_() for view in views]
        logits, alignment = {}, {}
        for name in networks_of(teachers):
            if not len(self._alignments[name]) and all(name != draw.primary for draw in teachers):
                alignment |= {(s, name): targets.new_zeros((), dtype=torch.float32)
                              for s, draw in enumerate(teachers) if name in draw.aligned}
                continue  # neither logits nor BatchNorm are wanted of it
            own, r_bn = self._forward(name, leaves, teachers)
            loss = sum(F.cross_entropy(out, targets) for out in own.values())
            loss = loss + self._r_bn * sum(value * self._share(teachers[s]) for s, value in r_bn.items())
            (self._scale * loss).backward()
            logits |= {s: out.detach() for s, out in own.items()}
            alignment |= {(s, name): value.detach() for s, value in r_bn.items()}
        if self._scale != 1:
            for leaf in leaves:
                leaf.grad /= self._scale
        terms = [self._terms(leaf, targets, logits[s], [alignment[s, name] for name in draw.aligned], draw)
                 for s, (leaf, draw) in enumerate(zip(leaves, teachers, strict=True))]
        if self._tv_l2 or self._l2_scale:  # the only terms still attached to the leaves
            sum(own["loss"] for own in terms).backward()
        torch.autograd.backward(views, [leaf.grad for leaf in leaves])
        return [{name: value.detach() for name, value in own.items()} for own in terms]

    def _share(self, draw: Teachers) -> float:
        """The weight of one aligned teacher's R_BN in the reduction over the draw's."""
        return float(self._reduce(torch.tensor([1.0] + [0.0] * (len(draw.aligned) - 1), dtype=torch.float64)))


# How a step is computed: the readable reference, or what frozen teachers allow.
ENGINES = {"reference": (Objective, ALIGNMENTS),
           "fused": (SequentialObjective, {**ALIGNMENTS, **FUSED_ALIGNMENTS})}


def build_objective(models: dict, *, engine: str, alignment: str, first_multiplier: float, bn_reduce: str,
                    precision: str = "fp32", compiled: bool = False, **weights) -> Objective:
    """The objective over a run's teachers, each hooked once; warns of teachers that align nothing.

    Args: models: name -> frozen network;  engine, alignment: of ENGINES;  precision: of PRECISIONS;
          compiled: by torch.compile;  weights: r_bn, tv_l2, l2_scale.
    """
    silent = [name for name, model in models.items() if not has_batchnorm(model)]
    if silent:
        warn_once(f"{', '.join(silent)} has no BatchNorm: drawn as a BN teacher its term is 0"
                  + (", and it counts in the mean (the published behaviour)" if bn_reduce == "mean" else ""))
    objective, alignments = ENGINES[engine]
    aligned = {name: alignments[alignment](model, first_multiplier=first_multiplier, precision=precision,
                                           compiled=compiled) for name, model in models.items()}
    return objective(aligned, bn_reduce=bn_reduce, loss_scale=LOSS_SCALE.get(precision, 1.0), **weights)
