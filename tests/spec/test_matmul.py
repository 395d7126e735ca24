"""Many micro-ops at once give what they give one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from vta_hw.spec.matmul import accumulate


def _one_by_one(acc, inp, wgt, dst, src, wgts):
    acc = acc.astype(np.int64)
    for d, s, w in zip(dst, src, wgts, strict=True):
        acc[d] += inp[s].astype(np.int64) @ wgt[w].T.astype(np.int64)
    return acc.astype(np.int32)


@pytest.mark.parametrize("accumulators", [3, 40, 70_000])
@pytest.mark.parametrize("weights", [1, 3, 66_000])
def test_equals_one_by_one(accumulators: int, weights: int, rng: np.random.Generator):
    acc = rng.integers(-(1 << 31), 1 << 31, (accumulators, 1, 2), np.int32)
    inp = rng.integers(-128, 128, (50, 1, 2), np.int8)
    wgt = rng.integers(-128, 128, (weights, 2, 2), np.int8)
    # Few values, far apart: indices repeat, and some of them are alike in their low 16 bits.
    far = np.unique(np.minimum([0, 1, 2, 5, 1 << 16, (1 << 16) + 2], accumulators - 1))
    dst = rng.choice(far, 300)
    wgts = rng.choice(np.unique(np.minimum([0, 1, 1 << 16], weights - 1)), 300)
    src = rng.integers(0, 50, 300)
    expected = _one_by_one(acc, inp, wgt, dst, src, wgts)
    accumulate(acc, inp, wgt, dst, src, wgts)
    np.testing.assert_array_equal(acc, expected)


def test_long_sums_wrap(rng: np.random.Generator):
    acc = np.full((2, 1, 16), (1 << 31) - 1, np.int32)
    inp, wgt = np.full((1, 1, 16), -128, np.int8), np.full((1, 16, 16), -128, np.int8)
    dst, zeros = rng.integers(0, 2, 5000), np.zeros(5000, np.int64)
    expected = _one_by_one(acc, inp, wgt, dst, zeros, zeros)
    accumulate(acc, inp, wgt, dst, zeros, zeros)
    np.testing.assert_array_equal(acc, expected)
