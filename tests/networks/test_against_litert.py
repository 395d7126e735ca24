"""MLPerf Tiny's networks on VTA against LiteRT's reference kernels: no value of any tensor differs.

Each network is held to it twice: end to end, with every intermediate tensor read out, and operator
by operator, each compiled alone and fed LiteRT's own tensors. Run with -s to see the figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from compiler.context import CompileContext
from compiler.driver import CompileResult, compile_graph, compile_model
from compiler.graph.fuse import fuse
from runtime.devices.functional import FunctionalDevice
from runtime.executor import Executor
from tests.compiler.runtimes import LiteRT
from tests.models import model_path
from vta_hw.spec.config import VtaConfig

Array = np.ndarray[Any, Any]


class Network(NamedTuple):
    """What a file of MLPerf Tiny must become; `samples` holds real inputs, if there are any."""

    file: str
    operators: int
    host: tuple[str, ...]
    macs: int
    samples: str | None


RESNET = Network("ic_resnet8_int8.tflite", 16, ("pack", "unpack", "softmax"), 12_501_632, None)
AUTOENCODER = Network(
    "ad_autoencoder_int8.tflite", 10, ("pack", "unpack"), 264_192, "ad_sample_logmel_f32.npy"
)
CONFIGS = ("default", "mac64")
QUICK = 12
FULL = 200

networks = pytest.mark.parametrize("network", [RESNET, AUTOENCODER], ids=["resnet8", "autoencoder"])
configs = pytest.mark.parametrize("config", CONFIGS)
counts = pytest.mark.parametrize("count", [QUICK, pytest.param(FULL, marks=pytest.mark.slow)])


@cache
def compiled(network: Network, config: str) -> CompileResult:
    path = model_path(network.file)
    return compile_model(path, VtaConfig.load(config), numerics="litert-ref")


def stimuli(network: Network, count: int, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Real samples (up to a fifth), then random, extreme, constant and low-contrast inputs."""
    package = compiled(network, "default").package
    (name,) = package.inputs
    tensor = package.tensors[name]
    real = _real(network, tensor.scale[0], tensor.zero_point[0])[: count // 5]
    yield from ({name: sample.reshape(tensor.shape)} for sample in real)
    for index in range(count - len(real)):
        yield {name: _drawn(index % 5, tensor.shape, rng)}


def _real(network: Network, scale: float, zero_point: int) -> Array:
    if network.samples is None:
        return np.zeros((0,), np.int8)
    values = np.load(model_path(network.samples))
    moved = np.rint(values / np.float32(scale)) + zero_point
    return np.clip(moved, -128, 127).astype(np.int8)


def _drawn(kind: int, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    centre, width = rng.integers(-128, 128), rng.integers(1, 12)
    match kind:
        case 0:
            return rng.integers(-128, 128, shape, np.int8)
        case 1:
            return rng.choice(np.array([-128, 127], np.int8), shape)
        case 2:
            return np.full(shape, centre, np.int8)
        case 3:
            return np.clip(rng.normal(centre, width, shape), -128, 127).astype(np.int8)
        case _:  # an edge between two greys
            values = np.full(shape, centre, np.int8)
            values.reshape(-1)[: int(rng.integers(values.size))] = rng.integers(-128, 128)
            return values


def tally(found: Mapping[str, Array], truth: Mapping[str, Array], into: Counter[str]) -> None:
    """Count per tensor the values that differ."""
    for name, value in found.items():
        if name in truth:
            assert value.dtype == truth[name].dtype
            assert value.shape == truth[name].shape
            into[name] += int((value != truth[name]).sum())


def alone(network: Network, config: str) -> list[Executor]:
    """Each operator of the network as a package of its own."""
    graph = compiled(network, config).graph
    layers = []
    for kernel in fuse(graph):
        part = graph.subgraph(kernel.nodes, kernel.anchor.name)
        package = compile_graph(part, CompileContext(VtaConfig.load(config))).package
        layers.append(Executor(package))
    return layers


@networks
@configs
def test_everything_quantised_runs_on_vta(network: Network, config: str) -> None:
    package = compiled(network, config).package
    assert package.host_macs == 0
    assert package.host_operators == network.host
    assert len(package.programs) == 1, "one instruction stream"
    assert sum(row.macs for row in package.layers) == network.macs
    assert len(package.layers) == network.operators
    at_home = {row.op for row in package.layers if row.where == "host"}
    assert at_home == set(network.host) - {"pack", "unpack"}


@counts
@networks
@configs
def test_end_to_end(network: Network, config: str, count: int, rng: np.random.Generator) -> None:
    """Every intermediate tensor, and the outputs with memory reused between layers."""
    package = compiled(network, config).package
    executor = Executor(package, FunctionalDevice(package.config, report_uninitialised=True))
    litert = LiteRT(model_path(network.file))
    differ: Counter[str] = Counter()
    start, values = time.perf_counter(), 0
    for index, inputs in enumerate(stimuli(network, count, rng)):
        truth = litert.run(inputs)
        outcome = executor.run(inputs, "all")
        assert not outcome.result.notes
        tally(outcome.outputs, truth, differ)
        values += sum(array.size for array in outcome.outputs.values())
        if index < QUICK:
            tally(executor.run(inputs).outputs, truth, differ)
    assert len(differ) == network.operators + 1, "every operator's result and the input"
    print(
        f"{network.file} on {config}: {sum(differ.values())} of {values} values in "
        f"{len(differ)} tensors of {count} inputs differ, {time.perf_counter() - start:.1f} s"
    )
    assert not any(differ.values()), +differ


@counts
@networks
@configs
def test_per_layer(network: Network, config: str, count: int, rng: np.random.Generator) -> None:
    """Each operator compiled alone and fed LiteRT's own input tensors."""
    layers = alone(network, config)
    litert = LiteRT(model_path(network.file))
    differ: Counter[str] = Counter()
    start, values = time.perf_counter(), 0
    for inputs in stimuli(network, count, rng):
        truth = litert.run(inputs)
        for layer in layers:
            given = {name: truth[name] for name in layer.package.inputs}
            outputs = layer.run(given).outputs
            tally(outputs, truth, differ)
            values += sum(array.size for array in outputs.values())
    assert len(differ) == len(layers) == network.operators
    print(
        f"{network.file} on {config}, per layer: {sum(differ.values())} of {values} values of "
        f"{count} inputs differ, {time.perf_counter() - start:.1f} s"
    )
    assert not any(differ.values()), +differ


@networks
def test_per_layer_without_extensions(network: Network, rng: np.random.Generator) -> None:
    """Plain VTA: all on VTA, nothing further than one unit away, and the package says so."""
    package = compiled(network, "pynq").package
    assert package.host_macs == 0
    assert package.host_operators == network.host
    assert package.notes
    layers = alone(network, "pynq")
    litert = LiteRT(model_path(network.file))
    furthest: dict[str, int] = {}
    for inputs in stimuli(network, QUICK, rng):
        truth = litert.run(inputs)
        for layer in layers:
            given = {name: truth[name] for name in layer.package.inputs}
            for name, value in layer.run(given).outputs.items():
                away = np.abs(value.astype(np.int64) - truth[name]).max()
                furthest[name] = max(furthest.get(name, 0), int(away))
    assert len(furthest) == network.operators
    print(f"{network.file} on pynq, furthest per layer: {sorted(furthest.values())}")
    assert max(furthest.values()) == 1
