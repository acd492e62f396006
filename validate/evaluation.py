"""From accuracies to what an evaluation says: differences to real images, scores, classes.

Numbers in, numbers out: `evaluation_<protocol>_ipc<ipc>` of utils/measures.py holds these values.  Accuracies
are percent, scores are of fractions; K classes.
"""
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from utils.metrics import paired
from utils.pieces import Values
from validate import scores
from validate.cells import HARD, PLAIN_SOFT, SOFT
from validate.controls import DISTILLED, REFERENCE

FULL = "full"
MOST_CLASSES = 100  # of a confusion matrix that is written down whole
WORST = 10
Each = Mapping[tuple[str, str, str], Sequence[float]]  # (set, model, labels) -> percent by seed


def spread(each: Sequence[float]) -> Values:
    """Mean, standard deviation (n - 1; None of a single value) and the values."""
    return {"mean": statistics.fmean(each), "std": statistics.stdev(each) if len(each) > 1 else None,
            "each": list(each)}


def accuracies(found: Each) -> list[Values]:
    """Every cell, in the order in which it was found."""
    return [{"set": images, "model": model, "labels": labels, **spread(each)}
            for (images, model, labels), each in found.items()]


def difference(own: Sequence[float], other: Sequence[float]) -> Values:
    """Own minus other, seed by seed, in points; with one seed nothing is known of the spread.

    decided: the 95 % interval (Student's t) does not hold 0.   Source: utils.metrics.paired.
    """
    each = [a - b for a, b in zip(own, other, strict=True)]
    if len(each) < 2:
        return {"mean": each[0], "standard_error": None, "interval": None, "n": 1, "each": each,
                "decided": False}
    mean, error, (low, high), num, _ = paired(each)
    return {"mean": mean, "standard_error": error, "interval": [low, high], "n": num, "each": each,
            "decided": low > 0 or high < 0}


def differences(found: Each) -> list[Values]:
    """The distilled set minus each control, of the same network and labels."""
    return [{"model": model, "labels": labels, "set": DISTILLED, "against": images,
             **difference(found[DISTILLED, model, labels], other)}
            for (images, model, labels), other in found.items() if images not in (DISTILLED, FULL)]


def score(found: Each, model: str, full: Sequence[float] | None) -> Values:
    """HLR, IOR, LRS and ARS of a network, seed by seed; None where a part of one was not measured.

    Args: full: percent with hard labels on all real images, by seed, or once for all.
    """
    def of(images: str, labels: str) -> Sequence[float] | None:
        each = found.get((images, model, labels))
        return each and [value / 100 for value in each]

    def per_seed(formula: Any, *parts: Sequence[float] | None) -> list[float] | None:
        there = [part for part in parts if part is not None]
        return [formula(*values) for values in zip(*there, strict=True)] if len(there) == len(parts) else None
    own_hard, soft = of(DISTILLED, HARD), (of(DISTILLED, SOFT), of(REFERENCE, SOFT))
    plain = of(DISTILLED, PLAIN_SOFT), of(REFERENCE, PLAIN_SOFT)
    whole = full and own_hard and [value / 100 for value in (
        full if len(full) == len(own_hard) else [*full] * len(own_hard))]
    hlr = per_seed(scores.hard_label_recovery, whole, own_hard)
    ior = per_seed(scores.improvement_over_random, *soft)
    named = {"hlr": hlr, "ior": ior, "lrs": per_seed(scores.label_robustness, hlr, ior),
             "ars": per_seed(scores.augmentation_robustness, ior,
                             per_seed(scores.improvement_over_random, *plain))}
    return {name: each and spread(each) for name, each in named.items()}


def class_accuracies(counts: torch.Tensor, names: Sequence[str]) -> Values:
    """Percent of each class's images that are taken for it, by name; None of a class without images.

    Args: counts: (K, K), a row a true class.
    """
    totals, right = counts.sum(1).tolist(), counts.diagonal().tolist()
    return {name: 100 * hits / total if total else None
            for name, hits, total in zip(names, right, totals, strict=True)}


def confused(counts: torch.Tensor, names: Sequence[str]) -> Values:
    """The matrix (None above 100 classes), and the pairs most often taken for each other.

    Args:    counts: (K, K), a row a true class.
    Returns: worst: at most ten of {"true", "predicted", "share"}, shares of the true class in [0, 1].
    """
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    shares.fill_diagonal_(0.0)
    top = shares.flatten().topk(min(WORST, shares.numel()))
    pairs = [(share, *divmod(place, len(names))) for share, place in zip(
        top.values.tolist(), top.indices.tolist(), strict=True) if share > 0]
    return {"matrix": counts.tolist() if len(names) <= MOST_CLASSES else None,
            "worst": [{"true": names[true], "predicted": names[predicted], "share": share}
                      for share, true, predicted in pairs]}


def by_model(counts: Mapping[tuple[str, str], torch.Tensor], names: Sequence[str],
             of: Callable[[torch.Tensor, Sequence[str]], Values]) -> Values:
    """Model -> labels -> what `of` makes of their counts.   Args: counts: (model, labels) -> (K, K)."""
    found: Values = {}
    for (model, labels), own in counts.items():
        found.setdefault(model, {})[labels] = of(own, names)
    return found
