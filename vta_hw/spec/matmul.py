"""Many GEMM micro-ops at once: the same sums as one after the other, by matrix products.

Additions of 32-bit integers that wrap may be reordered freely and GEMM reads no accumulator but the
one it adds to, so all micro-ops on one accumulator become one dot product, and accumulators that
use the same weights become rows of one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[Any]

# Sums of this many int8 products are exact in float32, whose integers end at 2^24.
_EXACT_TERMS = (1 << 24) // (128 * 128)
_ONE_THREAD = 1 << 18  # products of more multiplications go to several threads of OpenBLAS
_ROWS = 1 << 14  # accumulators of one product, to bound the operands' memory


def accumulate(
    acc: IntArray, inp: IntArray, wgt: IntArray, dst: IntArray, src: IntArray, wgts: IntArray
) -> None:
    """acc[dst[i]] += inp[src[i]] @ wgt[wgts[i]].T for every i, wrapping at 32 bits.

    Any index may repeat. Shapes are those of `vta_hw.spec.semantics.Scratchpads`.
    """
    order = _order(dst)
    sorted_dst = dst[order]
    starts = np.flatnonzero(np.diff(sorted_dst, prepend=-1))
    counts = np.diff(starts, append=len(dst))
    for count in np.unique(counts):
        first = starts[counts == count]
        pick = order[first[:, None] + np.arange(count)]
        sources, weights = src[pick], wgts[pick]
        for rows in _equal_rows(weights):
            _products(acc, inp, wgt, sorted_dst[first[rows]], sources[rows], weights[rows[0]])


def _equal_rows(table: IntArray) -> Iterator[IntArray]:
    """Row numbers of `table`, grouped by equal rows."""
    mixed = [np.arange(len(table))]
    while mixed:
        rows = mixed.pop()
        differs = (table[rows] != table[rows[0]]).any(axis=0)
        if not differs.any():
            yield rows
            continue
        # One column tells most groups apart, so this is faster than sorting whole rows.
        keys = table[rows, differs.argmax()]
        order = _order(keys)
        mixed += np.split(rows[order], np.flatnonzero(np.diff(keys[order])) + 1)


def _order(keys: IntArray) -> IntArray:
    """What sorts `keys`, stably."""
    if keys.max(initial=0) < 1 << 16:
        keys = keys.astype(np.uint16)  # numpy sorts 16 bits by radix
    return np.argsort(keys, kind="stable")


def _products(
    acc: IntArray, inp: IntArray, wgt: IntArray, dst: IntArray, src: IntArray, wgts: IntArray
) -> None:
    """acc[dst[r]] += sum over k of inp[src[r, k]] @ wgt[wgts[k]].T; no dst repeats."""
    batch, block_in = inp.shape[1:]
    block_out = wgt.shape[1]
    step = max(1, _EXACT_TERMS // block_in)
    for k in range(0, len(wgts), step):
        part = wgts[k : k + step]
        matrix = wgt[part].transpose(0, 2, 1).reshape(-1, block_out).astype(np.float32)
        for r in range(0, len(dst), _ROWS):
            rows = inp[src[r : r + _ROWS, k : k + step]].transpose(0, 2, 1, 3)
            values = _multiply(rows.reshape(-1, len(part) * block_in).astype(np.float32), matrix)
            acc[dst[r : r + _ROWS]] += values.astype(np.int32).reshape(-1, batch, block_out)


def _multiply(rows: IntArray, matrix: IntArray) -> IntArray:
    """rows @ matrix in float32, in pieces that BLAS does not spread over threads.

    Its threads gain little on so few columns, and wait busily: beside other work they cost tenfold.
    """
    out = np.empty((len(rows), matrix.shape[1]), np.float32)
    step = max(1, _ONE_THREAD // matrix.size)
    for r in range(0, len(rows), step):
        np.matmul(rows[r : r + step], matrix, out=out[r : r + step])
    return out
