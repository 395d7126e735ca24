"""Convolutions of random shapes on every config: VTA's results are the reference's, bit by bit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.compiler.topi.builder import FULL, Clamp, CoreNet
from tests.compiler.topi.checking import CONFIGS, check, examples


class Conv(NamedTuple):
    """A convolution; extents are (N, C, H, W), pads (top, left, bottom, right)."""

    config: str
    layout: str
    shape: tuple[int, int, int, int]
    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    zero_points: tuple[int, int]
    mode: str
    per_channel: bool
    shift_left: bool
    clamp: Clamp
    seed: int


ZERO_POINTS = st.sampled_from([-128, 0]) | st.integers(-128, 127)
CLAMPS = st.just(FULL) | st.tuples(st.integers(-128, 0), st.integers(0, 127))


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    config = draw(st.sampled_from(sorted(CONFIGS)))
    block = CONFIGS[config].block_out
    kernel = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    least = [max(1, k - a - b) for k, a, b in zip(kernel, pads[:2], pads[2:], strict=True)]
    size = [draw(st.integers(low, max(low, 9))) for low in least]
    channels = st.integers(1, 2 * block + 3)
    return Conv(
        config,
        draw(st.sampled_from(["NHWC", "NCHW"])),
        (draw(st.integers(1, 5)), draw(channels), size[0], size[1]),
        draw(channels),
        kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        pads,  # type: ignore[arg-type]
        (draw(ZERO_POINTS), draw(ZERO_POINTS)),
        draw(st.sampled_from(["double", "single", "float"])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(CLAMPS),
        draw(st.integers(0, 2**32 - 1)),
    )


def run(conv: Conv, **options: Any) -> None:
    rng = np.random.default_rng(conv.seed)
    net = CoreNet(rng, conv.layout)
    x = net.image(conv.shape, conv.zero_points[0])
    out = net.conv(
        x,
        conv.channels,
        conv.kernel,
        conv.strides,
        conv.pads,
        zero_point=conv.zero_points[1],
        mode=conv.mode,
        per_channel=conv.per_channel,
        shift_left=conv.shift_left,
        clamp=conv.clamp,
    )
    check(net.graph(out), CONFIGS[conv.config], rng, **options)


@examples(60)
@given(convolutions())
def test_convolution_of_any_shape(conv: Conv) -> None:
    run(conv)
