"""What networks make of a class's real images, by the batch.   N images, K classes, F features.

A batch is of one class, so that no figure depends on who shares the work.
"""
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

from models.registry import penultimate
from recover.units import Inputs
from utils.augment import normalize
from utils.files import sha256_file
from utils.metrics import logits_of

BATCH = 64  # images at a time
KEPT = 1 << 28  # bytes of features: small images', CIFAR-10's are a fifth of it
Item = TypeVar("Item")
Made = TypeVar("Made")


def in_threads(make: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """make(item) of every item, in their order: decoding and resizing pictures side by side."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(make, items))


def copies(inputs: Inputs, names: Sequence[str]) -> list[nn.Module]:
    """Copies of networks, on the run's device: what an alignment hooks into its own does not see them."""
    return [copy.deepcopy(inputs.networks[name]).to(inputs.device) for name in names]


def photographs(inputs: Inputs, k: int) -> Iterator[torch.Tensor]:
    """A class's real images, resized and cropped as for a test: batches (N, 3, H, W), normalised."""
    own = inputs.real.by_class[k]
    for first in range(0, len(own), BATCH):
        pixels = in_threads(lambda i: inputs.real[i][0], own[first:first + BATCH])
        yield normalize(torch.stack(pixels), inputs.mean, inputs.std)


@torch.no_grad()
def mean_logits(networks: Sequence[nn.Module], views: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The networks' mean logits on normalised views (N, 3, H, W): (N, K) float64."""
    views = views.to(device)
    return torch.stack([logits_of(network, views).cpu().double() for network in networks]).mean(0)


class Features:
    """Penultimate features, of length 1, and logits of a class's real images.

    A process of many runs, a comparison's, asks again and again: up to KEPT bytes are kept for it.
    """

    _kept: dict[tuple[object, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def __init__(self, inputs: Inputs, name: str):
        network, = copies(inputs, [name])
        self._inputs, real, file = inputs, inputs.real, inputs.weights.get(name)
        self._key: tuple[object, ...] | None = None if file is None else (
            real.where, len(real), real.size, name, sha256_file(file), inputs.mean, inputs.std,
            inputs.precision, str(inputs.device))
        heads = [module for module in network.modules() if isinstance(module, nn.Linear)]
        self._body = penultimate(network)
        self._head = heads[-1]

    @torch.no_grad()
    def __call__(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, F) and (N, K) float64, in file order."""
        if self._key is None:
            return self._compute(k)
        key = (*self._key, k)
        if key not in self._kept:
            self._kept[key] = self._compute(k)
            if self._bytes() > KEPT:  # other networks' go first
                for other in [other for other in self._kept if other[:-1] != self._key]:
                    del self._kept[other]
            if self._bytes() > KEPT:
                return self._kept.pop(key)
        return self._kept[key]

    def _bytes(self) -> int:
        return sum(tensor.nbytes for pair in self._kept.values() for tensor in pair)

    def _compute(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        features, logits = [], []
        for views in photographs(self._inputs, k):
            seen = logits_of(self._body, views.to(self._inputs.device))
            features.append(seen.cpu().double())
            logits.append(self._head(seen).cpu().double())
        return nn.functional.normalize(torch.cat(features), dim=1), torch.cat(logits)


def cross_entropies(logits: torch.Tensor, k: int) -> torch.Tensor:
    """-log softmax of class `k`: (N, K) to (N,)."""
    return torch.logsumexp(logits, 1) - logits[:, k]
