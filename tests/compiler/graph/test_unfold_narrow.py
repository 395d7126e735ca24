"""Convolutions over few channels and over the windows of their image give the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.graph.ir import Graph
from compiler.graph.reference import evaluate
from compiler.graph.unfold_narrow import unfold_narrow
from tests.compiler.graph.nets import NetBuilder
from vta_hw.spec.config import VtaConfig

DEFAULT = VtaConfig.load("default")
MAC64 = VtaConfig.load("mac64")
TINY = VtaConfig.load("tiny")


def network(rng: np.random.Generator, layout: str) -> Graph:
    net = NetBuilder(rng)
    channels, kernel = int(rng.integers(1, 5)), int(rng.choice([1, 2, 3, 5, 7]))
    height, width = (int(v) for v in rng.integers(kernel, 12, 2))
    shape = (1, height, width, channels) if layout == "NHWC" else (1, channels, height, width)
    strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    return net.graph(net.conv(net.input("x", shape, layout), "y", 5, kernel, strides))


def windows_of(graph: Graph) -> dict[str, object] | None:
    return next((dict(n.attrs) for n in graph.nodes if n.op == "unfold"), None)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("config", [DEFAULT, MAC64, TINY], ids=lambda config: config.name)
def test_values_stay(layout: str, config: VtaConfig, rng: np.random.Generator) -> None:
    unfolded = 0
    for _ in range(20):
        graph = network(rng, layout)
        after = unfold_narrow(graph, config)
        unfolded += windows_of(after) is not None
        x = rng.integers(-128, 128, graph.type_of("x").shape).astype(np.int8)
        before = evaluate(graph, {"x": x})["y"]
        np.testing.assert_array_equal(evaluate(after, {"x": x})["y"], before)
    assert unfolded > 5


def first_layer(channels: int, kernel: int, size: int, strides: tuple[int, int]) -> Graph:
    net = NetBuilder(np.random.default_rng(0))
    x = net.input("x", (1, size, size, channels))
    return net.graph(net.conv(x, "y", 64, kernel, strides))


def test_the_rows_that_a_step_moves_over_become_channels() -> None:
    after = unfold_narrow(first_layer(3, 7, 224, (2, 2)), DEFAULT)
    attrs = windows_of(after)
    assert attrs is not None
    assert (attrs["kernel"], attrs["strides"], attrs["size"]) == ((2, 7), (2, 2), (115, 112))
    (conv,) = [n for n in after.nodes if n.op == "conv2d"]
    assert after.type_of(conv.inputs[1]).shape == (64, 42, 4, 1)
    assert conv.attrs["terms"] == 3 * 7 * 7


def test_all_rows_become_channels_where_the_array_gains_more_than_the_bus_loses() -> None:
    attrs = windows_of(unfold_narrow(first_layer(3, 3, 32, (1, 1)), MAC64))
    assert attrs is not None and attrs["kernel"] == (3, 3)


def test_wide_images_and_single_pixels_stay() -> None:
    for graph in (first_layer(16, 3, 32, (1, 1)), first_layer(3, 1, 32, (1, 1))):
        assert unfold_narrow(graph, DEFAULT).nodes == graph.nodes


def test_an_image_that_is_read_twice_or_made_on_the_device_stays() -> None:
    net = NetBuilder(np.random.default_rng(0))
    x = net.input("x", (1, 32, 32, 3))
    net.add(net.conv(x, "a", 3), x, "y")
    twice = net.graph("y")
    assert unfold_narrow(twice, DEFAULT).nodes == twice.nodes
    net = NetBuilder(np.random.default_rng(0))
    net.conv(net.pool(net.input("x", (1, 32, 32, 3)), "p"), "y", 8)
    made = net.graph("y")
    assert unfold_narrow(made, DEFAULT).nodes == made.nodes


def test_dilated_convolutions_stay() -> None:
    graph = first_layer(3, 3, 32, (1, 1))
    nodes = [
        replace(n, attrs={**n.attrs, "dilation": (2, 2), "pads": (2, 2, 2, 2)})
        if n.op == "conv2d"
        else n
        for n in graph.nodes
    ]
    dilated = graph.with_nodes(nodes)
    assert unfold_narrow(dilated, DEFAULT).nodes == dilated.nodes
