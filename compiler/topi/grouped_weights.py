"""Weights of (grouped) convolutions as blocks of the GEMM unit.

An output block of channels reads some input blocks. Without groups that is all of them. With groups
it is those of its own group; groups narrower than a block share one, as a block-diagonal weight
matrix (depthwise convolution: a diagonal one). Groups that do not line up with blocks are computed
as one dense convolution with zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.loop.expr import Expr
from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class GroupedWeights:
    """`packed` is [O/o, K, KH, KW, o, i] int8: K input blocks per output block.

    `out_blocks` consecutive output blocks read the same input blocks; if `is_diagonal`, output
    block n reads input block n alone.
    """

    packed: np.ndarray
    out_blocks: int
    is_diagonal: bool

    @property
    def in_blocks(self) -> int:
        """Input blocks that an output block reads."""
        return int(self.packed.shape[1])

    def input_block(self, co: Expr, k: Expr) -> Expr:
        """The k-th input block of output block `co`."""
        if self.is_diagonal:
            return co + k
        if self.out_blocks == self.packed.shape[0]:
            return k
        return (co // self.out_blocks) * self.in_blocks + k


def group_weights(weights: np.ndarray, groups: int, config: VtaConfig) -> GroupedWeights:
    """Blocks of [O, I/groups, KH, KW] weights."""
    outputs, per_input, _, _ = weights.shape
    per_output = outputs // groups
    bo, bi = config.block_out, config.block_in
    if groups == 1:
        packed = pack_weights(weights, config)
        return GroupedWeights(packed, packed.shape[0], False)
    if per_output % bo == 0 and per_input % bi == 0:
        return GroupedWeights(pack_weights(weights, config), per_output // bo, False)
    whole = _expand(weights, groups)
    packed = pack_weights(whole, config)
    if bo % per_output == 0 and bo // per_output * per_input == bi:
        diagonal = packed[np.arange(len(packed)), np.arange(len(packed))][:, None]
        return GroupedWeights(np.ascontiguousarray(diagonal), len(packed), True)
    return GroupedWeights(packed, packed.shape[0], False)


def _expand(weights: np.ndarray, groups: int) -> np.ndarray:
    """The dense weights [O, I, KH, KW] of a grouped convolution, zero between groups."""
    outputs, per_input, kh, kw = weights.shape
    whole = np.zeros((outputs, per_input * groups, kh, kw), np.int8)
    step = outputs // groups
    for group in range(groups):
        rows = slice(group * step, (group + 1) * step)
        whole[rows, group * per_input : (group + 1) * per_input] = weights[rows]
    return whole


def pack_weights(weights: np.ndarray, config: VtaConfig) -> np.ndarray:
    """[O, I, KH, KW] -> [O/o, I/i, KH, KW, o, i], zero-padded to whole blocks."""
    o, i, kh, kw = weights.shape
    bo, bi = config.block_out, config.block_in
    padded = np.zeros((-(-o // bo) * bo, -(-i // bi) * bi, kh, kw), np.int8)
    padded[:o, :i] = weights
    blocked = padded.reshape(-1, bo, padded.shape[1] // bi, bi, kh, kw)
    return np.ascontiguousarray(blocked.transpose(0, 2, 4, 5, 1, 3))
