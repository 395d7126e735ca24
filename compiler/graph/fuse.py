"""Group operators into kernels: what one generated function computes.

Every operator belongs to one of four classes, and the classes say what may join:

- *injective*: each result element comes from single elements of the operands; chains of them fuse.
- *reduction*: combines many elements; clipping that follows joins it.
- *complex-out-fusable*: convolution and dense; the requantisation and clipping that follow join it.
- *opaque*: stands alone.

A tensor that the graph returns, or that several nodes read, ends its kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
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
}

# A reshape moves no data, and float32 marks the border of the quantised part: neither has anything
# to gain from sharing a kernel.
_ALONE = frozenset({"reshape", "quantize", "dequantize"})
# What a convolution or pooling kernel can end with: it has one set of parameters, not two.
_ENDINGS = frozenset({"requantize", "clip"})


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


def fuse(graph: Graph) -> tuple[Kernel, ...]:
    """The graph's nodes as kernels, in topological order, each node in exactly one.

    `inputs` of a kernel are the tensors it reads from others, without constants.
    """
    groups: list[list[Node]] = []
    home: dict[str, int] = {}
    for node in graph.nodes:
        if node.op not in PATTERN:
            raise GraphError(
                f"node {node.name!r} ({node.op}) has no fusion class; lower the graph with "
                "lower_qnn first"
            )
        index = _joined(graph, node, groups, home)
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
    graph: Graph, node: Node, groups: list[list[Node]], home: Mapping[str, int]
) -> int | None:
    """The group that a node extends, or None if it begins one."""
    if PATTERN[node.op] is not Pattern.INJECTIVE or node.op in _ALONE:
        return None
    operands = [name for name in node.inputs if not graph.tensors[name].is_constant]
    for name in operands:
        producer = graph.producer(name)
        if producer is None or name in graph.outputs or len(graph.consumers(name)) != 1:
            continue
        if operands.count(name) > 1:  # works in place: a value can be consumed only once
            continue
        nodes = groups[home[producer.name]]
        if producer is not nodes[-1] or producer.op in _ALONE:
            continue
        match PATTERN[nodes[0].op]:
            case Pattern.COMPLEX | Pattern.REDUCTION if node.op in _ENDINGS:
                return home[producer.name]
            case Pattern.INJECTIVE if len(nodes) < CHAIN_MAX:
                return home[producer.name]
    return None


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
