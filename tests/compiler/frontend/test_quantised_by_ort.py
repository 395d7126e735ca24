"""Networks that ONNX Runtime's own quantiser wrote, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from compiler.frontend import import_model
from tests.compiler.frontend.test_onnx import check, needs_vnni
from tests.models import DIGITS


class RandomImages(CalibrationDataReader):
    """A few random inputs to calibrate on."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._left = [rng.normal(0, 1, (1, 3, 12, 12)).astype(np.float32) for _ in range(8)]

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return {"x": self._left.pop()} if self._left else None


def float_network(rng: np.random.Generator) -> onnx.ModelProto:
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (12, 8, 3, 3), "b2": (12,)}
    shapes |= {"w3": (10, 108), "b3": (10,)}
    constants = [
        numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "p1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "Conv", ["p1", "w2", "b2"], ["c2"], "c2", pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        helper.make_node("Relu", ["c2"], ["r2"], "r2"),
        helper.make_node("Flatten", ["r2"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "g", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 3, 12, 12))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 10))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_vnni
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("act", [QuantType.QUInt8, QuantType.QInt8])
def test_network_equals_onnx_runtime(
    form: QuantFormat, per_channel: bool, act: QuantType, rng: np.random.Generator, tmp_path: Path
) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(float_network(rng), source)
    quantize_static(
        source,
        target,
        RandomImages(rng),
        quant_format=form,
        per_channel=per_channel,
        activation_type=act,
        weight_type=QuantType.QInt8,
        extra_options={"WeightSymmetric": True},
    )
    lowered = check(onnx.load(target), rng)
    ops = [node.op for node in lowered.nodes]
    assert ops.count("conv2d") == 2
    assert ops.count("dense") == 1


@needs_vnni
def test_digits_network_equals_onnx_runtime(rng: np.random.Generator) -> None:
    graph = import_model(DIGITS)
    assert graph.source_format == "onnx"
    check(onnx.load(DIGITS), rng, count=40)
