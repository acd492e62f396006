"""Which epochs of a training have soft labels and which classes.  TRAININGS: name -> piece.

A piece makes of a run's labels what teaches one student.  M distilled images, N views of an epoch, K classes.
"""
import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from utils.label_formats import Tensors
from utils.pieces import Options, option, require
from utils.runtime import generator
from utils.views import CutMix, EpochViews
from validate.losses import CE, ClassShares
from validate.soft_labels import HardLabels, SoftLabels, Teach, Teaching, moved


@dataclasses.dataclass(frozen=True)
class LabelPool:
    """The batches of all epochs of labels, drawn without replacement; an empty pool is filled anew.

    An epoch takes as many batches as one of labels has, from any of them: not every image once.  The order is
    a permutation by (seed, refill).   Source: HALD; facts-2026.md 4.
    """

    labels: SoftLabels
    num_batches: int
    seed: int

    def draw(self, refill: int, part: int) -> list[tuple[int, int]]:
        """(epoch of labels, batch of it), in order, of the part-th epoch that is taken from a full pool."""
        size = self.labels.labels.label_epochs * self.num_batches
        order = torch.randperm(size, generator=generator(self.seed, "label pool", refill)).tolist()
        return [divmod(i, self.num_batches)
                for i in order[part * self.num_batches:(part + 1) * self.num_batches]]

    def epoch(self, refill: int, part: int) -> tuple[EpochViews, Teach]:
        """That epoch.   Raises: as `LabelManifest.load`."""
        batches = self.draw(refill, part)
        return self.labels.taught(*gather(self.labels.load, batches), batches)


def gather(load: Callable[[int], tuple[EpochViews, Tensors]],
           batches: Sequence[tuple[int, int]]) -> tuple[EpochViews, Tensors]:
    """Batches of several epochs of labels as one epoch.

    One file is in memory at a time, beside what was taken of those before.
    Args: load(epoch): of `SoftLabels`;  batches: (epoch of labels, batch of it), in the order of training.
    """
    taken: dict[tuple[int, int], Tensors] = {}
    for epoch in sorted({epoch for epoch, _ in batches}):
        drawn, stored = load(epoch)
        tensors = drawn.tensors() | stored
        for batch in (batch for own, batch in batches if own == epoch):
            of_batch = {"mix_box": slice(batch, batch + 1), "mix_lam": slice(batch, batch + 1)}
            taken[epoch, batch] = {name: tensor[of_batch.get(name, drawn.rows(batch))].clone()
                                   for name, tensor in tensors.items()}
    parts = [taken.pop(batch) for batch in batches]
    joined = {name: torch.cat([part[name] for part in parts]) for name in tensors}
    return (EpochViews.of(drawn.laws, joined, uneven=tuple(len(part["index"]) for part in parts)),
            {name: joined[name] for name in stored})


@dataclasses.dataclass(frozen=True)
class SmoothedClasses:
    """Classes as labels: an image's and its CutMix partner's, both smoothed, by their shares of the pixels.

    targets: (M,) classes of the distilled images.
    """

    hard: HardLabels
    targets: torch.Tensor
    num_classes: int
    smoothing: float

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        """As `Teaching.epoch`; labels are shares of classes, of which a view's sum is 1."""
        drawn, _ = self.hard.epoch(epoch)
        there = moved({"own": self.targets[drawn.index.long()], "partner": drawn.mix_index.long()})

        def teach(batch: int, views: torch.Tensor) -> torch.Tensor:
            own, partner = (tensor[drawn.rows(batch)] for tensor in there(views.device).values())
            classes = F.one_hot(own, self.num_classes).float()
            share = float(drawn.mix_lam[batch])
            mixed = share * classes + (1 - share) * classes[partner]
            return (1 - self.smoothing) * mixed + self.smoothing / self.num_classes
        return drawn, teach


@dataclasses.dataclass(frozen=True)
class SoftHardSoftTeaching(Teaching):
    """Soft labels in the epochs before `begin` and from `end` on, classes in between."""

    pool: LabelPool
    classes: SmoothedClasses
    begin: int
    end: int

    def epoch(self, epoch: int) -> tuple[EpochViews, Teach]:
        """As `Teaching.epoch`."""
        if self.begin <= epoch < self.end:
            return self.classes.epoch(epoch)
        lasts = self.pool.labels.labels.label_epochs  # epochs that a full pool lasts
        refill, part = divmod(epoch if epoch < self.begin else epoch - self.end, lasts)
        return self.pool.epoch(refill + (-(-self.begin // lasts) if epoch >= self.end else 0), part)

    def loss(self, epoch: int, chosen: CE) -> CE:
        """As `Teaching.loss`."""
        return ClassShares() if self.begin <= epoch < self.end else chosen


# ---------------------------------------------------------------- pieces

@dataclasses.dataclass(frozen=True, kw_only=True)
class AsLabelled(Options):
    """Every epoch as the labels say.   Source: published recipe."""

    def check(self, epochs: int, *, soft: bool) -> None:
        """Raises: ValueError where so many epochs, or labels that are not soft, do not fit."""

    def __call__(self, labels: Teaching, hard: HardLabels, *, targets: torch.Tensor, num_classes: int,
                 epochs: int) -> Teaching:
        """What teaches a student.

        Args: labels: of the run;  hard: the student's own views, by the labels' laws;  targets: (M,) classes.
        """
        return labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftHardSoft(AsLabelled):
    """Soft labels, then classes, then soft labels again; one optimiser and one schedule run through all.

    Of E epochs floor(S / 2) are soft, E - S hard, the others soft.  Soft ones take batches of the labels from
    a pool that is full at the start of either phase, with --loss-type.  Hard ones are views of the
    student's own by the labels' laws but with CutMix (alpha 1), and cross-entropy with both smoothed classes.
    Not as in HALD: partners there are the batch reversed, of which an odd one loses an image, here a drawn
    permutation, in which an image may be its own partner; its pool's order is the same for every student; the
    refills that it makes and leaves unused in the hard phase are not counted here.
    Source: HALD; facts-2026.md 4.
    """

    soft_epochs: int = option(150, "epochs on soft labels, half of them before the hard ones", source="HALD",
                              range="in [1, 100000]")
    smoothing: float = option(0.8, "share of a hard target that goes to all classes alike", source="HALD",
                              range="in [0, 1]")

    def check(self, epochs: int, *, soft: bool) -> None:
        """As `AsLabelled.check`."""
        require(soft, "--training soft-hard-soft needs soft labels: give --fkd-path, and a --loss-type that "
                "uses them")
        require(self.soft_epochs <= epochs, f"--soft-epochs {self.soft_epochs} of a training of {epochs} "
                f"epochs: expected at most {epochs}")

    def __call__(self, labels: Teaching, hard: HardLabels, *, targets: torch.Tensor, num_classes: int,
                 epochs: int) -> Teaching:
        """As `AsLabelled`."""
        assert isinstance(labels, SoftLabels)  # of `check`
        begin = self.soft_epochs // 2
        mixed = dataclasses.replace(hard, views=dataclasses.replace(hard.views, mix_type=CutMix()))
        return SoftHardSoftTeaching(
            pool=LabelPool(labels, hard.views.count(hard.num_images), hard.seed),
            classes=SmoothedClasses(mixed, targets, num_classes, self.smoothing),
            begin=begin, end=begin + epochs - self.soft_epochs)


TRAININGS: dict[str, type[AsLabelled]] = {"as-labelled": AsLabelled, "soft-hard-soft": SoftHardSoft}
