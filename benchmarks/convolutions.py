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
        self._dtype, self._device, self.flops = dtype or images.dtype, images.device, 0
        self._networks: list[list[tuple[nn.Conv2d, torch.Size, torch.Size]]] = []

        def see(conv: nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self._networks[-1].append((conv, inputs[0].shape, output.shape))
            self.flops += 2 * 2 * output.numel() * conv.weight[0].numel()
        for model in models.values():
            self._networks.append([])
            hooks = [module.register_forward_hook(see) for module in model.modules()
                     if isinstance(module, nn.Conv2d)]
            with torch.no_grad():
                model(images)
            for hook in hooks:
                hook.remove()

    def _like(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of four dimensions as the fused engine has it."""
        return tensor.to(self._dtype, memory_format=torch.channels_last)

    def _wait(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @torch.no_grad()
    def seconds(self) -> float:
        """Wall time of one pass forward and back through each network.

        Its tensors are made before that, and dropped: beside them a step might not fit.
        """
        shapes = {shape for layers in self._networks for _, *both in layers for shape in both}
        tensors = {shape: self._like(torch.randn(shape, device=self._device)) for shape in shapes}
        networks = [[(conv, self._like(conv.weight), None if conv.bias is None else conv.bias.to(self._dtype),
                      tensors[shape], tensors[out]) for conv, shape, out in layers]
                    for layers in self._networks]
        started = self._wait()
        for layers in networks:
            for conv, weight, bias, x, _ in layers:
                convolve(x, weight, bias, conv)
            for conv, weight, _, x, grad in reversed(layers):
                input_gradient(grad, x.shape, weight, conv)
        return self._wait() - started
