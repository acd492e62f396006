"""The objective of recover: cross-entropy of phi plus lambda times the aligned teachers' R_BN.  Paper eq. 4.

S slices (batches side by side), N images of one slice, C channels, H W pixels, K classes.
"""
import torch
import torch.nn.functional as F

from models.registry import has_batchnorm
from recover.alignment import ALIGNMENTS
from recover.selection import Teachers
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


class Objective:
    """L(X) = CE(phi(X), y) + r_bn * reduce_t R_BN^t(X) + priors, for one slice or several side by side.

    Each network runs once a step, over the slices that drew it: the primary's one forward serves its logits
    and its alignment.  A teacher without BatchNorm counts in the mean with 0 (the published behaviour: it
    weakens the others).   Source: paper eq. 4 and 5; the mean is the published recipe's, `sum` the paper's.
    """

    def __init__(self, alignments: dict, *, r_bn: float, bn_reduce: str, tv_l2: float = 0.0,
                 l2_scale: float = 0.0):
        """Args: alignments: name -> aligned teacher of ALIGNMENTS;  r_bn: lambda;  bn_reduce: of REDUCTIONS;
        tv_l2, l2_scale: weights of the image priors."""
        self._alignments, self._r_bn, self._reduce = alignments, r_bn, REDUCTIONS[bn_reduce]
        self._tv_l2, self._l2_scale = tv_l2, l2_scale

    def __call__(self, views: list[torch.Tensor], targets: torch.Tensor,
                 teachers: list[Teachers]) -> list[dict]:
        """The terms of each slice.

        Args:    views: S tensors (N, C, H, W);  targets: (N,), shared;  teachers: S draws.
        Returns: S dicts of scalars, differentiable in that slice's view only: "loss", "ce" and
                 "bn/<teacher>" for each aligned teacher ("tv", "l2" where weighted).
        """
        logits, alignment = self._run(views, teachers)
        return [self._terms(view, targets, logits[s], [alignment[s, name] for name in draw.aligned], draw)
                for s, (view, draw) in enumerate(zip(views, teachers, strict=True))]

    def _run(self, views, teachers):
        """Each network once: primary logits by slice, R_BN by (slice, name)."""
        logits, alignment = {}, {}
        for name in dict.fromkeys(n for draw in teachers for n in draw.names):
            aligned = [s for s, draw in enumerate(teachers) if name in draw.aligned]
            members = aligned + [s for s, draw in enumerate(teachers)
                                 if name == draw.primary and name not in draw.aligned]
            batch = torch.cat([views[s] for s in members]) if len(members) > 1 else views[members[0]]
            out, r_bn = self._alignments[name](batch, slices=len(members), aligned=len(aligned))
            for s, own in zip(members, out.chunk(len(members)), strict=True):
                if teachers[s].primary == name:
                    logits[s] = own
            alignment.update({(s, name): r_bn[i] for i, s in enumerate(aligned)})
        return logits, alignment

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


def build_objective(models: dict, *, alignment: str, first_multiplier: float, bn_reduce: str,
                    **weights) -> Objective:
    """The objective over a run's teachers, each hooked once; warns of teachers that align nothing.

    Args: models: name -> frozen network;  alignment: of ALIGNMENTS;  weights: r_bn, tv_l2, l2_scale.
    """
    silent = [name for name, model in models.items() if not has_batchnorm(model)]
    if silent:
        warn_once(f"{', '.join(silent)} has no BatchNorm: drawn as a BN teacher its term is 0"
                  + (", and it counts in the mean (the published behaviour)" if bn_reduce == "mean" else ""))
    hooked = {name: ALIGNMENTS[alignment](model, first_multiplier=first_multiplier)
              for name, model in models.items()}
    return Objective(hooked, bn_reduce=bn_reduce, **weights)
