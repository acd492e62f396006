"""Averages of a student's weights, which are evaluated and saved in its place.  AVERAGES: name -> piece.

A piece is called once with a student and returns what follows it, PyTorch's `AveragedModel`, or None where
the student stands for itself.
"""
import dataclasses
from typing import Literal

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.pieces import Options, option


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoAverage(Options):
    """The student as it trains is evaluated and saved.   Source: published recipe."""

    def __call__(self, student: nn.Module) -> AveragedModel | None:
        """A copy of the student whose `update_parameters` follows it; None: there is none."""
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EMA(NoAverage):
    """The exponential moving average of the parameters over the optimiser's steps, from the first weights on.

    a <- decay a + (1 - decay) w after every step that the optimiser took; training goes on with w.
    BatchNorm's buffers: with `online` they are not averaged, the averaged parameters are evaluated with the
    running statistics of the student that trains, as EDC's are; with `averaged` (ours) the statistics are
    averaged by the same rule, and so are the counts of batches, rounded down, which nothing reads.
    Source: EDC's evaluation; baselines.md 12.1.
    """

    average_decay: float = option(0.99, "decay of the moving average, a step", source="EDC",
                                  range="in [0, 1)")
    average_buffers: Literal["online", "averaged"] = option(
        "online", "BatchNorm statistics of the average: the student's own, or averaged too", source="EDC")

    def __call__(self, student: nn.Module) -> AveragedModel:
        """As `NoAverage`."""
        average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(self.average_decay),
                                use_buffers=self.average_buffers == "averaged")
        average.update_parameters(student)  # the first call copies: the average starts from the first weights
        return average


AVERAGES: dict[str, type[NoAverage]] = {"none": NoAverage, "ema": EMA}
