"""Operators of ONNX models that move values, or compute with shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.frontend.builder import UINT8_SHIFT, Array, Unsupported
from compiler.frontend.onnx_file import OnnxNode
from compiler.frontend.onnx_layers import activation, either, quantised_operand
from compiler.frontend.onnx_values import Constant, Dequantised, Pending, Quantised, Scope, Value
from compiler.graph.numerics import quantize_real

_FLOAT = 1
_CASTS = {_FLOAT: np.float32, 6: np.int32, 7: np.int64}


# -- reshapes ------------------------------------------------------------------------------------


def _reshaped(scope: Scope, node: OnnxNode, name: str, shape: Sequence[int]) -> Value:
    pending = Pending("reshape", (name,), {"shape": tuple(shape)}, node.source, name)
    return scope.moved(pending, node, isinstance(scope.value(node, 0), Quantised))


def flatten(scope: Scope, node: OnnxNode) -> Value:
    """Flatten to a matrix."""
    name = either(scope, node)
    shape = scope.builder.type_of(name).shape
    axis = node.integer("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise Unsupported(f"axis {axis} does not fit the shape {shape}")
    axis = axis + len(shape) if axis < 0 else axis
    return _reshaped(scope, node, name, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def reshape(scope: Scope, node: OnnxNode) -> Value:
    """Reshape to a constant shape, in which 0 keeps an extent and -1 takes what is left."""
    wanted = [int(v) for v in scope.constant(node, 1, "shape").reshape(-1)]
    value = scope.value(node, 0)
    old = value.data.shape if isinstance(value, Constant) else ()
    if not isinstance(value, Constant):
        old = scope.builder.type_of(either(scope, node)).shape
    if not node.integer("allowzero", 0):
        wanted = [old[i] if v == 0 and i < len(old) else v for i, v in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = math.prod(v for v in wanted if v != -1)
        if rest < 1 or math.prod(old) % rest:
            raise Unsupported(f"the shape {old} cannot become {wanted}")
        wanted[wanted.index(-1)] = math.prod(old) // rest
    if isinstance(value, Constant):
        if min(wanted, default=1) < 0 or math.prod(wanted) != value.data.size:
            raise Unsupported(f"the shape {old} cannot become {wanted}")
        return Constant(node.outputs[0], value.data.reshape(wanted))
    return _reshaped(scope, node, either(scope, node), wanted)


def squeeze(scope: Scope, node: OnnxNode) -> Value:
    """Squeeze: without axes of extent 1."""
    value, axes = scope.value(node, 0), _axes(scope, node)
    shape = _shape_of(scope, node)
    chosen = {a % len(shape) for a in axes if -len(shape) <= a < len(shape)}
    if len(chosen) != len(axes) or any(shape[a] != 1 for a in chosen):
        raise Unsupported(f"its axes {list(axes)} must have extent 1 in the shape {shape}")
    if not axes:
        chosen = {a for a, extent in enumerate(shape) if extent == 1}
    kept = [extent for a, extent in enumerate(shape) if a not in chosen]
    if isinstance(value, Constant):
        return Constant(node.outputs[0], value.data.reshape(kept))
    return _reshaped(scope, node, either(scope, node), kept)


def unsqueeze(scope: Scope, node: OnnxNode) -> Value:
    """Unsqueeze: with more axes of extent 1."""
    value, axes = scope.value(node, 0), _axes(scope, node)
    shape = list(_shape_of(scope, node))
    rank = len(shape) + len(axes)
    if not axes or any(not -rank <= a < rank for a in axes):
        raise Unsupported(f"its axes {list(axes)} do not fit {rank} axes")
    for axis in sorted(a % rank for a in axes):
        shape.insert(axis, 1)
    if isinstance(value, Constant):
        return Constant(node.outputs[0], value.data.reshape(shape))
    return _reshaped(scope, node, either(scope, node), shape)


def _axes(scope: Scope, node: OnnxNode) -> tuple[int, ...]:
    # Before opset 13 the axes are an attribute.
    if node.has(1):
        return tuple(int(v) for v in scope.constant(node, 1, "axes").reshape(-1))
    return node.integers("axes", ())


# -- shapes as constants -------------------------------------------------------------------------


def _shape_of(scope: Scope, node: OnnxNode) -> tuple[int, ...]:
    value = scope.value(node, 0)
    if isinstance(value, Constant):
        return value.data.shape
    return scope.builder.type_of(either(scope, node)).shape


def shape_of(scope: Scope, node: OnnxNode) -> Value:
    """Shape: known here, for all shapes are fixed."""
    shape = np.array(_shape_of(scope, node), np.int64)
    end = node.integer("end", len(shape))
    return Constant(node.outputs[0], shape[node.integer("start", 0) : end])


def gather(scope: Scope, node: OnnxNode) -> Value:
    """Gather from a constant."""
    data, indices = scope.constant(node, 0, "data"), scope.constant(node, 1, "indices")
    try:
        taken = np.take(data, indices, axis=node.integer("axis", 0))
    except (IndexError, ValueError, TypeError):
        raise Unsupported(f"its indices do not fit the shape {data.shape}") from None
    return Constant(node.outputs[0], np.asarray(taken))


def cast(scope: Scope, node: OnnxNode) -> Value:
    """Cast of a constant; of an activation only to what it is."""
    value, target = scope.value(node, 0), node.integer("to", 0)
    if isinstance(value, Constant) and target in _CASTS:
        return Constant(node.outputs[0], value.data.astype(_CASTS[target]))
    if target != _FLOAT or isinstance(value, Constant | Quantised):
        raise Unsupported(f"a cast to type {target} of this operand changes its values")
    return value


def dropout(scope: Scope, node: OnnxNode) -> Value:
    """Dropout: nothing, outside of training."""
    if any(scope.readers[name] for name in node.outputs[1:] if name):
        raise Unsupported("its mask must not be read; export the model for inference")
    return scope.value(node, 0)


# -- pad and concat ------------------------------------------------------------------------------


def pad(scope: Scope, node: OnnxNode) -> Value:
    """Pad of height and width with a constant."""
    name = either(scope, node)
    if node.text("mode", "constant") != "constant":
        raise Unsupported(f"its mode must be constant, not {node.text('mode', 'constant')}")
    pads = node.integers("pads", ())
    if node.has(1):
        pads = tuple(int(v) for v in scope.constant(node, 1, "pads").reshape(-1))
    type_ = scope.builder.type_of(name)
    if node.has(3):
        pads = _on_all_axes(pads, scope.constant(node, 3, "axes"), len(type_.shape))
    if len(type_.shape) != 4 or len(pads) != 8 or any(pads[i] for i in (0, 1, 4, 5)):
        raise Unsupported(f"it must pad height and width of an image, not {list(pads)}")
    attrs: dict[str, Any] = {"pads": (pads[2], pads[3], pads[6], pads[7]), "layout": "NCHW"}
    attrs["value"] = _fill(scope, node, name)
    pending = Pending("qnn.pad", (name,), attrs, node.source, name)
    return scope.moved(pending, node, isinstance(scope.value(node, 0), Quantised))


def _on_all_axes(pads: tuple[int, ...], axes: Array, rank: int) -> tuple[int, ...]:
    chosen = [int(axis) for axis in axes.reshape(-1)]
    if len(pads) != 2 * len(chosen) or any(not -rank <= axis < rank for axis in chosen):
        raise Unsupported(f"its axes {chosen} do not fit its pads {list(pads)}")
    spread = [0] * (2 * rank)
    for position, axis in enumerate(chosen):
        spread[axis % rank] = pads[position]
        spread[axis % rank + rank] = pads[position + len(chosen)]
    return tuple(spread)


def _fill(scope: Scope, node: OnnxNode, name: str) -> int:
    """The padding's value as the graph holds it."""
    value = scope.constant(node, 2, "value") if node.has(2) else np.zeros(1)
    if value.size != 1:
        raise Unsupported("its value must be a single number")
    number = float(value.reshape(-1)[0])
    type_ = scope.builder.type_of(name)
    if isinstance(scope.value(node, 0), Dequantised):
        assert type_.quant is not None, "a dequantised tensor is quantised"
        if not math.isfinite(number):
            return 127 if number > 0 else -128
        quantised = quantize_real(
            number, type_.quant.scale[0], int(type_.quant.zero_point[0]), "even"
        )
        return max(-128, min(127, quantised))
    shift = UINT8_SHIFT if type_.source_dtype == "uint8" else 0
    if not -128 <= number - shift <= 127:
        raise Unsupported(f"its value {number:g} must be one of its operand's type")
    return int(number) - shift


def concat(scope: Scope, node: OnnxNode) -> Value:
    """Concat of activations, or of constants."""
    values = [scope.value(node, position) for position in range(len(node.inputs))]
    axis = node.integer("axis", 0)
    constants = [value.data for value in values if isinstance(value, Constant)]
    if values and len(constants) == len(values):
        try:
            return Constant(node.outputs[0], np.concatenate(constants, axis=axis))
        except (ValueError, TypeError):
            shapes = [data.shape for data in constants]
            raise Unsupported(f"its constants {shapes} do not fit along axis {axis}") from None
    names = [activation(scope, node, position) for position in range(len(values))]
    return _concat(scope, node, names, axis)


def qlinear_concat(scope: Scope, node: OnnxNode) -> Value:
    """QLinearConcat: the result's scale and zero point, then (value, scale, zero point) each."""
    if len(node.inputs) < 5 or len(node.inputs) % 3 != 2:
        raise Unsupported(f"it must have 2 inputs and 3 for each operand, not {len(node.inputs)}")
    names = [
        quantised_operand(scope, node, position)[0] for position in range(2, len(node.inputs), 3)
    ]
    pending = _concat(scope, node, names, node.integer("axis", 0))
    return scope.emit(pending, node.outputs[0], *scope.per_tensor(node, 0, "result"))


def _concat(scope: Scope, node: OnnxNode, names: Sequence[str], axis: int) -> Pending:
    rank = len(scope.builder.type_of(names[0]).shape) if names else 0
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} does not fit {rank} axes")
    return Pending("qnn.concat", tuple(names), {"axis": axis % rank}, node.source)
