"""What buffers in scratchpad scopes look like: last axes = one element of the memory."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Place:
    """Where a buffer is in its memory: its first element, and that of its second half, if any."""

    first: int
    second: int | None = None

    def steps(self, buffer: Buffer) -> list[int]:
        """The distance in elements that each axis moves by, without those of the element."""
        out, step = list[int](), 1
        for size in reversed(buffer.shape[:-2]):
            out.insert(0, step)
            step *= size
        if self.second is not None:
            out[0] = self.second - self.first
        return out

    def spans(self, buffer: Buffer) -> list[range]:
        """The elements that the buffer takes."""
        count = elements(buffer)
        if self.second is None:
            return [range(self.first, self.first + count)]
        return [range(at, at + count // 2) for at in (self.first, self.second)]
