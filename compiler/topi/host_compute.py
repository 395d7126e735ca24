"""The arithmetic operators on the host, for networks with parts that VTA does not take.

Plain nests in the order of the definition: exact first, fast enough for what is left over. They
equal the references of `compiler.graph.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from compiler.errors import LoweringError
from compiler.graph.ir import Graph, Node, TensorType
from compiler.graph.kernels import zero_point_of
from compiler.graph.shapes import axes_of, channel_axis
from compiler.loop.expr import Const, Expr, both, call, cast, compare, maximum, select
from compiler.te import tensor as te
from compiler.topi.host_kernel import HostKernel, build_kernel, constant, int32, saturate
from compiler.topi.host_moves import ROUNDING, Named, requantisation
from vta_hw.spec.arith import pack_req_shift, req_imm


def _data(graph: Graph, name: str) -> np.ndarray:
    data = graph.tensors[name].data
    if data is None:
        raise LoweringError(
            f"tensor {name!r} must be a constant for the host; weights that are computed have no "
            f"operator here"
        )
    return data


class _Image:
    """A 4-D tensor addressed by n, c, h, w whatever its layout, and its extents."""

    def __init__(self, type_: TensorType) -> None:
        self.order = [0, *axes_of(type_.layout)]
        self.n, self.c, self.h, self.w = (type_.shape[axis] for axis in self.order)
        self.shape = type_.shape

    def from_nchw(self, indices: Sequence[Expr]) -> list[Expr]:
        """Indices in the order of the layout."""
        placed = dict(zip(self.order, indices, strict=True))
        return [placed[axis] for axis in range(4)]

    def to_nchw(self, indices: Sequence[Expr]) -> list[Expr]:
        """Indices n, c, h, w from those in the order of the layout."""
        return [indices[axis] for axis in self.order]


def _padded(
    x: te.Tensor, image: _Image, pads: Sequence[int], fill: int, shift: int
) -> tuple[te.Tensor, int, int]:
    """x - shift in int32 as NCHW with a border of `fill`; and its height and width."""
    top, left, bottom, right = pads
    height, width = image.h + top + bottom, image.w + left + right

    def element(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        row, column = h - top, w - left
        inside = both(
            compare(">=", row, 0),
            compare("<", row, image.h),
            compare(">=", column, 0),
            compare("<", column, image.w),
        )
        value = int32(x(*image.from_nchw([n, c, row, column]))) - shift
        return select(inside, value, Const(fill))

    return te.compute((image.n, image.c, height, width), element, "padded"), height, width


def conv2d(graph: Graph, node: Node, name: str) -> HostKernel:
    """acc = sum w * (x - zero point) + bias, with groups, strides, pads and dilation."""
    x_type, out_type = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    weights, bias = (
        constant(_data(graph, n), k) for n, k in zip(node.inputs[1:], "wb", strict=True)
    )
    (w, w_data), (b, _) = weights, bias
    out_c, group_c, kernel_h, kernel_w = w_data.shape
    (stride_h, stride_w), (step_h, step_w) = node.attrs["strides"], node.attrs["dilation"]
    per_group = out_c // node.attrs["groups"]
    image, target = _Image(x_type), _Image(out_type)
    x = te.placeholder(x_type.shape, x_type.dtype, "x")
    padded, _, _ = _padded(x, image, node.attrs["pads"], 0, zero_point_of(x_type))
    i, kh, kw = (
        te.reduce_axis(e, k)
        for e, k in zip((group_c, kernel_h, kernel_w), ("i", "kh", "kw"), strict=True)
    )

    def accumulate(n: Expr, o: Expr, h: Expr, v: Expr) -> Expr:
        value = padded(
            n,
            o // per_group * group_c + i.var,
            h * stride_h + kh.var * step_h,
            v * stride_w + kw.var * step_w,
        )
        return te.sum(value * int32(w(o, i.var, kh.var, kw.var)), [i, kh, kw])

    acc = te.compute((target.n, target.c, target.h, target.w), accumulate, "acc")

    def element(*at: Expr) -> Expr:
        n, o, h, v = target.to_nchw(at)
        return acc(n, o, h, v) + b(o)

    macs = int(np.prod(out_type.shape, dtype=np.int64)) * group_c * kernel_h * kernel_w
    output = te.compute(out_type.shape, element, "y")
    return build_kernel(name, [x], output, [weights, bias], macs)


def dense(graph: Graph, node: Node, name: str) -> HostKernel:
    """acc = (x - zero point) @ w.T + bias."""
    x_type, out_type = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    weights, bias = (
        constant(_data(graph, n), k) for n, k in zip(node.inputs[1:], "wb", strict=True)
    )
    (w, w_data), (b, _) = weights, bias
    x = te.placeholder(x_type.shape, x_type.dtype, "x")
    k = te.reduce_axis(w_data.shape[1], "k")
    zero_point = zero_point_of(x_type)

    def accumulate(n: Expr, o: Expr) -> Expr:
        return te.sum((int32(x(n, k.var)) - zero_point) * int32(w(o, k.var)), [k])

    acc = te.compute(out_type.shape, accumulate, "acc")
    output = te.compute(out_type.shape, lambda n, o: acc(n, o) + b(o), "y")
    macs = int(np.prod(out_type.shape, dtype=np.int64)) * w_data.shape[1]
    return build_kernel(name, [x], output, [weights, bias], macs)


def requantize(graph: Graph, node: Node, name: str) -> HostKernel:
    """int32 accumulators to int8: the meaning of REQ, with one parameter or one per channel."""
    type_ = graph.type_of(node.inputs[0])
    multiplier, packed, imm = requantisation(node.attrs)
    x = te.placeholder(type_.shape, "int32", "x")
    axis = channel_axis(type_)

    def element(*at: Expr) -> Expr:
        lane: Expr = at[axis] if multiplier[1].size > 1 else Const(0)
        operands = (x(*at), Const(0), multiplier[0](lane), packed[0](lane))
        return cast("int8", call("req", *operands, imm=imm))

    output = te.compute(type_.shape, element, "y")
    return build_kernel(name, [x], output, [multiplier, packed])


def _scaled(value: Expr, factor: tuple[int, int, int]) -> Expr:
    multiplier, left, right = (int(v) for v in factor)
    return call("rsr", call("rdhm", value << left, Const(multiplier)), Const(right))


def add(graph: Graph, node: Node, name: str) -> HostKernel:
    """Both operands scaled to a common fine scale, added, scaled to the result's."""
    attrs, out_type = node.attrs, graph.type_of(node.outputs[0])
    types = [graph.type_of(n) for n in node.inputs]
    operands = [te.placeholder(t.shape, "int8", k) for t, k in zip(types, "ab", strict=True)]

    def integer(*at: Expr) -> Expr:
        a, b = (int32(tensor(*at)) for tensor in operands)
        total = a * attrs["lhs_multiplier"] + b * attrs["rhs_multiplier"] + attrs["bias"]
        return call("shr", total, Const(attrs["shift"])) + attrs["zero_point"]

    def double(*at: Expr) -> Expr:
        total: Expr = Const(0)
        for tensor, type_, key in zip(operands, types, ("lhs", "rhs"), strict=True):
            raised = (int32(tensor(*at)) - zero_point_of(type_)) << attrs["left_shift"]
            total = total + _scaled(raised, attrs[key])
        return _scaled(total, attrs["out"]) + zero_point_of(out_type)

    def scaled(*at: Expr) -> Expr:
        a, b = (int32(tensor(*at)) for tensor in operands)
        total = a * attrs["lhs_multiplier"] + b * attrs["rhs_multiplier"] + attrs["bias"]
        real = cast("float32", total) * Const(attrs["scale"], "float32")
        return int32(call("round_even", real, dtype="float32")) + attrs["zero_point"]

    forms = {"double": double, "linear": integer, "scaled": scaled}
    form = forms[_mode(node, forms)]

    def element(*at: Expr) -> Expr:
        return saturate(form(*at), attrs["clamp_min"], attrs["clamp_max"])

    return build_kernel(name, operands, te.compute(out_type.shape, element, "y"))


def _mode(node: Node, known: Iterable[str]) -> str:
    mode = str(node.attrs["mode"])
    if mode not in known:
        raise LoweringError(
            f"node {node.name!r}: the host has no {node.op!r} of mode {mode!r}; it has "
            f"{', '.join(known)}"
        )
    return mode


def clip(graph: Graph, node: Node, name: str) -> HostKernel:
    """Values bounded by the quantised limits."""
    shape = graph.type_of(node.outputs[0]).shape
    x = te.placeholder(shape, "int8", "x")
    least, greatest = node.attrs["min"], node.attrs["max"]
    output = te.compute(shape, lambda *at: saturate(int32(x(*at)), least, greatest), "y")
    return build_kernel(name, [x], output)


def max_pool2d(graph: Graph, node: Node, name: str) -> HostKernel:
    """Greatest value of each window; padding never wins."""

    def finish(best: Expr, h: Expr, w: Expr) -> Expr:
        return best

    return _pool(graph, node, name, -128, lambda e, axes: te.max(e, axes, -128), finish)


def avg_pool2d(graph: Graph, node: Node, name: str) -> HostKernel:
    """Mean of each window, rounded as the mode says."""
    forms = {"litert": _integer_mean, "linear": _linear_mean}
    forms |= dict.fromkeys(("requant", "double"), _requantised_mean)
    finish, constants = forms[_mode(node, forms)](graph, node)
    return _pool(graph, node, name, 0, te.sum, finish, constants)


_Finish = tuple[Callable[[Expr, Expr, Expr], Expr], list[Named]]


def _integer_mean(graph: Graph, node: Node) -> _Finish:
    """The sum over the count, to nearest, ties away from zero."""
    counts = constant(_window_sizes(graph, node), "counts")

    def finish(total: Expr, h: Expr, w: Expr) -> Expr:
        size = counts[0](h, w)
        magnitude = (maximum(total, Const(0) - total) + size // 2) // size
        return select(compare("<", total, 0), Const(0) - magnitude, magnitude)

    return finish, [counts]


def _requantised_mean(graph: Graph, node: Node) -> _Finish:
    """The sum without its zero points, requantised by what the window's size makes of it."""
    attrs, counts = node.attrs, _window_sizes(graph, node)
    if attrs["mode"] == "requant":
        factors = (attrs["scale"] / counts).astype(np.float32).view(np.int32)
        shifts, rounding = pack_req_shift(0, 0, -128, 127), ROUNDING["float"]
    else:
        factors = np.broadcast_to(attrs["multiplier"], counts.shape)
        shifts, rounding = (
            pack_req_shift(attrs["right"], attrs["left"], -128, 127),
            ROUNDING["double"],
        )
    imm = req_imm(attrs["out_zero_point"], rounding)
    bias = constant((-counts * attrs["in_zero_point"]).astype(np.int32), "bias")
    multiplier = constant(factors.astype(np.int32), "multiplier")
    packed = constant(np.asarray(shifts).reshape(1).astype(np.int32), "shifts")

    def finish(total: Expr, h: Expr, w: Expr) -> Expr:
        operands = total, bias[0](h, w), multiplier[0](h, w), packed[0](Const(0))
        return call("req", *operands, imm=imm)

    return finish, [bias, multiplier, packed]


def _linear_mean(graph: Graph, node: Node) -> _Finish:
    """The sum times a float32 plus a float32, to the nearest integer, ties to even."""
    lanes = constant(np.array([node.attrs["scale"], node.attrs["offset"]], np.float32), "line")

    def finish(total: Expr, h: Expr, w: Expr) -> Expr:
        scaled = cast("float32", total) * lanes[0](Const(0)) + lanes[0](Const(1))
        return int32(call("round_even", scaled, dtype="float32"))

    return finish, [lanes]


def _window_sizes(graph: Graph, node: Node) -> np.ndarray:
    """Divisor per output position: pixels of the window, those in the padding if they count."""
    image, attrs = _Image(graph.type_of(node.inputs[0])), node.attrs
    top, left, bottom, right = attrs["pads"]
    border = int(attrs["count_include_pad"])
    ones = np.pad(
        np.ones((image.h, image.w), np.int32), ((top, bottom), (left, right)),
        constant_values=border,
    )  # fmt: skip
    views = np.lib.stride_tricks.sliding_window_view(ones, attrs["kernel"])
    (stride_h, stride_w) = attrs["strides"]
    sizes: np.ndarray = views[::stride_h, ::stride_w].sum(axis=(2, 3)).astype(np.int32)
    return sizes


def _pool(
    graph: Graph,
    node: Node,
    name: str,
    fill: int,
    combine: Callable[[Expr, list[te.Axis]], Expr],
    finish: Callable[[Expr, Expr, Expr], Expr],
    constants: Sequence[tuple[te.Tensor, np.ndarray]] = (),
) -> HostKernel:
    x_type, out_type = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    image, target, attrs = _Image(x_type), _Image(out_type), node.attrs
    (stride_h, stride_w), (kernel_h, kernel_w) = attrs["strides"], attrs["kernel"]
    x = te.placeholder(x_type.shape, "int8", "x")
    padded, _, _ = _padded(x, image, attrs["pads"], fill, 0)
    kh, kw = te.reduce_axis(kernel_h, "kh"), te.reduce_axis(kernel_w, "kw")

    def window(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        value = padded(n, c, h * stride_h + kh.var, w * stride_w + kw.var)
        return combine(value, [kh, kw])

    pooled = te.compute((target.n, target.c, target.h, target.w), window, "pooled")

    def element(*at: Expr) -> Expr:
        n, c, h, w = target.to_nchw(at)
        value = finish(pooled(n, c, h, w), h, w)
        return saturate(value, attrs["clamp_min"], attrs["clamp_max"])

    return build_kernel(name, [x], te.compute(out_type.shape, element, "y"), constants)
