"""How soft labels are stored: N rows of K logits in fewer bytes, and back.   LABEL_FORMATS: name -> piece.

fp16       two bytes a logit, the published format.
int8       one byte a logit and each row's own least value and step; every class is kept.
topk       the k largest logits with their classes; all others are replaced by their mean, the constant that
           is nearest to them in squared error, so that an MSE over all classes still has a target for each.
online     nothing: validate computes the same logits from the same teachers and views.

N views, B views of a batch, K classes.
"""
import dataclasses
import math
from typing import ClassVar

import torch

from utils.pieces import Options, option, require

Tensors = dict[str, torch.Tensor]
Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FP16(Options):
    """Every logit in two bytes.   Source: published recipe."""

    stored: ClassVar[bool] = True

    def layout(self, num_classes: int) -> Layout:
        """name -> (dtype, shape of a row) of what is stored."""
        return {"logits": (torch.float16, (num_classes,))}

    def encode(self, logits: torch.Tensor) -> Tensors:
        """(N, K) float32 as the tensors of `layout`."""
        return {"logits": logits.half()}

    def decode(self, rows: Tensors, num_classes: int) -> torch.Tensor:
        """(B, K) float32 from any B rows of the stored tensors."""
        return rows["logits"].float()

    def check(self, num_classes: int) -> None:
        """Raises: ValueError where so many classes cannot be stored."""

    def row_bytes(self, num_classes: int) -> int:
        """Bytes of one view's logits."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.layout(num_classes).values())

    def num_files(self, label_epochs: int) -> int:
        """How many files a pool of so many epochs of labels takes: one an epoch, where any is stored."""
        return label_epochs if self.stored else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8(FP16):
    """Every logit, rounded to 1/255 of its row's range.   Source: ours."""

    def layout(self, num_classes: int) -> Layout:
        """As `FP16.layout`."""
        return {"codes": (torch.uint8, (num_classes,)), "low": (torch.float32, ()),
                "step": (torch.float32, ())}

    def encode(self, logits: torch.Tensor) -> Tensors:
        """As `FP16.encode`."""
        low, high = logits.amin(1), logits.amax(1)
        step = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).tiny)
        codes = ((logits - low[:, None]) / step[:, None]).round().clamp(0, 255).to(torch.uint8)
        return {"codes": codes, "low": low, "step": step}

    def decode(self, rows: Tensors, num_classes: int) -> torch.Tensor:
        """As `FP16.decode`."""
        return rows["low"][:, None] + rows["step"][:, None] * rows["codes"].float()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TopK(FP16):
    """The largest logits, and the others' mean.   Source: ours; FKD stores probabilities so."""

    topk: int = option(50, "logits that are kept; also spelt topk:50", range="> 0", short=True)

    def layout(self, num_classes: int) -> Layout:
        """As `FP16.layout`."""
        return {"values": (torch.float16, (self.topk,)), "classes": (torch.int16, (self.topk,)),
                "rest": (torch.float16, ())}

    def encode(self, logits: torch.Tensor) -> Tensors:
        """As `FP16.encode`."""
        values, classes = logits.topk(self.topk, 1)
        rest = (logits.double().sum(1) - values.double().sum(1)) / (logits.shape[1] - self.topk)
        return {"values": values.half(), "classes": classes.to(torch.int16), "rest": rest.half()}

    def decode(self, rows: Tensors, num_classes: int) -> torch.Tensor:
        """As `FP16.decode`."""
        filled = rows["rest"].float()[:, None].repeat(1, num_classes)
        return filled.scatter_(1, rows["classes"].long(), rows["values"].float())

    def check(self, num_classes: int) -> None:
        """Raises: ValueError where K leaves no class out, or int16 cannot number the classes."""
        require(self.topk < num_classes <= torch.iinfo(torch.int16).max,
                f"--label-format topk:{self.topk}: K must be below the {num_classes} classes, of which there "
                f"may be 32767; use int8 or fp16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Online(FP16):
    """Nothing is stored: validate computes the same labels.   Source: DELT."""

    stored: ClassVar[bool] = False

    def layout(self, num_classes: int) -> Layout:
        """As `FP16.layout`: nothing."""
        return {}

    def encode(self, logits: torch.Tensor) -> Tensors:
        """As `FP16.encode`: nothing."""
        return {}


LABEL_FORMATS: dict[str, type[FP16]] = {"fp16": FP16, "int8": Int8, "topk": TopK, "online": Online}
