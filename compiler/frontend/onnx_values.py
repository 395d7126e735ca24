"""What a tensor name of an ONNX graph stands for while the graph is imported.

The quantised graph has no float32 tensors between operators. A `DequantizeLinear` therefore makes
no node, only a value that remembers what it came from; an operator on such values is held back
until the `QuantizeLinear` after it says how the result is quantised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compiler.frontend.builder import (
    UINT8_SHIFT,
    Array,
    GraphBuilder,
    Unsupported,
    check_same_quant,
    image_layout,
)
from compiler.frontend.onnx_file import OnnxNode
from compiler.graph.ir import Quant, TensorType
from compiler.graph.numerics import quantize_real


@dataclass(frozen=True)
class Constant:
    """Numbers as the file holds them."""

    name: str
    data: Array


@dataclass(frozen=True)
class QuantConstant:
    """Dequantised constant integers, held as int8 or int32."""

    name: str
    data: Array
    quant: Quant


@dataclass(frozen=True)
class Real:
    """A float32 tensor of the graph."""

    name: str


@dataclass(frozen=True)
class Quantised:
    """An int8 tensor of the graph."""

    name: str


@dataclass(frozen=True)
class Dequantised:
    """The float32 view of an int8 tensor of the graph."""

    name: str


@dataclass(frozen=True)
class Pending:
    """The float32 result of an operator on dequantised values, not quantised yet.

    `keep`: the operand whose quantisation the operator gives its result; another one costs a
    rescale. `range`: real bounds, from activations in between. `view`: the shape that the result
    gets in the end.
    """

    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    source: str
    keep: str | None = None
    range: tuple[float, float] = (-math.inf, math.inf)
    view: tuple[int, ...] | None = None

    def within(self, least: float, greatest: float) -> Pending:
        """The value after bounding it."""
        low, high = (min(max(bound, least), greatest) for bound in self.range)
        return replace(self, range=(low, high))

    def viewed(self, shape: tuple[int, ...]) -> Pending:
        """The value under another shape."""
        return replace(self, view=shape)


@dataclass(frozen=True)
class Missing:
    """The result of an operator that is reported already."""


Value = Constant | QuantConstant | Real | Quantised | Dequantised | Pending | Missing


# Operators whose own result can be bounded; others are followed by one that can.
_BOUNDED = frozenset({"qnn.conv2d", "qnn.dense", "qnn.add", "qnn.avg_pool2d"})


def held_quant(scale: Array, zero_point: Array, axis: int | None = None) -> Quant:
    """Quantisation of values as the graph holds them; the zero point's type is the values' type."""
    scale = np.atleast_1d(scale).astype(np.float32)
    if scale.ndim != 1 or not (np.isfinite(scale).all() and (scale > 0).all()) or not scale.size:
        raise Unsupported("its scales must be a number or a list, positive and finite")
    if zero_point.size not in (1, scale.size):
        raise Unsupported(f"it has {zero_point.size} zero points for {scale.size} scales")
    moved = zero_point.astype(np.int64) - (UINT8_SHIFT if zero_point.dtype == np.uint8 else 0)
    zero = np.broadcast_to(moved.reshape(-1), scale.shape).copy()
    return Quant(scale, zero, None if scale.size == 1 else axis)


def held_data(data: Array) -> Array:
    """Constant integers as the graph holds them: uint8 becomes int8, moved by 128."""
    if data.dtype != np.uint8:
        return data
    return (data.astype(np.int16) - UINT8_SHIFT).astype(np.int8)


class Scope:
    """The values by name, and the graph that grows. `readers` counts who reads each name."""

    def __init__(self, builder: GraphBuilder, readers: Mapping[str, int]) -> None:
        self.builder = builder
        self.readers = readers
        self.values: dict[str, Value] = {}

    def value(self, node: OnnxNode, position: int) -> Value:
        """An operand that must be there."""
        if not node.has(position):
            raise Unsupported(f"it lacks input {position}")
        name = node.inputs[position]
        if name not in self.values:
            raise Unsupported(f"it reads {name!r}, which nothing before it writes")
        value = self.values[name]
        if isinstance(value, Pending) and self.readers[name] > 1:
            raise Unsupported(
                f"it reads {name!r}, a float32 of {self.readers[name]} readers; quantise it"
            )
        return value

    def constant(self, node: OnnxNode, position: int, what: str) -> Array:
        """An operand that must be constant."""
        value = self.value(node, position)
        if not isinstance(value, Constant):
            raise Unsupported(f"its {what} {node.inputs[position]!r} must be constant")
        return value.data

    def per_tensor(self, node: OnnxNode, position: int, what: str) -> tuple[Quant, str]:
        """(quantisation, element type) of inputs `position` (scale) and the next (zero point)."""
        scale = self.constant(node, position, f"{what} scale")
        zero = np.zeros(1, np.uint8)
        if node.has(position + 1):
            zero = self.constant(node, position + 1, f"{what} zero point")
        if zero.dtype not in (np.int8, np.uint8):
            raise Unsupported(f"its {what} must be int8 or uint8, not {zero.dtype}")
        if scale.size != 1:
            raise Unsupported(f"its {what} must have one scale, not {scale.size}")
        return held_quant(scale, zero), zero.dtype.name

    def declare(self, name: str, shape: tuple[int, ...], quant: Quant | None, dtype: str) -> str:
        """Declare an int8 tensor; `dtype` is what the file calls it."""
        source = "uint8" if dtype == "uint8" else ""
        type_ = TensorType(shape, "int8", quant, image_layout(shape, "NCHW"), source)
        return self.builder.declare(name, type_)

    def moved(self, pending: Pending, node: OnnxNode, at_once: bool) -> Value:
        """An operator that keeps the quantisation: emitted now, on integers, or held back."""
        if not at_once or pending.keep is None:
            return pending
        type_ = self.builder.type_of(pending.keep)
        return self.emit(pending, node.outputs[0], type_.quant, type_.source_dtype or type_.dtype)

    def emit(self, pending: Pending, name: str, quant: Quant | None, dtype: str) -> Quantised:
        """Add the nodes of a result whose quantisation is now known."""
        try:
            return self._emit(pending, name, quant, dtype)
        except Unsupported as error:
            raise Unsupported(f"for the result of {pending.source}, {error}") from None

    def _emit(self, pending: Pending, name: str, quant: Quant | None, dtype: str) -> Quantised:
        attrs, limits = dict(pending.attrs), _open_limits(pending.range, quant)
        kept = None if pending.keep is None else self.builder.type_of(pending.keep).quant
        target = name if pending.view is None else f"{name}:image"
        if kept is None and limits and pending.op not in _BOUNDED:
            kept = quant
        if kept is not None and (limits or str(kept) != str(quant)):
            source = pending.inputs[0]
            if not _is_identity(pending, self.builder.type_of(source)):
                source = f"{name}:kept"
                self._add(pending.op, pending.inputs, source, attrs, kept, "int8", pending.source)
            self._add("qnn.rescale", (source,), target, limits, quant, dtype, pending.source)
        else:
            attrs |= limits
            self._add(pending.op, pending.inputs, target, attrs, quant, dtype, pending.source)
        if pending.view is not None:
            view = {"shape": pending.view}
            self._add("reshape", (target,), name, view, quant, dtype, pending.source)
        return Quantised(name)

    def _add(
        self,
        op: str,
        inputs: tuple[str, ...],
        name: str,
        attrs: Mapping[str, Any],
        quant: Quant | None,
        dtype: str,
        source: str,
    ) -> None:
        """Declare an int8 tensor and add the node that makes it."""
        self.declare(name, self.builder.infer_shape(op, inputs, attrs), quant, dtype)
        self.builder.emit(op, inputs, name, attrs, source)

    def bind(self, value: Value, quant: Quant, where: str) -> str:
        """Name of a quantised operand, which must have the quantisation that its reader states."""
        if not isinstance(value, Quantised):
            raise Unsupported(f"its {where} must be a quantised tensor")
        known = self.builder.type_of(value.name).quant
        if known is None:
            self.builder.set_quant(value.name, quant)
        else:
            check_same_quant(known, quant, f"the tensor {value.name!r}")
        return value.name


def _is_identity(pending: Pending, operand: TensorType) -> bool:
    return pending.op == "reshape" and tuple(pending.attrs["shape"]) == operand.shape


def _open_limits(limits: tuple[float, float], quant: Quant | None) -> dict[str, Any]:
    """The attribute `range`, of bounds that the quantised range does not imply by itself."""
    if quant is None:
        return {}
    least, greatest = limits
    scale, zero_point = quant.scale[0], int(quant.zero_point[0])
    if math.isfinite(least) and quantize_real(least, scale, zero_point, "even") <= -128:
        least = -math.inf
    if math.isfinite(greatest) and quantize_real(greatest, scale, zero_point, "even") >= 127:
        greatest = math.inf
    bounds = (least, greatest)
    return {} if bounds == (-math.inf, math.inf) else {"range": bounds}
