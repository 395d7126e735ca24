"""The choice of a convolution's tiling without a search: by a model of the time that it takes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from compiler.topi.conv2d_space import IntArray, Tiles, check_any, legal_tiles, steps_of
from compiler.topi.conv2d_tiling import ConvShape, ConvTiling
from compiler.topi.conv2d_time import estimated_cycles, modelled_cycles
from vta_hw.spec.config import VtaConfig

_MODELLED_MOST = 64
"""Tilings that are modelled step by step: those that could be fastest."""


@lru_cache(maxsize=1024)
def choose_tiling(shape: ConvShape, config: VtaConfig) -> ConvTiling:
    """The legal tiling of least modelled time; refused if not even single blocks fit."""
    check_any(shape, config)
    tiles = candidates(shape, config)
    best = ranked(tiles, shape, config)[:1]
    return next(tiles[best].tilings(shape))


def ranked(tiles: Tiles, shape: ConvShape, config: VtaConfig) -> IntArray:
    """Places of the tilings that could be fastest, those of least modelled time first."""
    order = np.lexsort((steps_of(tiles, shape), estimated_cycles(tiles, shape, config)))
    few = order[:_MODELLED_MOST]
    times = modelled_cycles(tiles[few], shape, config)
    return few[np.argsort(times, kind="stable")]


def candidates(shape: ConvShape, config: VtaConfig) -> Tiles:
    """Legal tilings that can be best: threads and halves hide the same, so not both.

    Where requantisation can run beside products it has to work on another half of ACC than they,
    and the accumulators of threads do not lie so.
    """
    threads = (1,) if config.has("overlap") else (1, 2)
    tiles = legal_tiles(shape, config, {"co_threads": threads, "h_threads": threads})
    return tiles[(tiles.threads == 1) | (tiles.halves == 1)]
