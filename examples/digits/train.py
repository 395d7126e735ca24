"""Trains the digits network, exports it to ONNX and quantises it to int8.

`python -m examples.digits.train` writes the file that is committed beside this script.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from examples.digits import data, network

MODEL = Path(__file__).with_name("digits_int8.onnx")
PIXEL_MAX = 16
_OPSET = 17
_CALIBRATION_IMAGES = 256


def export(layers: Sequence[network.Layer]) -> onnx.ModelProto:
    """The float network for one image, given as pixel values 0..16."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    current, scale = "image", np.float32(1 / PIXEL_MAX)

    def add(op: str, weights: Sequence[np.ndarray] = (), **attributes: Any) -> None:
        nonlocal current
        name = f"{op.lower()}{1 + sum(node.op_type == op for node in nodes)}"
        names = [f"{name}_{part}" for part in ("weight", "bias")[: len(weights)]]
        constants.extend(map(numpy_helper.from_array, weights, names))
        output = name if len(nodes) < len(layers) else "logits"
        nodes.append(helper.make_node(op, [current, *names], [output], name, **attributes))
        current = output

    for layer in layers:
        match layer:
            case network.Conv():
                # The first layer takes over what training does to the pixels.
                weights = (layer.weight.value * scale, layer.bias.value)
                scale = np.float32(1)
                pads, strides = [network.PAD] * 4, [layer.stride] * 2
                add("Conv", weights, pads=pads, strides=strides)
            case network.Relu():
                add("Relu")
            case network.MaxPool():
                add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
            case network.Dense():
                add("Flatten")
                weights = (layer.weight.value, layer.bias.value)
                add("Gemm", weights, transB=1)
            case _:
                raise TypeError(f"no ONNX operator is known for {type(layer).__name__}")
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    # What quantize_static writes itself; runtimes of the last years read it.
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


class _Calibration(CalibrationDataReader):
    """Gives the images one by one, as quantize_static asks for them."""

    def __init__(self, images: np.ndarray) -> None:
        self._left: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next input, or None at the end."""
        image = next(self._left, None)
        return None if image is None else {"image": image[None]}


def quantise(model: onnx.ModelProto, images: np.ndarray, path: Path) -> None:
    """Write the network with uint8 activations and int8 weights, per channel and symmetric."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            path,
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )


def main() -> None:
    """Train, report the float accuracy, write the quantised file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=MODEL)
    arguments = parser.parse_args()

    digits = data.load()
    layers = network.build(arguments.seed)
    images = digits.train_images / PIXEL_MAX
    network.train(layers, images, digits.train_labels, arguments.epochs, arguments.seed)
    held_out = network.accuracy(layers, digits.test_images / PIXEL_MAX, digits.test_labels)
    print(f"held-out accuracy of the float network: {held_out:.2%}")
    quantise(export(layers), digits.train_images[:_CALIBRATION_IMAGES], arguments.output)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
