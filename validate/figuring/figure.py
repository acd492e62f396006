"""What a figure is: a piece with options of its own, numbers, and how they are drawn."""
import dataclasses
from typing import Any

import torch

from utils.flags import ComputeFlags, WeightFlags
from utils.image_sets import SetFlags
from utils.pieces import Options, Values, option
from validate.figuring.runs import NamedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFlags(SetFlags, WeightFlags, ComputeFlags):
    """What figures take whose numbers are not all on disk: where networks and real images are."""

    train_data_path: str = option("", "folder of the real training data (holding train/, or the classes)",
                                  identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure(Options):
    """Base of all figures."""

    def prepare(self, runs: list[NamedRun], flags: SourceFlags, *, device: torch.device,
                command: str) -> "Figure":
        """Measures and makes what the numbers are read from, where it is not there yet.

        Returns: the figure of just that: with its network by name where the options leave it open.
        """
        return self

    def numbers(self, runs: list[NamedRun]) -> Values:
        """What is drawn, as JSON values."""
        raise NotImplementedError

    def draw(self, values: Values) -> Any:
        """The numbers as matplotlib's figure.   Raises: ValueError where there is nothing to draw."""
        raise NotImplementedError
