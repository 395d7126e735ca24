"""What buffers in scratchpad scopes look like: last axes = one element of the memory."""

from __future__ import annotations

from compiler.loop.nodes import Buffer
from vta_hw.spec.config import MemType, VtaConfig

MEMORY = {"inp": MemType.INP, "wgt": MemType.WGT, "acc": MemType.ACC}
DTYPE = {"inp": "int8", "wgt": "int8", "acc": "int32"}


def element_shape(scope: str, config: VtaConfig) -> tuple[int, int]:
    """Axes of one element of a scratchpad."""
    return {
        "inp": (config.batch, config.block_in),
        "wgt": (config.block_out, config.block_in),
        "acc": (config.batch, config.block_out),
    }[scope]


def elements(buffer: Buffer) -> int:
    """Scratchpad elements that a buffer takes."""
    count = 1
    for size in buffer.shape[:-2]:
        count *= size
    return count
