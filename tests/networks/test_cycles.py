"""What compiled networks may take on the 8x8 array: deterministic, so asserted."""

from __future__ import annotations

import pytest

import vta
from tests.models import model_path
from vta.bench.costs import network_cost
from vta.bench.workloads import NETWORKS
from vta.profiling.measure import profile
from vta_hw.spec.config import VtaConfig

MAC64 = VtaConfig.load("mac64").override(["DRAM_LATENCY=16"])
LIMITS = {"resnet8": 215_000, "dscnn": 40_000, "autoencoder": 25_500}


@pytest.mark.parametrize("name", LIMITS)
def test_counted_layers(name: str) -> None:
    (network,) = [network for network in NETWORKS if network.name == name]
    package = vta.compile(model_path(network.file), MAC64).package
    cost = network_cost(network, profile(package))
    assert cost.counted.cycles <= LIMITS[name]
