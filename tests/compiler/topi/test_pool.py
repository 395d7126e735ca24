"""Pooling of random shapes on every config: VTA's results are the reference's, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.topi.pool import AVERAGE_MAX_WINDOW, AVERAGE_SHIFT
from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import CONFIGS, check, examples
from tests.compiler.topi.test_conv2d import CLAMPS, ZERO_POINTS

SEEDS = st.integers(0, 2**32 - 1)


@examples(40)
@given(data=st.data(), seed=SEEDS, config=st.sampled_from(sorted(CONFIGS)))
@pytest.mark.slow
def test_pooling_of_any_shape(data: st.DataObject, seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    net = CoreNet(rng, data.draw(st.sampled_from(["NHWC", "NCHW"])))
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    pads = tuple(data.draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    least = [max(1, k - a - b) for k, a, b in zip(kernel, pads[:2], pads[2:], strict=True)]
    size = [data.draw(st.integers(low, max(low, 9))) for low in least]
    channels = data.draw(st.integers(1, 2 * CONFIGS[config].block_out + 3))
    x = net.image((data.draw(st.integers(1, 5)), channels, *size), data.draw(ZERO_POINTS))
    op = data.draw(st.sampled_from(["max_pool2d", "avg_pool2d"]))
    out = net.pool(
        x,
        op,
        kernel,
        data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        pads,  # type: ignore[arg-type]
        data.draw(st.booleans()),
        data.draw(CLAMPS),
    )
    on_host = op == "max_pool2d" and any(pads) and not CONFIGS[config].has("pad_min")
    refusals = ("padded max pooling needs the extension 'pad_min'",) if on_host else ()
    package = check(net.graph(out), CONFIGS[config], rng, refusals=refusals).package
    assert ("max_pool2d" in package.host_operators) == on_host


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (12, 16), (3, 37)])
@pytest.mark.parametrize("config", ["default", "mac64", "batch4"])
def test_global_average(config: str, size: tuple[int, int], rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    x = net.image((2, 13, *size), -128)
    out = net.pool(x, "avg_pool2d", size, size)
    check(net.graph(out), CONFIGS[config], rng)


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
def test_clip_after_pooling_joins_its_kernel(op: str, rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    x = net.image((1, 9, 6, 6), 3)
    out = net.clip(net.pool(x, op, clamp=(-100, 90)), -40, 120)
    compiled = check(net.graph(out), CONFIGS["mac64"], rng)
    assert len(compiled.package.layers) == 1


@pytest.mark.parametrize("n", [1, 2, 3, 49, 64, 181, *range(182, AVERAGE_MAX_WINDOW + 2)])
def test_average_by_multiplication(n: int) -> None:
    sums = np.arange(-128 * n, 127 * n + 1, dtype=np.int64)
    product = sums * -(-(1 << AVERAGE_SHIFT) // n)
    assert np.abs(product).max() < 1 << 31
    half = 1 << (AVERAGE_SHIFT - 1)
    found = np.sign(sums) * ((np.abs(product) + half) >> AVERAGE_SHIFT)
    quotient = np.sign(sums) * ((2 * np.abs(sums) + n) // (2 * n))
    assert np.array_equal(found, quotient) == (n <= AVERAGE_MAX_WINDOW)
