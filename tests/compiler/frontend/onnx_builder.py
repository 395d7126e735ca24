"""Write small quantised ONNX models with `onnx.helper`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
KINDS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


class OnnxBuilder:
    """Collects nodes and constants of one graph; `act` is the activations' integer type."""

    def __init__(self, rng: np.random.Generator, act: str = "uint8") -> None:
        self.rng = rng
        self.act = act
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, name: str, value: Array | np.generic) -> str:
        """A constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        """A node of ONNX's own or, with a dotted name, of ONNX Runtime's operators."""
        domain, _, op = op.rpartition(".")
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attrs))
        return output

    def params(self, name: str, scale: float | Array, zero: int | None = None) -> list[str]:
        """Scale and zero point constants of a tensor of the activations' type."""
        least = 0 if self.act == "uint8" else -128
        zero = int(self.rng.integers(least, least + 256)) if zero is None else zero
        return [
            self.const(f"{name}_scale", np.float32(scale)),
            self.const(f"{name}_zero", np.array(zero, self.act)),
        ]

    def quantise(self, name: str, params: Sequence[str]) -> str:
        """QuantizeLinear and DequantizeLinear; returns the float name after both."""
        self.node("QuantizeLinear", [name, *params], f"{name}_q")
        return self.node("DequantizeLinear", [f"{name}_q", *params], f"{name}_dq")

    def weights(self, name: str, shape: tuple[int, ...], channel: int) -> tuple[Array, Array]:
        """Random int8 weights and one scale per index of the channel axis."""
        data = self.rng.integers(-127, 128, shape).astype(np.int8)
        scale = self.rng.uniform(1e-4, 0.02, shape[channel]).astype(np.float32)
        self.const(name, data)
        self.const(f"{name}_scale", scale)
        self.const(f"{name}_zero", np.zeros(shape[channel], np.int8))
        return data, scale

    def bias(self, name: str, scale: Array) -> str:
        """A random int32 bias with its DequantizeLinear; returns the integers' name."""
        self.const(name, self.rng.integers(-20000, 20000, scale.size).astype(np.int32))
        self.const(f"{name}_scale", scale.astype(np.float32))
        self.const(f"{name}_zero", np.zeros(scale.size, np.int32))
        return name

    def dequantised(self, name: str, axis: int = 0) -> str:
        """DequantizeLinear of a constant made by `weights` or `bias`."""
        inputs = [name, f"{name}_scale", f"{name}_zero"]
        return self.node("DequantizeLinear", inputs, f"{name}_dq", axis=axis)

    def conv(self, x: str, x_scale: float, name: str, shape: tuple[int, ...], **attrs: Any) -> str:
        """A convolution with random weights [O, I, KH, KW] and bias; returns the float result."""
        _, scale = self.weights(f"{name}_w", shape, 0)
        bias = self.bias(f"{name}_b", np.float32(x_scale) * scale)
        operands = [x, self.dequantised(f"{name}_w"), self.dequantised(bias)]
        return self.node("Conv", operands, name, **attrs)

    def model(
        self, inputs: dict[str, tuple[int | str, ...]], outputs: Sequence[str], kind: str
    ) -> onnx.ModelProto:
        """The model; inputs and outputs are all of one element type."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(n, KINDS[kind], s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, KINDS[kind], None) for n in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)
