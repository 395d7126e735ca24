"""Requantisation parameters as the REQ instruction takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Rounding
from vta_hw.spec.semantics import pack_req_shift, req_imm

PARAMS = 3
"""Consecutive ACC elements that REQ reads: bias, multiplier, packed shifts and clamps."""


@dataclass(frozen=True)
class Requant:
    """int32 accumulator -> int8. Arrays have one entry, or one per output channel.

    `multiplier` is a Q31 integer, or float32 in mode `Rounding.FLOAT`.
    """

    mode: Rounding
    multiplier: np.ndarray
    left: np.ndarray
    right: np.ndarray
    zero_point: int
    clamp_min: int = -128
    clamp_max: int = 127

    @property
    def imm(self) -> int:
        """The immediate of the REQ instruction."""
        return req_imm(self.zero_point, self.mode)

    def parameters(self, bias: np.ndarray, config: VtaConfig) -> np.ndarray:
        """int32 [channel blocks, ..., 3, batch, block] from `bias` [channels, ...]."""
        channels, *classes = bias.shape
        multiplier = self.multiplier
        if self.mode is Rounding.FLOAT:
            multiplier = multiplier.astype(np.float32).view(np.int32)
        packed = pack_req_shift(self.right, self.left, self.clamp_min, self.clamp_max)
        rows = [bias]
        for value in (multiplier, packed):
            lane = np.broadcast_to(np.asarray(value).reshape(-1), (channels,))
            rows.append(np.broadcast_to(lane.reshape(-1, *[1] * len(classes)), bias.shape))
        stacked = np.stack(rows, axis=-1).astype(np.int64).astype(np.int32)
        block = config.block_out
        padded = np.zeros((-(-channels // block) * block, *classes, PARAMS), np.int32)
        padded[:channels] = stacked
        blocked = padded.reshape(-1, block, *classes, PARAMS)
        lanes_last = np.moveaxis(blocked, 1, -1)[..., None, :]
        shape = (*lanes_last.shape[:-2], config.batch, block)
        return np.ascontiguousarray(np.broadcast_to(lanes_last, shape))
