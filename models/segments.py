"""A network as a chain of segments, each of which a backward can compute again: activation checkpointing.

A chain may be cut where a single tensor is alive, the output of a residual block say.
Source: Chen et al. 2016, "Training deep nets with sublinear memory cost", whose cuts keep sqrt(n) of n
layers; where they lie is ours: by what the layers of this network really keep.
"""
import itertools
from typing import Any

import torch
import torch.fx
from torch import nn

from utils.memory import SavedBytes
from utils.pieces import require

NO_CUT = "it has no place where a single tensor is alive"


class _HookedLayers(torch.fx.Tracer):
    """Keeps hooked layers whole: torchvision's LayerNorm2d, traced through, would lose its hooks."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return bool(m._forward_pre_hooks) or super().is_leaf_module(m, module_qualified_name)


def trace(network: nn.Module) -> torch.fx.GraphModule:
    """The network as a graph of its layers, which it shares.   Raises: ValueError if it cannot be traced."""
    if isinstance(network, torch.fx.GraphModule):
        return network
    try:
        return torch.fx.GraphModule(network, _HookedLayers().trace(network))
    except Exception as error:  # fx fails in many ways on data-dependent code
        raise ValueError(f"it cannot be traced ({type(error).__name__})") from error


def find_cuts(traced: torch.fx.GraphModule) -> list[int]:
    """Positions in the graph's nodes after which one value alone is needed.

    Raises: ValueError if there is none, or more than one tensor goes in or comes out.
    """
    nodes = list(traced.graph.nodes)
    inputs, output = [node for node in nodes if node.op == "placeholder"], nodes[-1]
    require(len(inputs) == 1 and isinstance(output.args[0], torch.fx.Node),
            "it has more than one input or output")
    position = {node: i for i, node in enumerate(nodes)}
    needed = [max((position[user] for user in node.users), default=-1) for node in nodes]
    cuts = [i for i, node in enumerate(nodes[:-2]) if node.op != "placeholder" and needed[i] > i
            and max(needed[:i], default=-1) <= i]
    require(cuts, NO_CUT)
    return cuts


class _Costs(torch.fx.Interpreter):
    """Runs a graph, noting in bytes what every node keeps for a backward, and its value."""

    def __init__(self, traced: torch.fx.GraphModule, saved: SavedBytes):
        super().__init__(traced)
        self._saved, self.kept, self._values = saved, list[int](), list[tuple[Any, int]]()

    def run_node(self, n: torch.fx.Node) -> Any:
        before = self._saved.alive
        value = super().run_node(n)
        self.kept.append(self._saved.alive - before)
        self._values.append((value, value._version if isinstance(value, torch.Tensor) else -1))
        return value

    @property
    def values(self) -> list[int]:
        """Bytes of every node's value; 0 where a segment cannot start: no tensor, or later written over."""
        return [value.nbytes if version == getattr(value, "_version", None) else 0
                for value, version in self._values]


def choose_cuts(allowed: list[int], kept: list[int], values: list[int]) -> list[int]:
    """The cuts, about evenly spaced in what is kept, with which a backward needs least at once.

    Args: allowed: positions;  kept, values: bytes that each node keeps, and of its output.
    """
    until = [0, *itertools.accumulate(kept)]

    def evenly(num: int) -> list[int]:
        shares = (until[-1] * k / num for k in range(1, num))
        return sorted({min(allowed, key=lambda i: abs(until[i + 1] - share)) for share in shares})

    def needed(cuts: list[int]) -> int:
        ends = [0, *(i + 1 for i in cuts), len(kept)]
        return sum(values[i] for i in cuts) + max(until[b] - until[a] for a, b in itertools.pairwise(ends))
    return min((evenly(num) for num in range(2, len(allowed) + 2)), key=needed)


def split(network: nn.Module, *, size: int) -> list[torch.fx.GraphModule]:
    """The network's segments, in turn: each takes what the one before returns; their layers are shared.

    Args:   size: side of the images for which memory is weighed [pixels].
    Raises: ValueError as `trace`, `find_cuts`.
    """
    traced = trace(network)
    allowed, weight = find_cuts(traced), next(network.parameters())
    image = torch.zeros(1, 3, size, size, dtype=weight.dtype, device=weight.device).requires_grad_()
    with SavedBytes((*network.parameters(), *network.buffers(), image)) as saved, torch.enable_grad():
        costs = _Costs(traced, saved)
        costs.run(image * 1)  # a network may write into its input, never into a leaf
    values = costs.values
    allowed = [i for i in allowed if values[i]]
    require(allowed, NO_CUT)
    cuts = choose_cuts(allowed, costs.kept, values)
    nodes = list(traced.graph.nodes)
    bounds = itertools.pairwise([0, *(i + 1 for i in cuts), len(nodes)])
    return [_segment(traced, nodes[:first][-1:], nodes[first:end]) for first, end in bounds]


def _segment(traced: torch.fx.GraphModule, before: list[torch.fx.Node],
             nodes: list[torch.fx.Node]) -> torch.fx.GraphModule:
    """A part of a graph.   Args: before: the node whose value it starts from; none: it has the input."""
    graph = torch.fx.Graph()
    copies = {node: graph.placeholder("x") for node in before}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    if nodes[-1].op != "output":
        graph.output(copies[nodes[-1]])
    return torch.fx.GraphModule(traced, graph)
