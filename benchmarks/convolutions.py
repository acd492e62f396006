"""The physical limit of a recover step: the networks' convolutions, and nothing else.

Forward and input gradient of each, at the shapes of a step and in the memory layout of the fused engine.  A
step whose networks run once cannot take less time while these are computed by the same library.
"""
import time

import torch
from torch import nn

from models.frozen import convolve, input_gradient


class Convolutions:
    """Every convolution of some networks on a batch, its inputs and gradients random.

    Attributes: flops, of one `seconds()`: a multiplication and an addition are two.
    """

    def __init__(self, models: dict[str, nn.Module], images: torch.Tensor,
                 dtype: torch.dtype | None = None):
        """Args: images: (N, C, H, W), a batch of the step;  dtype: in which to compute; None: the images'."""
        dtype = dtype or images.dtype
        self._device, self._networks, tensors, self.flops = images.device, [], {}, 0

        def random(shape: torch.Size) -> torch.Tensor:  # layers of one shape share it
            if shape not in tensors:
                tensors[shape] = torch.randn(shape, device=images.device).to(
                    dtype, memory_format=torch.channels_last)
            return tensors[shape]

        def see(conv: nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            weight = conv.weight.detach().to(dtype, memory_format=torch.channels_last)
            bias = None if conv.bias is None else conv.bias.detach().to(dtype)
            self._networks[-1].append((conv, weight, bias, random(inputs[0].shape), random(output.shape)))
            self.flops += 2 * 2 * output.numel() * weight[0].numel()
        for model in models.values():
            self._networks.append([])
            hooks = [module.register_forward_hook(see) for module in model.modules()
                     if isinstance(module, nn.Conv2d)]
            with torch.no_grad():
                model(images)
            for hook in hooks:
                hook.remove()

    def _wait(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @torch.no_grad()
    def seconds(self) -> float:
        """Wall time of one pass forward and back through each network."""
        started = self._wait()
        for layers in self._networks:
            for conv, weight, bias, x, _ in layers:
                convolve(x, weight, bias, conv)
            for conv, weight, _, x, grad in reversed(layers):
                input_gradient(grad, x.shape, weight, conv)
        return self._wait() - started
