"""What a batch starts from.  INITS: name -> f(real_set, classes, ipc_id, seed=, size=, mean=, std=).

Every initialisation returns (N, 3, H, W) float in normalised space, one image a class.
"""
import torch

from utils.augment import normalize
from utils.data import RealSet
from utils.runtime import generator


def real_image(real_set: RealSet, classes, ipc_id: int, *, seed: int, size: int, mean, std) -> torch.Tensor:
    """Each class's ipc_id-th real training image, in file order.   Source: paper 4.1; published recipe."""
    return _load(real_set, [real_set.by_class[k][ipc_id] for k in classes], mean, std)


def random_image(real_set: RealSet, classes, ipc_id: int, *, seed: int, size: int, mean, std) -> torch.Tensor:
    """A random real training image of each class, none twice: a shuffle by (seed, class).   Source: ours."""
    chosen = []
    for k in classes:
        order = torch.randperm(len(real_set.by_class[k]), generator=generator(seed, "real image", k))
        chosen.append(real_set.by_class[k][int(order[ipc_id])])
    return _load(real_set, chosen, mean, std)


def noise(real_set: RealSet, classes, ipc_id: int, *, seed: int, size: int, mean, std) -> torch.Tensor:
    """Standard normal pixels in normalised space, from (seed, index, class).   Source: SRe2L."""
    return torch.stack([torch.randn(3, size, size, generator=generator(seed, "noise", ipc_id, k))
                        for k in classes])


def _load(real_set, positions, mean, std) -> torch.Tensor:
    return normalize(torch.stack([real_set[i][0] for i in positions]), mean, std)


INITS = {"real": real_image, "random": random_image, "noise": noise}


def classes_with(real_set: RealSet, classes, ipc_id: int, *, init: str, allow_short: bool) -> list[int]:
    """The classes of a chunk that have an image for index `ipc_id`.

    Raises: ValueError naming class, count and need, unless `allow_short`, which leaves such classes out.
    """
    if init == "noise":
        return list(classes)
    counts = {k: len(real_set.by_class[k]) for k in classes}
    short = [k for k in classes if counts[k] <= ipc_id]
    if short and not allow_short:
        raise ValueError(f"class {real_set.class_names[short[0]]!r} has {counts[short[0]]} training images, "
                         f"--ipc-end needs {ipc_id + 1}; lower it, or --allow-short-classes to write "
                         f"what exists")
    return [k for k in classes if k not in set(short)]
