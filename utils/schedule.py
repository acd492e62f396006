"""Learning-rate factors and the varying number of iterations, as pure functions of a step.

SCHEDULES: name -> piece, called as schedule(step, steps) in [0, 1], the factor on the base learning rate.
CROP_LAWS: name -> piece, called as law(iterations, smallest), the least area fraction of every crop.
"""
import dataclasses
import math

import torch

from utils.pieces import Options, option


def ssrs(step: float, steps: float, zeta: float) -> float:
    """Smoothed decayed cosine, then a linear tail after 5/6 of the run.   Source: EDC eq. 33; paper 4.4.

    The drop at 5/6 (0.75 to 0.125 for zeta = 2.5) is in the source: the tail starts from the value
    f(5/6) times (1 - step / steps).
    Args:    step: 0 <= step < steps;  zeta: slow-down coefficient, 2.5 in the paper.
    Returns: factor in [0, 1].
    """
    if step <= 5 * steps / 6:
        return (1 + math.cos(math.pi * step / (zeta * steps))) / 2
    return (1 + math.cos(5 * math.pi / (6 * zeta))) / 2 * (1 - step / steps)


def cosine(step: float, steps: float) -> float:
    """(1 + cos(pi step / steps)) / 2, from 1 to 0.   Source: SRe2L; supplement table 1b (recover)."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def half_cosine(step: float, steps: float) -> float:
    """(1 + cos(pi step / (2 steps))) / 2, from 1 to one half.   Source: DELT's evaluation."""
    return cosine(step, 2 * steps)


def linear(step: float, steps: float) -> float:
    """1 - step / steps.   Source: published recipe without its cosine switch; recovery-only protocol."""
    return 1 - step / steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Options):
    """From 1 to 0 along a cosine.   Source: SRe2L."""

    def __call__(self, step: float, steps: float) -> float:
        """The factor of a step, 0 <= step < steps."""
        return cosine(step, steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SSRS(Cosine):
    """Smoothed decayed cosine with a linear tail.   Source: EDC eq. 33; paper 4.4."""

    zeta: float = option(2.5, "slow-down of ssrs", source="paper 4.4", range="> 0")

    def __call__(self, step: float, steps: float) -> float:
        """As `Cosine`."""
        return ssrs(step, steps, self.zeta)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Cosine):
    """From 1 to 0 along a line, or a part of it.   Source: recovery-only protocol; EDC as run, length 2."""

    linear_length: float = option(1.0, "the line would reach 0 after so many times the epochs",
                                  source="recovery-only protocol; EDC as run: 2", range=">= 1", neutral=1.0)

    def __call__(self, step: float, steps: float) -> float:
        """As `Cosine`."""
        return linear(step, self.linear_length * steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalfCosine(Cosine):
    """From 1 to one half along a cosine.   Source: DELT's evaluation."""

    def __call__(self, step: float, steps: float) -> float:
        """As `Cosine`."""
        return half_cosine(step, steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothedCosine(Cosine):
    """(1 + cos(pi step / (eta steps))) / 2: the first eta-th part of a cosine; `half-cosine` at eta = 2.

    Source: EDC (zeta there), RD3, FADRM and CV-DD (eta 1 or 2 by data, IPC and student); facts-2026.md 1.4.
    """

    eta: float = option(2.0, "how many times the run the cosine is long", source="FADRM, CV-DD",
                        range="in [1, 1000]")

    def __call__(self, step: float, steps: float) -> float:
        """As `Cosine`."""
        return cosine(step, self.eta * steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multistep(Cosine):
    """1, times gamma from each milestone on.   Source: EDC on CIFAR-10; baselines.md 12.3."""

    milestones: tuple[float, ...] = option((0.8, 0.9, 0.95), "where the rate falls, shares of the epochs",
                                           source="EDC on CIFAR-10", commas=True, range="in (0, 1)")
    gamma: float = option(0.5, "factor at each milestone", source="EDC on CIFAR-10", range="in (0, 1]")

    def __call__(self, step: float, steps: float) -> float:
        """As `Cosine`."""
        return self.gamma ** sum(step / steps >= milestone for milestone in self.milestones)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmupCosine(Cosine):
    """Linear from a factor up to 1, then a cosine to 0 over the epochs that are left.

    A run of no more epochs than the warm-up ends within it.   Source: SRe2L and DWA on Tiny-ImageNet;
    baselines.md 13.2.
    """

    warmup_epochs: int = option(5, "epochs of the warm-up", source="SRe2L on Tiny-ImageNet",
                                range="in [0, 100000]")
    warmup_factor: float = option(0.01, "factor of the first epoch", source="SRe2L on Tiny-ImageNet",
                                  range="in [0, 1]")

    def __call__(self, step: float, steps: float) -> float:
        """As `Cosine`."""
        if step < self.warmup_epochs:
            return self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_epochs
        return cosine(step - self.warmup_epochs, steps - self.warmup_epochs)


SCHEDULES: dict[str, type[Cosine]] = {
    "ssrs": SSRS, "cosine": Cosine, "linear": Linear, "half-cosine": HalfCosine,
    "smoothed-cosine": SmoothedCosine, "multistep": Multistep, "warmup-cosine": WarmupCosine}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropLaw(Options):
    """The same least area fraction of a crop in every iteration.   Source: published recipe."""

    def __call__(self, iterations: int, smallest: float) -> torch.Tensor:
        """The least area fraction of each iteration's crop, (iterations,)."""
        return torch.full((iterations,), smallest, dtype=torch.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CosineCrops(CropLaw):
    """From 1 down to the smallest along a cosine.   Source: CDA; paper table 3b."""

    milestone: float = option(1.0, "share of the iterations after which the least area is the smallest",
                              source="CDA", range="in (0, 1]", neutral=1.0)

    def left(self, step: float, steps: float) -> float:
        """How much of the way down is left, from 1 to 0, at 0 <= step < steps of the curriculum."""
        return cosine(step, steps)

    def __call__(self, iterations: int, smallest: float) -> torch.Tensor:
        """As `CropLaw`; in float32, to which images that exist were planned."""
        end = self.milestone * iterations
        return torch.tensor([smallest + (1 - smallest) * (self.left(t, end) if t < end else 0.0)
                             for t in range(iterations)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearCrops(CosineCrops):
    """From 1 down to the smallest along a line.   Source: CDA."""

    def left(self, step: float, steps: float) -> float:
        """As `CosineCrops.left`."""
        return linear(step, steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCrops(CosineCrops):
    """The whole image, then crops down to the smallest.   Source: CDA."""

    def left(self, step: float, steps: float) -> float:
        """As `CosineCrops.left`."""
        return 1.0


CROP_LAWS: dict[str, type[CropLaw]] = {"none": CropLaw, "cosine": CosineCrops, "linear": LinearCrops,
                                       "step": StepCrops}


def num_iterations(ipc_id: int, *, iteration: int, iteration_step: int, iteration_period: int) -> int:
    """Iterations of IPC index `ipc_id`: iteration - iteration_step * (ipc_id mod iteration_period).

    Source: published recipe, after DELT (paper 4.4): 4000, 3500, ..., 500, then again.
    """
    return iteration - iteration_step * (ipc_id % iteration_period)
