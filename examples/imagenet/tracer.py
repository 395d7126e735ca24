"""Float ONNX networks with seeded weights whose activations keep their scale at any depth.

A network is described by calling a `Tracer` layer by layer. Each layer is computed for some images
as soon as it is added; a convolution's weights are then scaled, channel by channel, as a batch
normalisation over these images would do it, already folded into weights and bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
# What ONNX Runtime's quantiser writes itself.
_IR_VERSION = 8
_LEAST_DEVIATION = 1e-3


@dataclass(frozen=True)
class Traced:
    """A tensor of the network: its name, and its value [N, ...] for the images."""

    name: str
    value: np.ndarray


class Tracer:
    """The network described so far.

    `images` are float32 [N, C, H, W]; `seed` determines all weights; `on_layer` is called with the
    name of every layer that starts.
    """

    def __init__(
        self, images: np.ndarray, seed: int, on_layer: Callable[[str], None] = lambda name: None
    ) -> None:
        self.image = Traced("image", images)
        self._rng = np.random.default_rng(seed)
        self._on_layer = on_layer
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def conv(
        self,
        name: str,
        x: Traced,
        channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        gain: float = 1.0,
    ) -> Traced:
        """Convolution, padded by half the kernel; `gain` scales the result's deviation."""
        self._on_layer(name)
        inputs = x.value.shape[1] // groups
        weights = self._he_normal((channels, inputs, kernel, kernel))
        attributes = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [kernel // 2] * 4,
            "group": groups,
        }
        raw = _compute("Conv", [x.value, weights], attributes)
        value = self._normalise(name, weights, raw, gain)
        return self._record("Conv", name, _operands(name, x), value, attributes)

    def dense(self, name: str, x: Traced, outputs: int) -> Traced:
        """Matrix product of [N, inputs]."""
        self._on_layer(name)
        weights = self._he_normal((outputs, x.value.shape[1]))
        value = self._normalise(name, weights, x.value @ weights.T)
        return self._record("Gemm", name, _operands(name, x), value, {"transB": 1})

    def relu(self, x: Traced) -> Traced:
        """max(x, 0)."""
        return self._record("Relu", f"{x.name}.relu", [x], np.maximum(x.value, 0))

    def relu6(self, x: Traced) -> Traced:
        """Bounded to 0..6."""
        name = f"{x.name}.relu6"
        bounds: list[str] = []
        for part, bound in (("min", 0), ("max", 6)):
            bounds.append(f"{name}.{part}")
            self._add_constant(bounds[-1], np.array(bound, np.float32))
        return self._record("Clip", name, [x, *bounds], np.clip(x.value, 0, 6))

    def add(self, name: str, x: Traced, y: Traced) -> Traced:
        """Sum of two tensors of one shape."""
        return self._record("Add", name, [x, y], x.value + y.value)

    def max_pool(self, name: str, x: Traced, kernel: int, stride: int, pad: int = 0) -> Traced:
        """Greatest value of each window."""
        attributes = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
        }
        value = _compute("MaxPool", [x.value], attributes)
        return self._record("MaxPool", name, [x], value, attributes)

    def average(self, name: str, x: Traced) -> Traced:
        """Mean over the whole image."""
        return self._record("GlobalAveragePool", name, [x], x.value.mean((2, 3), keepdims=True))

    def flatten(self, x: Traced) -> Traced:
        """[N, C, H, W] to [N, C*H*W]."""
        value = x.value.reshape(len(x.value), -1)
        return self._record("Flatten", f"{x.name}.flat", [x], value)

    def model(self, name: str, output: Traced) -> onnx.ModelProto:
        """The network for one image, from the input ``image`` to `output`."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [_value_info(self.image)],
            [_value_info(output)],
            self._constants,
        )
        opset = [helper.make_opsetid("", _OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)

    def _he_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        deviation = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        return deviation * self._rng.standard_normal(shape, np.float32)

    def _normalise(
        self, name: str, weights: np.ndarray, raw: np.ndarray, gain: float = 1.0
    ) -> np.ndarray:
        """Fold what gives each channel of `raw` a random mean and deviation into the layer.

        Adds the weights and the bias; returns the layer's result with them.
        """
        others = tuple(axis for axis in range(raw.ndim) if axis != 1)
        deviation = np.maximum(raw.std(others, dtype=np.float64), _LEAST_DEVIATION)
        channels = len(weights)
        scale = gain * self._rng.uniform(0.6, 1.4, channels) / deviation
        shift = gain * 0.2 * self._rng.standard_normal(channels)
        bias = shift - scale * raw.mean(others, dtype=np.float64)
        scale, bias = scale.astype(np.float32), bias.astype(np.float32)
        self._add_constant(f"{name}.weight", weights * _along(scale, weights.ndim, 0))
        self._add_constant(f"{name}.bias", bias)
        return raw * _along(scale, raw.ndim, 1) + _along(bias, raw.ndim, 1)

    def _add_constant(self, name: str, value: np.ndarray) -> None:
        self._constants.append(numpy_helper.from_array(value, name))

    def _record(
        self,
        op: str,
        name: str,
        inputs: Sequence[Traced | str],
        value: np.ndarray,
        attributes: dict[str, Any] | None = None,
    ) -> Traced:
        names = [x.name if isinstance(x, Traced) else x for x in inputs]
        self._nodes.append(helper.make_node(op, names, [name], name, **(attributes or {})))
        return Traced(name, value)


def _operands(name: str, x: Traced) -> list[Traced | str]:
    return [x, f"{name}.weight", f"{name}.bias"]


def _along(vector: np.ndarray, rank: int, axis: int) -> np.ndarray:
    return vector.reshape([-1 if n == axis else 1 for n in range(rank)])


def _value_info(x: Traced) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(x.name, TensorProto.FLOAT, [1, *x.value.shape[1:]])


def _compute(op: str, inputs: Sequence[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    """One operator by ONNX Runtime, on one thread so that the sums never change."""
    names = [f"x{n}" for n in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    kinds = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in zip(names, inputs, strict=True)
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], op, kinds, [result])
    opset = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (value,) = session.run(None, dict(zip(names, inputs, strict=True)))
    return value
