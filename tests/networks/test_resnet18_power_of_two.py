"""ResNet-18 with power-of-two scales: convolutions are exact even where VTA can only shift."""

from __future__ import annotations

from pathlib import Path

import pytest

import vta
from examples.imagenet import photos
from examples.imagenet.build import build
from examples.imagenet.networks import network
from tests.networks.imagenet import (
    check_tallies,
    compare_layers,
    needs_exact_judge,
    print_by_operator,
)

SEED = 7


@pytest.fixture(
    scope="module",
    params=[True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["small", "full"],
)
def small(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def model(small: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "resnet18_power_of_two.onnx"
    build("resnet18", path, small=small, power_of_two=True)
    return path


@needs_exact_judge
@pytest.mark.parametrize("config", ["pynq", "default"])
@pytest.mark.slow
def test_layers_on_the_runtimes_own_inputs(model: Path, small: bool, config: str):
    compiled = vta.compile(model, config=config, numerics="ort")
    assert compiled.package.host_macs == 0
    assert all(vta.check(compiled.package)[n].clean for n in range(len(compiled.package.programs)))
    images = photos.crops(2, network("resnet18", small).size, SEED)
    tallies = compare_layers(compiled.graph, model, images, compiled.package.config)
    print()
    print_by_operator(tallies)
    assert sum(t.op in ("conv2d", "dense") for t in tallies.values()) == (13 if small else 21)
    check_tallies(tallies)
