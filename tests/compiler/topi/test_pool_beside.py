"""Max pooling beside the convolution before it: exact, race-free, and between its products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.context import CompileContext
from compiler.driver import compile_graph, place_graph
from compiler.graph.ir import Graph
from compiler.topi.conv2d import ConvBuild
from compiler.topi.select import select
from compiler.tune.tasks import network_tasks
from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import CONFIGS, check, examples
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Alu, Gemm
from vta_hw.spec.program import Program

SEEDS = st.integers(0, 2**32 - 1)
WINDOWS = (((2, 2), (2, 2), 0), ((3, 3), (2, 2), 1), ((3, 3), (1, 1), 1), ((2, 3), (2, 1), 0))


def _network(
    rng: np.random.Generator, size: tuple[int, int], channels: int, window: int, images: int = 1
) -> Graph:
    """A convolution, pooling, and another convolution."""
    net = CoreNet(rng)
    kernel, strides, pad = WINDOWS[window]
    x = net.conv(net.image((images, 32, *size), 3), channels, pads=(1, 1, 1, 1))
    x = net.pool(x, "max_pool2d", kernel, strides, (pad,) * 4)
    return net.graph(net.conv(x, channels, pads=(1, 1, 1, 1)))


def _beside(program: Program) -> int:
    """Pooling operations that come before the convolution's last product."""
    texts = [program.sources[number] for number in program.source_of]
    first = texts[0].partition(":")[0]
    last = max(
        n
        for n, i in enumerate(program.instructions)
        if isinstance(i, Gemm) and texts[n].startswith(first)
    )
    return sum(
        isinstance(i, Alu) and "max_pool2d" in text
        for i, text in zip(program.instructions[:last], texts, strict=False)
    )


@pytest.mark.parametrize("window", [0, 1])
@pytest.mark.parametrize("config", ["default", "mac64"])
def test_it_runs_between_products(config: str, window: int, rng: np.random.Generator) -> None:
    graph = _network(rng, (32, 32), 48, window)
    package = check(graph, CONFIGS[config], rng, runs=1, repeats=1).package
    (program,) = package.programs
    assert _beside(program) > 0


@examples(12)
@given(data=st.data(), seed=SEEDS, config=st.sampled_from(sorted(CONFIGS)))
@pytest.mark.slow
def test_networks_of_any_size(data: st.DataObject, seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    size = data.draw(st.tuples(st.integers(6, 26), st.integers(6, 26)))
    channels = data.draw(st.integers(1, 40))
    window, images = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 3))
    graph = _network(rng, size, channels, window, images)
    refusals = ("padded max pooling needs the extension 'pad_min'",)
    check(graph, CONFIGS[config], rng, refusals=refusals, runs=1)


def test_any_tuned_tiling(rng: np.random.Generator) -> None:
    """Where a tiling leaves no room, pooling comes behind; results and default stay."""
    graph, config = _network(rng, (16, 16), 32, 1), CONFIGS["mac64"]
    network = place_graph(graph, CompileContext(config))
    (task, *_) = network_tasks(network, config)
    assert task.tiling(task.default) == task.build.default
    for row in rng.integers(len(task.space), size=4).tolist():
        tilings = {task.workload: task.tiling(row)}
        package = compile_graph(graph, CompileContext(config), tilings=tilings).package
        assert package.exact


def test_without_overlap_nothing_is_beside(rng: np.random.Generator) -> None:
    config = VtaConfig.load("default").override(["EXTENSIONS=requant,pad_min"])
    network = place_graph(_network(rng, (32, 32), 48, 0), CompileContext(config))
    build = select(network.placed[0].kernel, network.graph, config)
    assert isinstance(build, ConvBuild) and build.windows is None and build.beside(None) is None
