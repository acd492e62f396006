"""Accuracy and diversity, as plain functions.   N images, K classes, F features."""
import functools
import math
import statistics
import weakref
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from utils.augment import normalize

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
# Network -> images at a time, where the device's memory did not hold a batch of it.
_held: "weakref.WeakKeyDictionary[nn.Module, int]" = weakref.WeakKeyDictionary()


def topk_hits(logits: torch.Tensor, labels: torch.Tensor, k: int) -> int:
    """How many of the (N, K) logits hold the label (N,) among their k largest."""
    k = min(k, logits.shape[1])
    return int((logits.topk(k, 1).indices == labels[:, None]).any(1).sum())


def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's logits, in parts where the device's memory does not hold the batch whole.

    How many images it holds is found by halving, and remembered for the network's later batches.
    """
    while True:
        parts = images.split(_held.get(model, len(images)))
        try:
            return torch.cat([model(part) for part in parts])
        except torch.cuda.OutOfMemoryError:
            if len(parts[0]) == 1:
                raise
        _held[model] = -(-len(parts[0]) // 2)  # outside: the error holds memory


@torch.no_grad()
def _answers(model: nn.Module, batches: Batches, *, mean: tuple[float, ...], std: tuple[float, ...],
             device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """A network's logits (N, K) in eval mode, and the labels (N,), by the batch, on the device."""
    was_training = model.training
    model.eval()
    for pixels, labels in batches:
        yield logits_of(model, normalize(pixels.to(device), mean, std)), labels.to(device)
    model.train(was_training)


def evaluate(model: nn.Module, batches: Batches, *, mean: tuple[float, ...], std: tuple[float, ...],
             device: torch.device) -> dict[str, float]:
    """Top-1 and top-5 accuracy of a network in eval mode.

    Args:    batches: iterable of ((N, 3, H, W) uint8 pixels, (N,) labels);  mean, std: pixel statistics.
    Returns: {"top1", "top5"} in [0, 1], {"images"} the number seen.
    """
    top1, top5, num = 0, 0, 0
    for logits, labels in _answers(model, batches, mean=mean, std=std, device=device):
        top1, top5 = top1 + topk_hits(logits, labels, 1), top5 + topk_hits(logits, labels, 5)
        num += len(labels)
    return {"top1": top1 / num, "top5": top5 / num, "images": num}


def confusion(model: nn.Module, batches: Batches, *, num_classes: int, mean: tuple[float, ...],
              std: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """How often a network in eval mode takes each class for which: (K, K) int64 counts on the CPU.

    Args:    as `evaluate`.
    Returns: a row a true class, a column a predicted one.
    """
    counts = torch.zeros(num_classes**2, dtype=torch.int64)
    for logits, labels in _answers(model, batches, mean=mean, std=std, device=device):
        pairs = (labels * num_classes + logits.argmax(1)).cpu()
        counts += torch.bincount(pairs, minlength=num_classes**2)
    return counts.view(num_classes, num_classes)


def intra_class_cosine(batches: Batches, *, num_classes: int) -> list[float]:
    """Mean cosine similarity over all pairs of images of a class; lower is more diverse.

    A class's pairs are in |sum of its unit features|^2, so only that sum and the number are kept.
    Source: paper figure 4.
    Args:    batches: of ((N, F) penultimate features, (N,) class indices).
    Returns: one value for each class that has two images or more, in class order.
    """
    sums, counts = torch.zeros(num_classes, 0), torch.zeros(num_classes, dtype=torch.float64)
    for features, labels in batches:
        unit = torch.nn.functional.normalize(features.cpu().double(), dim=1)
        sums = sums if sums.shape[1] else unit.new_zeros(num_classes, unit.shape[1])
        sums.index_add_(0, labels, unit)
        counts += torch.bincount(labels, minlength=num_classes)
    pairs = counts * (counts - 1)
    return ((sums.square().sum(1) - counts) / pairs)[pairs > 0].tolist()


def mean_and_std(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and standard deviation with n - 1 (0.0 for a single value)."""
    values = list(values)
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def student_t_p(t: float, freedom: int) -> float:
    """How likely Student's t of so many degrees of freedom is as far from zero as t: the two-sided p.

    A finite sum, since the degrees of freedom are a whole number.
    Source: Abramowitz and Stegun, 26.7.3 (odd) and 26.7.4 (even).
    """
    angle, odd = math.atan2(abs(t), freedom ** 0.5), freedom % 2
    cos, total = math.cos(angle), 0.0
    term = cos if odd else 1.0
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= cos**2 * (k + 1) / (k + 2)
    nearer = math.sin(angle) * total
    return max(0.0, 1 - (2 / math.pi * (angle + nearer) if odd else nearer))


@functools.cache
def student_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t of so many degrees of freedom: of a 95 % interval, by bisection."""
    low, high = 1.9, 13.0  # less than the normal's 1.960, more than the 12.706 of one degree
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_p(middle, freedom) > 0.05 else (low, middle)
    return (low + high) / 2


class Paired(NamedTuple):
    """Paired differences: mean, standard error, 95 % interval (Student's t), how many, and which."""

    mean: float
    standard_error: float
    interval: tuple[float, float]
    n: int
    each: list[float]


def paired(differences: list[float]) -> Paired:
    """What two or more paired differences say."""
    mean, std = mean_and_std(differences)
    num = len(differences)
    error = std / num ** 0.5
    half = error * student_t(num - 1)
    return Paired(mean, error, (mean - half, mean + half), num, differences)
