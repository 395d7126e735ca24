"""Lowering rules of the operators that combine values: layers with weights, sums, averages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from compiler.errors import GraphError
from compiler.graph import numerics
from compiler.graph.ir import Graph, Node, Tensor, TensorType
from compiler.graph.kernels import quant_of, zero_point_of
from compiler.graph.lowering import (
    Attrs,
    Lowered,
    bounds,
    factor,
    fixed_point,
    floating_point,
    least_misses,
    ratio_of,
    same_quant,
    scale_of,
    without,
)
from compiler.graph.shapes import axes_of
from compiler.graph.softmax import exp_table, float_exp_table

_ADD_LEFT_SHIFT = 20
# XNNPACK's integer kernels take ratios of scales in this range. Others go to LiteRT's own vector
# kernels, which differ from its reference ones.
_XNNPACK_LEAST, _XNNPACK_LIMIT = 2.0**-10, 2.0**8
# Multipliers of this length keep sums below 2^24, which float32 holds exactly.
_SCALED_ADD_BITS = 15
_XNNPACK_ADD_BITS = 20
# Bounds the search for an equal scale, to about a tenth of a second.
_SEARCHED_SUMS = 1 << 22


# -- layers with weights -------------------------------------------------------------------------


def accumulate(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.conv2d and qnn.dense: an accumulator and its requantisation."""
    (name,) = node.outputs
    out = graph.type_of(name)
    acc = Tensor(f"{name}:acc", TensorType(out.shape, "int32", layout=out.layout))
    op = node.op.removeprefix("qnn.")
    if runtime in ("litert-ref", "ties-up"):
        once = op == "dense" or runtime == "ties-up"
        mode, scales = "single" if once else "double", _fixed_scales(graph, node)
    else:
        mode, scales = "float", _float_scales(graph, node, runtime)
    zero_point = zero_point_of(out)
    attrs = {"mode": mode, **scales, "zero_point": zero_point, **bounds(graph, node, runtime)}
    first = Node(node.name, op, node.inputs, (acc.name,), without(node), node.source)
    second = Node(f"{node.name}:requantize", "requantize", (acc.name,), (name,), attrs, node.source)
    return [first, second], [acc]


def _fixed_scales(graph: Graph, node: Node) -> Attrs:
    """Q31 multipliers of an accumulator, one per weight scale."""
    x, out = scale_of(graph, node.inputs[0]), scale_of(graph, node.outputs[0])
    weights = quant_of(graph.type_of(node.inputs[1])).scale
    return fixed_point(node, *(float(x) * float(scale) / float(out) for scale in weights))


def _float_scales(graph: Graph, node: Node, runtime: str) -> Attrs:
    x, out = scale_of(graph, node.inputs[0]), scale_of(graph, node.outputs[0])
    # The order of the two float32 roundings is that of both runtimes.
    with np.errstate(all="ignore"):
        scale = (x * quant_of(graph.type_of(node.inputs[1])).scale) / out
    if not np.isfinite(scale).all():
        raise GraphError(
            f"node {node.name!r}: its scales are too far apart for float32; quantise it again"
        )
    if runtime == "xnnpack" and scale.max() >= _XNNPACK_LIMIT:
        raise GraphError(
            f"node {node.name!r}: XNNPACK does not take the scale {float(scale.max())!r}, it must "
            f"be below {_XNNPACK_LIMIT:g}; choose numerics litert-ref"
        )
    return floating_point(scale)


# -- addition ------------------------------------------------------------------------------------


def add(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.add. ONNX Runtime adds in floating point.

    With powers of two as scales that is exact but for one rounding, ties to even ("scaled");
    elsewhere "double" is within one unit of it. With ties up it is as XNNPACK does it ("linear").
    """
    scales = tuple(scale_of(graph, name) for name in (*node.inputs, *node.outputs))
    if runtime in ("xnnpack", "ties-up"):
        with np.errstate(all="ignore"):
            ratios = scales[0] / scales[2], scales[1] / scales[2]
        attrs = _integer_add(graph, node, ratios)
    elif runtime == "ort" and (exact := _scaled_add(graph, node, scales)):
        attrs = exact
    else:
        attrs = _double_add(node, *(float(scale) for scale in scales))
    attrs |= bounds(graph, node, runtime)
    return [Node(node.name, "add", node.inputs, node.outputs, attrs, node.source)], []


def _double_add(node: Node, a: float, b: float, out: float) -> Attrs:
    double = 2.0 * max(a, b)
    return {
        "mode": "double",
        "left_shift": _ADD_LEFT_SHIFT,
        "lhs": factor(node, a / double),
        "rhs": factor(node, b / double),
        "out": factor(node, double / ((1 << _ADD_LEFT_SHIFT) * out)),
    }


def _scaled_add(graph: Graph, node: Node, scales: tuple[np.float32, ...]) -> Attrs | None:
    """Integer multipliers and a common power of two, if all scales are powers of two."""
    mantissas, exponents = np.frexp(scales)
    if (mantissas != 0.5).any():
        return None
    first, second = (int(e - exponents[2]) for e in exponents[:2])
    bits = max(1, -first, -second)
    lhs, rhs = 1 << (first + bits), 1 << (second + bits)
    if max(bits, lhs.bit_length(), rhs.bit_length()) > _SCALED_ADD_BITS:
        return None
    a, b = (zero_point_of(graph.type_of(name)) for name in node.inputs)
    return {
        "mode": "scaled",
        "lhs_multiplier": lhs,
        "rhs_multiplier": rhs,
        "bias": -lhs * a - rhs * b,
        "scale": 2.0**-bits,
        "zero_point": zero_point_of(graph.type_of(node.outputs[0])),
    }


def _integer_add(graph: Graph, node: Node, ratios: tuple[np.float32, np.float32]) -> Attrs:
    """Multipliers of which the greater has 21 bits, zero points and rounding in one bias.

    Factors of two that both multipliers have are left out: that changes no result.
    """
    for ratio in ratios:
        if not _XNNPACK_LEAST <= ratio < _XNNPACK_LIMIT:
            raise GraphError(
                f"node {node.name!r}: XNNPACK does not add with the ratio {float(ratio):g} of an "
                "operand's scale to the result's, and ties-up does as it does; it must be from "
                "2^-10 to below 2^8; choose numerics litert-ref"
            )
    _, exponent = np.frexp(max(ratios))
    shift = _XNNPACK_ADD_BITS - (int(exponent) - 1)
    lhs, rhs = (round(float(ratio) * 2.0**shift) for ratio in ratios)
    common = min((lhs | rhs) & -(lhs | rhs), 1 << shift).bit_length() - 1
    lhs, rhs, shift = lhs >> common, rhs >> common, shift - common
    a, b = (zero_point_of(graph.type_of(name)) for name in node.inputs)
    return {
        "mode": "linear",
        "lhs_multiplier": lhs,
        "rhs_multiplier": rhs,
        "bias": (1 << shift >> 1) - lhs * a - rhs * b,
        "shift": shift,
        "zero_point": zero_point_of(graph.type_of(node.outputs[0])),
    }


# -- pooling -------------------------------------------------------------------------------------


def max_pool2d(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.max_pool2d."""
    attrs = {**without(node), **bounds(graph, node, runtime)}
    return [Node(node.name, "max_pool2d", node.inputs, node.outputs, attrs, node.source)], []


def avg_pool2d(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.avg_pool2d; LiteRT averages integers as they are, others requantise the sum.

    Padding that counts is a real zero: where that is no integer zero, a pad of its own.
    """
    (source,), (target,) = node.inputs, node.outputs
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    attrs = {**without(node), **bounds(graph, node, runtime)}
    type_ = graph.type_of(source)
    if attrs["count_include_pad"] and any(attrs["pads"]) and zero_point_of(type_):
        border, padded = _border(node, type_)
        nodes.append(border)
        tensors.append(padded)
        attrs |= {"pads": (0, 0, 0, 0), "count_include_pad": False}
    if runtime != "ort" and same_quant(graph, source, target):
        attrs["mode"] = "litert"
    else:
        attrs |= {"mode": "requant", "scale": _ratio(graph, node), **_zero_points(graph, node)}
    read = tensors[0].name if tensors else source
    nodes.append(Node(node.name, "avg_pool2d", (read,), (target,), attrs, node.source))
    return nodes, tensors


def _border(node: Node, x: TensorType) -> tuple[Node, Tensor]:
    """The pads of an average as a node of their own."""
    top, left, bottom, right = node.attrs["pads"]
    _, h_axis, w_axis = axes_of(x.layout)
    shape = list(x.shape)
    shape[h_axis] += top + bottom
    shape[w_axis] += left + right
    padded = Tensor(f"{node.outputs[0]}:padded", replace(x, shape=tuple(shape), source_dtype=""))
    attrs = {"pads": node.attrs["pads"], "value": zero_point_of(x), "layout": x.layout}
    return Node(padded.name, "pad", node.inputs, (padded.name,), attrs, node.source), padded


def _ratio(graph: Graph, node: Node) -> float:
    ratio_of(graph, node, node.inputs[0], node.outputs[0])
    return float(scale_of(graph, node.inputs[0])) / float(scale_of(graph, node.outputs[0]))


def _zero_points(graph: Graph, node: Node) -> Attrs:
    x, out = (zero_point_of(graph.type_of(n)) for n in (node.inputs[0], node.outputs[0]))
    return {"in_zero_point": x, "out_zero_point": out}


def mean(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.mean over the whole image: an average pool whose kernel is the image."""
    attrs: dict[str, Any] = {**without(node), **bounds(graph, node, runtime)}
    attrs |= {"count_include_pad": False, **_zero_points(graph, node)}
    count = attrs["kernel"][0] * attrs["kernel"][1]
    if runtime == "ort":
        attrs |= {"mode": "requant", "scale": _ratio(graph, node)}
    elif runtime == "xnnpack":
        attrs |= _xnnpack_mean(graph, node, count)
    else:
        attrs |= {"mode": "double", **_divided(fixed_point(node, _ratio(graph, node)), count)}
    return [Node(node.name, "avg_pool2d", node.inputs, node.outputs, attrs, node.source)], []


def _divided(parts: Attrs, count: int) -> Attrs:
    """LiteRT divides the Q31 multiplier by the count, after shifting it left by floor(log2)."""
    exponent = int(parts["left"][0]) - int(parts["right"][0])
    shift = min(count.bit_length() - 1, 31 + exponent)
    multiplier = (int(parts["multiplier"][0]) << shift) // count
    exponent -= shift
    return {
        "multiplier": np.array([multiplier], np.int32),
        "left": np.array([max(exponent, 0)], np.int32),
        "right": np.array([max(-exponent, 0)], np.int32),
    }


def _xnnpack_mean(graph: Graph, node: Node, count: int) -> Attrs:
    """float32 sum * scale + offset; as a requantisation where that is equal for every sum."""
    ratio = ratio_of(graph, node, node.inputs[0], node.outputs[0])
    zeros = _zero_points(graph, node)
    scale = ratio / np.float32(count)
    total = np.float32(zeros["in_zero_point"] * count)
    offset = np.float32(zeros["out_zero_point"]) - total * scale
    linear = {"mode": "linear", "scale": scale, "offset": offset}
    if 255 * count > _SEARCHED_SUMS:
        return linear
    sums = np.arange(-128 * count, 127 * count + 1)
    wanted = np.clip(numerics.linear(sums, scale, offset), -128, 127)
    centred = sums - count * zeros["in_zero_point"]

    def misses(candidate: np.float32) -> int:
        found = numerics.scale_float(centred, np.asarray(candidate)) + zeros["out_zero_point"]
        return int((np.clip(found, -128, 127) != wanted).sum())

    nearest = least_misses(scale, misses, reach=_SEARCHED_SUMS // sums.size)
    if misses(nearest):
        return linear
    return {"mode": "requant", "scale": float(nearest) * count}


# -- softmax -------------------------------------------------------------------------------------


def softmax(graph: Graph, node: Node, runtime: str) -> Lowered:
    """qnn.softmax."""
    if runtime == "ort":
        raise GraphError(
            f"node {node.name!r}: ONNX Runtime computes the quantised softmax in floating point, "
            "which has no exact integer form here; choose numerics litert-ref"
        )
    beta = node.attrs["beta"]
    out = quant_of(graph.type_of(node.outputs[0]))
    if (float(out.scale[0]), int(out.zero_point[0])) != (1 / 256, -128):
        raise GraphError(
            f"node {node.name!r}: LiteRT's softmax gives the quantisation q(1/256, -128), not "
            f"{out}; quantise its result so"
        )
    scale = scale_of(graph, node.inputs[0])
    if runtime == "xnnpack":
        attrs = {"mode": "table", "beta": beta, "table": float_exp_table(scale, beta)}
    else:
        try:
            table = exp_table(scale, beta)
        except ValueError as error:
            raise GraphError(f"node {node.name!r}: {error}; quantise its input again") from None
        attrs = {"mode": "litert", "beta": beta, "table": table}
    return [Node(node.name, "softmax", node.inputs, node.outputs, attrs, node.source)], []
