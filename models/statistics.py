"""Statistics of real images inside a network: measured once, stored beside its weights.

What is measured: mean and biased variance of the inputs of layers, by channel, and of convolutions also by
place.  A file is named after the sha256 of the weights and the digest of all else that it depends on.
S slices, each with statistics of its own, N images of one, C channels, H W pixels, K classes.
"""
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from utils.data import RealSet
from utils.files import load_tensors, save_tensors, sha256_bytes, sha256_file, sha256_json
from utils.loading import read_batches
from utils.pieces import Values, identity, require
from utils.precision import at_least_float32, lowered
from utils.runtime import generator, identity_threads, progress, say, warn_once
from utils.views import Views

FORM = 1  # of what is stored
SAMPLE = 64  # images whose pixels stand for those of a set in its fingerprint
_UNSTORED: dict[Path, "Measured"] = {}  # what could not be written, for this process
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "batchnorm": (nn.BatchNorm2d,),
    "norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm),
    "conv": (nn.Conv2d,),
    "linear": (nn.Linear,)}
Vectors = dict[str, torch.Tensor]


# ---------------------------------------------------------------- of one input

def layers_of(model: nn.Module, kinds: Iterable[str]) -> dict[str, nn.Module]:
    """The layers of these KINDS by their names, in the network's order."""
    classes = tuple(cls for kind in kinds for cls in KINDS[kind])
    return {name: module for name, module in model.named_modules() if isinstance(module, classes)}


def statistics_of(layer: nn.Module, x: torch.Tensor, *, patch: int = 0) -> Vectors:
    """Mean and biased variance of a layer's input, slice by slice.

    Channels are the last dimension of what enters Linear and LayerNorm, the one behind the images of what
    enters convolutions and other norms (torchvision's LayerNorm2d among them).
    Args:    x: (S, N, C, H, W), or (S, N, ..., C);  patch: of a convolution also `patch_statistics`; 0: none.
    Returns: "mean" and "var" (S, C), perhaps "patch mean" and "patch var" (S, places).
    """
    last = isinstance(layer, (nn.Linear, nn.LayerNorm)) and not isinstance(layer, LayerNorm2d)
    channel = x.ndim - 1 if last else 2
    var, mean = torch.var_mean(x, dim=[d for d in range(1, x.ndim) if d != channel], correction=0)
    own = {"mean": mean, "var": var}
    return own | patch_statistics(x, patch) if patch and isinstance(layer, nn.Conv2d) else own


def patch_statistics(x: torch.Tensor, patch: int) -> Vectors:
    """Mean and biased variance over images, channels and the pixels of each place of a grid.

    Sides that are no multiple of `patch` are resized up to the next one, bilinear.
    Source: G-VBSM; facts-2026.md 8.1.
    Args:    x: (S, N, C, H, W);  patch: side of a place [pixels].
    Returns: "patch mean" and "patch var" (S, rows * columns of the grid).
    """
    rows, columns = (-(-side // patch) for side in x.shape[-2:])
    size = (rows * patch, columns * patch)
    if x.shape[-2:] != size:
        resized = F.interpolate(x.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        x = resized.unflatten(0, x.shape[:2])
    places = x.unflatten(-1, (columns, patch)).unflatten(-3, (rows, patch))
    var, mean = torch.var_mean(places, dim=(1, 2, 4, 6), correction=0)
    return {"patch mean": mean.flatten(1), "patch var": var.flatten(1)}


# ---------------------------------------------------------------- of a set

@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What is measured, and on what.

    kinds: of KINDS;  patch: 0 for no places;  by_class: each class's mean of single images' statistics too;
    images: at most so many, spread over the classes, 0 for all;  views: crops and flips of one seeded epoch,
    whose batches' statistics are averaged, weighted with their images.
    Source: G-VBSM, EDC (crops from 0.08 and flips, batches of 256; facts-2026.md 8.1, 8.3).
    """

    kinds: tuple[str, ...]
    views: Views
    mean: tuple[float, ...]
    std: tuple[float, ...]
    patch: int = 0
    by_class: bool = False
    images: int = 0
    precision: str = "fp32"

    def record(self, real: RealSet, device: torch.device) -> Values:
        """All that statistics depend on but the network, as JSON values."""
        views = {name: value for name, value in identity(self.views).items()
                 if name in ("size", "batch_size", "min_scale", "flip", "crop", "crop_padding")}
        return {"form": FORM, "kinds": list(self.kinds), "patch": self.patch, "by_class": self.by_class,
                "images": min(self.images or len(real), len(real)), "views": views, "mean": list(self.mean),
                "std": list(self.std), "precision": self.precision, "data": fingerprint(real),
                "device": device.type, "threads": identity_threads(torch.get_num_threads(), device)}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Statistics of one network's layers.

    layers: name -> vectors (...,) of `statistics_of`;  classes: name -> the same of each class (K, ...).
    """

    layers: dict[str, Vectors]
    classes: dict[str, Vectors]


def fingerprint(real: RealSet) -> str:
    """A digest of a set: its class names, its labels, and the pixels of some images."""
    pixels = [sha256_bytes(real[i][0].numpy().tobytes()) for i in real.spread(SAMPLE)]
    return sha256_json([real.class_names, real.labels, pixels])


class _Sums:
    """Sums of one network's statistics over batches, each weighted with its images, in float64."""

    def __init__(self, model: nn.Module, what: Measurement, num_classes: int):
        self._model, self._what, self._num_classes = model, what, num_classes
        self._calls: Counter[str] = Counter()
        self._layers: dict[str, Vectors] = {}
        self._classes: dict[str, Vectors] = {}
        self._labels = torch.zeros(0, dtype=torch.long)
        self._handles = [layer.register_forward_pre_hook(self._hook(name))
                         for name, layer in layers_of(model, what.kinds).items()]

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def measure(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if not inputs or len(inputs[0]) != len(self._labels):
                return  # windows of images, say: not a batch
            self._calls[name] += 1
            x = at_least_float32(inputs[0])
            for key, value in statistics_of(layer, x[None], patch=self._what.patch).items():
                total = self._layers.setdefault(name, {}).setdefault(key, value[0].new_zeros(
                    value.shape[1], dtype=torch.float64))
                total += len(x) * value[0].double()
            for key, value in statistics_of(layer, x[:, None], patch=self._what.patch).items() \
                    if self._what.by_class else ():
                of_class = self._classes.setdefault(name, {}).setdefault(key, value.new_zeros(
                    self._num_classes, value.shape[1], dtype=torch.float64))
                of_class.index_add_(0, self._labels.to(x.device), value.double())
        return measure

    def add(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Runs the network on a batch: (B, 3, H, W) normalised, (B,)."""
        self._labels = labels
        with torch.no_grad(), lowered(self._what.precision, images.device):
            self._model(images)

    def finish(self, counts: torch.Tensor, batches: int) -> Measured:
        """The means, float32, of the layers that every batch entered once.   Args: counts: (K,) images."""
        for handle in self._handles:
            handle.remove()
        num = int(counts.sum())
        names = [name for name in layers_of(self._model, self._what.kinds) if self._calls[name] == batches]

        def of_class(total: torch.Tensor) -> torch.Tensor:
            return (total / counts.clamp(min=1).to(total.device)[:, None]).float()
        return Measured(
            {name: {key: (total / num).float() for key, total in self._layers[name].items()}
             for name in names},
            {name: {key: of_class(total) for key, total in self._classes[name].items()} for name in names
             if self._what.by_class})


def measure(networks: dict[str, nn.Module], real: RealSet, what: Measurement,
            device: torch.device) -> dict[str, Measured]:
    """Statistics of several networks in one pass over a real set.

    The views are those of one fixed seed: whoever measures finds the same, whatever the run's seed.
    Args: networks: by name, frozen, in eval mode; run on `device`, and put back where they were.
    """
    positions = real.spread(what.images) if what.images else list(range(len(real)))
    views = what.views.draw(len(positions), generator("statistics of real images"))
    parts = [[positions[i] for i in part.tolist()] for part in views.index.split(what.views.batch_size)]
    views, counts = views.to(device), torch.zeros(len(real.class_names), dtype=torch.long)
    homes = {name: next(model.parameters()).device for name, model in networks.items()}
    sums = [_Sums(model.to(device), what, len(counts)) for model in networks.values()]
    batches = read_batches(real, parts, workers=min(8, len(os.sched_getaffinity(0))))
    text = f"measure real images in {', '.join(networks)}"
    for batch, (pixels, labels) in enumerate(progress(batches, total=len(parts), text=text)):
        images = views.render(pixels.to(device), batch, mean=what.mean, std=what.std)
        counts += labels.bincount(minlength=len(counts))
        for own in sums:
            own.add(images, labels)
    for name, model in networks.items():
        model.to(homes[name])
    return {name: own.finish(counts, len(parts)) for name, own in zip(networks, sums, strict=True)}


# ---------------------------------------------------------------- stored

def real_statistics(networks: dict[str, nn.Module], real: RealSet, what: Measurement, *,
                    weights: dict[str, Path], device: torch.device) -> dict[str, Measured]:
    """Statistics of networks, on the device: read where they were measured before, else measured and stored.

    Args: weights: the file of each network, beside which its statistics lie; of one without they are not
          stored; where that folder cannot be written this process keeps them, which is said.
    """
    record = what.record(real, device)
    known = {name: {**record, "network": name, "weights": sha256_file(weights[name])}
             for name in networks if name in weights}
    paths = {name: weights[name].with_name(statistics_name(own)) for name, own in known.items()}
    found = {name: _UNSTORED.get(path) or read_statistics(path, known[name]) for name, path in paths.items()}
    missing = {name: model for name, model in networks.items() if found.get(name) is None}
    measured = measure(missing, real, what, device) if missing else {}
    for name in (name for name in missing if name in paths):
        try:
            save_tensors(paths[name], {"what": known[name], **_on(torch.device("cpu"), measured[name])})
            say(f"statistics of {record['images']} real images in {name}: {paths[name]}")
        except OSError as error:
            _UNSTORED[paths[name]] = measured[name]
            warn_once(f"{paths[name].parent}: cannot be written ({error.strerror}): every process measures "
                      f"statistics of real images anew")
    made = {name: measured.get(name) or found[name] for name in networks}
    return {name: Measured(**_on(device, own)) for name, own in made.items() if own is not None}


def statistics_name(record: Values) -> str:
    """The name of a file of statistics: the weights, then all that they depend on."""
    return f"statistics_{record['weights'][:16]}_{sha256_json(record)[:16]}.pt"


def read_statistics(path: Path, record: Values) -> Measured | None:
    """What was stored of these statistics; None where nothing was, or it is damaged, which is said."""
    if not path.is_file():
        return None
    try:
        saved = load_tensors(path.read_bytes())
        require(isinstance(saved, dict) and saved.get("what") == record, "of something else")
        return Measured(saved["layers"], saved["classes"])
    except (ValueError, KeyError) as error:
        warn_once(f"{path}: damaged ({error}): these statistics are measured anew")
        return None


def _on(device: torch.device, measured: Measured) -> dict[str, Any]:
    """Its fields with every vector on a device."""
    return {field.name: {name: {key: value.to(device) for key, value in vectors.items()}
                         for name, vectors in getattr(measured, field.name).items()}
            for field in dataclasses.fields(measured)}
