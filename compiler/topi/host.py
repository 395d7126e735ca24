"""Host operators as tensor expressions: changes of layout, quantisation; and all by name.

The results equal the numpy references of `compiler.graph.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from compiler.errors import LoweringError
from compiler.graph.ir import Graph, Node, Quant, TensorType
from compiler.loop.expr import Const, Expr, both, call, cast, compare, select
from compiler.te import tensor as te
from compiler.topi import host_compute, host_moves, host_softmax
from compiler.topi.host_kernel import HostKernel, build_kernel, int32, saturate
from compiler.topi.host_softmax import softmax

__all__ = [
    "HOST_OPS",
    "HostKernel",
    "dequantize",
    "lower_host_node",
    "pack",
    "quantize",
    "reshape",
    "softmax",
    "unpack",
]

_UINT8_SHIFT = 128
# Reals beyond these saturate whatever the zero point is.
_REAL_LIMIT = 1024.0

Shape = tuple[int, ...]


# -- layout ---------------------------------------------------------------------------------------


def pack(type_: TensorType, batch: int, block: int, name: str) -> HostKernel:
    """Model layout -> [ceil(N/batch), ceil(C/block), H, W, batch, block] int8, zero beyond N and C.

    `type_.dtype` is what the host holds: int8, or uint8 that is shifted by 128 on the way.
    """
    axes, extents = _axes(type_)
    n_extent, c_extent, height, width = extents
    shape = (-(-n_extent // batch), -(-c_extent // block), height, width, batch, block)
    x = te.placeholder(type_.shape, type_.dtype, "x")

    def element(n: Expr, c: Expr, h: Expr, w: Expr, b: Expr, lane: Expr) -> Expr:
        row, channel = n * batch + b, c * block + lane
        where = {"N": row, "C": channel, "H": h, "W": w}
        inside = both(
            *([compare("<", row, n_extent)] if n_extent % batch else []),
            *([compare("<", channel, c_extent)] if c_extent % block else []),
        )
        value = _shifted(x(*(where[a] for a in axes)), "int8")
        return select(inside, value, Const(0, "int8"))

    return build_kernel(name, [x], te.compute(shape, element, "packed"))


def unpack(type_: TensorType, batch: int, block: int, name: str) -> HostKernel:
    """The inverse of `pack`; `type_.dtype` is what the host shall hold."""
    axes, extents = _axes(type_)
    n_extent, c_extent, height, width = extents
    shape = (-(-n_extent // batch), -(-c_extent // block), height, width, batch, block)
    packed = te.placeholder(shape, "int8", "packed")

    def element(*indices: Expr) -> Expr:
        at = {axis: Const(0) for axis in "NCHW"} | dict(zip(axes, indices, strict=True))
        n, c = at["N"], at["C"]
        value = packed(n // batch, c // block, at["H"], at["W"], n % batch, c % block)
        return _shifted(value, type_.dtype)

    return build_kernel(name, [packed], te.compute(type_.shape, element, "y"))


def _axes(type_: TensorType) -> tuple[str, tuple[int, int, int, int]]:
    """Axis letters in the order of the shape, and the extents of N, C, H, W."""
    axes = type_.layout or ("NC" if len(type_.shape) == 2 else "")
    if len(axes) != len(type_.shape) or not {"N", "C"} <= set(axes) <= set("NCHW"):
        raise LoweringError(
            f"a tensor of shape {type_.shape} with layout {type_.layout!r} cannot be packed; its "
            f"layout must name the axes N and C, and perhaps H and W"
        )
    extents = dict(zip(axes, type_.shape, strict=True))
    n, c, h, w = (extents.get(axis, 1) for axis in "NCHW")
    return axes, (n, c, h, w)


def _shifted(value: Expr, dtype: str) -> Expr:
    """int8 for uint8 and the reverse: the same real number at a zero point moved by 128."""
    if value.dtype == dtype:
        return value
    step = _UINT8_SHIFT if dtype == "uint8" else -_UINT8_SHIFT
    return cast(dtype, int32(value) + step)


def reshape(from_shape: Shape, to_shape: Shape, dtype: str, name: str) -> HostKernel:
    """The same elements in row-major order under another shape; also a plain copy."""
    x = te.placeholder(from_shape, dtype, "x")

    def element(*indices: Expr) -> Expr:
        flat: Expr = Const(0)
        for index, extent in zip(indices, to_shape, strict=True):
            flat = flat * extent + index
        return x(*_unravel(flat, from_shape))

    return build_kernel(name, [x], te.compute(to_shape, element, "y"))


def _unravel(flat: Expr, shape: Shape) -> list[Expr]:
    indices: list[Expr] = []
    for position in range(len(shape)):
        step = int(np.prod(shape[position + 1 :], dtype=np.int64))
        index = flat // step
        indices.append(index % shape[position] if position else index)
    return indices


# -- quantisation ---------------------------------------------------------------------------------


def quantize(out: TensorType, rounding: str, name: str) -> HostKernel:
    """float32 -> int8: round(x / scale) + zero point, as `rounding` says, saturated.

    A NaN gives the least value. `rounding` is one of `compiler.graph.kernels.ROUNDINGS`.
    """
    quant = _per_tensor(out)
    x = te.placeholder(out.shape, "float32", "x")

    def element(*indices: Expr) -> Expr:
        if rounding == "reciprocal":
            real = x(*indices) * Const(float(np.float32(1) / quant.scale[0]), "float32")
        else:
            real = x(*indices) / Const(float(quant.scale[0]), "float32")
        # A comparison with NaN is false: the order of operands sends it to the lower bound.
        real = select(compare(">=", real, -_REAL_LIMIT), real, Const(-_REAL_LIMIT, "float32"))
        real = select(compare("<", real, _REAL_LIMIT), real, Const(_REAL_LIMIT, "float32"))
        return saturate(_rounded(real, rounding) + int(quant.zero_point[0]))

    return build_kernel(name, [x], te.compute(out.shape, element, "y"))


def _rounded(real: Expr, rounding: str) -> Expr:
    if rounding in ("even", "reciprocal"):
        return int32(call("round_even", real, dtype="float32"))
    if rounding == "away":
        # Conversion truncates, and taking the integer part away is exact.
        whole = int32(real)
        rest = real - cast("float32", whole)
        up = select(compare(">=", rest, 0.5), Const(1), Const(0))
        down = select(compare(">=", Const(-0.5, "float32"), rest), Const(1), Const(0))
        return whole + up - down
    raise LoweringError(f"quantize rounding must be even, away or reciprocal, not {rounding!r}")


def dequantize(source: TensorType, name: str) -> HostKernel:
    """int8 -> float32: (q - zero point) * scale."""
    quant = _per_tensor(source)
    x = te.placeholder(source.shape, "int8", "x")

    def element(*indices: Expr) -> Expr:
        centred = int32(x(*indices)) - int(quant.zero_point[0])
        return cast("float32", centred) * Const(float(quant.scale[0]), "float32")

    return build_kernel(name, [x], te.compute(source.shape, element, "y"))


def _per_tensor(type_: TensorType) -> Quant:
    if type_.quant is None or not type_.quant.is_per_tensor:
        raise LoweringError(
            f"a tensor of type {type_} must be quantised as a whole; requantise the model with "
            f"per-tensor activations"
        )
    return type_.quant


# -- by node --------------------------------------------------------------------------------------


def _quantize_node(graph: Graph, node: Node, name: str) -> HostKernel:
    return quantize(graph.type_of(node.outputs[0]), node.attrs["rounding"], name)


def _dequantize_node(graph: Graph, node: Node, name: str) -> HostKernel:
    return dequantize(graph.type_of(node.inputs[0]), name)


def _reshape_node(graph: Graph, node: Node, name: str) -> HostKernel:
    source, target = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    return reshape(source.shape, target.shape, target.dtype, name)


def _softmax_node(graph: Graph, node: Node, name: str) -> HostKernel:
    forms = {"litert": host_softmax.softmax, "table": host_softmax.softmax_table}
    mode = node.attrs["mode"]
    if mode not in forms:
        raise LoweringError(f"node {node.name!r}: the host has no softmax of mode {mode!r}")
    return forms[mode](graph.type_of(node.outputs[0]).shape, node.attrs["table"], name)


def _softmax_float_node(graph: Graph, node: Node, name: str) -> HostKernel:
    return host_softmax.softmax_float(graph.type_of(node.outputs[0]).shape, name)


HOST_OPS: Mapping[str, Callable[[Graph, Node, str], HostKernel]] = {
    "quantize": _quantize_node,
    "dequantize": _dequantize_node,
    "reshape": _reshape_node,
    "softmax": _softmax_node,
    "softmax_float": _softmax_float_node,
    "rescale": host_moves.rescale,
    "pad": host_moves.pad,
    "unfold": host_moves.unfold,
    "concat": host_moves.concat,
    "conv2d": host_compute.conv2d,
    "dense": host_compute.dense,
    "requantize": host_compute.requantize,
    "add": host_compute.add,
    "clip": host_compute.clip,
    "max_pool2d": host_compute.max_pool2d,
    "avg_pool2d": host_compute.avg_pool2d,
}
"""A builder (graph, node, function name) per operator that the host can do."""


def lower_host_node(graph: Graph, node: Node, name: str) -> HostKernel:
    """The kernel `name` of a node; its inputs are the node's operands that are no constants."""
    if node.op not in HOST_OPS:
        raise LoweringError(
            f"node {node.name!r}: the host has no operator {node.op!r}; it has "
            f"{', '.join(HOST_OPS)}"
        )
    return HOST_OPS[node.op](graph, node, name)
