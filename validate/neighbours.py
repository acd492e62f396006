"""A class's distilled images among its real ones: precision, recall, density, coverage, nearest neighbours.

n real images, m distilled ones, F features.  Distances are Euclidean between features of length 1, so they
are in [0, 2], sqrt(2 - 2 cosine): in the measure of figure 4, and of one scale for all networks (the sources
take features as they are).  A ball's surface is in it, as in the papers; the public prdc leaves it out, which
matters where a distilled image is a real one.

Memory: one class's features, and distances of BLOCK images to all others, never (n, n).  `bytes_bound` says
how much at most: 56 MB for 1000 classes of 1200 real and 10 distilled images at 768 features, 274 MB for 1200
distilled ones at 2048.
"""
import math
from typing import NamedTuple

import torch

BLOCK = 256  # real images whose distances to all others are there at once
ROUNDING = 1e-6  # of distances between float32 features: as near as this is equal


class Neighbours(NamedTuple):
    """A class.   None: not defined, there being too few images.

    precision, density, coverage: by balls around real images, as far as their k-th nearest real one;
    recall: by balls around distilled ones, as far as their k_recall-th nearest distilled one;
    nearest: (m,) to the nearest real image;  real_nearest: (n,) of real images to the nearest other one.
    """

    real_images: int
    k: int
    k_recall: int
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None
    nearest: torch.Tensor
    real_nearest: torch.Tensor


def unit(features: torch.Tensor) -> torch.Tensor:
    """Rows of length 1, float64."""
    return torch.nn.functional.normalize(features.double(), dim=1)


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Between rows of length 1, (A, F) and (B, F) float64: (A, B); exact to 1e-8 where they are equal."""
    return torch.mm(a, b.T).mul_(-2).add_(2).clamp_(min=0).sqrt_()


def radii(images: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances of each of (N, F) to its k-th nearest other one, and to its nearest: (N,) both.

    N > k > 0.   Source: Kynkaanniemi 2019 eq. 1, Naeem 2020: the point itself is none of its neighbours.
    """
    far, near = [], []
    for first in range(0, len(images), BLOCK):
        rows = distances(images[first:first + BLOCK], images)
        rows.diagonal(first).fill_(float("inf"))
        smallest = rows.topk(k, largest=False).values
        far.append(smallest[:, -1])
        near.append(smallest[:, 0])
    return torch.cat(far), torch.cat(near)


def compare(real: torch.Tensor, distilled: torch.Tensor, *, k: int) -> Neighbours:
    """A class's distilled images among its real ones.

    k shrinks to what a class has: n - 1 real images beside each, m - 1 distilled ones for recall; without any
    there are no balls, and what is counted by them is None.
    Source: precision and recall Kynkaanniemi 2019 eq. 2; density and coverage Naeem 2020, section 3; the
    nearest real image ours, the real ones' own beside it as the yardstick.
    Args:   real: (n, F);  distilled: (m, F), n, m > 0;  k: asked for.
    """
    real, distilled = unit(real), unit(distilled)
    own, others = min(k, len(real) - 1), min(k, len(distilled) - 1)
    none = real.new_empty(0)
    around, real_nearest = radii(real, own) if own else (none, none)
    reach = radii(distilled, others)[0] if others else none
    inside = torch.zeros(len(distilled), dtype=torch.int64, device=real.device)  # balls that hold each
    covered = recalled = 0
    nearest = torch.full_like(distilled[:, 0], float("inf"))
    for first in range(0, len(real), BLOCK):
        rows = distances(real[first:first + BLOCK], distilled)
        nearest = nearest.minimum(rows.min(0).values)
        if own:
            held = rows <= around[first:first + BLOCK, None] + ROUNDING
            inside += held.sum(0)
            covered += int(held.any(1).sum())
        if others:
            recalled += int((rows <= reach + ROUNDING).any(1).sum())
    return Neighbours(
        real_images=len(real), k=own, k_recall=others, nearest=nearest, real_nearest=real_nearest,
        precision=float((inside > 0).double().mean()) if own else None,
        recall=recalled / len(real) if others else None,
        density=float(inside.double().mean()) / own if own else None,
        coverage=covered / len(real) if own else None)


def moved(real: torch.Tensor, distilled: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """How far each distilled image is from the real one that it started from: (m,).

    That is the real image nearest to its start: the same picture, perhaps compressed.   Source: ours.
    Args: real: (n, F);  distilled, starts: (m, F), in one order.
    """
    real, distilled, starts = unit(real), unit(distilled), unit(starts)
    least = torch.full_like(starts[:, 0], float("inf"))
    origin = torch.zeros(len(starts), dtype=torch.int64, device=starts.device)
    for first in range(0, len(real), BLOCK):
        found = distances(real[first:first + BLOCK], starts).min(0)
        nearer = found.values < least
        least[nearer], origin[nearer] = found.values[nearer], found.indices[nearer] + first
    return (2 - 2 * (distilled * real[origin]).sum(1)).clamp_(min=0).sqrt_()


def expected_coverage(n: int, m: int, k: int) -> float:
    """The coverage to expect of m further real images, were they independent of the n.

    A real image is covered unless the k nearest of all others, n - 1 + m, are real.
    Source: Naeem 2020, lemma 2.
    """
    return 1 - math.comb(n - 1, k) / math.comb(n - 1 + m, k)


def bytes_bound(n: int, m: int, num_features: int, *, num_classes: int = 1) -> int:
    """The most bytes that classes of n real images, m distilled ones and their starts take, one by one.

    Not counted: the network, and its batches.  Of one class features as float32, before and after they are
    put together, with those of the class before; the same as float64, before and after they have length 1; of
    a block the distances, their copy as they are sorted, its indices and what is compared.  Of all classes
    two numbers an image, of 8 bytes.
    """
    images = n + 2 * m
    return (3 * 4 + 2 * 8) * images * num_features + 4 * 8 * BLOCK * max(n, m) + 64 * images \
        + 2 * 8 * images * num_classes
