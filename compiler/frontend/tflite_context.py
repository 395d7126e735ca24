"""One TFLite file under import: what the importers of its operators share."""

from __future__ import annotations

import numpy as np
import tflite

from compiler.frontend.builder import (
    Array,
    GraphBuilder,
    Unsupported,
    check_bias_scale,
    image_layout,
)
from compiler.frontend.tflite_file import Operator, TfliteFile, TfTensor
from compiler.graph.ir import Quant, TensorType

_ACTIVATIONS = {
    tflite.ActivationFunctionType.NONE: "none",
    tflite.ActivationFunctionType.RELU: "relu",
    tflite.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
    tflite.ActivationFunctionType.RELU6: "relu6",
}


def activation_name(code: int) -> str:
    """Name of a fused activation."""
    if code not in _ACTIVATIONS:
        raise Unsupported(f"fused activation {code} must be none, relu, relu6 or relu_n1_to_1")
    return _ACTIVATIONS[code]


class ImportContext:
    """One file under import: its tables and the graph that grows from them."""

    def __init__(self, file: TfliteFile, builder: GraphBuilder) -> None:
        self.file = file
        self.builder = builder

    def operand(self, op: Operator, position: int) -> TfTensor:
        """An input tensor of an operator that must be there."""
        if position >= len(op.inputs) or op.inputs[position] < 0:
            raise Unsupported(f"it lacks input {position}")
        return self.file.tensors[op.inputs[position]]

    def result(self, op: Operator) -> TfTensor:
        """The one output tensor of an operator."""
        if len(op.outputs) != 1:
            raise Unsupported(f"it must have 1 output, not {len(op.outputs)}")
        return self.file.tensors[op.outputs[0]]

    def integers(self, op: Operator, position: int) -> Array:
        """A constant operand of integers."""
        tensor = self.operand(op, position)
        if tensor.data is None or tensor.dtype not in ("int32", "int64"):
            raise Unsupported(f"its input {tensor.name!r} must be constant int32 or int64")
        return tensor.data

    def activation(self, tensor: TfTensor) -> str:
        """Declare an int8 or uint8 tensor that is quantised as a whole; returns its name."""
        if tensor.dtype not in ("int8", "uint8"):
            raise Unsupported(
                f"tensor {tensor.name!r} must be int8 or uint8, not {tensor.dtype}; quantise the "
                "model in full"
            )
        if tensor.quant is None or not tensor.quant.is_per_tensor:
            raise Unsupported(f"tensor {tensor.name!r} must have one scale and zero point")
        if tensor.data is not None:
            return self.builder.constant(tensor.name, tensor.held, tensor.held_quant)
        return self.declare(tensor)

    def declare(self, tensor: TfTensor) -> str:
        """Declare a tensor under the name and type that the graph holds it in."""
        if tensor.dtype not in ("int8", "uint8", "float32"):
            raise Unsupported(
                f"tensor {tensor.name!r} must be int8, uint8 or float32, not {tensor.dtype}"
            )
        shifted = tensor.dtype == "uint8"
        type_ = TensorType(
            tensor.shape,
            "int8" if shifted else tensor.dtype,
            tensor.held_quant,
            image_layout(tensor.shape, "NHWC"),
            "uint8" if shifted else "",
        )
        return self.builder.declare(tensor.name, type_)

    def weights(self, tensor: TfTensor, rank: int, channel: int = 0) -> Quant:
        """The quantisation of constant symmetric weights, whose output channel is axis `channel`.

        Per-channel scales are given along axis 0, where the graph has the output channel.
        """
        if tensor.data is None:
            raise Unsupported(f"its weights {tensor.name!r} must be constant")
        quant = tensor.held_quant
        if tensor.dtype not in ("int8", "uint8") or quant is None or len(tensor.shape) != rank:
            raise Unsupported(
                f"its weights must be quantised int8 with {rank} axes, not {tensor.dtype} of "
                f"shape {tensor.shape}"
            )
        if np.any(quant.zero_point):
            raise Unsupported(
                f"its weights must have zero point 0, not {int(quant.zero_point.max())}; use "
                "symmetric weight quantisation"
            )
        if quant.is_per_tensor:
            return quant
        channels = tensor.shape[channel]
        if (quant.axis, quant.scale.size) != (channel, channels):
            raise Unsupported(
                f"its {quant.scale.size} weight scales along axis {quant.axis} must be one per "
                f"output channel ({channels} along axis {channel})"
            )
        return Quant(quant.scale, quant.zero_point, 0)

    def bias(self, op: Operator, x: TfTensor, weights: Quant, channels: int) -> str:
        """The int32 bias constant, zeros where the model has none."""
        out = self.result(op)
        if len(op.inputs) < 3 or op.inputs[2] < 0:
            return self.builder.constant(f"{out.name}:bias", np.zeros(channels, np.int32))
        tensor = self.file.tensors[op.inputs[2]]
        if tensor.data is None or tensor.dtype != "int32":
            raise Unsupported(f"its bias {tensor.name!r} must be constant int32")
        assert x.held_quant is not None, "an activation is quantised"
        check_bias_scale(tensor.quant, x.held_quant, weights)
        return self.builder.constant(tensor.name, tensor.data, tensor.quant)
