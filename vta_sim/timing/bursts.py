"""How transfers are cut into bursts (rules B1 and B2), and what their beats bring."""

from __future__ import annotations

from vta_hw.spec.config import MemType
from vta_sim.lang.kinds import i64, kernel
from vta_sim.native.legality import sram_columns, sram_rows
from vta_sim.native.table import Insn
from vta_sim.timing.parts import BeatsOfBurst, Core, Cursor


@kernel
def open_cursor(core: Core, cursor: Cursor, insn: Insn, rows: i64) -> None:
    """Begin with the first row of a transfer of `rows` rows."""
    size = core.machine.elem_bytes[insn.memory_type]
    cursor.row = 0
    cursor.rows = rows
    cursor.start = insn.address
    cursor.pitch = insn.x_stride * size
    cursor.length = insn.x_size * size
    cursor.at = cursor.start
    cursor.end = cursor.start + cursor.length


@kernel
def is_at_end(cursor: Cursor) -> bool:
    """Whether there is no further burst."""
    return cursor.row >= cursor.rows


@kernel
def burst_beats(core: Core, cursor: Cursor) -> i64:
    """Beats of the present burst (rule B1)."""
    last = burst_end(core, cursor) - 1
    return last // core.bus_bytes - cursor.at // core.bus_bytes + 1


@kernel
def burst_end(core: Core, cursor: Cursor) -> i64:
    """Where the present burst ends: with its row, or with an aligned window."""
    return min(cursor.end, (cursor.at // core.window + 1) * core.window)


@kernel
def next_burst(core: Core, cursor: Cursor) -> None:
    """Go on to the next burst."""
    cursor.at = burst_end(core, cursor)
    if cursor.at == cursor.end:
        cursor.row += 1
        cursor.at = cursor.start + cursor.row * cursor.pitch
        cursor.end = cursor.at + cursor.length


@kernel
def replicates(insn: Insn) -> bool:
    """Whether rule D2 holds for a LOAD."""
    return (
        (insn.memory_type == MemType.ACC or insn.memory_type == MemType.ACC_8BIT)
        and insn.x_stride == 0
        and insn.x_size == 1
        and insn.y_size > 1
        and sram_rows(insn) == insn.y_size
        and sram_columns(insn) == 1
    )


@kernel
def filled_vectors(insn: Insn) -> i64:
    """Vectors that a LOAD fills: its padding, or with rule D2 the copies of its element."""
    if replicates(insn):
        return insn.y_size - 1
    return sram_rows(insn) * sram_columns(insn) - insn.y_size * insn.x_size


@kernel
def filled_place(core: Core, insn: Insn, number: i64) -> i64:
    """Where filled vector `number` lies on chip; numbers do not fall from call to call (L4)."""
    if replicates(insn):
        return insn.sram_base + 1 + number
    acc = core.acc
    columns = sram_columns(insn)
    while True:
        row = acc.pad_place // columns - insn.y_pad_0
        column = acc.pad_place % columns - insn.x_pad_0
        inside = row >= 0 and row < insn.y_size and column >= 0 and column < insn.x_size
        if inside:
            # The rest of what lies inside in this row.
            acc.pad_place += insn.x_size - column
            continue
        if acc.pad_number == number:
            break
        acc.pad_number += 1
        acc.pad_place += 1
    return insn.sram_base + acc.pad_place


@kernel
def beat_halves(core: Core, burst: BeatsOfBurst, n: i64) -> i64:
    """The halves whose slots the beat arriving in cycle n takes, one bit each (rule G2)."""
    insn = core.machine.insns[burst.index]
    size = core.machine.elem_bytes[insn.memory_type]
    start = insn.address + burst.row * insn.x_stride * size
    length = insn.x_size * size
    beat = burst.at // core.bus_bytes + n - burst.first
    # Elements are completed by the beat with their last byte.
    end = min((beat + 1) * core.bus_bytes - start, length) // size
    begin = max(beat * core.bus_bytes - start, 0) // size
    if end <= begin:
        return 0
    place = insn.sram_base + (insn.y_pad_0 + burst.row) * sram_columns(insn) + insn.x_pad_0
    return 1 << (place + begin >> core.acc.top) | 1 << (place + end - 1 >> core.acc.top)
