"""The trained TFLite networks against both of LiteRT's sets of kernels: no value may differ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from compiler.frontend import import_model
from compiler.graph.canonicalise import canonicalise
from compiler.graph.ir import Graph
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.reference import evaluate
from tests.compiler.runtimes import Array, LiteRT, differences
from tests.models import model_path

NETWORKS = {
    "ic_resnet8_int8.tflite": 16,
    "kws_dscnn_int8.tflite": 13,
    "ad_autoencoder_int8.tflite": 10,
}


def stimuli(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Iterator[Array]:
    """Random, extreme, constant and smooth int8 inputs in turn."""
    for index in range(count):
        match index % 4:
            case 0:
                yield rng.integers(-128, 128, shape, np.int8)
            case 1:
                yield rng.choice(np.array([-128, 127], np.int8), shape)
            case 2:
                yield np.full(shape, rng.integers(-128, 128), np.int8)
            case _:
                centre, width = rng.integers(-128, 128), rng.integers(1, 40)
                yield np.clip(rng.normal(centre, width, shape), -128, 127).astype(np.int8)


NUMERICS = ("litert-ref", "xnnpack")


def load(name: str, numerics: str = "litert-ref") -> tuple[Graph, LiteRT]:
    path = model_path(name)
    graph = canonicalise(lower_qnn(import_model(path), numerics))
    return graph, LiteRT(path, xnnpack=numerics == "xnnpack")


def check(name: str, numerics: str, rng: np.random.Generator, count: int) -> None:
    graph, litert = load(name, numerics)
    assert litert.delegated == (numerics == "xnnpack")
    (source,) = graph.inputs
    total: dict[str, int] = {}
    for value in stimuli(rng, graph.type_of(source).shape, count):
        truth = litert.run({source: value})
        for tensor, found in differences(graph, truth).items():
            total[tensor] = total.get(tensor, 0) + found
        whole = evaluate(graph, {source: value})
        (output,) = graph.outputs
        np.testing.assert_array_equal(whole[output], truth[output])
    # One per operator of the file: each of them is compared.
    assert len(total) == NETWORKS[name]
    assert not any(total.values()), total


@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_equals_litert(name: str, numerics: str, rng: np.random.Generator) -> None:
    check(name, numerics, rng, 12)


@pytest.mark.long
@pytest.mark.parametrize("numerics", NUMERICS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_equals_litert_at_length(
    name: str, numerics: str, rng: np.random.Generator
) -> None:
    check(name, numerics, rng, 200)


def test_real_autoencoder_samples_equal_litert() -> None:
    graph, litert = load("ad_autoencoder_int8.tflite")
    (source,), (output,) = graph.inputs, graph.outputs
    quant = graph.type_of(source).quant
    assert quant is not None
    frames = np.load(model_path("ad_sample_logmel_f32.npy"))[:, None, :]
    for frame in frames:
        value = np.clip(np.rint(frame / quant.scale[0]) + quant.zero_point[0], -128, 127)
        value = value.astype(np.int8)
        truth = litert.run({source: value})
        np.testing.assert_array_equal(evaluate(graph, {source: value})[output], truth[output])


def test_names_shapes_and_layout_are_the_models() -> None:
    graph, _ = load("ic_resnet8_int8.tflite")
    assert graph.inputs == ("input_1_int8",)
    assert graph.outputs == ("Identity_int8",)
    assert graph.type_of("input_1_int8").layout == "NHWC"
    assert graph.type_of("model/average_pooling2d/AvgPool").shape == (1, 1, 1, 64)
    weights = graph.tensors["model/conv2d_5/Conv2D"]
    assert weights.type.shape == (32, 16, 1, 1)
    assert weights.type.layout == "OIHW"


def test_rounding_follows_the_operator() -> None:
    graph, _ = load("ic_resnet8_int8.tflite")
    modes = {
        graph.producer(n.inputs[0]).op: n.attrs["mode"]  # type: ignore[union-attr]
        for n in graph.nodes
        if n.op == "requantize"
    }
    assert modes == {"conv2d": "double", "dense": "single"}
