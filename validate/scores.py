"""DD-Ranking's scores of a distilled set, of accuracies as fractions.

The public package (ddranking 0.2.0) feeds percentages into the exponential, which then says the floor,
-0.157, of nearly every set: its LRS and ARS are not comparable with these.   Source: DD-Ranking;
baselines.md 16b, ecosystem.md 3.
"""
import math

from utils.pieces import require

LEAST, MOST = math.exp(-1), math.e


def hard_label_recovery(full: float, distilled: float) -> float:
    """HLR: what hard labels lose on the set against all real images; lower is better.

    Args:    full, distilled: accuracies with hard labels, in [0, 1].
    Returns: in [-1, 1].   Raises: ValueError on percentages.   Source: baselines.md 16b.
    """
    return _fraction(full) - _fraction(distilled)


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR: what the set gains over as many random real images under one protocol; higher is better.

    Args:    distilled, random: accuracies with the protocol's labels, in [0, 1].
    Returns: in [-1, 1].   Raises: ValueError on percentages.   Source: baselines.md 16b.
    """
    return _fraction(distilled) - _fraction(random)


def label_robustness(hlr: float, ior: float, weight: float = 0.5) -> float:
    """LRS of an HLR and an IOR: weight * IOR - (1 - weight) * HLR, through `stretch`.

    Returns: in [0, 1] at the default weight; 0.269 where both are 0.   Source: baselines.md 16b.
    """
    return stretch(weight * _fraction(ior) - (1 - weight) * _fraction(hlr))


def augmentation_robustness(augmented: float, plain: float, weight: float = 0.5) -> float:
    """ARS of two gains over random real images, with augmentation and without it, as LRS.

    Args:    augmented, plain: of `improvement_over_random`;  weight: of the former.
    Returns: in [0, 1]; 0.269 where the set is as good as random.   Source: baselines.md 16b.
    """
    return stretch(weight * _fraction(augmented) + (1 - weight) * _fraction(plain))


def stretch(value: float) -> float:
    """[-1, 1] to [0, 1] by the exponential: (e^value - e^-1) / (e - e^-1).   Source: baselines.md 16b."""
    return (math.exp(value) - LEAST) / (MOST - LEAST)


def _fraction(value: float) -> float:
    require(-1 <= value <= 1, f"scores are of fractions, expected -1 to 1, got {value:g}: percentages?")
    return value
