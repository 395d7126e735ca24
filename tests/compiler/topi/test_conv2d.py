"""Convolutions of random shapes on every config: VTA's results are the reference's, bit by bit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.graph.ir import Graph
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
    groups: int
    zero_points: tuple[int, int]
    mode: str
    per_channel: bool
    shift_left: bool
    clamp: Clamp
    seed: int


ZERO_POINTS = st.sampled_from([-128, 0]) | st.integers(-128, 127)
CLAMPS = st.just(FULL) | st.tuples(st.integers(-128, 0), st.integers(0, 127))


@st.composite
def convolutions(
    draw: st.DrawFn, configs: list[str], kernels: int, extents: int, blocks: int
) -> Conv:
    """Convolutions with kernels, images and channel counts up to these sizes."""
    config = draw(st.sampled_from(configs))
    block = CONFIGS[config].block_out
    kernel = draw(st.tuples(st.integers(1, kernels), st.integers(1, kernels)))
    pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    least = [max(1, k - a - b) for k, a, b in zip(kernel, pads[:2], pads[2:], strict=True)]
    size = [draw(st.integers(low, max(low, extents))) for low in least]
    channels = st.integers(1, blocks * block + 3)
    inputs, outputs, groups = draw(channels), draw(channels), 1
    match draw(st.sampled_from(["plain", "plain", "grouped", "depthwise"])):
        case "grouped":
            groups = draw(st.integers(1, 5))
            inputs, outputs = -(-inputs // groups) * groups, -(-outputs // groups) * groups
        case "depthwise":
            groups, outputs = inputs, inputs * draw(st.integers(1, 2))
    return Conv(
        config,
        draw(st.sampled_from(["NHWC", "NCHW"])),
        (draw(st.integers(1, 5 if extents < 10 else 2)), inputs, size[0], size[1]),
        outputs,
        kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        pads,  # type: ignore[arg-type]
        groups,
        (draw(ZERO_POINTS), draw(ZERO_POINTS)),
        draw(st.sampled_from(["double", "single", "float"])),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(CLAMPS),
        draw(st.integers(0, 2**32 - 1)),
    )


def run(conv: Conv, runs: int = 2) -> None:
    # Only memories made small for these tests may be too small for a single tile.
    refusals = ("no tile of a",) if conv.config.startswith("small") else ()
    rng = np.random.default_rng(conv.seed)
    graph = graph_of(conv, rng)
    check(graph, CONFIGS[conv.config], rng, refusals=refusals, runs=runs)


def graph_of(
    conv: Conv, rng: np.random.Generator, *, is_alone: bool = False, **requant: Any
) -> Graph:
    """The convolution; unless it `is_alone`, an addition often follows it."""
    net = CoreNet(rng, conv.layout)
    x = net.image(conv.shape, conv.zero_points[0])
    if conv.seed % 2:  # made on the device, so that the host cannot unfold it
        x = net.clip(x, -100, 100)
    out = net.conv(
        x,
        conv.channels,
        conv.kernel,
        conv.strides,
        conv.pads,
        conv.groups,
        conv.zero_points[1],
        mode=conv.mode,
        per_channel=conv.per_channel,
        shift_left=conv.shift_left,
        clamp=conv.clamp,
        **requant,
    )
    if conv.seed % 3 == 0 and not is_alone:
        other = net.image(net.extents(out), int(rng.integers(-128, 128)), 0.07)
        out = net.add(*((out, other) if conv.seed % 5 else (other, out)), 0.06, 3)
    return net.graph(out)


@examples(60)
@given(convolutions(sorted(CONFIGS), kernels=7, extents=9, blocks=2))
@pytest.mark.slow
def test_convolution_of_any_shape(conv: Conv) -> None:
    run(conv)


@examples(20)
@given(convolutions(["tiny", "small8", "small16", "small4x8"], kernels=5, extents=19, blocks=4))
@pytest.mark.slow
def test_convolution_in_many_tiles(conv: Conv) -> None:
    """Memories that hold a fraction of the operands: tiles, virtual threads, partial sums."""
    run(conv, runs=1)


@pytest.mark.parametrize("config", ["default", "mac64", "batch4"])
@pytest.mark.parametrize(
    ("shape", "channels", "kernel", "stride", "pad"),
    [
        ((1, 3, 64, 64), 32, 7, 2, 3),
        ((1, 64, 28, 28), 64, 3, 1, 1),
        ((1, 128, 7, 7), 256, 1, 1, 0),
        ((2, 17, 37, 41), 33, 3, 1, 1),
    ],
)
def test_layers_as_networks_have_them(
    config: str,
    shape: tuple[int, int, int, int],
    channels: int,
    kernel: int,
    stride: int,
    pad: int,
    rng: np.random.Generator,
) -> None:
    net = CoreNet(rng)
    x = net.image(shape, -128)
    sizes = (kernel, kernel), (stride, stride), (pad,) * 4
    out = net.conv(x, channels, *sizes, zero_point=5, per_channel=True)
    compiled = check(net.graph(out), CONFIGS[config], rng, runs=1, repeats=1)
    assert compiled.package.programs[0].macs > 0
