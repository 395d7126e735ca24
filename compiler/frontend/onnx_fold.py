"""Constants after a layer of an ONNX model, folded into its weights and bias."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.frontend.builder import Array, Unsupported
from compiler.frontend.onnx_file import OnnxNode
from compiler.frontend.onnx_layers import as_bias
from compiler.frontend.onnx_values import Constant, Pending, QuantConstant, Scope, Value
from compiler.graph.ir import Quant

_LAYERS = ("qnn.conv2d", "qnn.dense")


def real_constant(value: Value) -> Array | None:
    """The real numbers of a constant, float64, or None for what is no constant."""
    if isinstance(value, Constant) and value.data.dtype == np.float32:
        return value.data.astype(np.float64)
    if isinstance(value, QuantConstant):
        quant = value.quant
        shape = [1] * value.data.ndim
        if not quant.is_per_tensor and quant.axis is not None:
            shape[quant.axis] = -1
        scale, zero = (p.astype(np.float64).reshape(shape) for p in (quant.scale, quant.zero_point))
        return (value.data - zero) * scale
    return None


def is_layer(value: Value) -> bool:
    """Whether a value is a layer's result that nothing has bounded or reshaped."""
    if not isinstance(value, Pending) or value.op not in _LAYERS:
        return False
    return value == replace(value, range=(-np.inf, np.inf), view=None)


def add_bias(scope: Scope, layer: Pending, real: Array) -> Pending:
    """The layer with more bias: one value, or one per channel along the channels' axis."""
    x, weights, bias = layer.inputs
    channels = scope.builder.type_of(weights).shape[0]
    along = (channels, 1, 1) if layer.op == "qnn.conv2d" else (channels,)
    extents = (1,) * (len(along) + 1 - real.ndim) + real.shape
    if real.size not in (1, channels) or (real.size > 1 and extents != (1, *along)):
        raise Unsupported(f"a constant of shape {real.shape} is no bias of {channels} channels")
    total = _real_bias(scope, layer) + np.broadcast_to(real.reshape(-1), (channels,))
    data, quant = as_bias(total, *_quants(scope, layer))
    return replace(layer, inputs=(x, weights, scope.builder.constant(bias, data, quant)))


def batch_normalization(scope: Scope, node: OnnxNode) -> Value:
    """BatchNormalization of a layer's result: other weight scales and another bias."""
    value = scope.value(node, 0)
    if not isinstance(value, Pending) or not is_layer(value):
        raise Unsupported(
            "it must follow a convolution or dense layer directly; fold it into the layer after it "
            "before the model is quantised"
        )
    gain, beta, mean, variance = (_parameter(scope, node, i) for i in range(1, 5))
    channels = scope.builder.type_of(value.inputs[1]).shape[0]
    if {p.shape for p in (gain, beta, mean, variance)} != {(channels,)}:
        raise Unsupported(f"its parameters must have {channels} values each")
    with np.errstate(all="ignore"):
        factor = gain / np.sqrt(variance + node.real("epsilon", 1e-5))
    if not np.isfinite(factor).all():
        raise Unsupported("its variances must be positive")
    bias = (_real_bias(scope, value) - mean) * factor + beta
    weights, quant = _scaled_weights(scope, value, factor)
    data, bias_quant = as_bias(bias, _quants(scope, value)[0], quant)
    held = scope.builder.constant(value.inputs[2], data, bias_quant)
    return replace(value, inputs=(value.inputs[0], weights, held))


def _parameter(scope: Scope, node: OnnxNode, position: int) -> Array:
    real = real_constant(scope.value(node, position))
    if real is None:
        raise Unsupported(f"its parameter {node.inputs[position]!r} must be constant float32")
    return real


def _quants(scope: Scope, layer: Pending) -> tuple[Quant, Quant]:
    x, weights = (scope.builder.type_of(name).quant for name in layer.inputs[:2])
    assert x is not None and weights is not None, "a layer is quantised"
    return x, weights


def _real_bias(scope: Scope, layer: Pending) -> Array:
    x, weights = _quants(scope, layer)
    products = x.scale[0].astype(np.float64) * weights.scale.astype(np.float64)
    return scope.builder.data_of(layer.inputs[2]) * products


def _scaled_weights(scope: Scope, layer: Pending, factor: Array) -> tuple[str, Quant]:
    """The weights times a factor per output channel: its size goes to the scales."""
    name = layer.inputs[1]
    data, (_, quant) = scope.builder.data_of(name), _quants(scope, layer)
    sign = np.sign(factor).reshape(-1, *[1] * (data.ndim - 1))
    turned = data.astype(np.int16) * sign.astype(np.int16)
    if turned.max(initial=0) > 127:
        raise Unsupported("a negative factor meets the weight -128; quantise weights to -127..127")
    size = np.where(factor == 0, 1.0, np.abs(factor))
    with np.errstate(all="ignore"):
        scale = (quant.scale.astype(np.float64) * size).astype(np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise Unsupported("its factors are too large or too small for the scales of the weights")
    scaled = Quant(scale, np.zeros(scale.size, np.int64), 0 if scale.size > 1 else None)
    layout = scope.builder.type_of(name).layout
    return scope.builder.constant(name, turned.astype(np.int8), scaled, layout), scaled
