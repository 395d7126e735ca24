"""Max pooling beside the convolution before it: tiles of both that fit together.

The ALU is idle while a convolution multiplies, except for requantisation. So a round of pooling,
one block of channels of some windows, runs between the products of a later tile
(`compiler.passes.run_beside`). It must be done within them, and work in the half of ACC in which
they do not, beside what the tile before has there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compiler.passes.run_beside import gate_of
from compiler.passes.split_products import PIECES_BESIDE
from compiler.topi.conv2d_choice import candidates, choose_tiling, ranked
from compiler.topi.conv2d_space import Tiles
from compiler.topi.conv2d_tiling import INPUTS, ConvShape, ConvTiling
from compiler.topi.conv2d_time import modelled_cycles
from compiler.topi.kernel import divisors
from vta_hw.spec.config import MemType, VtaConfig

_REACT = 30
"""Cycles until the first beat of a load is there, beside the memory's latency."""
_LEFT = 3
"""Rounds that find no tile, at the convolution's end."""


@dataclass(frozen=True)
class Windows:
    """What a tiling depends on: places, window and stride of a pooling operator."""

    h: int
    w: int
    kernel: tuple[int, int]
    strides: tuple[int, int]

    @property
    def taps(self) -> int:
        """Elements in a window."""
        return self.kernel[0] * self.kernel[1]

    def loaded(self, h: int, w: int) -> int:
        """Elements of a channel that `h` rows by `w` columns of windows read, padding included."""
        (kh, kw), (sh, sw) = self.kernel, self.strides
        return ((h - 1) * sh + kh) * ((w - 1) * sw + kw)


@dataclass(frozen=True)
class PoolTiling:
    """A round: `h` rows by `w` columns of windows of one block of channels.

    `blocks` are done for a place before the next one; all of them for `is_place_first`.
    """

    h: int
    w: int
    blocks: int
    is_place_first: bool

    def knobs(self) -> dict[str, int]:
        """The choices by name."""
        return {"tile_c": 1, "tile_h": self.h, "tile_w": self.w, "halves": 2}


def pool_tiling(
    windows: Windows, shape: ConvShape, tiling: ConvTiling, config: VtaConfig
) -> PoolTiling | None:
    """The rounds of pooling that run beside a convolution with this tiling; None if none can.

    Nor if it takes no longer behind the convolution's best tiling.
    """
    rounds = _best_rounds(windows, shape, tiling, config)
    return rounds if rounds and _pays(windows, shape, tiling, rounds, config) else None


def tiling_beside(windows: Windows, shape: ConvShape, config: VtaConfig) -> ConvTiling | None:
    """The fastest tiling of a convolution, as modelled, beside which pooling runs if it pays."""
    tiles = candidates(shape, config)
    least = windows.taps + 1
    fits = _elements(tiles, shape) + least <= config.depth(MemType.ACC) // 2
    tiles = tiles[fits & (tiles.acc_halves > 1)]
    if not len(tiles):
        return None
    for tiling in tiles[ranked(tiles, shape, config)].tilings(shape):
        rounds = _best_rounds(windows, shape, tiling, config)
        if rounds is not None:
            return tiling if _pays(windows, shape, tiling, rounds, config) else None
    return None


def _pays(
    windows: Windows, shape: ConvShape, tiling: ConvTiling, rounds: PoolTiling, config: VtaConfig
) -> bool:
    """Whether less is lost by this tiling than pooling takes behind the best one."""
    tilings = Tiles.of([tiling, choose_tiling(shape, config)], shape)
    beside, best = modelled_cycles(tilings, shape, config)
    behind = 2 * windows.taps * shape.n * shape.co * windows.h * windows.w
    left = _LEFT * sum(_load_and_work(windows, rounds.h, rounds.w, config))
    return beside + left < best + behind


def _best_rounds(
    windows: Windows, shape: ConvShape, tiling: ConvTiling, config: VtaConfig
) -> PoolTiling | None:
    """Of the rounds that fit those that load least."""
    if not config.has("overlap") or tiling.acc_halves < 2 or tiling.threads > 1:
        return None
    best: tuple[int, PoolTiling] | None = None
    for h, w in _rounds(windows, shape, tiling, config):
        loaded = windows.loaded(h, w) * (windows.h // h) * (windows.w // w)
        if best is None or loaded < best[0]:
            found = PoolTiling(h, w, tiling.co, tiling.kept == INPUTS)
            best = loaded, found
    return best[1] if best else None


def _load_and_work(windows: Windows, h: int, w: int, config: VtaConfig) -> tuple[int, int]:
    """Cycles of a round's loads, and of its operations."""
    bus = (1 << config.log_bus_width) // 8
    beats = windows.loaded(h, w) * -(-config.elem_bytes(MemType.ACC_8BIT) // bus)
    work = 2 * windows.taps * h * w
    return beats + config.dram_latency + _REACT, work + _REACT


def _elements(tiles: Tiles, shape: ConvShape) -> np.ndarray:
    """What a tile of the convolution needs in one half of ACC."""
    return tiles.co * (tiles.h * tiles.w * shape.buffers + shape.params) + shape.fixed


def _rounds(
    windows: Windows, shape: ConvShape, t: ConvTiling, config: VtaConfig
) -> Iterator[tuple[int, int]]:
    """Rows and columns of rounds that fit between the products of tiles."""
    half = config.depth(MemType.ACC) // 2
    room = half - int(_elements(Tiles.of([t], shape), shape)[0])
    tiles = shape.n * (shape.co // t.co) * (shape.h // t.h) * (shape.w // t.w)
    steps = (shape.ci // t.ci) * (shape.kh // (t.kh or shape.kh))
    pieces = steps * -(-PIECES_BESIDE // steps)
    vectors = t.co * t.h * t.w
    cycles = vectors * shape.ci * shape.kh * shape.kw / pieces
    before = gate_of(pieces)
    for h in divisors(windows.h):
        for w in divisors(windows.w):
            loaded = windows.loaded(h, w)
            follows = h * windows.strides[0] == t.h or t.w == shape.w
            rounds = shape.n * shape.co * (windows.h // h) * (windows.w // w)
            load, work = _load_and_work(windows, h, w, config)
            if (
                follows
                and rounds <= tiles
                and loaded + h * w <= room
                and load <= (before - 1) * cycles
                and work + shape.passes * vectors <= (pieces - before) * cycles
            ):
                yield h, w
