"""How precisely networks compute; statistics, losses and pixels stay in float32.

fp32    float32 throughout, TF32 switched off (PyTorch's own default uses it in convolutions on a GPU)
tf32    float32 whose products are rounded to 10 bits on NVIDIA GPUs from Ampere on; nothing elsewhere
bf16    convolutions and matrix products in bfloat16
fp16    the same in float16, with the loss scaled so that small gradients do not vanish; a step whose gradient
        overflows nevertheless is skipped
"""
import torch

from utils.runtime import warn_once

Scalars = dict[str, torch.Tensor]
PRECISIONS = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
# Of recover.  Fixed: Adam divides by the gradient's size, so one scale serves all of a unit, and none has to
# be carried from step to step and into saves; where it does not serve, PixelAdam ends the unit.  Source: ours
LOSS_SCALE = {"fp16": 2.0**14}


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Statistics and losses are taken in float32, or float64 where the network is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def set_precision(name: str, device: torch.device) -> None:
    """Switches TF32 on or off for this process; `lowered` does the rest where networks run."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    if name == "tf32" and device.type != "cuda":
        warn_once(f"--precision tf32 has no effect on a {device.type}: it is fp32 there")


def lowered(name: str, device: torch.device) -> torch.autocast:
    """A context in which networks compute in the precision of that name."""
    dtype = PRECISIONS[name]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class PixelAdam(torch.optim.Adam):
    """Adam on one tensor of images, a learning rate a step.

    Under fp16 a step whose gradient is not finite is skipped as `torch.amp.GradScaler` skips it: images and
    moments stay, the step is not counted.  That is decided on the device, without a host sync.
    """

    def __init__(self, images: torch.Tensor, *, betas: tuple[float, float], precision: str = "fp32"):
        self.skips = precision == "fp16"
        super().__init__([images], lr=1.0, betas=betas, eps=1e-8, fused=self.skips or None)

    def take(self, lr: float, terms: Scalars, before: Scalars) -> Scalars:
        """One step on the gradient, which it forgets.

        Args:    terms: of this step;  before: of the last one that was taken.
        Returns: those of the two that belong to the last step taken; 0 before the first.
        """
        group, = self.param_groups
        group["lr"] = lr
        if self.skips:
            self.found_inf = (~group["params"][0].grad.isfinite().all()).float()
            terms = {name: torch.where(self.found_inf > 0, before.get(name, torch.zeros_like(value)), value)
                     for name, value in terms.items()}
        self.step()
        self.zero_grad(set_to_none=True)
        return terms

    def skipped(self, steps: int) -> int:
        """How many of the last `steps` calls of `take` were skipped; under fp16 a host sync.

        Raises: RuntimeError if it is more than half of several: float16 does not hold these gradients.
        """
        if not self.skips:
            return 0
        state = self.state[self.param_groups[0]["params"][0]]
        skipped = steps - int(state["step"])
        if steps > 1 and 2 * skipped > steps:
            raise RuntimeError(f"{skipped} of {steps} steps overflowed in float16: use --precision bf16 or "
                               f"fp32")
        return skipped
