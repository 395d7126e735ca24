"""Dense layers of random shapes on every config: VTA's results are the reference's, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.topi.builder import CoreNet
from tests.compiler.topi.checking import CONFIGS, check, examples
from tests.compiler.topi.test_conv2d import CLAMPS, ZERO_POINTS

SEEDS = st.integers(0, 2**32 - 1)


@examples(25)
@given(data=st.data(), seed=SEEDS, config=st.sampled_from(sorted(CONFIGS)))
@pytest.mark.slow
def test_dense_of_any_shape(data: st.DataObject, seed: int, config: str) -> None:
    rng = np.random.default_rng(seed)
    widths = st.integers(1, 4 * CONFIGS[config].block_out + 3)
    net = CoreNet(rng)
    x = net.matrix((data.draw(st.integers(1, 9)), data.draw(widths)), data.draw(ZERO_POINTS))
    out = net.dense(
        x,
        data.draw(widths),
        data.draw(ZERO_POINTS),
        mode=data.draw(st.sampled_from(["single", "double", "float"])),
        per_channel=data.draw(st.booleans()),
        shift_left=data.draw(st.booleans()),
        clamp=data.draw(CLAMPS),
    )
    check(net.graph(out), CONFIGS[config], rng)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_dense_over_a_flattened_image(config: str, layout: str, rng: np.random.Generator) -> None:
    """The flattening moves no data: nothing but pack and unpack runs on the host."""
    net = CoreNet(rng, layout)
    shape = (2, 5, 3, 4)
    x = net.image(shape, -7)
    x = net.conv(x, 6, pads=(1, 1, 1, 1), zero_point=11)
    flat = net.reshape(x, (2, 6 * 3 * 4))
    out = net.dense(flat, 10, mode="single")
    check(net.graph(out), CONFIGS[config], rng)


@pytest.mark.parametrize("config", sorted(CONFIGS))
def test_chain_of_dense_layers_is_one_program(config: str, rng: np.random.Generator) -> None:
    net = CoreNet(rng)
    x = net.matrix((1, 21), -128)
    for width in (40, 8, 3, 33):
        x = net.dense(x, width, int(rng.integers(-128, 128)), mode="single", clamp=(-20, 127))
    compiled = check(net.graph(x), CONFIGS[config], rng)
    assert len(compiled.package.programs) == 1
    macs = [row.macs for row in compiled.package.layers]
    assert macs == [21 * 40, 40 * 8, 8 * 3, 3 * 33]
