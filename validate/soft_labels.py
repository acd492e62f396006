"""What a student is taught: views of the distilled set, each with a soft label or none.

Stored labels are read from files, online ones are computed with the teachers that the manifest names, hard
ones do without.  N views of an epoch, B views of a batch, C channels, H W pixels, K classes.
"""
import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch

from models.ensemble import ENSEMBLES, ensemble_logits
from models.registry import load_teachers
from models.teacher_statistics import TEACHER_STATISTICS
from utils.flags import WeightFlags
from utils.formats import LabelManifest
from utils.label_formats import Tensors
from utils.pieces import build_piece, require
from utils.runtime import generator
from utils.views import EpochViews, Views
from validate.losses import CE

# f(batch, its rendered views (B, C, H, W)) -> labels (B, K) float32 on their device, or None.
Teach = Callable[[int, torch.Tensor], torch.Tensor | None]


def moved(tensors: Tensors) -> Callable[[torch.device], Tensors]:
    """f(device): the tensors there, copied once."""
    return functools.cache(lambda device: {name: tensor.to(device) for name, tensor in tensors.items()})


class Teaching:
    """Whatever teaches: hard, stored or online labels, or these in turn."""

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        """The views of an epoch, and their labels."""
        raise NotImplementedError

    def loss(self, epoch: int, chosen: CE) -> CE:
        """The loss of an epoch.   Args: chosen: by --loss-type."""
        return chosen


@dataclasses.dataclass(frozen=True)
class HardLabels(Teaching):
    """Views drawn from (seed, epoch) of the student; no soft labels.   Source: recovery-only protocol."""

    num_images: int
    views: Views
    seed: int

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        return self.views.draw(self.num_images, generator(self.seed, "student", epoch)), lambda *_: None


class SoftLabels(Teaching):
    """Labels of relabel, in a pool of `labels.label_epochs` epochs that is gone through in turn."""

    labels: LabelManifest

    def load(self, epoch: int) -> tuple[EpochViews, Tensors]:
        """Views of an epoch, and of their labels what is stored."""
        raise NotImplementedError

    def taught(self, drawn: EpochViews, stored: Tensors,
               origins: Sequence[tuple[int, int]]) -> tuple[EpochViews, Teach]:
        """What `load` gave, or batches of it, as an epoch.

        Args: origins: (epoch of labels, batch of it) that each batch is.
        """
        raise NotImplementedError

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        """As `Teaching.epoch`."""
        drawn, stored = self.load(epoch)
        labelled = epoch % self.labels.label_epochs
        return self.taught(drawn, stored, [(labelled, batch) for batch in range(len(drawn))])


@dataclasses.dataclass(frozen=True)
class StoredLabels(SoftLabels):
    """Views and soft labels as relabel stored them."""

    labels: LabelManifest

    def load(self, epoch: int) -> tuple[EpochViews, Tensors]:
        """As `SoftLabels.load`.   Raises: as `LabelManifest.load`."""
        return self.labels.load(epoch)

    def taught(self, drawn: EpochViews, stored: Tensors,
               origins: Sequence[tuple[int, int]]) -> tuple[EpochViews, Teach]:
        """As `SoftLabels.taught`."""
        there = moved(stored)

        def teach(batch: int, views: torch.Tensor) -> torch.Tensor:
            rows = {name: tensor[drawn.rows(batch)] for name, tensor in there(views.device).items()}
            return self.labels.label_format.decode(rows, self.labels.num_classes)
        return drawn, teach


class OnlineLabels(SoftLabels):
    """The views that relabel would have stored, their labels computed by its teachers at every batch."""

    def __init__(self, labels: LabelManifest, teachers: list[torch.nn.Module], batch_size: int):
        """Args: teachers: of `open_label_teachers`;  batch_size: views a batch, of the student."""
        self.labels, self._teachers = labels, teachers
        self._views = dataclasses.replace(labels.views, batch_size=batch_size)
        self._ensemble = build_piece(ENSEMBLES, labels.config["ensemble"], labels.config)
        self._statistics = build_piece(TEACHER_STATISTICS, labels.config.get("teacher_statistics", "running"),
                                       labels.config)
        self._statistics.check(self._views.num_views(labels.num_images), batch_size)

    def load(self, epoch: int) -> tuple[EpochViews, Tensors]:
        """As `SoftLabels.load`: nothing is stored."""
        return self._views.draw_labelled(self.labels.num_images, seed=self.labels.seed,
                                         epoch=epoch % self.labels.label_epochs), {}

    def taught(self, drawn: EpochViews, stored: Tensors,
               origins: Sequence[tuple[int, int]]) -> tuple[EpochViews, Teach]:
        """As `SoftLabels.taught`."""
        return drawn, lambda batch, views: ensemble_logits(
            views, self._teachers, ensemble=self._ensemble, precision=self.labels.precision,
            statistics=self._statistics, batch=(self.labels.seed, *origins[batch]))


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
                  batch_size: int) -> SoftLabels | None:
    """What teaches every student alike: stored labels, or online ones and their teachers; None: hard ones."""
    if labels and not labels.label_format.stored:
        return OnlineLabels(labels, open_label_teachers(labels, flags, device), batch_size)
    return StoredLabels(labels) if labels else None
