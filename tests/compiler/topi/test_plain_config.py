"""Configs without extensions: within one unit of the reference, and exact for powers of two."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from tests.compiler.topi.checking import check, examples
from tests.compiler.topi.test_conv2d import Conv, convolutions, graph_of
from vta_hw.spec.config import VtaConfig

PYNQ = VtaConfig.load("pynq")


@examples(12)
@given(convolutions(["default"], kernels=5, extents=9, blocks=2))
def test_convolution_is_within_one_unit(conv: Conv) -> None:
    rng = np.random.default_rng(conv.seed)
    # Raised accumulators wrap around in the exact arithmetic; nobody wants those values.
    graph = graph_of(conv._replace(shift_left=False), rng)
    check(graph, PYNQ, rng, tolerance=1, repeats=1)


@examples(12)
@given(convolutions(["default"], kernels=5, extents=9, blocks=2))
def test_convolution_scaled_by_powers_of_two_is_exact(conv: Conv) -> None:
    rng = np.random.default_rng(conv.seed)
    graph = graph_of(conv._replace(shift_left=False), rng, power_of_two=True)
    package = check(graph, PYNQ, rng, repeats=1).package
    assert not package.notes
