"""How precisely networks compute; statistics, losses and pixels stay in float32.

fp32    float32 throughout, TF32 switched off (PyTorch's own default uses it in convolutions on a GPU)
tf32    float32 whose products are rounded to 10 bits on NVIDIA GPUs from Ampere on; nothing elsewhere
bf16    convolutions and matrix products in bfloat16
fp16    the same in float16, with the loss scaled so that small gradients do not vanish
"""
import torch

from utils.runtime import warn_once

PRECISIONS = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
LOSS_SCALE = {"fp16": 2.0**14}  # of recover: Adam divides by the gradient's size anyway.   Source: ours


def set_precision(name: str, device: torch.device) -> None:
    """Switches TF32 on or off for this process; `lowered` does the rest where networks run."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    if name == "tf32" and device.type != "cuda":
        warn_once(f"--precision tf32 has no effect on a {device.type}: it is fp32 there")


def lowered(name: str, device: torch.device) -> torch.autocast:
    """A context in which networks compute in the precision of that name."""
    dtype = PRECISIONS[name]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
