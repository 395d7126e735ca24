"""Lowering rules of operators that move, bound or requantise single values."""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.ir import Graph, Node, Tensor
from compiler.graph.kernels import zero_point_of
from compiler.graph.lowering import Lowered, bounds, rescale_node, same_quant, without


def clip(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.clip: bounds as quantised values."""
    limits = bounds(graph, node, runtime)
    attrs = {"min": limits["clamp_min"], "max": limits["clamp_max"]}
    return [Node(node.name, "clip", node.inputs, node.outputs, attrs, node.source)], []


def rescale(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.rescale: another quantisation; the same one needs bounds only."""
    (source,), (target,) = node.inputs, node.outputs
    if same_quant(graph, source, target):
        return clip(graph, node, runtime)
    return [rescale_node(graph, node, source, target, runtime)], []


def pad(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.pad: a border of real zeros, or of the quantised `value`."""
    value = node.attrs.get("value", zero_point_of(graph.type_of(node.inputs[0])))
    attrs = {**without(node), "value": int(value)}
    return [Node(node.name, "pad", node.inputs, node.outputs, attrs, node.source)], []


def concat(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.concat: operands of another quantisation than the result's are rescaled first."""
    (target,) = node.outputs
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    names = []
    for position, name in enumerate(node.inputs):
        if same_quant(graph, name, target):
            names.append(name)
            continue
        type_ = replace(graph.type_of(name), quant=graph.type_of(target).quant, source_dtype="")
        moved = Tensor(f"{target}:operand{position}", type_)
        wide = replace(graph, tensors={**graph.tensors, moved.name: moved})
        nodes.append(rescale_node(wide, node, name, moved.name, runtime))
        tensors.append(moved)
        names.append(moved.name)
    nodes.append(Node(node.name, "concat", tuple(names), (target,), without(node), node.source))
    return nodes, tensors


def quantize(graph: Graph, node: Node, runtime: str) -> Lowered:
    """quantize: XNNPACK multiplies by the reciprocal of the scale."""
    attrs = {**node.attrs, "rounding": "reciprocal"} if runtime == "xnnpack" else node.attrs
    return [replace(node, attrs=attrs)], []
