"""MLPerf Tiny's networks on VTA against LiteRT, on every kind of machine: no value differs.

Each network is held to LiteRT's reference kernels and to its default ones (XNNPACK), twice: end to
end, with every intermediate tensor read out, and operator by operator, each compiled alone and fed
LiteRT's own tensors. XNNPACK keeps to itself what it computes on the way, so there every operator's
result is made an output of the model; its results as the file stands are compared as well. Run with
-s to see the figures.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from compiler.driver import CompileResult, compile_model
from runtime.devices.functional import FunctionalDevice
from runtime.executor import Executor
from tests.compiler.runtimes import LiteRT
from tests.models import model_path
from tests.networks.alone import operators
from vta_hw.spec.config import VtaConfig

Array = np.ndarray[Any, Any]


class Network(NamedTuple):
    """What a file of MLPerf Tiny must become; `samples` holds real inputs, if there are any."""

    file: str
    operators: int
    host: tuple[str, ...]
    macs: int
    samples: str | None
    additions: int = 0

    @property
    def results(self) -> int:
        """Tensors that stay visible: additions are part of a convolution's kernel."""
        return self.operators - self.additions


IMAGE_HOST = ("unfold", "pack", "unpack", "softmax")
RESNET = Network("ic_resnet8_int8.tflite", 16, IMAGE_HOST, 12_501_632, None, 3)
DSCNN = Network("kws_dscnn_int8.tflite", 13, IMAGE_HOST, 2_656_768, "kws_sample_int8.npy")
AUTOENCODER = Network(
    "ad_autoencoder_int8.tflite", 10, ("pack", "unpack"), 264_192, "ad_sample_logmel_f32.npy"
)
NETWORKS = {"resnet8": RESNET, "dscnn": DSCNN, "autoencoder": AUTOENCODER}
NUMERICS = ("litert-ref", "xnnpack")
CONFIGS = ("default", "mac64", "batch4", "tiny")
QUICK = 4
FULL = 200
# Inputs on plain VTA, where a unit may be missing.
PLAIN = 4
# So many inputs of each run go through the arena once more.
REUSED = 3
LANES = VtaConfig.load("batch4").batch

networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
every_numerics = pytest.mark.parametrize("numerics", NUMERICS)
configs = pytest.mark.parametrize("config", CONFIGS)


def _rows() -> Iterator[ParameterSet]:
    """Every network, numerics, configuration and count; what takes long is marked so."""
    for title, network in NETWORKS.items():
        for numerics in NUMERICS:
            for config in CONFIGS:
                for count in (QUICK, FULL):
                    marks = _marks(network, numerics, config, count)
                    yield pytest.param(
                        *(network, numerics, config, count),
                        marks=marks,
                        id=f"{title}-{numerics}-{config}-{count}",
                    )


def _marks(network: Network, numerics: str, config: str, count: int) -> list[pytest.MarkDecorator]:
    # A block of 4 takes 16 times as many steps as one of 16.
    heavy = config == "tiny" and network is not AUTOENCODER
    if count == QUICK:
        return [pytest.mark.slow] if heavy else []
    chosen = ("default", "mac64") if numerics == "litert-ref" else ("default",)
    return [pytest.mark.slow if config in chosen else pytest.mark.long]


every_row = pytest.mark.parametrize(("network", "numerics", "config", "count"), list(_rows()))


@cache
def compiled(
    network: Network, config: str, numerics: str = "litert-ref", batch: int | None = None
) -> CompileResult:
    path = model_path(network.file)
    return compile_model(path, VtaConfig.load(config), numerics=numerics, batch=batch)


def shown(network: Network, numerics: str) -> LiteRT:
    """The runtime with every operator's result."""
    runtime = LiteRT(model_path(network.file), xnnpack=numerics == "xnnpack")
    assert runtime.delegated == (numerics == "xnnpack")
    return runtime


def as_it_stands(network: Network, numerics: str) -> Callable[[Mapping[str, Array]], Array]:
    """The runtime on the unchanged file: its input to its output."""
    kinds = {"litert-ref": OpResolverType.BUILTIN_REF, "xnnpack": OpResolverType.AUTO}
    interpreter = Interpreter(
        model_path=str(model_path(network.file)),
        experimental_op_resolver_type=kinds[numerics],
        num_threads=1,
    )
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(inputs: Mapping[str, Array]) -> Array:
        (value,) = inputs.values()
        interpreter.set_tensor(source["index"], value)
        interpreter.invoke()
        return np.array(interpreter.get_tensor(result["index"]))

    return run


def stimuli(network: Network, count: int, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Real samples (a fifth, at least one), then random, extreme, constant, low-contrast ones."""
    package = compiled(network, "default").package
    (name,) = package.inputs
    tensor = package.tensors[name]
    real = _real(network, tensor.scale[0], tensor.zero_point[0])[: max(1, count // 5)]
    yield from ({name: sample.reshape(tensor.shape)} for sample in real)
    for index in range(count - len(real)):
        yield {name: _drawn(index % 5, tensor.shape, rng)}


def _real(network: Network, scale: float, zero_point: int) -> Array:
    if network.samples is None:
        return np.zeros((0,), np.int8)
    values = np.load(model_path(network.samples))
    if values.dtype == np.int8:
        return np.asarray(values)
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


def alone(network: Network, config: str, numerics: str = "litert-ref") -> list[Executor]:
    """Each operator of the network as a package of its own."""
    graph = compiled(network, config, numerics).graph
    return [Executor(package) for package in operators(graph, VtaConfig.load(config), numerics)]


@networks
@every_numerics
@configs
def test_everything_quantised_runs_on_vta(network: Network, numerics: str, config: str) -> None:
    package = compiled(network, config, numerics).package
    assert package.exact
    assert package.numerics == numerics
    assert package.host_macs == 0
    assert package.host_operators == network.host
    assert len(package.programs) == 1, "one instruction stream"
    assert sum(row.macs for row in package.layers) == network.macs
    assert len(package.layers) == network.results + network.host.count("unfold")
    at_home = {row.op for row in package.layers if row.where == "host"}
    assert at_home == set(network.host) - {"pack", "unpack"}


@every_row
def test_end_to_end(
    network: Network, numerics: str, config: str, count: int, rng: np.random.Generator
) -> None:
    """Every intermediate tensor, and the outputs with memory reused between layers."""
    package = compiled(network, config, numerics).package
    # The readable engine notes reads of what nothing wrote, and is slow: a few runs show that.
    watched = Executor(package, FunctionalDevice(package.config, report_uninitialised=True))
    fast = Executor(package)
    litert, plain = shown(network, numerics), as_it_stands(network, numerics)
    (output,) = package.outputs
    differ: Counter[str] = Counter()
    start, values = time.perf_counter(), 0
    for index, inputs in enumerate(stimuli(network, count, rng)):
        truth = litert.run(inputs)
        executor = watched if index < QUICK else fast
        outcome = executor.run(inputs, "all")
        assert not outcome.result.notes
        tally(outcome.outputs, truth, differ)
        values += sum(array.size for array in outcome.outputs.values())
        expected = {output: plain(inputs)}
        tally({output: outcome.outputs[output]}, expected, differ)
        if index < REUSED:
            tally(executor.run(inputs).outputs, expected, differ)
    assert len(differ) == network.results + 1, "every kernel's result and the input"
    print(
        f"{network.file}, {numerics} on {config}: {sum(differ.values())} of {values} values in "
        f"{len(differ)} tensors of {count} inputs differ, {time.perf_counter() - start:.1f} s"
    )
    assert not any(differ.values()), +differ


@every_row
def test_per_layer(
    network: Network, numerics: str, config: str, count: int, rng: np.random.Generator
) -> None:
    """Each operator compiled alone and fed LiteRT's own input tensors."""
    layers = alone(network, config, numerics)
    litert = shown(network, numerics)
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
        f"{network.file}, {numerics} on {config}, per layer: {sum(differ.values())} of {values} "
        f"values of {count} inputs differ, {time.perf_counter() - start:.1f} s"
    )
    assert not any(differ.values()), +differ


@pytest.mark.parametrize("count", [QUICK, pytest.param(FULL, marks=pytest.mark.slow)])
@networks
@every_numerics
def test_four_images_at_once(
    network: Network, numerics: str, count: int, rng: np.random.Generator
) -> None:
    """A batch that fills the lanes of batch4: each image's tensors are those it has alone."""
    package = compiled(network, "batch4", numerics, LANES).package
    executor = Executor(package, FunctionalDevice(package.config, report_uninitialised=True))
    litert = shown(network, numerics)
    differ: Counter[str] = Counter()
    start, values = time.perf_counter(), 0
    every = list(stimuli(network, count, rng))
    for first in range(0, count, LANES):
        images = every[first : first + LANES]
        truths = [litert.run(inputs) for inputs in images]
        assert len({truth[package.outputs[0]].tobytes() for truth in truths}) > 1
        whole = {name: np.concatenate([inputs[name] for inputs in images]) for name in images[0]}
        outcome = executor.run(whole, "all")
        assert not outcome.result.notes
        reused = executor.run(whole).outputs
        for lane, truth in enumerate(truths):
            for outputs in (outcome.outputs, reused):
                found = {name: array[lane : lane + 1] for name, array in outputs.items()}
                tally(found, truth, differ)
        values += sum(array.size for array in outcome.outputs.values())
    assert len(differ) == network.results + 1
    print(
        f"{network.file}, {numerics}, four at once: {sum(differ.values())} of {values} values of "
        f"{count} inputs differ, {time.perf_counter() - start:.1f} s"
    )
    assert not any(differ.values()), +differ


@networks
@pytest.mark.slow
def test_per_layer_without_extensions(network: Network, rng: np.random.Generator) -> None:
    """Plain VTA: all on VTA, nothing further than one unit away, and the package says so."""
    package = compiled(network, "pynq").package
    assert package.host_macs == 0
    assert package.host_operators == network.host
    assert package.notes
    layers = alone(network, "pynq")
    litert = LiteRT(model_path(network.file))
    furthest: dict[str, int] = {}
    for inputs in stimuli(network, PLAIN, rng):
        truth = litert.run(inputs)
        for layer in layers:
            given = {name: truth[name] for name in layer.package.inputs}
            for name, value in layer.run(given).outputs.items():
                away = np.abs(value.astype(np.int64) - truth[name]).max()
                furthest[name] = max(furthest.get(name, 0), int(away))
    assert len(furthest) == network.operators
    print(f"{network.file} on pynq, furthest per layer: {sorted(furthest.values())}")
    assert max(furthest.values()) == 1
