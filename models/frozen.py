"""Networks whose weights are constants, rewritten with torch.fx so that backward passes keep less.

A frozen convolution is linear in its input: nothing of the input is kept.
"""
from typing import Any, TypeGuard

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
             conv: nn.Conv2d) -> torch.Tensor:
    """A convolution's output with another weight and bias."""
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def input_gradient(grad: torch.Tensor, shape: torch.Size, weight: torch.Tensor,
                   conv: nn.Conv2d) -> torch.Tensor:
    """The gradient of a convolution's input, from its output's gradient and constants alone."""
    unread = torch.empty(shape, dtype=grad.dtype, device=grad.device,  # tells shape and layout only
                         memory_format=torch.channels_last)
    return torch.ops.aten.convolution_backward(grad, unread, weight.to(grad.dtype), None, conv.stride,
                                               conv.padding, conv.dilation, False, [0, 0], conv.groups,
                                               [True, False, False])[0]


class _FrozenConv(torch.autograd.Function):
    """A convolution with constant weights: linear in its input, so nothing of the input is kept."""

    @staticmethod
    def forward(ctx, x, weight, bias, conv):
        ctx.conv, ctx.weight, ctx.shape = conv, weight, x.shape
        return convolve(x, weight, bias, conv)

    @staticmethod
    def backward(ctx, grad):
        return input_gradient(grad, ctx.shape, ctx.weight, ctx.conv), None, None, None


class FrozenConv2d(nn.Module):
    """An nn.Conv2d whose weights are constants."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        run = convolve if torch.compiler.is_compiling() else _FrozenConv.apply
        return run(x, self.conv.weight, self.conv.bias, self.conv)


def freeze_convolutions(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """The traced network with every plain convolution frozen, in eval mode; changes it."""
    for node in traced.graph.nodes:
        conv = traced.get_submodule(node.target) if node.op == "call_module" else None
        if is_plain(conv):
            replace_module(traced, node, FrozenConv2d(conv))
    traced.graph.lint()
    traced.recompile()
    return traced.eval()


def is_plain(module: Any) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a convolution whose padding is zeros of a given width."""
    return type(module) is nn.Conv2d and module.padding_mode == "zeros" and isinstance(module.padding, tuple)


def replace_module(traced: torch.fx.GraphModule, node: torch.fx.Node, module: nn.Module) -> None:
    """Puts a module where a node's module is."""
    owner, _, name = str(node.target).rpartition(".")
    setattr(traced.get_submodule(owner), name, module)
