"""The operators of the graph IR: one entry each, with its shape rule and its numpy reference.

Two families. ``qnn.*`` operators stand as a model file has them: their arithmetic is implied by the
quantisation on their tensors and by the runtime that is taken as the reference, so they have no
reference of their own. `compiler.graph.lower_qnn` turns them into core operators, which say every
multiplier, shift, rounding mode and bound in their attributes:

=============  ==============================================================================
conv2d         x, w [O, I/groups, KH, KW], bias [O] -> int32; strides (h, w), pads (top, left,
               bottom, right), dilation (h, w), groups, layout
dense          x [N, K], w [O, K], bias [O] -> int32
requantize     int32 -> int8; mode "double", "single" or "float", multiplier, left, right (1 or
               C values), zero_point, clamp_min, clamp_max
rescale        int8 -> int8; mode, multiplier, left, right (1 value each) and bounds as requantize;
               in_zero_point, zero_point
add            clamp_min, clamp_max; mode "double": left_shift, lhs, rhs, out (multiplier, left,
               right); mode "linear": lhs_multiplier, rhs_multiplier, bias, shift, zero_point,
               on the values as they are; mode "scaled": the same with scale (float32, rounded
               to nearest even) for shift
max_pool2d     kernel, strides, pads, layout, clamp_min, clamp_max
avg_pool2d     the same, count_include_pad, and mode "litert"; or, with in_zero_point and
               out_zero_point, "requant": scale; "double": multiplier, left, right; or "linear":
               scale and offset in float32, applied to the sum
clip           min, max (quantised)
pad            pads (top, left, bottom, right), value, layout
unfold         the pixels of each window as channels [row, column, channel]: kernel and strides
               (h, w), before (top, left), size (h, w) of the result; value outside; layout
concat         axis
reshape        shape
softmax        beta, table[256] of exp(-scale * beta * index); mode "litert": int32 in Q0.31,
               mode "table": float32
softmax_float  float32 -> float32
quantize       float32 -> int8; rounding "even", "away" or "reciprocal"
dequantize     int8 -> float32
=============  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compiler.errors import GraphError
from compiler.graph import kernels, shapes
from compiler.graph.ir import Graph, Node, TensorType

InferRule = Callable[[Sequence[TensorType], Mapping[str, Any]], tuple[tuple[int, ...], str]]
Reference = Callable[
    [Sequence[kernels.Array], Sequence[TensorType], TensorType, Mapping[str, Any]], kernels.Array
]


@dataclass(frozen=True)
class Op:
    """An operator: `infer` gives the result's shape and dtype, `reference` its value."""

    name: str
    infer: InferRule
    reference: Reference | None = None


def _output(rule: InferRule) -> InferRule:
    """The rule of an operator with a fused requantisation: the same shape, int8."""

    def infer(types: Sequence[TensorType], attrs: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
        return rule(types, attrs)[0], "int8"

    return infer


OPS: Mapping[str, Op] = {
    op.name: op
    for op in (
        Op("conv2d", shapes.conv2d, kernels.conv2d),
        Op("dense", shapes.dense, kernels.dense),
        Op("requantize", shapes.requantize, kernels.requantize),
        Op("rescale", shapes.same_int8, kernels.rescale),
        Op("add", shapes.add, kernels.add),
        Op("max_pool2d", shapes.pool2d, kernels.max_pool2d),
        Op("avg_pool2d", shapes.pool2d, kernels.avg_pool2d),
        Op("clip", shapes.same_int8, kernels.clip),
        Op("pad", shapes.pad, kernels.pad),
        Op("unfold", shapes.unfold, kernels.unfold),
        Op("concat", shapes.concat, kernels.concat),
        Op("reshape", shapes.reshape, kernels.reshape),
        Op("softmax", shapes.softmax, kernels.softmax),
        Op("softmax_float", shapes.softmax_float, kernels.softmax_float),
        Op("quantize", shapes.quantize, kernels.quantize),
        Op("dequantize", shapes.dequantize, kernels.dequantize),
        Op("qnn.conv2d", _output(shapes.conv2d)),
        Op("qnn.dense", _output(shapes.dense)),
        Op("qnn.add", shapes.add),
        Op("qnn.max_pool2d", shapes.pool2d),
        Op("qnn.avg_pool2d", shapes.pool2d),
        Op("qnn.mean", shapes.pool2d),
        Op("qnn.clip", shapes.same_int8),
        Op("qnn.rescale", shapes.same_int8),
        Op("qnn.pad", shapes.pad),
        Op("qnn.concat", shapes.concat),
        Op("qnn.softmax", shapes.softmax),
    )
}


def op_of(node: Node) -> Op:
    """The operator that a node applies."""
    try:
        return OPS[node.op]
    except KeyError:
        raise GraphError(
            f"node {node.name!r} applies the unknown operator {node.op!r}; known are "
            f"{', '.join(OPS)}"
        ) from None


def infer_type(graph: Graph, node: Node) -> TensorType:
    """The declared type of a node's result, after checking it against the operator's rule."""
    types = [graph.type_of(name) for name in node.inputs]
    shape, dtype = op_of(node).infer(types, node.attrs)
    declared = graph.type_of(node.outputs[0])
    inferred = replace(declared, shape=shape, dtype=dtype)
    if (declared.shape, declared.dtype) != (shape, dtype):
        raise GraphError(
            f"node {node.name!r} ({node.op}) gives {inferred}, but tensor {node.outputs[0]!r} is "
            f"declared {declared}"
        )
    return inferred


def check_graph(graph: Graph) -> None:
    """Verify every node against its operator's rule; GraphError names the first that breaks it."""
    for node in graph.nodes:
        infer_type(graph, node)
