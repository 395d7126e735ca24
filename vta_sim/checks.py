"""What every simulator refuses before it begins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vta_hw.spec.config import INSN_BYTES, PAGE_BYTES, MemType
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.semantics import ADDRESS_LIMIT, IntArray


def check_memory(dram: IntArray, dram_limit: int | None, bases: Mapping[MemType, int]) -> int:
    """The end of legal addresses; a DRAM, limit or base register that cannot be is refused."""
    if dram.dtype != np.uint8 or dram.ndim != 1 or not dram.flags.c_contiguous:
        raise ProgramError(
            f"DRAM must be a contiguous uint8 array with one axis, not {dram.dtype} of shape "
            f"{dram.shape}"
        )
    for memory, base in bases.items():
        if not 0 <= base < ADDRESS_LIMIT:
            raise ProgramError(
                f"the base register of {memory.name} must be within 0..{ADDRESS_LIMIT - 1}, "
                f"not {base}"
            )
    limit = len(dram) if dram_limit is None else dram_limit
    if not 0 <= limit <= len(dram):
        raise ProgramError(
            f"DRAM_LIMIT must be within 0..{len(dram)} (the size of DRAM), not {limit}"
        )
    return limit


def check_launch(insn_base: int, bases: Mapping[MemType, int], latency: int | None) -> None:
    """Addresses and latencies that no machine has are refused."""
    if insn_base < 0 or insn_base % INSN_BYTES:
        raise ProgramError(
            f"the address of the instructions must be a multiple of {INSN_BYTES}, not {insn_base}"
        )
    for memory, base in bases.items():
        if base % PAGE_BYTES:
            raise ProgramError(
                f"the base register of {memory.name} must be a multiple of {PAGE_BYTES}, not {base}"
            )
    if latency is not None and latency < 1:
        raise ProgramError(f"the latency of the memory must be at least 1 cycle, not {latency}")
