"""Small variants of the ImageNet networks on VTA, each layer held to ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vta
from examples.digits.judge import Judge
from examples.imagenet import photos
from examples.imagenet.build import build
from examples.imagenet.networks import NAMES
from tests.networks.imagenet import (
    check_tallies,
    compare_layers,
    needs_exact_judge,
    print_by_operator,
)

CROPS = 10
SEED = 7
QUICK = ("resnet18", "vgg11", "mobilenet_v2")
NETWORKS = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / f"{request.param}.onnx"
    build(request.param, path, small=True)
    return path


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return photos.crops(CROPS, 64, SEED)


def test_clean_and_whole(model: Path):
    package = vta.compile(model, numerics="ort").package
    assert package.exact
    assert package.host_macs == 0
    assert len(package.programs) == 1
    (report,) = vta.check(package)
    assert report.clean, [hazard.text for hazard in report.hazards[:3]]


@needs_exact_judge
@pytest.mark.slow
def test_layers_on_the_runtimes_own_inputs(model: Path, images: np.ndarray):
    compiled = vta.compile(model, numerics="ort")
    tallies = compare_layers(compiled.graph, model, images[:3], compiled.package.config)
    print()
    print_by_operator(tallies)
    anchors = [node.op for node in compiled.graph.nodes if node.op in ("conv2d", "dense")]
    assert sum(tally.op in ("conv2d", "dense") for tally in tallies.values()) == len(anchors)
    check_tallies(tallies)


@needs_exact_judge
def test_same_classes_end_to_end(model: Path, images: np.ndarray):
    executor, runtime = vta.load(vta.compile(model, numerics="ort").package), Judge(model)
    theirs = [int(runtime.run({"image": image[None]})["logits"].argmax()) for image in images]
    ours = [int(executor.run({"image": i[None]}).outputs["logits"].argmax()) for i in images]
    assert len(set(theirs)) > 2
    assert ours == theirs
