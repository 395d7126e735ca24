"""What compiled networks may take on the 8x8 array: deterministic, so asserted."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

import vta
from tests.models import model_path
from vta.bench.costs import layer_costs, network_cost, network_costs
from vta.bench.workloads import NETWORKS, RESNET18
from vta.profiling.measure import profile
from vta_hw.spec.config import VtaConfig

MAC64 = VtaConfig.load("mac64").override(["DRAM_LATENCY=16"])
# Short layers without much to hide behind; the others are to be nearer to their bound.
SHORT = ("resnet18.C4", "resnet18.C7", "resnet18.C10")
LIMITS = {"resnet8": 206_000, "dscnn": 34_500, "autoencoder": 25_000}


@pytest.mark.parametrize("name", LIMITS)
def test_counted_layers(name: str) -> None:
    (network,) = [network for network in NETWORKS if network.name == name]
    package = vta.compile(model_path(network.file), MAC64).package
    cost = network_cost(network, profile(package))
    assert cost.counted.cycles <= LIMITS[name]


@pytest.mark.parametrize("latency", [16, 64])
@pytest.mark.slow
def test_layers_alone_are_near_their_bound(latency: int) -> None:
    config = VtaConfig.load("default").override([f"DRAM_LATENCY={latency}"])
    costs = list(layer_costs(config, lambda text: nullcontext(), ["resnet18"]))
    assert [cost.name for cost in costs] == [layer.name for layer in RESNET18]
    for cost in costs:
        share = cost.counted.bound_cycles / cost.cycles
        assert share >= (0.85 if cost.name in SHORT else 0.93), cost.name


@pytest.mark.slow
def test_powers_of_two_without_extensions() -> None:
    """As the original VTA computes ResNet-18: a bias, a shift and bounds behind each sum."""
    config = VtaConfig.load("pynq").override(["DRAM_LATENCY=16"])
    (cost,) = network_costs(config, lambda text: nullcontext(), ["resnet18"])
    assert cost.counted.cycles <= 7_700_000
