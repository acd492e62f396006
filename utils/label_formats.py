"""How soft labels are stored: N rows of K logits in fewer bytes, and back.

fp16       two bytes a logit, the published format.
int8       one byte a logit and each row's own least value and step; every class is kept.
topk:k     the k largest logits with their classes; all others are replaced by their mean, the constant that
           is nearest to them in squared error, so that an MSE over all classes still has a target for each.
online     nothing: validate computes the same logits from the same teachers and views.

N views, B views of a batch, K classes.
"""
import dataclasses
import math
from collections.abc import Callable

import torch


@dataclasses.dataclass(frozen=True)
class LabelFormat:
    """One way to store logits.

    tensors(K): name -> (dtype, shape of a row) of what is stored;  encode((N, K) float32): those tensors;
    decode(tensors, K): (B, K) float32, from any B rows of them.
    """

    tensors: Callable[[int], dict]
    encode: Callable[[torch.Tensor], dict]
    decode: Callable[[dict, int], torch.Tensor]

    def row_bytes(self, num_classes: int) -> int:
        """Bytes of one view's logits."""
        return sum(dtype.itemsize * math.prod(shape) for dtype, shape in self.tensors(num_classes).values())


def _encode_int8(logits: torch.Tensor) -> dict:
    low, high = logits.amin(1), logits.amax(1)
    step = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).tiny)
    codes = ((logits - low[:, None]) / step[:, None]).round().clamp(0, 255).to(torch.uint8)
    return {"codes": codes, "low": low, "step": step}


def _decode_int8(rows: dict, num_classes: int) -> torch.Tensor:
    return rows["low"][:, None] + rows["step"][:, None] * rows["codes"].float()


def _topk(num_kept: int) -> LabelFormat:
    def encode(logits: torch.Tensor) -> dict:
        values, classes = logits.topk(num_kept, 1)
        rest = (logits.double().sum(1) - values.double().sum(1)) / (logits.shape[1] - num_kept)
        return {"values": values.half(), "classes": classes.to(torch.int16), "rest": rest.half()}

    def decode(rows: dict, num_classes: int) -> torch.Tensor:
        filled = rows["rest"].float()[:, None].repeat(1, num_classes)
        return filled.scatter_(1, rows["classes"].long(), rows["values"].float())

    return LabelFormat(lambda num_classes: {"values": (torch.float16, (num_kept,)),
                                            "classes": (torch.int16, (num_kept,)),
                                            "rest": (torch.float16, ())}, encode, decode)


LABEL_FORMATS = {
    "fp16": LabelFormat(lambda num_classes: {"logits": (torch.float16, (num_classes,))},
                        lambda logits: {"logits": logits.half()},
                        lambda rows, num_classes: rows["logits"].float()),
    "int8": LabelFormat(lambda num_classes: {"codes": (torch.uint8, (num_classes,)),
                                             "low": (torch.float32, ()), "step": (torch.float32, ())},
                        _encode_int8, _decode_int8),
    "online": LabelFormat(lambda num_classes: {}, lambda logits: {}, lambda rows, num_classes: None),
}


def label_format(name: str) -> LabelFormat:
    """The entry of a --label-format.   Raises: ValueError listing the known ones."""
    head, _, number = name.partition(":")
    if head == "topk" and number.isdigit() and int(number) > 0:
        return _topk(int(number))
    if name not in LABEL_FORMATS:
        raise ValueError(f"--label-format {name}: expected one of {', '.join(LABEL_FORMATS)} or topk:K, for "
                         f"example topk:50")
    return LABEL_FORMATS[name]


def check_num_classes(name: str, num_classes: int) -> None:
    """Raises: ValueError where a topk:K leaves no class out, or cannot number the classes."""
    kept = int(name.partition(":")[2] or 0)
    if kept and not kept < num_classes <= torch.iinfo(torch.int16).max:
        raise ValueError(f"--label-format {name}: K must be below the {num_classes} classes, of which there "
                         f"may be 32767; use int8 or fp16")
