"""By which statistics teachers normalise the views that they label.   Used by relabel, and by online labels.

TEACHER_STATISTICS: name -> piece, which asks teachers about one batch of views.
T teachers, N views of a batch, C channels, H W pixels, K classes.
"""
import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from utils.pieces import Options, option, require
from utils.runtime import derive_seed

Batch = tuple[int, int, int]  # seed of the labels, epoch, number in the epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Running(Options):
    """Those of the teacher's training, without dropout: eval mode.   Source: published recipe."""

    def ask(self, teachers: list[nn.Module], views: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
        """The logits (N, K) of every teacher.

        Args: teachers: in eval mode, as they are afterwards;  views: (N, C, H, W);
              batch: all that is random comes from it.
        """
        return [teacher(views) for teacher in teachers]

    def check(self, num_views: int, batch_size: int) -> None:
        """Raises: ValueError where an epoch of so many views has a batch that cannot be asked about."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchStatistics(Running):
    """Those of the views at hand, dropout live: train mode.  A mixed batch is cut, each part asked by itself.

    Running statistics are neither read nor written.  Parts end at floor(i N / parts); of few views there are
    fewer parts, so that none is a single view.
    Source: BSSL of CV-DD and FADRM, two parts (facts-2026.md 1.3); SRe2L on CIFAR-100, one (baselines.md
    13.1), whose running statistics also drift, unread.
    """

    label_splits: int = option(2, "parts of a batch that are asked about separately", source="CV-DD, FADRM",
                               range="in [1, 32767]")

    def ask(self, teachers: list[nn.Module], views: torch.Tensor, batch: Batch) -> list[torch.Tensor]:
        """As `Running.ask`; dropout's random numbers are of this batch alone."""
        seed, epoch, number = batch
        parts = split(len(views), self.label_splits)
        with forked(views.device, seed, "teacher dropout", epoch, number), train_mode(teachers):
            return [torch.cat([teacher(views[part]) for part in parts]) for teacher in teachers]

    def check(self, num_views: int, batch_size: int) -> None:
        """As `Running.check`: of a single view there are no statistics."""
        require(num_views % batch_size != 1,
                f"--teacher-statistics batch: of {num_views} views in batches of {batch_size} the last has "
                f"one view, which has no statistics; choose another --batch-size")


def split(num: int, parts: int) -> list[slice]:
    """A batch cut at floor(i num / parts), into fewer parts where one would be a single view."""
    parts = max(1, min(parts, num // 2))
    edges = [i * num // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]


@contextlib.contextmanager
def forked(device: torch.device, *parts: object) -> Iterator[None]:
    """Seeds torch's own generators from `parts`, and puts them back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(*parts))
        yield


@contextlib.contextmanager
def train_mode(networks: list[nn.Module]) -> Iterator[None]:
    """Networks in train mode, and back in eval mode; running statistics are neither read nor written."""
    tracking = [layer for network in networks for layer in network.modules()
                if getattr(layer, "track_running_stats", False)]
    try:
        for network in networks:
            network.train()
        for layer in tracking:
            layer.track_running_stats = False  # type: ignore[assignment]
        yield
    finally:
        for layer in tracking:
            layer.track_running_stats = True  # type: ignore[assignment]
        for network in networks:
            network.eval()


TEACHER_STATISTICS: dict[str, type[Running]] = {"running": Running, "batch": BatchStatistics}
