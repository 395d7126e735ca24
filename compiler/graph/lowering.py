"""What the rules of `lower_qnn` share: factors, bounds and the parts of a requantisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compiler.errors import GraphError
from compiler.graph import numerics
from compiler.graph.ir import Graph, Node, Tensor, TensorType
from compiler.graph.kernels import quant_of, zero_point_of
from compiler.graph.numerics import Multiplier, quantize_multiplier, quantize_real

Attrs = dict[str, Any]
Lowered = tuple[list[Node], list[Tensor]]

_INT8 = np.arange(-128, 128)
# How many float32 values on each side of a scale are tried for one that rounds as a runtime does.
_NEIGHBOURS = 64
_LEAST_RATIO, _RATIO_LIMIT = 2.0**-60, 2.0**30


def activation_range(activation: str, type_: TensorType, rounding: str = "away") -> tuple[int, int]:
    """The int8 bounds that a fused activation leaves of a quantised result."""
    zero_point, scale = zero_point_of(type_), quant_of(type_).scale[0]
    match activation:
        case "none":
            return -128, 127
        case "relu":
            return max(-128, zero_point), 127
        case "relu6":
            return max(-128, zero_point), min(127, quantize_real(6.0, scale, zero_point, rounding))
        case "relu_n1_to_1":
            least, greatest = (quantize_real(v, scale, zero_point, rounding) for v in (-1.0, 1.0))
            return max(-128, least), min(127, greatest)
    raise GraphError(f"activation must be none, relu, relu6 or relu_n1_to_1, not {activation!r}")


def bounds(graph: Graph, node: Node, runtime: str) -> Attrs:
    """clamp_min and clamp_max from the attributes `activation` and `range` (two reals)."""
    type_ = graph.type_of(node.outputs[0])
    rounding = "away" if runtime == "litert-ref" else "even"
    low, high = activation_range(node.attrs.get("activation", "none"), type_, rounding)
    least, greatest = node.attrs.get("range", (-math.inf, math.inf))
    scale, zero_point = quant_of(type_).scale[0], zero_point_of(type_)
    if math.isfinite(least):
        low = max(low, min(127, quantize_real(least, scale, zero_point, rounding)))
    if math.isfinite(greatest):
        high = min(high, max(-128, quantize_real(greatest, scale, zero_point, rounding)))
    return {"clamp_min": low, "clamp_max": high}


def without(node: Node, *keys: str) -> Attrs:
    """The attributes of a node but these, and but those that become bounds."""
    gone = {*keys, "activation", "range"}
    return {k: v for k, v in node.attrs.items() if k not in gone}


def scale_of(graph: Graph, name: str) -> np.float32:
    """The scale of a tensor quantised as a whole."""
    scale: np.float32 = quant_of(graph.type_of(name)).scale[0]
    return scale


def same_quant(graph: Graph, a: str, b: str) -> bool:
    """Whether two tensors have one quantisation."""
    x, y = quant_of(graph.type_of(a)), quant_of(graph.type_of(b))
    return np.array_equal(x.scale, y.scale) and np.array_equal(x.zero_point, y.zero_point)


def factor(node: Node, value: float) -> Multiplier:
    """A real factor as Q31 multiplier and shifts."""
    try:
        return quantize_multiplier(value)
    except ValueError as error:
        raise GraphError(
            f"node {node.name!r}: {error}; requantise the model with a larger output scale"
        ) from None


def ratio_of(graph: Graph, node: Node, source: str, target: str) -> np.float32:
    """The float32 ratio of two tensors' scales, which must be a number to compute with."""
    with np.errstate(all="ignore"):
        ratio: np.float32 = scale_of(graph, source) / scale_of(graph, target)
    if not _LEAST_RATIO <= ratio < _RATIO_LIMIT:
        raise GraphError(
            f"node {node.name!r}: the scales {float(scale_of(graph, source)):g} and "
            f"{float(scale_of(graph, target)):g} of {source!r} and {target!r} are too far apart; "
            "quantise the model again"
        )
    return ratio


def fixed_point(node: Node, *values: float) -> Attrs:
    """multiplier, left and right of real factors, as arrays."""
    parts = [factor(node, value) for value in values]
    return {
        "multiplier": np.array([p.multiplier for p in parts], np.int32),
        "left": np.array([p.left for p in parts], np.int32),
        "right": np.array([p.right for p in parts], np.int32),
    }


def floating_point(scale: np.ndarray) -> Attrs:
    """multiplier, left and right of float32 factors, as arrays."""
    zero = np.zeros(scale.size, np.int32)
    return {"multiplier": scale.astype(np.float32), "left": zero, "right": zero}


def rescale_node(graph: Graph, node: Node, source: str, target: str, runtime: str) -> Node:
    """A core node that gives `target` the values of `source`, bounded as `node` says."""
    x, out = graph.type_of(source), graph.type_of(target)
    scales = scale_of(graph, source), scale_of(graph, target)
    rounded = ratio_of(graph, node, source, target)
    limits = bounds(graph, node, runtime)
    zeros = {"in_zero_point": zero_point_of(x), "zero_point": zero_point_of(out)}
    activated = node.attrs.get("activation", "none") != "none"
    if runtime == "ort":
        mode, parts = "float", floating_point(_dividing_scale(*scales, zeros, limits))
    elif runtime == "xnnpack" and not activated:
        mode, parts = _xnnpack_rescale(node, *scales)
    else:
        # LiteRT's separate activations divide the scales as float32.
        ratio = rounded if activated else float(scales[0]) / float(scales[1])
        mode = "single" if runtime == "ties-up" else "double"
        parts = fixed_point(node, float(ratio))
    name = node.name if target in node.outputs else target
    attrs = {"mode": mode, **parts, **zeros, **limits}
    return Node(name, "rescale", (source,), (target,), attrs, node.source)


def _xnnpack_rescale(node: Node, x: np.float32, out: np.float32) -> tuple[str, Attrs]:
    """XNNPACK scales by a multiple of 2^-8 and rounds once; it leaves extreme ratios to LiteRT."""
    ratio = x / out
    if not 2.0**-8 <= ratio <= 2.0**7:
        return "double", fixed_point(node, float(x) / float(out))
    parts = {
        "multiplier": np.array([round(float(ratio) * 256) << 15], np.int32),
        "left": np.array([8], np.int32),
        "right": np.array([0], np.int32),
    }
    return "single", parts


def _dividing_scale(
    x: np.float32, out: np.float32, zeros: Mapping[str, int], limits: Attrs
) -> np.ndarray:
    """The float32 factor that equals dequantising and quantising again, for all 256 values.

    Where none of the neighbours of x / out does, the nearest is given: it is one unit off at ties.
    """
    centred = _INT8 - zeros["in_zero_point"]
    low = limits["clamp_min"] - zeros["zero_point"]
    high = limits["clamp_max"] - zeros["zero_point"]
    wanted = np.clip(np.rint(centred.astype(np.float32) * x / out), low, high)

    def misses(scale: np.float32) -> int:
        found = np.clip(numerics.scale_float(centred, np.asarray(scale)), low, high)
        return int((found != wanted).sum())

    return np.array([least_misses(x / out, misses)], np.float32)


def least_misses(
    start: np.float32, misses: Callable[[np.float32], int], reach: int = _NEIGHBOURS
) -> np.float32:
    """Of `start` and its neighbours in float32, the nearest without misses, or with the fewest.

    `reach` is how many neighbours on each side are tried.
    """
    base = np.float32(start).view(np.int32)
    steps = sorted(range(-reach, reach + 1), key=abs)
    best, fewest = np.float32(start), misses(np.float32(start))
    for step in steps:
        if not fewest:
            break
        candidate = np.int32(base + step).view(np.float32)
        if not (np.isfinite(candidate) and candidate > 0):
            continue
        count = misses(candidate)
        if count < fewest:
            best, fewest = candidate, count
    return best
