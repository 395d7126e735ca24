"""Group operators into kernels: what one generated function computes.

Every operator belongs to one of four classes, and the classes say what may join:

- *injective*: each result element comes from single elements of the operands; chains of them fuse.
- *reduction*: combines many elements; clipping that follows joins it.
- *complex-out-fusable*: convolution and dense; the requantisation and clipping that follow join it,
  and so do additions and what follows them, where the caller accepts the kernel.
- *opaque*: stands alone.

A tensor that the graph returns, or that several nodes read, ends its kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from compiler.errors import GraphError
from compiler.graph.ir import Graph, Node


class Pattern(Enum):
    """Fusion class of an operator."""

    INJECTIVE = "injective"
    REDUCTION = "reduction"
    COMPLEX = "complex-out-fusable"
    OPAQUE = "opaque"


PATTERN: Mapping[str, Pattern] = {
    "conv2d": Pattern.COMPLEX,
    "dense": Pattern.COMPLEX,
    "requantize": Pattern.INJECTIVE,
    "rescale": Pattern.INJECTIVE,
    "add": Pattern.INJECTIVE,
    "clip": Pattern.INJECTIVE,
    "reshape": Pattern.INJECTIVE,
    "quantize": Pattern.INJECTIVE,
    "dequantize": Pattern.INJECTIVE,
    "max_pool2d": Pattern.REDUCTION,
    "avg_pool2d": Pattern.REDUCTION,
    "softmax": Pattern.OPAQUE,
    "softmax_float": Pattern.OPAQUE,
    "pad": Pattern.OPAQUE,
    "concat": Pattern.OPAQUE,
    "unfold": Pattern.OPAQUE,
}

# A reshape moves no data, and float32 marks the border of the quantised part: neither has anything
# to gain from sharing a kernel.
_ALONE = frozenset({"reshape", "quantize", "dequantize"})
# What every convolution or pooling kernel can end with.
_ENDINGS = frozenset({"requantize", "clip"})
# What may follow in a convolution's kernel, if there is room for its operands and parameters.
_FOLLOWERS = frozenset({"add", "clip", "rescale"})


CHAIN_MAX = 8
"""Operators in a chain without an anchor: parameters of each take room on the chip."""


@dataclass(frozen=True)
class Kernel:
    """Nodes that become one function. `anchor` is the one that decides how it is scheduled."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    anchor: Node

    @property
    def pattern(self) -> Pattern:
        """Fusion class of the anchor."""
        return PATTERN[self.anchor.op]


def fuse(
    graph: Graph, accepts: Callable[[Kernel], bool] = lambda kernel: False
) -> tuple[Kernel, ...]:
    """The graph's nodes as kernels, in topological order, each node in exactly one.

    `inputs` of a kernel are the tensors it reads from others, without constants. `accepts` decides
    whether a convolution's kernel may end with more than its own requantisation.
    """
    groups: list[list[Node]] = []
    home: dict[str, int] = {}
    for node in graph.nodes:
        if node.op not in PATTERN:
            raise GraphError(
                f"node {node.name!r} ({node.op}) has no fusion class; lower the graph with "
                "lower_qnn first"
            )
        index = _joined(graph, node, groups, home, accepts)
        if index is None:
            index = len(groups)
            groups.append([])
        groups[index].append(node)
        home[node.name] = index
    # A kernel runs where its last node stood: then all that it reads has been written.
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    groups.sort(key=lambda nodes: position[nodes[-1].name])
    return tuple(_kernel(graph, nodes) for nodes in groups)


def _joined(
    graph: Graph,
    node: Node,
    groups: list[list[Node]],
    home: Mapping[str, int],
    accepts: Callable[[Kernel], bool],
) -> int | None:
    """The group that a node extends, or None if it begins one."""
    if PATTERN[node.op] is not Pattern.INJECTIVE or node.op in _ALONE:
        return None
    open_ = [home[name] for name in _producers(graph, node, groups, home)]
    # The longer the sums, the better they hide what follows them.
    for index in sorted(open_, key=lambda index: -_terms(graph, groups[index][0])):
        nodes = groups[index]
        match PATTERN[nodes[0].op]:
            case Pattern.COMPLEX | Pattern.REDUCTION if node.op in _ENDINGS and all(
                other.op in _ENDINGS for other in nodes[1:]
            ):
                return index
            case Pattern.COMPLEX if node.op in _FOLLOWERS and len(nodes) < CHAIN_MAX:
                if accepts(_kernel(graph, [*nodes, node])):
                    return index
            case Pattern.INJECTIVE if len(nodes) < CHAIN_MAX:
                return index
    return None


def _producers(
    graph: Graph, node: Node, groups: list[list[Node]], home: Mapping[str, int]
) -> list[str]:
    """Names of the nodes, last of their groups, whose results only this node reads."""
    operands = [name for name in node.inputs if not graph.tensors[name].is_constant]
    out = []
    for name in operands:
        producer = graph.producer(name)
        if producer is None or name in graph.outputs or len(graph.consumers(name)) != 1:
            continue
        if operands.count(name) > 1:  # works in place: a value can be consumed only once
            continue
        if producer is groups[home[producer.name]][-1] and producer.op not in _ALONE:
            out.append(producer.name)
    return out


def _terms(graph: Graph, anchor: Node) -> int:
    """Products in each sum of a convolution; 0 for other operators."""
    weights = graph.tensors[anchor.inputs[1]].data if anchor.op in ("conv2d", "dense") else None
    return 0 if weights is None else weights[0].size


def _kernel(graph: Graph, nodes: list[Node]) -> Kernel:
    made = {name for node in nodes for name in node.outputs}
    read = dict.fromkeys(
        name
        for node in nodes
        for name in node.inputs
        if name not in made and not graph.tensors[name].is_constant
    )
    # Only the last node's result leaves: every earlier one has its single reader inside.
    return Kernel(nodes[-1].outputs[0], tuple(nodes), tuple(read), nodes[-1].outputs, nodes[0])
