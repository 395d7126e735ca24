"""The training script of the digits example still does what the committed model came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from examples.digits import data, judge, network, train
from tests.models import DIGITS
from tests.networks.imagenet import needs_exact_judge


def _session(model: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def digits() -> data.Digits:
    return data.load()


@pytest.fixture(scope="module")
def trained(digits: data.Digits) -> list[network.Layer]:
    layers = network.build(seed=0)
    images = digits.train_images / train.PIXEL_MAX
    network.train(layers, images, digits.train_labels, epochs=4, seed=0)
    return layers


def test_split(digits: data.Digits):
    assert digits.train_images.shape == (1258, 1, 8, 8)
    assert digits.test_images.shape == (539, 1, 8, 8)
    assert digits.test_images.dtype == np.float32
    assert (digits.test_images.min(), digits.test_images.max()) == (0, train.PIXEL_MAX)
    assert set(digits.test_labels) == set(range(10))


@pytest.mark.parametrize("index", [0, 2, 4, 5, 7], ids=["conv", "deep", "pool", "stride", "dense"])
def test_gradients(index: int, rng: np.random.Generator):
    layer = network.build(seed=1)[index]
    shape = [(2, 1, 8, 8), (2, 16, 8, 8), (2, 16, 8, 8), (2, 16, 4, 4), (2, 32, 2, 2)]
    x = rng.standard_normal(shape[[0, 2, 4, 5, 7].index(index)]).astype(np.float32)
    weights = rng.standard_normal(layer.forward(x).shape).astype(np.float32)
    grad = layer.backward(weights)
    assert grad.shape == x.shape
    direction = rng.standard_normal(x.shape).astype(np.float32)
    step = 1e-2
    higher, lower = (layer.forward(x + s * direction) for s in (step, -step))
    slope = np.sum((higher - lower).astype(np.float64) * weights) / (2 * step)
    assert slope == pytest.approx(np.sum(grad * direction), rel=0.05, abs=0.5)


def test_training_learns(trained: list[network.Layer], digits: data.Digits):
    images = digits.test_images / train.PIXEL_MAX
    assert network.accuracy(trained, images, digits.test_labels) > 0.8


def test_export_is_the_same_function(trained: list[network.Layer], digits: data.Digits):
    session = _session(train.export(trained).SerializeToString())
    for image in digits.test_images[:8]:
        (logits,) = session.run(None, {"image": image[None]})
        expected = network.forward(trained, image[None] / train.PIXEL_MAX)
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def _check_quantised(path: Path) -> None:
    model = onnx.load(path)
    constants = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        values, scale, zero_point = (constants[name] for name in node.input)
        assert values.dtype in (np.int8, np.int32)
        assert not zero_point.any()
        assert scale.shape == values.shape[:1]
    kinds = [node.op_type for node in model.graph.node]
    assert {kind: kinds.count(kind) for kind in ("Conv", "MaxPool", "Gemm", "Relu")} == {
        "Conv": 3,
        "MaxPool": 1,
        "Gemm": 1,
        "Relu": 0,
    }


@pytest.fixture
def quantised(trained: list[network.Layer], digits: data.Digits, tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    train.quantise(train.export(trained), digits.train_images[:32], path)
    return path


def test_quantisation(quantised: Path):
    _check_quantised(quantised)


@needs_exact_judge
def test_the_quantised_network_classifies(quantised: Path, digits: data.Digits):
    session = _session(quantised.read_bytes())
    right = 0
    for image, label in zip(digits.test_images, digits.test_labels, strict=True):
        right += session.run(None, {"image": image[None]})[0].argmax() == label
    assert right / len(digits.test_labels) > 0.8


def test_committed_model(digits: data.Digits):
    _check_quantised(DIGITS)
    runtime = judge.Judge(DIGITS)
    classes = [
        runtime.run({"image": image[None]})["logits"].argmax() for image in digits.test_images
    ]
    assert np.mean(classes == digits.test_labels) >= 0.97
