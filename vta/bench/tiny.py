"""A network that is as good as nothing, to measure how long starting takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_CHANNELS, _SIDE = 16, 8
_SCALE = np.float32(0.05)
_OPSET = 17


def write_tiny(path: Path) -> None:
    """Write a quantised convolution 1x1 of an image of 8x8 pixels as ONNX."""
    weight = np.random.default_rng(0).integers(-90, 90, (_CHANNELS, _CHANNELS, 1, 1), np.int8)
    constants = {"scale": _SCALE, "zero": np.zeros((), np.int8), "weight_q": weight}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_q"]),
        helper.make_node("DequantizeLinear", ["image_q", "scale", "zero"], ["image_d"]),
        helper.make_node("DequantizeLinear", ["weight_q", "scale", "zero"], ["weight"]),
        helper.make_node("Conv", ["image_d", "weight"], ["conv"]),
        helper.make_node("QuantizeLinear", ["conv", "scale", "zero"], ["conv_q"]),
        helper.make_node("DequantizeLinear", ["conv_q", "scale", "zero"], ["result"]),
    ]
    shape = (1, _CHANNELS, _SIDE, _SIDE)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 8
    onnx.save(model, path)
