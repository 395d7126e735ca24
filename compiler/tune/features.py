"""What the cost model sees of a convolution's schedule: its loop nest, in numbers.

Sizes are logarithms, so that what holds for one layer can hold for another. Nothing here is a
guess of the time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compiler.topi.conv2d_space import Tiles, sram_use, steps_of, window
from compiler.topi.conv2d_tiling import INPUTS, KEPT, WEIGHTS, ConvShape
from vta_hw.spec.config import MemType, VtaConfig

FloatArray = npt.NDArray[np.float32]


def conv_features(tiles: Tiles, shape: ConvShape, config: VtaConfig) -> FloatArray:
    """A row per tiling: extents of loops, what steps and tiles touch, how often it is reused."""
    t, s = tiles, shape
    rows, columns = window(t, s)
    steps = steps_of(t, s)
    k_steps, window_steps = s.ci // t.ci, s.kh // t.kh
    vectors = t.co * t.h * t.w
    places = (s.h // t.h) * (s.w // t.w)
    blocks = s.n * s.co // t.co
    inputs = np.where(t.keeps(INPUTS), s.ci, t.ci) * rows * columns
    weights = np.where(t.keeps(WEIGHTS), s.ci * s.kh, t.ci * t.kh) * t.co * s.kw
    input_loads = np.where(t.keeps(INPUTS), places * s.n, places * blocks * k_steps)
    weight_loads = np.where(t.keeps(WEIGHTS), blocks, steps)
    products = vectors * t.ci * t.kh * s.kw
    total = s.n * s.co * s.ci * s.h * s.w * s.kh * s.kw
    sizes = [
        # The loops around a tile, and those of a step.
        *(s.co // t.co, s.h // t.h, s.w // t.w, k_steps, window_steps, steps),
        *(t.co, t.h, t.w, t.ci, t.kh, t.h * t.w, vectors, products),
        # What is loaded at once and in all, per product.
        *(inputs, weights, inputs * input_loads, weights * weight_loads),
        total / (inputs * input_loads * config.elem_bytes(MemType.INP)),
        total / (weights * weight_loads * config.elem_bytes(MemType.WGT)),
        products / (inputs * config.elem_bytes(MemType.INP) + 1),
        products / (weights * config.elem_bytes(MemType.WGT) + 1),
        *(vectors * s.passes / (products * k_steps * window_steps), vectors * s.operands + 1),
        # The memories' use.
        *(need / config.depth(memory) for memory, need in sram_use(t, s).items()),
    ]
    flags = [t.co_threads, t.h_threads, t.inp_halves, t.wgt_halves, t.acc_halves]
    flags += [t.keeps(what).astype(np.int64) for what in KEPT]
    flags += [np.minimum(t.inp_halves, t.wgt_halves) * t.threads, t.acc_halves * t.threads]
    logs = [np.log2(np.maximum(np.broadcast_to(size, len(t)), 1e-9)) for size in sizes]
    return np.stack([*logs, *flags], axis=1).astype(np.float32)
