"""Additions and clips, alone and in chains: VTA's results are the reference's, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.graph.fuse import CHAIN_MAX
from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import CONFIGS, check, examples
from tests.compiler.topi.test_conv2d import CLAMPS, ZERO_POINTS

SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-4, 0.004, 0.05, 0.0500001, 1.0, 7.0, 4096.0])


@st.composite
def shapes(draw: st.DrawFn, block: int) -> tuple[int, int, int, int]:
    n, h, w = (draw(st.integers(1, high)) for high in (5, 9, 9))
    return n, draw(st.integers(1, 2 * block + 3)), h, w


@examples(25)
@given(data=st.data(), seed=SEEDS, config=st.sampled_from(sorted(CONFIGS)))
@pytest.mark.slow
def test_addition_of_any_shape_and_scales(data: st.DataObject, seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    net = CoreNet(rng, data.draw(st.sampled_from(["NHWC", "NCHW"])))
    shape = data.draw(shapes(CONFIGS[config].block_out))
    a, b = (net.image(shape, data.draw(ZERO_POINTS), data.draw(SCALES)) for _ in range(2))
    out = net.add(a, b, data.draw(SCALES), data.draw(ZERO_POINTS), data.draw(CLAMPS))
    check(net.graph(out), CONFIGS[config], rng)


@examples(25)
@given(data=st.data(), seed=SEEDS, config=st.sampled_from(sorted(CONFIGS)))
@pytest.mark.slow
def test_network_of_additions_and_clips(data: st.DataObject, seed: int, config: str) -> None:
    """Random graphs: values read once fuse into one kernel, values read twice do not."""
    rng = np.random.default_rng(seed)
    net = CoreNet(rng, data.draw(st.sampled_from(["NHWC", "NCHW"])))
    shape = data.draw(shapes(CONFIGS[config].block_out))
    names = [net.image(shape, data.draw(ZERO_POINTS)) for _ in range(data.draw(st.integers(1, 3)))]
    for _ in range(data.draw(st.integers(1, 6))):
        x = data.draw(st.sampled_from(names))
        if data.draw(st.booleans()):
            low, high = data.draw(CLAMPS)
            names.append(net.clip(x, low, high))
        else:
            y = data.draw(st.sampled_from(names))
            names.append(net.add(x, y, data.draw(SCALES), data.draw(ZERO_POINTS)))
    check(net.graph(names[-1]), CONFIGS[config], rng)


@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_matrices(config: str, rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    a, b = net.matrix((3, 19), -128, 0.02), net.matrix((3, 19), 5, 0.3)
    out = net.clip(net.add(a, b, 0.2, -3), -50, 60)
    compiled = check(net.graph(out), CONFIGS[config], rng)
    assert len(compiled.package.layers) == 1, "one kernel"


@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_tensor_added_to_itself(config: str, rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    x = net.image((1, 7, 5, 3), 31, 0.07)
    twice = net.add(x, x, 0.09, -20)
    again = net.add(twice, twice, 0.3, 100)
    check(net.graph(again), CONFIGS[config], rng)


@pytest.mark.parametrize("config", ["tiny", "small16"])
@pytest.mark.slow
def test_long_chain_is_cut_into_kernels(config: str, rng: np.random.Generator) -> None:
    """Parameters of forty additions do not fit the ACC memory at once."""
    net = CoreNet(rng)
    a, b = net.image((1, 5, 3, 3), 3), net.image((1, 5, 3, 3), -7)
    x = a
    for index in range(40):
        x = net.add(x, b if index % 2 else a, 0.06, 3)
    compiled = check(net.graph(x), CONFIGS[config], rng)
    assert len(compiled.package.layers) == 40 / CHAIN_MAX
    assert len(compiled.package.programs) == 1


def test_chain_that_does_not_fit_runs_on_the_host(rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    a, b = net.image((1, 5, 3, 3), 3), net.image((1, 5, 3, 3), -7)
    x = net.clip(net.add(a, b), -99, 99)
    cramped = CONFIGS["mac64"].override(["LOG_ACC_BUFF_SIZE=8"])
    check(net.graph(x), cramped, rng)
    reason = "4 operands and 15 parameter vectors need as many elements of 'acc', config 'mac64*'"
    y = net.add(net.add(x, a), b)
    package = check(net.graph(y), cramped, rng, refusals=(reason,)).package
    assert not package.programs
