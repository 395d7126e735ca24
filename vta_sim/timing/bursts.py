"""How transfers are cut into bursts (rules B1 and B2), and what their beats bring."""

from __future__ import annotations

from vta_hw.spec.config import MemType
from vta_sim.lang.kinds import i64, kernel
from vta_sim.native.legality import sram_columns, sram_rows
from vta_sim.native.table import Insn
from vta_sim.timing.parts import LOWER, UPPER, BeatsOfBurst, Core, Cursor


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
def filled_before(insn: Insn, place: i64) -> i64:
    """How many of these vectors lie before `place` on chip."""
    before = max(0, place - insn.sram_base)
    if replicates(insn):
        return min(max(0, before - 1), insn.y_size - 1)
    columns = sram_columns(insn)
    before = min(before, sram_rows(insn) * columns)
    if before == 0:
        return 0
    # Without what lies inside: in whole rows, and in the row that is cut.
    row = before // columns - insn.y_pad_0
    column = before % columns - insn.x_pad_0
    inside = min(max(0, row), insn.y_size) * insn.x_size
    if row >= 0 and row < insn.y_size:
        inside += min(max(0, column), insn.x_size)
    return before - inside


@kernel
def take_beats(core: Core, burst: BeatsOfBurst, n: i64) -> None:
    """Put down the slots that the beats take in the cycles to plan, from n on (rule G2)."""
    acc = core.acc
    insn = core.machine.insns[burst.index]
    size = core.machine.elem_bytes[insn.memory_type]
    start = insn.address + burst.row * insn.x_stride * size
    place = insn.sram_base + (insn.y_pad_0 + burst.row) * sram_columns(insn) + insn.x_pad_0
    # Bytes of the row, and elements, that have come before.
    come = (burst.at // core.bus_bytes + n - burst.first) * core.bus_bytes - start
    number = max(come, 0) // size
    for cycle in range(acc.size):
        come += core.bus_bytes
        halves = 0
        # Elements are completed by the beat with their last byte.
        while number < insn.x_size and (number + 1) * size <= come:
            halves |= half_of(core, place + number)
            number += 1
        acc.taken[cycle] = halves


@kernel
def half_of(core: Core, element: i64) -> i64:
    """The half of ACC in which an element lies, as a bit."""
    return UPPER if element >> core.acc.top else LOWER
