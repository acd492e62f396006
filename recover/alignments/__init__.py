"""What aligns a batch with a network.   ALIGNMENTS: name -> piece, a file an idea."""
import dataclasses
from typing import Literal

from torch import nn

from models.registry import has_batchnorm
from recover.alignments.alignment import Aligned, Alignment, warn_of_silent
from recover.alignments.batchnorm import BNAlignment
from recover.alignments.convolution import Convolution
from recover.alignments.fused import FusedBNAlignment
from recover.alignments.measured import Statistics
from recover.units import Inputs
from utils.pieces import option, require
from utils.runtime import say

ENGINES: dict[str, type[BNAlignment]] = {"fused": FusedBNAlignment, "reference": BNAlignment}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNorm(Alignment):
    """R_BN: mean and variance of the inputs of BatchNorm layers.   Source: paper eq. 3."""

    first_bn_multiplier: float = option(10.0, "weight of a teacher's first aligned layer (bn: its first "
                                       "BatchNorm layer; bn-conv: its first convolution)", source="SRe2L",
                                       range=">= 0")
    bn_variance_weight: float = option(1.0, "weight of the variances' distance beside the means'",
                                      source="paper eq. 3; DWA: 2, 11 on small images", range=">= 0",
                                      neutral=1.0)
    engine: Literal["fused", "reference"] = option(
        "fused", "a network at a time, rewritten; or hooks and every graph at once: equal to rounding")
    compile: bool = option(
        False, "compile the fused engine's networks (a minute or so a network and number of slices)")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.engine == "fused" or not self.compile, "--compile needs --engine fused")

    @property
    def keeps_graphs(self) -> bool:
        return self.engine == "reference"

    def can_align(self, network: nn.Module) -> bool:
        """As `Alignment.can_align`."""
        return has_batchnorm(network)

    @property
    def saves_memory(self) -> tuple[str, ...]:
        """None if compiled: a compiler decides by itself what is kept.  Kept graphs know no turns."""
        return () if self.compile else ("recompute",) if self.keeps_graphs else ("offload", "recompute")

    def prepare(self, inputs: Inputs, names: tuple[str, ...]) -> dict[str, Aligned]:
        """As `Alignment.prepare`; warns of networks that align nothing."""
        engine = ENGINES[self.engine]
        made = {name: engine(inputs.networks[name], first_multiplier=self.first_bn_multiplier,
                             variance_weight=self.bn_variance_weight, precision=inputs.precision,
                             compiled=self.compile) for name in names}
        if taken := [f"{name} {own.num_fused} of {len(own)}" for name, own in made.items()
                     if isinstance(own, FusedBNAlignment) and len(own)]:
            say(f"BatchNorm layers in the fused engine (the rest runs as it is): {', '.join(taken)}")
        aligned: dict[str, Aligned] = {**made}
        warn_of_silent(aligned, "no BatchNorm", " (the published behaviour)")
        return aligned


ALIGNMENTS: dict[str, type[Alignment]] = {"bn": BatchNorm, "bn-conv": Convolution, "statistics": Statistics}
