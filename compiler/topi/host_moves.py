"""Operators on the host that move values or change their quantisation.

They equal the references of `compiler.graph.kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compiler.graph.ir import Graph, Node
from compiler.graph.shapes import axes_of
from compiler.loop.expr import Const, Expr, both, call, cast, compare, select
from compiler.te import tensor as te
from compiler.topi.host_kernel import HostKernel, build_kernel, constant, int32
from vta_hw.spec.arith import pack_req_shift
from vta_hw.spec.isa import Rounding
from vta_hw.spec.semantics import req_imm

ROUNDING: Mapping[str, Rounding] = {
    "double": Rounding.DOUBLE,
    "single": Rounding.SINGLE,
    "float": Rounding.FLOAT,
}
"""The mode of the REQ instruction by the name that the graph gives it."""

Named = tuple[te.Tensor, np.ndarray]


def requantisation(attrs: Mapping[str, Any]) -> tuple[Named, Named, int]:
    """What `req` takes after a value and its bias: multipliers, packed shifts, the immediate."""
    factors = np.asarray(attrs["multiplier"])
    if attrs["mode"] == "float":
        factors = factors.astype(np.float32).view(np.int32)
    shifts = pack_req_shift(attrs["right"], attrs["left"], attrs["clamp_min"], attrs["clamp_max"])
    imm = req_imm(int(attrs["zero_point"]), ROUNDING[attrs["mode"]])
    multiplier = constant(factors.astype(np.int32), "multiplier")
    packed = constant(np.broadcast_to(shifts, factors.shape).astype(np.int32), "shifts")
    return multiplier, packed, imm


def rescale(graph: Graph, node: Node, name: str) -> HostKernel:
    """The same real values in another quantisation."""
    shape = graph.type_of(node.outputs[0]).shape
    multiplier, packed, imm = requantisation(node.attrs)
    x = te.placeholder(shape, "int8", "x")
    bias = Const(-int(node.attrs["in_zero_point"]))

    def element(*at: Expr) -> Expr:
        operands = (int32(x(*at)), bias, multiplier[0](Const(0)), packed[0](Const(0)))
        return cast("int8", call("req", *operands, imm=imm))

    return build_kernel(name, [x], te.compute(shape, element, "y"), [multiplier, packed])


def pad(graph: Graph, node: Node, name: str) -> HostKernel:
    """An image with a border of one value."""
    x_type, out_type = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    _, h_axis, w_axis = axes_of(x_type.layout)
    top, left, _, _ = node.attrs["pads"]
    x = te.placeholder(x_type.shape, "int8", "x")

    def element(*at: Expr) -> Expr:
        inside: list[Expr] = []
        source = list(at)
        for axis, before in ((h_axis, top), (w_axis, left)):
            source[axis] = at[axis] - before
            inside += [
                compare(">=", source[axis], 0),
                compare("<", source[axis], x_type.shape[axis]),
            ]
        return select(both(*inside), x(*source), Const(int(node.attrs["value"]), "int8"))

    return build_kernel(name, [x], te.compute(out_type.shape, element, "y"))


def unfold(graph: Graph, node: Node, name: str) -> HostKernel:
    """The pixels of each window as channels."""
    x_type, out_type = graph.type_of(node.inputs[0]), graph.type_of(node.outputs[0])
    c_axis, h_axis, w_axis = axes_of(x_type.layout)
    (_, kw), (sh, sw), (top, left) = (node.attrs[k] for k in ("kernel", "strides", "before"))
    channels = x_type.shape[c_axis]
    x = te.placeholder(x_type.shape, "int8", "x")

    def element(*at: Expr) -> Expr:
        tap = at[c_axis] // channels
        source = list(at)
        source[c_axis] = at[c_axis] % channels
        source[h_axis] = at[h_axis] * sh + tap // kw - top
        source[w_axis] = at[w_axis] * sw + tap % kw - left
        inside = [
            bound
            for axis in (h_axis, w_axis)
            for bound in (
                compare(">=", source[axis], 0),
                compare("<", source[axis], x_type.shape[axis]),
            )
        ]
        return select(both(*inside), x(*source), Const(int(node.attrs["value"]), "int8"))

    return build_kernel(name, [x], te.compute(out_type.shape, element, "y"))


def concat(graph: Graph, node: Node, name: str) -> HostKernel:
    """Tensors one after the other along an axis."""
    axis, shapes = int(node.attrs["axis"]), [graph.type_of(n).shape for n in node.inputs]
    parts = [te.placeholder(shape, "int8", f"x{i}") for i, shape in enumerate(shapes)]

    def element(*at: Expr) -> Expr:
        return _part_at(parts, list(at), axis)

    output = te.compute(graph.type_of(node.outputs[0]).shape, element, "y")
    return build_kernel(name, parts, output)


def _part_at(parts: Sequence[te.Tensor], at: list[Expr], axis: int) -> Expr:
    """The element of the joined tensors: the first that reaches so far has it."""
    first, *others = parts
    if not others:
        return first(*at)
    extent = first.shape[axis]
    beyond = [*at[:axis], at[axis] - extent, *at[axis + 1 :]]
    return select(compare("<", at[axis], extent), first(*at), _part_at(others, beyond, axis))
