"""The UOP memory as programs fill it."""

from __future__ import annotations

from vta_sim.lang.kinds import kernel, u8
from vta_sim.lang.ops import at, copy, fill, reinterpret
from vta_sim.native.legality import sram_columns, sram_rows
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn


@kernel
def load_uops(m: Machine, insn: Insn) -> None:
    """What a legal LOAD UOP does."""
    if not insn.x_size:
        return
    size = m.elem_bytes[insn.memory_type]
    columns = sram_columns(insn)
    target = at(reinterpret(u8, m.uop), insn.sram_base * size)
    if insn.x_size < columns or insn.y_size < sram_rows(insn):
        fill(target, 0, sram_rows(insn) * columns * size)
    for row in range(insn.y_size):
        place = (insn.y_pad_0 + row) * columns + insn.x_pad_0
        source = at(m.dram, insn.address + row * insn.x_stride * size)
        copy(at(target, place * size), source, insn.x_size * size)
