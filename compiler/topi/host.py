"""Host operators as tensor expressions: changes of layout, quantisation, softmax.

The results equal the numpy references of `compiler.graph.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from compiler.errors import LoweringError
from compiler.graph.ir import Graph, Node, Quant, TensorType
from compiler.loop.expr import Const, Expr, both, call, cast, compare, select
from compiler.te import tensor as te
from compiler.topi import host_compute
from compiler.topi.host_kernel import HostKernel, build_kernel, constant, int32, saturate

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
    """float32 -> int8: round(x / scale) + zero point, ties as `rounding` says, saturated.

    A NaN gives the least value.
    """
    quant = _per_tensor(out)
    x = te.placeholder(out.shape, "float32", "x")

    def element(*indices: Expr) -> Expr:
        real = x(*indices) / Const(float(quant.scale[0]), "float32")
        # A comparison with NaN is false: the order of operands sends it to the lower bound.
        real = select(compare(">=", real, -_REAL_LIMIT), real, Const(-_REAL_LIMIT, "float32"))
        real = select(compare("<", real, _REAL_LIMIT), real, Const(_REAL_LIMIT, "float32"))
        return saturate(_rounded(real, rounding) + int(quant.zero_point[0]))

    return build_kernel(name, [x], te.compute(out.shape, element, "y"))


def _rounded(real: Expr, rounding: str) -> Expr:
    if rounding == "even":
        return int32(call("round_even", real, dtype="float32"))
    if rounding == "away":
        # Conversion truncates, and taking the integer part away is exact.
        whole = int32(real)
        rest = real - cast("float32", whole)
        up = select(compare(">=", rest, 0.5), Const(1), Const(0))
        down = select(compare(">=", Const(-0.5, "float32"), rest), Const(1), Const(0))
        return whole + up - down
    raise LoweringError(f"quantize rounding must be even or away, not {rounding!r}")


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


# -- softmax --------------------------------------------------------------------------------------

# Formats of LiteRT's kernel: exponentials Q0.31, their sums Q12.19, reciprocals Q2.29.
_SUM_INTEGER_BITS = 12
_SUM_ONE = 1 << (31 - _SUM_INTEGER_BITS)
_ONE = (1 << 31) - 1
_NEWTON_ONE = 1 << 29
_NEWTON_START = round(48 / 17 * _NEWTON_ONE)
_NEWTON_SLOPE = -round(32 / 17 * _NEWTON_ONE)
_NEWTON_STEPS = 3
_OUTPUT_BITS = 8


def softmax(shape: Shape, table: np.ndarray, name: str) -> HostKernel:
    """LiteRT's fixed-point int8 softmax along the last axis.

    `table[d]` is exp(-scale * beta * d) in Q0.31 for a difference d to the row's maximum. The
    result has scale 1/256 and zero point -128.
    """
    rows, length = shape[:-1], shape[-1]
    if length * _SUM_ONE > _ONE:
        raise LoweringError(
            f"softmax over {length} values can leave its Q12.19 sum; use at most "
            f"{_ONE // _SUM_ONE} values"
        )
    x = te.placeholder(shape, "int8", "x")
    exp, array = constant(table, "table")
    k = te.reduce_axis(length, "k")
    greatest = te.compute((*rows, 1), lambda *r: te.max(x(*r[:-1], k.var), [k], -128), "greatest")

    def exponential(*at: Expr) -> Expr:
        return exp(int32(greatest(*at[:-1], 0)) - int32(x(*at)))

    exps = te.compute(shape, exponential, "exps")
    k_sum = te.reduce_axis(length, "k")

    def summed(*r: Expr) -> Expr:
        return te.sum(call("rsr", exps(*r[:-1], k_sum.var), Const(_SUM_INTEGER_BITS)), [k_sum])

    total = te.compute((*rows, 1), summed, "total")
    bit = te.reduce_axis(31, "bit")

    def counted(*r: Expr) -> Expr:
        reached = compare(">=", total(*r), Const(1) << bit.var)
        return te.sum(select(reached, Const(1), Const(0)), [bit])

    bits = te.compute((*rows, 1), counted, "bits")
    half = te.compute((*rows, 1), lambda *r: _half_of(total(*r), bits(*r)), "half")
    estimate = te.compute(
        (*rows, 1), lambda *r: call("rdhm", half(*r), Const(_NEWTON_SLOPE)) + _NEWTON_START, "x0"
    )
    for step in range(_NEWTON_STEPS):
        estimate = _newton(half, estimate, (*rows, 1), f"x{step + 1}")

    def element(*at: Expr) -> Expr:
        r = (*at[:-1], Const(0))
        inverse = estimate(*r)
        fraction = select(compare(">=", inverse, 1 << 30), Const(_ONE), inverse << 1)
        amount = bits(*r) + (_SUM_INTEGER_BITS + 31 - _OUTPUT_BITS - 32)
        return saturate(call("rsr", call("rdhm", exps(*at), fraction), amount) - 128)

    return build_kernel(name, [x], te.compute(shape, element, "y"), [(exp, array)])


def _half_of(total: Expr, bits: Expr) -> Expr:
    """Half of the sum scaled into [1, 2), in Q0.31; `bits` is its length."""
    fraction = (total << (Const(32) - bits)) & _ONE
    return (fraction >> 1) + (1 << 30)


def _newton(half: te.Tensor, estimate: te.Tensor, shape: Shape, name: str) -> te.Tensor:
    """One step towards 1 / (2 * half)."""

    def step(*at: Expr) -> Expr:
        x = estimate(*at)
        error = Const(_NEWTON_ONE) - call("rdhm", half(*at), x)
        return x + (call("rdhm", x, error) << 2)

    return te.compute(shape, step, name)


# -- by node --------------------------------------------------------------------------------------


def _quantize_node(graph: Graph, node: Node, name: str) -> HostKernel:
    return quantize(graph.type_of(node.outputs[0]), node.attrs["rounding"], name)


def _dequantize_node(graph: Graph, node: Node, name: str) -> HostKernel:
    return dequantize(graph.type_of(node.inputs[0]), name)


def _reshape_node(graph: Graph, node: Node, name: str) -> HostKernel:
    source, target = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    return reshape(source.shape, target.shape, target.dtype, name)


def _softmax_node(graph: Graph, node: Node, name: str) -> HostKernel:
    if node.attrs["mode"] != "litert":
        raise LoweringError(
            f"node {node.name!r}: the host has no softmax of mode {node.attrs['mode']!r}"
        )
    return softmax(graph.type_of(node.outputs[0]).shape, node.attrs["table"], name)


HOST_OPS: Mapping[str, Callable[[Graph, Node, str], HostKernel]] = {
    "quantize": _quantize_node,
    "dequantize": _dequantize_node,
    "reshape": _reshape_node,
    "softmax": _softmax_node,
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
