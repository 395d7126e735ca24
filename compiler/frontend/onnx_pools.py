"""Pooling operators of ONNX models, in QDQ and in QLinear form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.frontend.builder import Unsupported
from compiler.frontend.onnx_file import OnnxNode
from compiler.frontend.onnx_layers import activation, either, quantised_operand, window_attrs
from compiler.frontend.onnx_values import Pending, Quantised, Scope, Value


def max_pool(scope: Scope, node: OnnxNode) -> Value:
    """MaxPool of integers or of their float view."""
    name = either(scope, node)
    pending = Pending("qnn.max_pool2d", (name,), _window(scope, node, name), node.source, name)
    return scope.moved(pending, node, isinstance(scope.value(node, 0), Quantised))


def average_pool(scope: Scope, node: OnnxNode) -> Value:
    """AveragePool between DequantizeLinear and QuantizeLinear."""
    return _average(scope, node, activation(scope, node, 0))


def global_average_pool(scope: Scope, node: OnnxNode) -> Value:
    """GlobalAveragePool between DequantizeLinear and QuantizeLinear."""
    return _global_average(scope, node, activation(scope, node, 0))


def reduce_mean(scope: Scope, node: OnnxNode) -> Value:
    """ReduceMean over height and width."""
    name = activation(scope, node, 0)
    axes = node.integers("axes", ())
    if node.has(1):
        axes = tuple(int(v) for v in scope.constant(node, 1, "axes").reshape(-1))
    shape = scope.builder.type_of(name).shape
    if len(shape) != 4 or sorted(a % 4 for a in axes if -4 <= a < 4) != [2, 3] or len(axes) != 2:
        raise Unsupported(f"it must average axes 2 and 3 of 4, not {list(axes)} of {len(shape)}")
    pending = _global_average(scope, node, name)
    return pending if node.integer("keepdims", 1) else pending.viewed(shape[:2])


def qlinear_average_pool(scope: Scope, node: OnnxNode) -> Value:
    """QLinearAveragePool, ONNX Runtime's own average of integers."""
    return _qlinear(scope, node, _average)


def qlinear_global_average_pool(scope: Scope, node: OnnxNode) -> Value:
    """QLinearGlobalAveragePool, ONNX Runtime's own average of integers."""
    return _qlinear(scope, node, _global_average)


def _qlinear(scope: Scope, node: OnnxNode, average: Any) -> Value:
    if node.integer("channels_last", 0):
        raise Unsupported("channels_last must be 0")
    name, _ = quantised_operand(scope, node, 0)
    result = scope.per_tensor(node, 3, "result")
    return scope.emit(average(scope, node, name), node.outputs[0], *result)


def _average(scope: Scope, node: OnnxNode, name: str) -> Pending:
    border = bool(node.integer("count_include_pad", 0))
    attrs = {**_window(scope, node, name), "count_include_pad": border}
    return Pending("qnn.avg_pool2d", (name,), attrs, node.source)


def _global_average(scope: Scope, node: OnnxNode, name: str) -> Pending:
    shape = scope.builder.type_of(name).shape
    if len(shape) != 4:
        raise Unsupported(f"its operand must have 4 axes, not the shape {shape}")
    attrs = {
        "kernel": (shape[2], shape[3]),
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "layout": "NCHW",
        "count_include_pad": False,
    }
    return Pending("qnn.avg_pool2d", (name,), attrs, node.source)


def _window(scope: Scope, node: OnnxNode, name: str) -> Mapping[str, Any]:
    """Kernel, strides and pads of a pooling window."""
    if len([o for o in node.outputs if o]) != 1:
        raise Unsupported("it must have 1 output")
    if node.integer("storage_order", 0):
        raise Unsupported("storage_order must be 0")
    kernel = node.integers("kernel_shape", (0, 0))
    shape = scope.builder.type_of(name).shape
    window = window_attrs(node, shape, (kernel[0], kernel[1]))
    if window.pop("dilation") != (1, 1):
        raise Unsupported("dilations must be 1")
    pads = window["pads"]
    if node.integer("ceil_mode", 0):
        if node.integer("count_include_pad", 0):
            raise Unsupported("ceil_mode must be 0 where padding counts")
        pads = _rounded_up(shape[2:], kernel, window["strides"], pads)
    return {"kernel": kernel, "strides": window["strides"], "pads": pads, "layout": "NCHW"}


def _rounded_up(
    size: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...]
) -> tuple[int, ...]:
    """Pads that give ceil_mode's windows: each must begin before the padding at the end."""
    grown = list(pads)
    for axis in (0, 1):
        if min(kernel[axis], strides[axis]) < 1:
            raise Unsupported("kernel and strides must be positive")
        before, after = pads[axis], pads[axis + 2]
        room = size[axis] + before + after - kernel[axis]
        count = -(-room // strides[axis]) + 1
        if (count - 1) * strides[axis] >= size[axis] + before:
            count -= 1
        end = (count - 1) * strides[axis] + kernel[axis]
        grown[axis + 2] = max(end - size[axis] - before, 0)
    return tuple(grown)
