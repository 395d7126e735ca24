"""Requantisation of accumulators by the REQ instruction, and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from compiler import te
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Rounding
from vta_hw.spec.semantics import pack_req_shift, req_imm

PARAMS = 3
"""Consecutive ACC elements that REQ reads: bias, multiplier, packed shifts and clamps."""


Parameters = Callable[..., te.Expr]
"""Reads parameter vector v for an accumulator: ``params(v, n, co, h, w, b, o)``."""


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

    is_exact = True
    buffers = 1

    @property
    def is_uniform(self) -> bool:
        """Whether all channels are scaled alike."""
        return all(
            (part == part.flat[0]).all() for part in (self.multiplier, self.left, self.right)
        )

    @property
    def imm(self) -> int:
        """The immediate of the REQ instruction."""
        return req_imm(self.zero_point, self.mode)

    def within(self, reach: int) -> Requant:
        """The same: REQ is right for all accumulators."""
        return self

    def clipped(self, low: int, high: int) -> Requant:
        """One whose results are clipped as well; some result must be left."""
        return replace(
            self, clamp_min=max(self.clamp_min, low), clamp_max=min(self.clamp_max, high)
        )

    def parameters(self, bias: np.ndarray, config: VtaConfig) -> np.ndarray:
        """int32 [channel blocks, ..., 3, batch, block] from `bias` [channels, ...]."""
        multiplier = self.multiplier
        if self.mode is Rounding.FLOAT:
            multiplier = multiplier.astype(np.float32).view(np.int32)
        packed = pack_req_shift(self.right, self.left, self.clamp_min, self.clamp_max)
        return lanes([bias, multiplier, packed], bias.shape, config)

    def stages(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        """int8-valued int32 results from accumulators, by one REQ."""

        def element(*at: te.Var) -> te.Expr:
            values = [params(part, *at) for part in range(PARAMS)]
            return te.call("req", acc(*at), *values, imm=self.imm)

        return te.compute(acc.shape, element, f"{acc.name}.req")


class Requantiser(Protocol):
    """A way to requantise accumulators: `Requant`, or `PlainRequant` without the extension."""

    @property
    def is_exact(self) -> bool:
        """Whether the results equal those that the rounding mode asks for."""

    @property
    def is_uniform(self) -> bool:
        """Whether only the bias, parameter vector 0, differs among channels and may come first."""

    @property
    def buffers(self) -> int:
        """ACC tiles in use at once."""

    def within(self, reach: int) -> Requantiser:
        """One for sums, biases and sums with bias that are all from -reach to reach."""

    @property
    def clamp_min(self) -> int:
        """The least result."""

    @property
    def clamp_max(self) -> int:
        """The greatest result."""

    def clipped(self, low: int, high: int) -> Requantiser:
        """One whose results are clipped as well; some result must be left."""

    def parameters(self, bias: np.ndarray, config: VtaConfig) -> np.ndarray:
        """int32 [channel blocks, ..., vectors, batch, block] from `bias` [channels, ...]."""

    def stages(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        """Tensor expression of the results; `params(v, *at)` reads parameter vector v."""


def lanes(rows: Sequence[np.ndarray], shape: Sequence[int], config: VtaConfig) -> np.ndarray:
    """Parameter vectors per channel block: int32 [channel blocks, ..., rows, batch, block].

    `shape` is [channels, ...]; a row has that shape, or one value, or one per channel. Lanes
    beyond the channels are zero.
    """
    channels, *classes = shape
    full = []
    for row in rows:
        value = np.asarray(row)
        if value.shape != tuple(shape):
            value = np.broadcast_to(value.reshape(-1), (channels,))
            value = np.broadcast_to(value.reshape(-1, *[1] * len(classes)), shape)
        full.append(value.astype(np.int64))
    block = config.block_out
    padded = np.zeros((-(-channels // block) * block, *classes, len(rows)), np.int32)
    padded[:channels] = np.stack(full, axis=-1).astype(np.int32)
    blocked = padded.reshape(-1, block, *classes, len(rows))
    lanes_last = np.moveaxis(blocked, 1, -1)[..., None, :]
    whole = (*lanes_last.shape[:-2], config.batch, block)
    return np.ascontiguousarray(np.broadcast_to(lanes_last, whole))
