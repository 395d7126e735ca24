"""Trained networks on the machine: functional simulator, cycle simulator and RTL agree.

They are compared in all of DRAM, in every instruction's cycles and in every counter; the outputs
besides with those of the runtime that the network comes from. Figures: run with -s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _pytest.mark import ParameterSet

import vta
from compiler.driver import CompileResult
from examples.digits import data
from examples.digits.judge import Judge, inexact_because
from runtime.devices.cycle import CycleDevice
from tests.cosim.networks import Machines
from tests.cosim.programs import CONFIGS, config_of
from tests.models import DIGITS, model_path
from tests.networks.alone import operators
from tests.networks.test_against_litert import NETWORKS, as_it_stands, stimuli
from vta_hw.spec.config import VtaConfig

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]

COMPARED = (*NETWORKS, "digits")
SELDOM = ("tiny", "tiny-short-queue", "bus32", "bus512")
# The compiler needs square blocks, memories for a tile, and the extensions for exact results.
UNFIT = ("rect", "plain", "minimal")
LATENCIES = (1, 16, 200)
READS = (1, 4)
SAMPLES = 3

networks = pytest.mark.parametrize("network", COMPARED)


def _configs() -> Iterator[ParameterSet]:
    for name in CONFIGS:
        if name in UNFIT:
            continue
        # Small blocks take many more cycles.
        marks = pytest.mark.long if name in SELDOM else pytest.mark.slow
        yield pytest.param(name, marks=marks)


configs = pytest.mark.parametrize("config_name", list(_configs()))


def model(network: str) -> Path:
    return DIGITS if network == "digits" else model_path(NETWORKS[network].file)


@cache
def compiled(network: str, config_name: str) -> CompileResult:
    return vta.compile(model(network), config_of(config_name))


def samples(network: str, count: int, rng: np.random.Generator) -> Iterator[Arrays]:
    if network != "digits":
        yield from stimuli(NETWORKS[network], count, rng)
        return
    images = data.load().test_images
    for index in rng.choice(len(images), count, replace=False):
        yield {"image": images[index][None]}


def judge(network: str) -> Callable[[Arrays], Arrays]:
    """The network's own runtime."""
    if network == "digits":
        if reason := inexact_because():
            pytest.skip(f"ONNX Runtime: {reason}")
        return Judge(DIGITS).run
    plain = as_it_stands(NETWORKS[network], "litert-ref")
    (output,) = compiled(network, "default").package.outputs
    return lambda inputs: {output: plain(inputs)}


@networks
@configs
def test_whole(network: str, config_name: str, rng: np.random.Generator) -> None:
    """Several inferences, each on what the one before left in the memories."""
    package, truth = compiled(network, config_name).package, judge(network)
    cycles = set()
    start = time.perf_counter()
    with Machines(config_of(config_name)) as machines:
        loaded = machines.load(package)
        for inputs in samples(network, SAMPLES, rng):
            inference = loaded.run(inputs)
            expected = truth(inputs)
            assert set(inference.outputs) == set(package.outputs) != set()
            for name, array in inference.outputs.items():
                np.testing.assert_array_equal(array, expected[name], name)
            cycles.add(inference.result.cycles)
    (count,) = cycles
    print(
        f"{network} on {config_name}: {count} cycles, {SAMPLES} inferences on three devices in "
        f"{time.perf_counter() - start:.1f} s"
    )


@networks
@configs
def test_layers(network: str, config_name: str, rng: np.random.Generator) -> None:
    """Every kernel compiled alone, one after the other on the same machine."""
    result = compiled(network, config_name)
    config, ran = result.package.config, 0
    numerics = result.package.numerics
    with Machines(config) as machines:
        for package in operators(result.graph, config, numerics, whole_kernels=True):
            if not package.programs:
                continue
            inputs = vta.random_inputs(package, seed=int(rng.integers(1 << 31)))
            ran += len(machines.load(package).run(inputs).runs)
    assert ran > 0
    assert ran == sum(row.where == "vta" for row in result.package.layers)


@networks
@pytest.mark.long
def test_whole_without_extensions(network: str, rng: np.random.Generator) -> None:
    """Plain VTA, whose results may be a unit away from the runtime's."""
    result = vta.compile(model(network), "pynq")
    (inputs,) = samples(network, 1, rng)
    with Machines(result.package.config) as machines:
        cycles = machines.load(result.package).run(inputs).result.cycles
    print(f"{network} on pynq: {cycles} cycles")


@networks
@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.slow
def test_latencies(network: str, latency: int, rng: np.random.Generator) -> None:
    """The same package on a machine with another memory."""
    package = compiled(network, "default").package
    config = package.config.override([f"DRAM_LATENCY={latency}"])
    (inputs,) = samples(network, 1, rng)
    with Machines(config) as machines:
        cycles = machines.load(package).run(inputs).result.cycles
    print(f"{network} behind a latency of {latency}: {cycles} cycles")


@pytest.mark.parametrize("reads", READS)
@pytest.mark.slow
def test_read_limits(reads: int, rng: np.random.Generator) -> None:
    """The same package on a machine that has few read bursts open; each limit is another core."""
    package = compiled("digits", "mac64").package
    (inputs,) = samples("digits", 1, rng)
    with Machines(package.config.override([f"MAX_READS={reads}"])) as machines:
        cycles = machines.load(package).run(inputs).result.cycles
    print(f"digits on mac64 with {reads} open reads: {cycles} cycles")


@networks
@pytest.mark.slow
def test_latency_costs_cycles(network: str) -> None:
    """`test_latencies` would show nothing if the setting did not reach the machine."""
    package = compiled(network, "default").package
    inputs = vta.random_inputs(package)
    cycles = []
    for latency in LATENCIES:
        result = vta.load(package, "cycle", settings=[f"DRAM_LATENCY={latency}"]).run(inputs).result
        assert result.cycles is not None
        cycles.append(result.cycles)
    assert sorted(set(cycles)) == cycles


@pytest.mark.slow
def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def slower(config: VtaConfig, **options: Any) -> CycleDevice:
        return CycleDevice(config.override([f"DRAM_LATENCY={config.dram_latency + 1}"]), **options)

    monkeypatch.setattr("tests.cosim.networks.CycleDevice", slower)
    package = compiled("digits", "default").package
    with (
        Machines(package.config) as machines,
        pytest.raises(AssertionError, match=r"^total: \d+ cycles on cycle, \d+ on rtl\n"),
    ):
        machines.load(package).run(vta.random_inputs(package))
