"""What aligns a batch with a network.   ALIGNMENTS: name -> piece, a file an idea."""
import dataclasses
from typing import Literal

from recover.alignments.alignment import Aligned, Alignment
from recover.alignments.batchnorm import BNAlignment
from recover.alignments.fused import FusedBNAlignment
from recover.units import Inputs
from utils.pieces import option, require
from utils.runtime import say, warn_once

ENGINES: dict[str, type[BNAlignment]] = {"fused": FusedBNAlignment, "reference": BNAlignment}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNorm(Alignment):
    """R_BN: mean and variance of the inputs of BatchNorm layers.   Source: paper eq. 3."""

    first_bn_multiplier: float = option(10.0, "weight of a teacher's first BatchNorm layer", source="SRe2L",
                                       range=">= 0")
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

    @property
    def saves_memory(self) -> tuple[str, ...]:
        """None if compiled: a compiler decides by itself what is kept.  Kept graphs know no turns."""
        return () if self.compile else ("recompute",) if self.keeps_graphs else ("offload", "recompute")

    def prepare(self, inputs: Inputs, names: tuple[str, ...]) -> dict[str, Aligned]:
        """As `Alignment.prepare`; warns of networks that align nothing."""
        engine = ENGINES[self.engine]
        made = {name: engine(inputs.networks[name], first_multiplier=self.first_bn_multiplier,
                             precision=inputs.precision, compiled=self.compile) for name in names}
        if taken := [f"{name} {own.num_fused} of {len(own)}" for name, own in made.items()
                     if isinstance(own, FusedBNAlignment) and len(own)]:
            say(f"BatchNorm layers in the fused engine (the rest runs as it is): {', '.join(taken)}")
        aligned: dict[str, Aligned] = {**made}
        if silent := [name for name in names if not len(aligned[name])]:
            warn_once(f"{', '.join(silent)} has no BatchNorm: drawn as a BN teacher its term is 0, and it "
                      f"counts in the mean of --bn-reduce (the published behaviour)")
        return aligned


ALIGNMENTS: dict[str, type[Alignment]] = {"bn": BatchNorm}
