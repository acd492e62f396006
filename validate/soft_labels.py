"""What a student is taught: views of the distilled set, each with a soft label or none.

Stored labels are read from files, online ones are computed with the teachers that the manifest names, hard
ones do without.  N views of an epoch, B views of a batch, C channels, H W pixels, K classes.
"""
from pathlib import Path

import torch

from models.ensemble import ensemble_logits
from models.registry import load_teachers
from utils.augment import batch_rows, plan_epoch, plan_label_epoch
from utils.formats import label_path, load_labels
from utils.label_formats import label_format
from utils.runtime import generator


class HardLabels:
    """Views drawn from (seed, epoch) of the student; no soft labels.   Source: recovery-only protocol."""

    def __init__(self, num_images: int, views: dict, *, seed: int):
        """Args: views: keywords of `plan_epoch`."""
        self._num_images, self._views, self._seed = num_images, views, seed

    def epoch(self, epoch: int) -> dict:
        """The views of one epoch, as `plan_epoch` gives them, with what `logits` needs."""
        return plan_epoch(self._num_images, **self._views, generator=generator(self._seed, "student", epoch))

    def logits(self, epoch_views: dict, batch: int, views: torch.Tensor) -> torch.Tensor | None:
        """The soft labels of one batch, (B, K) float32, or None.

        Args: epoch_views: of `epoch`, on the views' device;  views: (B, C, H, W), rendered.
        """
        return None


class StoredLabels:
    """Views and soft labels as relabel stored them; a pool of fewer epochs is gone through in turn."""

    def __init__(self, folder: Path, manifest: dict):
        self._folder, self._pool = folder, manifest["label_epochs"]
        self._name = manifest["config"]["label_format"]
        self._format, self._num_classes = label_format(self._name), len(manifest["class_names"])
        self._batch_size = manifest["views"]["batch_size"]

    def epoch(self, epoch: int) -> dict:
        """As `HardLabels.epoch`."""
        return load_labels(label_path(self._folder, epoch % self._pool), format_name=self._name,
                           num_classes=self._num_classes)

    def logits(self, epoch_views: dict, batch: int, views: torch.Tensor) -> torch.Tensor:
        """As `HardLabels.logits`."""
        part = batch_rows(batch, self._batch_size)
        rows = {name: epoch_views[name][part] for name in self._format.tensors(self._num_classes)}
        return self._format.decode(rows, self._num_classes)


class OnlineLabels:
    """The views that relabel would have stored, their labels computed by its teachers at every batch."""

    def __init__(self, manifest: dict, teachers: list):
        """Args: teachers: of `open_label_teachers`."""
        self._manifest, self._config, self._teachers = manifest, manifest["config"], teachers

    def epoch(self, epoch: int) -> dict:
        """As `HardLabels.epoch`."""
        return plan_label_epoch(self._manifest["num_images"], self._manifest["views"],
                                seed=self._config["seed"], epoch=epoch % self._manifest["label_epochs"])

    def logits(self, epoch_views: dict, batch: int, views: torch.Tensor) -> torch.Tensor:
        """As `HardLabels.logits`."""
        return ensemble_logits(views, self._teachers, ensemble=self._config["ensemble"],
                               precision=self._config["precision"])


def open_label_teachers(manifest: dict, *, weights, weights_dir: str, stem: str, device) -> list:
    """The networks of online labels, the primary first: those that relabel checked, by their hashes.

    Raises: ValueError when the weights found here are others.
    """
    teachers = load_teachers(manifest["teachers"], weights=weights, weights_dir=weights_dir, stem=stem,
                             dataset=manifest["dataset"], num_classes=len(manifest["class_names"]),
                             device=device)
    for name, teacher in teachers.items():
        if teacher.sha256 != manifest["weights"][name]:
            raise ValueError(f"the weights of {name} are not those that the labels were made for; name them "
                             f"with --weights-dir or --weights {name}=PATH, or rerun relabel")
    return [teacher.model.to(memory_format=torch.channels_last) for teacher in teachers.values()]
