"""The micro-ops of GEMM and ALU instructions as sequences of ACC slots (G3, G4, A1 to A3)."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import AluOp, Opcode
from vta_sim.lang.kinds import i64, kernel
from vta_sim.native.legality import steps
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn
from vta_sim.timing.bursts import half_of
from vta_sim.timing.parts import BLOCK, LOWER, REACH, UPPER, Core, Slots, Work
from vta_sim.timing.plans import earliest, note_run, open_slots
from vta_sim.timing.spans import NEVER

_DST, _SRC, _WGT = 0, 1, 2
_NO_ELEMENT = -1


@kernel
def field_of(m: Machine, place: i64, number: i64) -> i64:
    """A field of the micro-op at `place` of UOP."""
    return m.uop[place] >> m.fields[number].low & m.fields[number].mask


@kernel
def is_forwarded(insn: Insn) -> bool:
    """Whether an ALU operation has its acc[dst] forwarded."""
    op = insn.alu_opcode
    return op == AluOp.MIN or op == AluOp.MAX or op == AluOp.ADD or op == AluOp.SHR


@kernel
def begin_work(core: Core, work: Work, index: i64, start: i64, count: i64, fault: i64) -> None:
    """The first `count` micro-ops of an instruction ask for slots from cycle `start` on."""
    insn = core.machine.insns[index]
    work.active = True
    work.index = index
    work.start = start
    work.fault = fault
    work.count = count
    is_alu = insn.opcode == Opcode.ALU
    work.is_plain = not is_alu or (insn.use_imm != 0 and is_forwarded(insn))
    work.sources = 0
    if is_alu and not insn.use_imm:
        work.sources = machine.REQ_PARAMETERS if insn.alu_opcode == AluOp.REQ else 1
    work.rereads = insn.alu_opcode != AluOp.REQ
    work.all_held = not is_forwarded(insn)
    work.laid = 0
    work.dst = _NO_ELEMENT
    work.src = _NO_ELEMENT
    for place in range(REACH):
        work.elements[place] = _NO_ELEMENT
    open_slots(work.slots)


@kernel
def ended(work: Work) -> bool:
    """Whether all slots have been granted."""
    return work.laid == work.count and work.slots.at == work.slots.count


@kernel
def run_work(core: Core, work: Work, begin: i64, end: i64) -> None:
    """All that is asked for is granted from cycle `begin` to before `end`, or to the work's end."""
    slots = work.slots
    if work.is_plain:
        ahead = slots.count - slots.at
        count = min(end - begin, ahead + work.count - work.laid)
        work.granted.add(begin, begin + count - 1)
        slots.at += min(count, ahead)
        # The others need not be laid out.
        work.laid += max(0, count - ahead)
        return
    n = begin
    while not ended(work):
        lay_out(core, work, end - begin)
        n = max(n, earliest(slots, slots.at, 0))
        if n >= end:
            break
        count = 1
        limit = min(end - n, slots.count - slots.at)
        while count < limit and slots.gaps[slots.at + count] == 0:
            count += 1
        work.granted.add(n, n + count - 1)
        note_run(slots, n, count)
        n += count


# -- laying slots out -----------------------------------------------------------------------------


@kernel
def lay_out(core: Core, work: Work, wanted: i64) -> None:
    """If all slots laid out are granted, lay out the next: `wanted` or a few more, if there are."""
    slots = work.slots
    if slots.at < slots.count or work.laid == work.count:
        return
    slots.at = 0
    slots.count = 0
    insn = core.machine.insns[work.index]
    wanted = min(wanted, BLOCK - work.sources)
    if work.is_plain:
        lay_out_plain(core, work, insn, min(wanted, work.count - work.laid))
        return
    rounds = insn.uop_end - insn.uop_bgn
    uop = insn.uop_bgn + work.laid % rounds
    inner = work.laid // rounds % insn.iter_in
    outer = work.laid // rounds // insn.iter_in
    while work.laid < work.count and slots.count < wanted:
        dst = outer * insn.dst_factor_out + inner * insn.dst_factor_in
        src = outer * insn.src_factor_out + inner * insn.src_factor_in
        dst += field_of(core.machine, uop, _DST)
        src += field_of(core.machine, uop, _SRC)
        put_micro_op(core, work, dst, src)
        work.laid += 1
        uop += 1
        if uop == insn.uop_end:
            uop = insn.uop_bgn
            inner += 1
            if inner == insn.iter_in:
                inner = 0
                outer += 1


@kernel
def lay_out_plain(core: Core, work: Work, insn: Insn, wanted: i64) -> None:
    """Lay out the acc[dst] of the next micro-ops where A3 holds for none."""
    slots = work.slots
    for place in range(wanted):
        slots.gaps[place] = 0
    slots.count = wanted
    half = only_half(core, insn)
    if half:
        for place in range(wanted):
            slots.halves[place] = half
        work.laid += wanted
        return
    field = core.machine.fields[_DST]
    words, low, mask = core.machine.uop, field.low, field.mask
    rounds = insn.uop_end - insn.uop_bgn
    number = 0
    while number < wanted:
        # What is left of one round of micro-ops.
        uop = insn.uop_bgn + work.laid % rounds
        inner = work.laid // rounds % insn.iter_in
        outer = work.laid // rounds // insn.iter_in
        middle = 1 << core.acc.top
        middle -= outer * insn.dst_factor_out + inner * insn.dst_factor_in
        count = min(insn.uop_end - uop, wanted - number)
        for place in range(count):
            dst = words[uop + place] >> low & mask
            slots.halves[number + place] = UPPER if dst >= middle else LOWER
        number += count
        work.laid += count


@kernel
def only_half(core: Core, insn: Insn) -> i64:
    """The half in which all acc[dst] of an instruction lie; 0 if they lie in both."""
    least = NEVER
    most = 0
    for place in range(insn.uop_bgn, min(insn.uop_end, core.machine.depth[MemType.UOP])):
        dst = field_of(core.machine, place, _DST)
        least = min(least, dst)
        most = max(most, dst)
    # Steps are not negative.
    most += (insn.iter_out - 1) * insn.dst_factor_out + (insn.iter_in - 1) * insn.dst_factor_in
    if half_of(core, least) != half_of(core, most):
        return 0
    return half_of(core, most)


@kernel
def put_micro_op(core: Core, work: Work, dst: i64, src: i64) -> None:
    """The slots of a micro-op of the ALU (A1, A2); `dst` and `src` of the work are the last's."""
    slots = work.slots
    if work.sources and (src != work.src or (work.rereads and work.dst == src)):
        for part in range(work.sources):
            put_slot(core, slots, src + part, gap_of(work, src + part))
            write(work, _NO_ELEMENT)
    put_slot(core, slots, dst, gap_of(work, dst) if work.all_held else 0)
    write(work, dst)
    work.src = src
    work.dst = dst


@kernel
def put_slot(core: Core, slots: Slots, element: i64, gap: i64) -> None:
    """One more slot is asked for."""
    slots.halves[slots.count] = half_of(core, element)
    slots.gaps[slots.count] = gap
    slots.count += 1


@kernel
def write(work: Work, element: i64) -> None:
    """The latest slot writes an element, or none."""
    for place in range(REACH - 1, 0, -1):
        work.elements[place] = work.elements[place - 1]
    work.elements[0] = element


@kernel
def gap_of(work: Work, element: i64) -> i64:
    """How many slots before the next one this element was an acc[dst], by what A3 asks for."""
    for place in range(REACH):
        if work.elements[place] == element:
            return place + 1
    return 0


# -- instructions that are bad --------------------------------------------------------------------


@kernel
def first_bad(core: Core, insn: Insn) -> i64:
    """The number of the first micro-op with an index out of range, or of the first there is not."""
    m = core.machine
    known = min(insn.uop_end, m.depth[MemType.UOP]) - insn.uop_bgn
    rounds = insn.uop_end - insn.uop_bgn
    # Beyond the end of their memory there are no micro-ops; the first round ends there.
    limit = steps(insn) if known == rounds else max(known, 0)
    dst_end = m.depth[MemType.ACC]
    src_end = NEVER
    wgt_end = NEVER
    if insn.opcode == Opcode.ALU:
        sources = machine.REQ_PARAMETERS if insn.alu_opcode == AluOp.REQ else 1
        src_end = dst_end - sources + 1
    elif not insn.reset:
        src_end = m.depth[MemType.INP]
        wgt_end = m.depth[MemType.WGT]
    number = 0
    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            dst = outer * insn.dst_factor_out + inner * insn.dst_factor_in
            src = outer * insn.src_factor_out + inner * insn.src_factor_in
            wgt = outer * insn.wgt_factor_out + inner * insn.wgt_factor_in
            for place in range(insn.uop_bgn, insn.uop_end):
                if (
                    number == limit
                    or dst + field_of(m, place, _DST) >= dst_end
                    or src + field_of(m, place, _SRC) >= src_end
                    or wgt + field_of(m, place, _WGT) >= wgt_end
                ):
                    return number
                number += 1
    return number
