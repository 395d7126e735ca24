"""Networks with every operator that moves or rescales values, compiled, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.context import CompileContext
from compiler.driver import compile_graph
from compiler.graph.ir import Graph
from compiler.graph.reference import evaluate
from runtime.executor import Executor
from tests.compiler.frontend.onnx_builder import OnnxBuilder
from tests.compiler.frontend.onnx_checks import load
from vta_hw.spec.config import VtaConfig


def network(rng: np.random.Generator) -> Graph:
    """Branches of a convolution, padded, pooled and averaged, rescaled and joined; softmax."""
    b = OnnxBuilder(rng)
    x = b.quantise("x", b.params("x", 0.05))
    c = b.params("c", 0.3)
    root = b.quantise(b.conv(x, 0.05, "c", (20, 3, 3, 3), pads=[1, 1, 1, 1]), c)
    b.const("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    b.const("value", np.float32(2.0))
    padded = b.quantise(b.node("Pad", [root, "pads", "value"], "p"), c)
    pool = {"kernel_shape": [3, 3]}
    most = b.quantise(b.node("MaxPool", [padded], "m", **pool), b.params("m", 0.21))
    mean = {**pool, "pads": [1, 1, 1, 1], "count_include_pad": 1}
    average = b.quantise(b.node("AveragePool", [root], "a", **mean), b.params("a", 0.17))
    total = b.quantise(b.node("Add", [most, average], "t"), b.params("t", 0.4))
    relu = b.quantise(b.node("Relu", [total], "r"), b.params("r", 0.35))
    joined = b.quantise(b.node("Concat", [relu, root, most], "j", axis=1), b.params("j", 0.33))
    depthwise = b.conv(joined, 0.33, "d", (60, 1, 3, 3), group=60, strides=[2, 2])
    pooled = b.node("ReduceMean", [b.quantise(depthwise, b.params("d", 3.0))], "g", axes=[2, 3])
    g = b.params("g", 1.0)
    flat = b.quantise(b.node("Flatten", [b.quantise(pooled, g)], "f"), g)
    b.weights("w", (10, 60), 0)
    b.node("Gemm", [flat, b.dequantised("w")], "y", transB=1)
    b.node("Softmax", [b.quantise("y", b.params("y", 0.5))], "s", axis=1)
    return load(b.model({"x": (2, 3, 9, 8)}, ["s"], "float32"))


@pytest.mark.parametrize("numerics", ["ort", "litert-ref", "xnnpack"])
@pytest.mark.parametrize("config", ["default", "mac64", "batch4"])
def test_compiled_equals_the_reference(
    config: str, numerics: str, rng: np.random.Generator
) -> None:
    result = compile_graph(network(rng), CompileContext(VtaConfig.load(config)), numerics)
    executor = Executor(result.package)
    for _ in range(3):
        value = {"x": rng.normal(0, 3, (2, 3, 9, 8)).astype(np.float32)}
        expected = evaluate(result.graph, value)
        found = executor.run(value, outputs="all").outputs
        compared = 0
        for name in found.keys() & expected.keys():
            tensor = found[name]
            type_ = result.graph.type_of(name)
            held = tensor
            if type_.source_dtype == "uint8":
                held = (tensor.astype(np.int16) - 128).astype(np.int8)
            np.testing.assert_array_equal(held, expected[name], name)
            compared += 1
        assert compared > 10
    places = {layer.op: layer.where for layer in result.package.layers}
    assert places["rescale"] == "vta"
    assert {places[op] for op in ("pad", "concat", "softmax_float", "quantize")} == {"host"}
