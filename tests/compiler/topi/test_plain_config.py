"""Configs without extensions: within one unit of the reference, and exact for powers of two."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import check, examples
from tests.compiler.topi.test_conv2d import Conv, convolutions, graph_of
from vta_hw.spec.config import VtaConfig

PYNQ = VtaConfig.load("pynq")


@examples(12)
@given(convolutions(["default"], kernels=5, extents=9, blocks=2))
@pytest.mark.slow
def test_convolution_is_within_one_unit(conv: Conv) -> None:
    rng = np.random.default_rng(conv.seed)
    # Raised accumulators wrap around in the exact arithmetic; nobody wants those values.
    graph = graph_of(conv._replace(shift_left=False), rng, is_alone=True)
    check(graph, PYNQ, rng, tolerance=1, repeats=1)


@examples(12)
@given(convolutions(["default"], kernels=5, extents=9, blocks=2))
@pytest.mark.slow
def test_convolution_scaled_by_powers_of_two_is_exact(conv: Conv) -> None:
    rng = np.random.default_rng(conv.seed)
    conv = conv._replace(shift_left=False)
    graph = graph_of(conv, rng, is_alone=True, power_of_two=True)
    package = check(graph, PYNQ, rng, repeats=1).package
    assert not package.notes


@pytest.mark.parametrize("zero_points", [(0, 0, 0), (-128, -128, -128), (17, -90, 126)])
@pytest.mark.parametrize("scales", [(0.05, 0.05, 0.1), (0.002, 0.3, 0.25), (1.0, 0.9, 0.01)])
def test_addition_is_within_one_unit(
    zero_points: tuple[int, int, int], scales: tuple[float, float, float], rng: np.random.Generator
) -> None:
    net = CoreNet(rng)
    a, b = (net.image((2, 9, 5, 4), z, s) for z, s in zip(zero_points[:2], scales[:2], strict=True))
    out = net.clip(net.add(a, b, scales[2], zero_points[2]), -120, 100)
    package = check(net.graph(out), PYNQ, rng, tolerance=1, runs=6).package
    assert package.notes, "the user is told that this is not exact"


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 3), (7, 7), (8, 8)])
def test_average_is_within_one_unit(kernel: tuple[int, int], rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    out = net.pool(net.image((2, 9, 9, 8), -128), "avg_pool2d", kernel, (1, 1))
    check(net.graph(out), PYNQ, rng, tolerance=1, runs=4)


def test_unpadded_maximum_is_exact(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    out = net.pool(net.image((2, 9, 9, 8), -128), "max_pool2d", (3, 2), (2, 1), clamp=(-100, 90))
    assert not check(net.graph(out), PYNQ, rng).package.notes
