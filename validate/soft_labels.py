"""What a student is taught: views of the distilled set, each with a soft label or none.

Stored labels are read from files, online ones are computed with the teachers that the manifest names, hard
ones do without.  N views of an epoch, B views of a batch, C channels, H W pixels, K classes.
"""
import dataclasses
from collections.abc import Callable

import torch

from models.ensemble import ENSEMBLES, ensemble_logits
from models.registry import load_teachers
from models.teacher_statistics import TEACHER_STATISTICS
from utils.flags import WeightFlags
from utils.formats import LabelManifest
from utils.pieces import build_piece, require
from utils.runtime import generator
from utils.views import EpochViews, Views

# f(batch, its rendered views (B, C, H, W)) -> labels (B, K) float32 on their device, or None.
Teach = Callable[[int, torch.Tensor], torch.Tensor | None]


@dataclasses.dataclass(frozen=True)
class HardLabels:
    """Views drawn from (seed, epoch) of the student; no soft labels.   Source: recovery-only protocol."""

    num_images: int
    views: Views
    seed: int

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        return self.views.draw(self.num_images, generator(self.seed, "student", epoch)), lambda *_: None


@dataclasses.dataclass(frozen=True)
class StoredLabels:
    """Views and soft labels as relabel stored them; a pool of fewer epochs is gone through in turn."""

    labels: LabelManifest

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        """As `HardLabels.epoch`."""
        drawn, stored = self.labels.load(epoch)
        moved: dict[torch.device, dict[str, torch.Tensor]] = {}  # one copy an epoch

        def teach(batch: int, views: torch.Tensor) -> torch.Tensor:
            if views.device not in moved:
                moved[views.device] = {name: tensor.to(views.device) for name, tensor in stored.items()}
            rows = {name: tensor[drawn.rows(batch)] for name, tensor in moved[views.device].items()}
            return self.labels.label_format.decode(rows, self.labels.num_classes)
        return drawn, teach


class OnlineLabels:
    """The views that relabel would have stored, their labels computed by its teachers at every batch."""

    def __init__(self, labels: LabelManifest, teachers: list[torch.nn.Module], batch_size: int):
        """Args: teachers: of `open_label_teachers`;  batch_size: views a batch, of the student."""
        self._labels, self._teachers = labels, teachers
        self._views = dataclasses.replace(labels.views, batch_size=batch_size)
        self._ensemble = build_piece(ENSEMBLES, labels.config["ensemble"], labels.config)
        self._statistics = build_piece(TEACHER_STATISTICS, labels.config.get("teacher_statistics", "running"),
                                       labels.config)
        self._statistics.check(self._views.num_views(labels.num_images), batch_size)

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        seed, labelled = self._labels.seed, epoch % self._labels.label_epochs
        drawn = self._views.draw_labelled(self._labels.num_images, seed=seed, epoch=labelled)
        return drawn, lambda batch, views: ensemble_logits(
            views, self._teachers, ensemble=self._ensemble, precision=self._labels.precision,
            statistics=self._statistics, batch=(seed, labelled, batch))


Teaching = HardLabels | StoredLabels | OnlineLabels


def open_label_teachers(labels: LabelManifest, flags: WeightFlags,
                        device: torch.device) -> list[torch.nn.Module]:
    """The networks of online labels, the primary first: those that relabel checked, by their hashes.

    Raises: ValueError when the weights found here are others.
    """
    teachers = load_teachers(labels.teachers, weights=flags.weights, weights_dir=flags.weights_dir,
                             dataset=labels.dataset, num_classes=labels.num_classes, stem=labels.stem,
                             device=device)
    for name, teacher in teachers.items():
        require(teacher.sha256 == labels.weights[name],
                f"the weights of {name} are not those that the labels were made for; name them "
                f"with --weights-dir or --weights {name}=PATH, or rerun relabel")
    return [teacher.channels_last() for teacher in teachers.values()]


def open_teaching(labels: LabelManifest | None, flags: WeightFlags, device: torch.device,
                  batch_size: int) -> StoredLabels | OnlineLabels | None:
    """What teaches every student alike: stored labels, or online ones and their teachers; None: hard ones."""
    if labels and not labels.label_format.stored:
        return OnlineLabels(labels, open_label_teachers(labels, flags, device), batch_size)
    return StoredLabels(labels) if labels else None
