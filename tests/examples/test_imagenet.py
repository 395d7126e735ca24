"""The builder of ImageNet-sized networks: what it makes is repeatable and of the intended form."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from examples.digits.judge import Judge
from examples.imagenet import build as builder
from examples.imagenet import photos
from examples.imagenet.networks import NAMES, network
from examples.imagenet.tracer import Tracer
from tests.networks.imagenet import needs_exact_judge

# Convolutions, dense layers, additions and multiply-accumulates of the published networks.
PUBLISHED = {
    "resnet18": (20, 1, 8, 1_814_073_344),
    "resnet34": (36, 1, 16, 3_663_761_408),
    "mobilenet_v1": (27, 1, 0, 568_740_352),
    "mobilenet_v2": (52, 1, 10, 300_774_272),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def resnet(folder: Path) -> Path:
    path = folder / "resnet18.onnx"
    builder.build("resnet18", path, small=True)
    return path


def _macs(model: onnx.ModelProto) -> int:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        info.name: [axis.dim_value for axis in info.type.tensor_type.shape.dim]
        for info in [*inferred.value_info, *inferred.output]
    }
    weights = {c.name: c.dims for c in model.graph.initializer}
    return sum(
        int(np.prod(shapes[node.output[0]]) * np.prod(weights[node.input[1]][1:]))
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    )


def test_crops():
    few, many = photos.crops(3, 32, seed=5), photos.crops(6, 32, seed=5)
    assert few.shape == (3, 3, 32, 32)
    assert few.dtype == np.float32
    np.testing.assert_array_equal(few, many[:3])
    assert not np.array_equal(few, photos.crops(3, 32, seed=6))
    # Normalised pixels of 0 and 1 bound them.
    assert many.min() > -2.2
    assert many.max() < 2.7
    assert all(image.std() > 0.2 for image in many)
    large = photos.crops(3, 64, seed=5).reshape(3, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(large - few).mean() < 0.1, "the same places at every size"


def test_same_bytes_every_time(resnet: Path, folder: Path):
    builder.build("resnet18", folder / "again.onnx", small=True)
    builder.build("resnet18", folder / "other.onnx", small=True, seed=1)
    assert (folder / "again.onnx").read_bytes() == resnet.read_bytes()
    assert (folder / "other.onnx").read_bytes() != resnet.read_bytes()


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_is_the_published_network(name: str):
    chosen = network(name)
    assert chosen.size == 224
    net = Tracer(np.zeros((1, 3, 224, 224), np.float32), seed=0)
    model = net.model(name, chosen.describe(net))
    onnx.checker.check_model(model)
    ops = Counter(node.op_type for node in model.graph.node)
    assert (ops["Conv"], ops["Gemm"], ops["Add"], _macs(model)) == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_scale_is_kept_through_the_depth(name: str):
    chosen = network(name, small=True)
    images = photos.crops(4, chosen.size, seed=1)
    net = Tracer(images, seed=0)
    output = chosen.describe(net)
    model = net.model(chosen.name, output)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for index, image in enumerate(images):
        (logits,) = session.run(None, {"image": image[None]})
        np.testing.assert_allclose(logits[0], output.value[index], rtol=1e-3, atol=1e-3)
    deviation = output.value.std(axis=0)
    assert 0.5 < np.median(deviation) < 1.5, "logits differ between images"


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}


def _scales(model: onnx.ModelProto) -> np.ndarray:
    constants = _constants(model)
    steps = ("QuantizeLinear", "DequantizeLinear")
    names = {node.input[1] for node in model.graph.node if node.op_type in steps}
    return np.concatenate([constants[name].reshape(-1) for name in names])


def test_quantised_form(resnet: Path):
    model = onnx.load(resnet)
    constants = _constants(model)
    types: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            values, scale, zero_point = (constants[name] for name in node.input)
            assert not zero_point.any()
            assert scale.shape == values.shape[:1], "one scale per channel"
            types[values.dtype.name] += 1
        elif node.op_type == "QuantizeLinear":
            assert constants[node.input[2]].dtype == np.uint8
    assert types == {"int8": 13, "int32": 13}
    assert not [node for node in model.graph.node if node.op_type == "Relu"]
    assert np.any(np.log2(_scales(model)) % 1)


@pytest.fixture(scope="module")
def coarse_resnet(folder: Path) -> Path:
    path = folder / "power_of_two.onnx"
    builder.build("resnet18", path, small=True, power_of_two=True)
    return path


def test_powers_of_two(coarse_resnet: Path):
    assert not np.any(np.log2(_scales(onnx.load(coarse_resnet))) % 1)


@needs_exact_judge
def test_powers_of_two_keep_the_arithmetic(coarse_resnet: Path, resnet: Path):
    """It is still that of the network, though coarser."""
    images = photos.crops(8, 64, seed=1)
    coarse, fine = (
        np.concatenate([judge.run({"image": image[None]})["logits"] for image in images])
        for judge in (Judge(coarse_resnet), Judge(resnet))
    )
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.9


def test_command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    path = folder / "command.onnx"
    monkeypatch.setattr(sys, "argv", ["build", "vgg11", "--small", "-o", str(path)])
    builder.main()
    assert onnx.load(path).graph.name == "vgg11_small"
    assert "wrote" in capsys.readouterr().out
