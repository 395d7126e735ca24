"""The micro-ops of GEMM and ALU instructions as sequences of ACC slots (G3, G4, A1 to A3)."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import AluOp, Opcode
from vta_sim.lang.kinds import i64, kernel
from vta_sim.native.legality import steps
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn
from vta_sim.timing.parts import REACH, Core, Work
from vta_sim.timing.spans import NEVER

_DST, _SRC, _WGT = 0, 1, 2
_LONG_AGO = -(1 << 30)
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
    for place in range(REACH):
        work.elements[place] = _NO_ELEMENT
        work.is_dst[place] = 0
        work.times[place] = _LONG_AGO
    work.dst = _NO_ELEMENT
    work.src = _NO_ELEMENT
    seek(core, work, insn, 0)
    if not work.is_plain:
        look_at(core, work, insn)


@kernel
def seek(core: Core, work: Work, insn: Insn, at: i64) -> None:
    """Go to micro-op `at` of the instruction."""
    rounds = insn.uop_end - insn.uop_bgn
    work.at = at
    work.uop = insn.uop_bgn + at % rounds
    work.inner = at // rounds % insn.iter_in
    work.outer = at // rounds // insn.iter_in


@kernel
def dst_of(core: Core, work: Work, insn: Insn) -> i64:
    """acc[dst] of the present micro-op."""
    steps_to = work.outer * insn.dst_factor_out + work.inner * insn.dst_factor_in
    return field_of(core.machine, work.uop, _DST) + steps_to


@kernel
def src_of(core: Core, work: Work, insn: Insn) -> i64:
    """The first source of the present micro-op."""
    steps_to = work.outer * insn.src_factor_out + work.inner * insn.src_factor_in
    return field_of(core.machine, work.uop, _SRC) + steps_to


@kernel
def look_at(core: Core, work: Work, insn: Insn) -> None:
    """Which sources the present micro-op needs slots for (A1, A2); `dst`, `src` are the last's."""
    dst = dst_of(core, work, insn)
    work.source = 0
    if work.sources:
        src = src_of(core, work, insn)
        if src != work.src or (work.rereads and work.dst == src):
            work.source = work.sources
        work.src = src
    work.dst = dst


@kernel
def ended(work: Work) -> bool:
    """Whether all slots have been granted."""
    return work.at == work.count


@kernel
def slot_element(work: Work) -> i64:
    """The element of the slot that is asked for next."""
    return work.src + work.sources - work.source if work.source else work.dst


@kernel
def earliest(work: Work) -> i64:
    """The first cycle in which A3 lets the next slot be asked for."""
    if work.source == 0 and not work.all_held:
        return _LONG_AGO
    element = slot_element(work)
    for place in range(REACH):
        if work.elements[place] == element and work.is_dst[place]:
            return work.times[place] + machine.ACC_HAZARD
    return _LONG_AGO


@kernel
def half_asked(core: Core, work: Work, n: i64) -> i64:
    """The half, as a bit, of the slot that is asked for in cycle n; 0 if for none."""
    if work.is_plain:
        return 1 << (dst_of(core, work, core.machine.insns[work.index]) >> core.acc.top)
    if n < earliest(work):
        return 0
    return 1 << (slot_element(work) >> core.acc.top)


@kernel
def grant_slot(core: Core, work: Work, n: i64) -> None:
    """The next slot is granted in cycle n."""
    work.granted.add(n, n)
    insn = core.machine.insns[work.index]
    if not work.is_plain:
        for place in range(REACH - 1, 0, -1):
            work.elements[place] = work.elements[place - 1]
            work.is_dst[place] = work.is_dst[place - 1]
            work.times[place] = work.times[place - 1]
        work.elements[0] = slot_element(work)
        work.is_dst[0] = work.source == 0
        work.times[0] = n
        if work.source:
            work.source -= 1
            return
    work.at += 1
    work.uop += 1
    if work.uop == insn.uop_end:
        work.uop = insn.uop_bgn
        work.inner += 1
        if work.inner == insn.iter_in:
            work.inner = 0
            work.outer += 1
    if not work.is_plain and work.at < work.count:
        look_at(core, work, insn)


@kernel
def run_work(core: Core, work: Work, begin: i64, end: i64) -> None:
    """All that is asked for is granted from cycle `begin` to before `end`, or to the work's end."""
    if work.is_plain:
        count = min(end - begin, work.count - work.at)
        work.granted.add(begin, begin + count - 1)
        seek(core, work, core.machine.insns[work.index], work.at + count)
        return
    n = begin
    while not ended(work):
        n = max(n, earliest(work))
        if n >= end:
            break
        grant_slot(core, work, n)
        n += 1


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
