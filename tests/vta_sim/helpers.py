"""Short ways to write and run programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from vta_hw.spec.asm import assemble
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.result import RunResult
from vta_sim import functional

TINY = VtaConfig.load("tiny")
"""256 elements of UOP, INP and ACC, 64 of WGT; elements of 4, 4, 16 and 16 bytes."""

DRAM_BYTES = 4096


def fresh_dram(rng: np.random.Generator | None = None) -> np.ndarray[Any, Any]:
    """DRAM of zeros, or random bytes behind a page of micro-op 0."""
    dram = np.zeros(DRAM_BYTES, np.uint8)
    if rng is not None:
        dram[64:] = rng.integers(0, 256, DRAM_BYTES - 64)
    return dram


def run(
    text: str, dram: np.ndarray[Any, Any] | None = None, config: VtaConfig = TINY, **options: Any
) -> RunResult:
    """Assemble and run a program; a line ending in ``* N`` stands for N lines."""
    lines = []
    for line in text.strip().splitlines():
        part, _, count = line.partition("*")
        lines += [part.strip()] * int(count or 1)
    memory = fresh_dram() if dram is None else dram
    return functional.run(config, assemble("\n".join(lines), config), memory, **options)


def verdict(result: RunResult) -> tuple[str, int | None]:
    """What the run is judged by: class or status, and index."""
    return (result.fault.kind, result.fault.index) if result.fault else ("ok", None)
