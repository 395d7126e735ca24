"""All scales of a QDQ network rounded up to powers of two, for hardware that can only shift."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper


def to_powers_of_two(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with power-of-two scales for activations, weights and biases.

    Scales are rounded up, so no range shrinks; zero points move to where zero then is. Weights
    and biases are quantised again. The model must be one that ONNX Runtime's quantiser wrote.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {c.name: c for c in result.graph.initializer}
    arrays = {name: numpy_helper.to_array(c) for name, c in constants.items()}
    scales = _activation_scales(result, arrays) | _weight_scales(result, arrays)
    scales |= _bias_scales(result, scales)
    for node in result.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        value, scale, zero = node.input
        ratio = arrays[scale].astype(np.float64) / scales[scale]
        if value in arrays:
            moved = np.rint(arrays[value] * _along_first(ratio, arrays[value].ndim))
        else:
            value, moved = zero, np.rint(arrays[zero] * ratio)
        # Always from the original: several nodes may share their constants.
        _replace(constants[value], moved.astype(arrays[value].dtype))
        _replace(constants[scale], scales[scale])
    return result


def _activation_scales(
    model: onnx.ModelProto, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    names = {n.input[1] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    return {name: _round_up(arrays[name]) for name in names}


def _weight_scales(model: onnx.ModelProto, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        node.input[1]: _round_up(arrays[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in arrays
        and arrays[node.input[0]].dtype == np.int8
    }


def _bias_scales(model: onnx.ModelProto, scales: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A bias has the scale of its products."""
    made = {n.output[0]: n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            x, weights, bias = (made[name] for name in node.input)
            found[bias] = scales[x] * scales[weights]
    return found


def _round_up(scale: np.ndarray) -> np.ndarray:
    return np.exp2(np.ceil(np.log2(scale.astype(np.float64)))).astype(np.float32)


def _along_first(vector: np.ndarray, rank: int) -> np.ndarray:
    return vector if vector.ndim == 0 else vector.reshape(-1, *[1] * (rank - 1))


def _replace(constant: onnx.TensorProto, value: np.ndarray) -> None:
    constant.CopyFrom(numpy_helper.from_array(value, constant.name))
