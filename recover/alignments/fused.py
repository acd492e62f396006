"""The fast path of BatchNorm alignment: what frozen teachers allow, behind the interface of `BNAlignment`.

A frozen convolution keeps nothing of its input; a frozen BatchNorm is folded into the convolution before
it, whose output is then u = (x - running_mean) / s, s = sqrt(running_var + eps).  One autograd function
computes the layer's output act(gamma u + beta), its R_BN, and both gradients from u, the only tensor that it
keeps.  Networks are rewritten with torch.fx; what is not recognised stays, and its BatchNorm is hooked.

G aligned slices, N images of one slice, C channels, H W pixels.
"""
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from models.frozen import convolve, freeze_convolutions, input_gradient, is_plain, replace_module
from recover.alignments.batchnorm import BNAlignment
from utils.runtime import warn_once

# The activations that fuse: class -> (f(t) in place, backward(grad, t) in place of t).
ACTIVATIONS = {
    nn.Identity: (lambda t: t, None),
    nn.ReLU: (F.relu_,
              lambda grad, t: torch.ops.aten.threshold_backward.grad_input(grad, t, 0, grad_input=t)),
    nn.ReLU6: (lambda t: F.hardtanh_(t, 0.0, 6.0),
               lambda grad, t: torch.ops.aten.hardtanh_backward.grad_input(grad, t, 0, 6, grad_input=t)),
    nn.SiLU: (lambda t: F.silu(t, inplace=True),
              lambda grad, t: torch.ops.aten.silu_backward.grad_input(grad, t, grad_input=t)),
}


class _ConvNormAct(torch.autograd.Function):
    """act(gamma u + beta) and R_BN of u = conv(x), keeping u."""

    @staticmethod
    def forward(ctx, x, layer, aligned, per_slice):
        u = convolve(x, layer.weight, layer.bias, layer.conv)
        ctx.layer, ctx.shape, ctx.aligned = layer, x.shape, aligned
        slope = offset = None
        r_bn = u.new_zeros(0)
        if aligned:
            r_bn, slope, offset = layer.alignment(u[:aligned * per_slice].unflatten(0, (aligned, per_slice)))
        ctx.slope, ctx.offset, ctx.per_slice = slope, offset, per_slice
        ctx.save_for_backward(u)
        return layer.activate(layer.affine(u)), r_bn

    @staticmethod
    @once_differentiable  # it writes into tensors of its own
    def backward(ctx, grad, grad_r):
        (u,), layer = ctx.saved_tensors, ctx.layer
        gamma = layer.gamma.to(u.dtype)
        if layer.activate_backward is None:
            grad = grad * gamma  # it is not ours to write over
        else:
            grad = layer.activate_backward(grad, layer.affine(u)).mul_(gamma)
        if ctx.aligned:
            weight = grad_r.view(-1, 1, 1, 1, 1)
            own = slice(0, ctx.aligned * ctx.per_slice)
            slices = (ctx.aligned, ctx.per_slice)
            slope, offset = (weight * ctx.slope).to(u.dtype), (weight * ctx.offset).to(u.dtype)
            grad[own].unflatten(0, slices).addcmul_(u[own].unflatten(0, slices), slope).add_(offset)
        return input_gradient(grad, ctx.shape, layer.weight, layer.conv), None, None, None


class ConvNormAct(nn.Module):
    """A frozen convolution, its BatchNorm in eval mode and an activation, with the layer's R_BN."""

    conv: nn.Conv2d
    gamma: torch.Tensor
    beta: torch.Tensor
    scale: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, conv: nn.Conv2d, norm: Any, activation: nn.Module, *, multiplier: float,
                 tape: BNAlignment):
        """Args: multiplier: w_l of the layer;  tape: where the layers of one forward put their R_BN."""
        super().__init__()
        self.__dict__["conv"] = conv  # for its stride and the like; its weights are in ours: no part of this
        self._multiplier, self._tape = multiplier, tape
        self.activate, self.activate_backward = ACTIVATIONS[type(activation)]
        scale = torch.sqrt(norm.running_var + norm.eps)
        shift = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
        self.register_buffer("weight", (conv.weight / scale.view(-1, 1, 1, 1)).detach())
        self.register_buffer("bias", (-shift / scale).detach())
        gamma = torch.ones_like(scale) if norm.weight is None else norm.weight
        beta = torch.zeros_like(scale) if norm.bias is None else norm.bias
        self.register_buffer("gamma", gamma.detach().view(1, -1, 1, 1))
        self.register_buffer("beta", beta.detach().view(1, -1, 1, 1))
        self.register_buffer("scale", scale)
        self.register_buffer("running_var", norm.running_var)

    def affine(self, u: torch.Tensor) -> torch.Tensor:
        """gamma u + beta, in the precision of u."""
        return torch.addcmul(self.beta.to(u.dtype), u, self.gamma.to(u.dtype))

    def alignment(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """R_BN of each slice, and its gradient as an affine function of u.

        In terms of u, the mean's distance is s mean(u) and the variance's s^2 var(u) - running_var; u is
        about standardised, so the one-pass E[u^2] - E[u]^2 does not cancel.
        Args:    u: (G, N, C, H, W).
        Returns: r (G,);  slope, offset (G, 1, C, 1, 1) with d r / d u = slope * u + offset.
        """
        num, dtype = u.shape[1] * u.shape[3] * u.shape[4], torch.promote_types(u.dtype, torch.float32)
        mean = u.mean((1, 3, 4), dtype=dtype)
        square = torch.linalg.vector_norm(u, dim=(1, 3, 4), dtype=dtype).square() / num
        var = square - mean.square()
        to_mean, to_var = mean * self.scale, var * self.scale**2 - self.running_var
        mean_norm = torch.linalg.vector_norm(to_mean, dim=1, keepdim=True)
        var_norm = torch.linalg.vector_norm(to_var, dim=1, keepdim=True)
        tiny, v = torch.finfo(dtype).tiny, self._tape.variance_weight
        slope = 2 * self._multiplier * v / num * self.scale**2 * to_var / var_norm.clamp(min=tiny)
        offset = self._multiplier / num * self.scale * to_mean / mean_norm.clamp(min=tiny) - slope * mean
        r_bn = self._multiplier * (mean_norm + v * var_norm).squeeze(1)
        return r_bn, slope[:, None, :, None, None], offset[:, None, :, None, None]

    def forward(self, x):
        run = self._traceable if torch.compiler.is_compiling() else _ConvNormAct.apply
        y, r_bn = run(x, self, self._tape.aligned, self._tape.per_slice)
        if self._tape.aligned:
            self._tape.terms.append(r_bn)
        return y

    @staticmethod
    def _traceable(x, layer, aligned, per_slice):
        """The same in plain operations: a compiler finds by itself that u is all that need be kept."""
        u = convolve(x, layer.weight, layer.bias, layer.conv)
        own = u[:aligned * per_slice].unflatten(0, (aligned, per_slice)) if aligned else None
        return layer.activate(layer.affine(u)), layer.alignment(own)[0] if aligned else None


def rewrite(model: nn.Module, *, multipliers: dict[nn.Module, float], tape: BNAlignment) -> nn.Module:
    """The network with frozen convolutions, and convolution, BatchNorm, activation in a row as one module.

    Args:    multipliers: BatchNorm layer -> w_l; a fused layer leaves the dict, the others stay to be hooked.
    Returns: a rewritten copy that shares the unchanged layers, or `model` itself where fx cannot trace it.
    """
    try:
        traced = torch.fx.symbolic_trace(model)
    except Exception as error:  # fx fails in many ways on data-dependent code; the plain network serves then
        warn_once(f"{type(model).__name__} cannot be traced ({type(error).__name__}): it runs unfused")
        return model
    modules: dict[Any, Any] = dict(traced.named_modules())

    def module_of(node: Any) -> Any:
        return modules.get(node.target) if node is not None and node.op == "call_module" else None
    node: Any
    for node in list(traced.graph.nodes):
        norm = module_of(node)
        source: Any = node.args[0] if norm in multipliers and node.args else None
        conv = module_of(source)
        if not is_plain(conv) or len(source.users) > 1:
            continue
        after: Any = next(iter(node.users)) if len(node.users) == 1 else None
        activation = module_of(after)
        fuses = type(activation) in ACTIVATIONS
        fused = ConvNormAct(conv, norm, activation if fuses else nn.Identity(), tape=tape,
                            multiplier=multipliers.pop(norm))
        replace_module(traced, source, fused)
        for gone in (node, after) if fuses else (node,):
            gone.replace_all_uses_with(source)
            traced.graph.erase_node(gone)
    traced.delete_all_unused_submodules()  # the folded ones: their weights would lie about on the device
    return freeze_convolutions(traced)


class FusedBNAlignment(BNAlignment):
    """`BNAlignment` on a rewritten network, channels last in memory.

    num_fused: of its aligned layers, those that run with their convolution as one; the others are hooked.
    """

    def _prepare(self, model, multipliers):
        rewritten = rewrite(model, multipliers=multipliers, tape=self).to(memory_format=torch.channels_last)
        self.num_fused = len(self) - len(multipliers)
        super()._prepare(rewritten, multipliers)
        return rewritten

    def __call__(self, images, targets, *, slices, aligned):
        return super().__call__(images.contiguous(memory_format=torch.channels_last), targets, slices=slices,
                                aligned=aligned)
