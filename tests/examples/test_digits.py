"""The digits network on VTA equals ONNX Runtime: every prediction, every quantised tensor."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import vta
from examples.digits import data, demo, judge
from runtime.executor import Executor
from runtime.package import Package
from tests.models import DIGITS

needs_exact_judge = pytest.mark.skipif(
    bool(judge.inexact_because()), reason=f"ONNX Runtime: {judge.inexact_because()}"
)
ANCHORS = ("Conv", "Gemm")


@pytest.fixture(scope="module", params=["default", "mac64"])
def package(request: pytest.FixtureRequest) -> Package:
    return vta.compile(DIGITS, config=request.param).package


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return data.load().test_images


def _anchored_tensors() -> set[str]:
    """The quantised results of the convolutions and dense layers, by the names in the file."""
    nodes = onnx.load(DIGITS).graph.node
    anchored = {node.output[0] for node in nodes if node.op_type in ANCHORS}
    return {
        node.output[0]
        for node in nodes
        if node.op_type == "QuantizeLinear" and node.input[0] in anchored
    }


def _differences(package: Package, images: np.ndarray) -> dict[str, int]:
    """Per tensor that both give, how many values differ over all images.

    A tensor is only computed from others in the list, so where all counts are zero each layer was
    fed exactly what ONNX Runtime fed its own.
    """
    ours, theirs = Executor(package), judge.Judge(DIGITS, intermediates=True)
    counts: dict[str, int] = {}
    for image in images:
        mine = ours.run({"image": image[None]}, outputs="all").outputs
        for name, expected in theirs.run({"image": image[None]}).items():
            if name in mine:
                got = mine[name]
                assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
                counts[name] = counts.get(name, 0) + int(np.count_nonzero(got != expected))
    return counts


def test_placement(package: Package):
    assert package.exact
    assert package.numerics == "ort"
    assert package.host_macs == 0
    on_vta = [row for row in package.layers if row.where == "vta"]
    assert sum(row.macs > 0 for row in on_vta) == 4
    assert all(row.instructions > 0 for row in on_vta)
    assert len(package.programs) == 1


@needs_exact_judge
def test_layers_of_some_images(package: Package, images: np.ndarray):
    counts = _differences(package, images[:25])
    assert _anchored_tensors() <= counts.keys()
    assert "logits" in counts
    assert not any(counts.values()), counts


@needs_exact_judge
@pytest.mark.parametrize("fill", [0.0, 16.0, -5.0, 1e6])
def test_constant_images(package: Package, fill: float):
    counts = _differences(package, np.full((1, 1, 8, 8), fill, np.float32))
    assert not any(counts.values()), counts


@needs_exact_judge
def test_random_images(package: Package, rng: np.random.Generator):
    images = rng.uniform(-2, 18, (10, 1, 8, 8)).astype(np.float32)
    counts = _differences(package, images)
    assert not any(counts.values()), counts


@needs_exact_judge
@pytest.mark.slow
def test_layers_of_all_images(package: Package, images: np.ndarray):
    counts = _differences(package, images)
    assert len(images) == 539
    assert _anchored_tensors() <= counts.keys()
    assert not any(counts.values()), counts


@needs_exact_judge
@pytest.mark.slow
def test_demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["demo"])
    assert demo.main() == 0
    printed = capsys.readouterr().out
    assert "all 539 predictions are the same" in printed
    assert "ONNX Runtime" in printed
    assert "load inp" in printed


@needs_exact_judge
def test_demo_fails_when_a_prediction_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    whole = data.load()
    few = data.Digits(
        whole.train_images, whole.train_labels, whole.test_images[:3], whole.test_labels[:3]
    )
    monkeypatch.setattr("sys.argv", ["demo"])
    monkeypatch.setattr(data, "load", lambda: few)
    monkeypatch.setattr(demo, "_predict_by_judge", lambda images: few.test_labels + 1)
    assert demo.main() == 1
    assert "differ for images [0, 1, 2]" in capsys.readouterr().out
