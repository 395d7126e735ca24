"""Who goes when without a clock: `vta_hw.spec.dataflow`, compiled, in the order of turns.

The order of events is that of `vta_sim.functional.run` without `interleave`.
"""

from __future__ import annotations

import numpy as np

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import TOKEN_MAX, FaultClass, Opcode, Stage, TokenQueue
from vta_hw.spec.semantics import IntArray
from vta_sim.lang.build import Record
from vta_sim.lang.kinds import Array, i32, i64, inline_array, kernel, struct
from vta_sim.native.legality import fault_of
from vta_sim.native.machine import Machine
from vta_sim.native.table import Insn
from vta_sim.native.uops import load_uops

TOKENS = len(TokenQueue)
STAGES = len(Stage)
NONE = -1


@struct
class StageFlow:
    """One stage: `order` are its instructions; of those dispatched, the first `issued` were issued.

    `current` was issued and has not retired.
    """

    order: Array[i32]
    dispatched: i64
    issued: i64
    current: i64
    worked: bool
    stopped: bool


@struct
class Flow:
    """One run. `executed` are the instructions that took effect, in order; `faults` by instruction.

    `retired` has a one for each instruction that retired.
    """

    tokens: Array[i64] = inline_array(TOKENS)
    stages: Array[StageFlow] = inline_array(STAGES)
    queue_depth: i64
    fetched: i64
    fetch_stopped: bool
    finished: bool
    faults: Array[i32]
    retired: Array[i32]
    executed: Array[i32]
    executed_count: i64


def flow_of(config: VtaConfig, table: IntArray) -> Record:
    """A flow at its beginning."""
    flow = Record(Flow)
    flow["queue_depth"] = config.cmd_queue_depth
    for name in ("faults", "retired", "executed"):
        flow[name] = np.zeros(len(table), np.int32)
    orders = stage_orders(table)
    flow.keep("orders", orders)
    for stage, order in zip(flow["stages"], orders, strict=True):
        stage["order"] = order.ctypes.data
        stage["current"] = NONE
    return flow


def stage_orders(table: IntArray) -> list[IntArray]:
    """Per stage the numbers of its instructions."""
    return [np.flatnonzero(table["stage"] == stage).astype(np.int32) for stage in Stage]


@kernel
def run_flow(m: Machine, f: Flow) -> None:
    """Fetch as far as possible, then let each stage go as far as it can; until none moves."""
    moved = True
    while moved:
        moved = False
        while dispatch(m, f):
            moved = True
        for number in range(STAGES):
            while advance(m, f, f.stages[number]):
                moved = True


@kernel
def dispatch(m: Machine, f: Flow) -> bool:
    """Hand the next instruction to its stage's queue, if there is room; an unknown one stops it."""
    if f.fetch_stopped or f.fetched >= m.count:
        return False
    insn = m.insns[f.fetched]
    if not insn.known:
        f.faults[f.fetched] = FaultClass.BAD_OPCODE
        f.fetch_stopped = True
        return True
    stage = f.stages[insn.stage]
    if stage.dispatched - stage.issued >= f.queue_depth:
        return False
    stage.dispatched += 1
    f.fetched += 1
    return True


@kernel
def advance(m: Machine, f: Flow, stage: StageFlow) -> bool:
    """Take the stage one instruction further, as far as it goes; whether it moved at all."""
    moved = False
    if stage.current == NONE and not stage.stopped and stage.issued < stage.dispatched:
        index = stage.order[stage.issued]
        if has_tokens(f, m.insns[index]):
            stage.issued += 1
            stage.current = index
            stage.worked = False
            issue(m, f, stage)
            moved = True
    if stage.current != NONE and stage.worked and has_room(f, m.insns[stage.current]):
        retire(m, f, stage)
        moved = True
    return moved


@kernel
def has_tokens(f: Flow, insn: Insn) -> bool:
    """Whether every counter that it pops is above 0."""
    for token in range(TOKENS):
        if insn.pops >> token & 1 and f.tokens[token] == 0:
            return False
    return True


@kernel
def has_room(f: Flow, insn: Insn) -> bool:
    """Whether no counter that it pushes is full."""
    for token in range(TOKENS):
        if insn.pushes >> token & 1 and f.tokens[token] == TOKEN_MAX:
            return False
    return True


@kernel
def issue(m: Machine, f: Flow, stage: StageFlow) -> None:
    """Pop the tokens of the current instruction; it takes effect, or stops its stage."""
    index = stage.current
    insn = m.insns[index]
    for token in range(TOKENS):
        f.tokens[token] -= insn.pops >> token & 1
    fault = fault_of(m, insn)
    if fault:
        f.faults[index] = fault
        stage.stopped = True
        return
    stage.worked = True
    if insn.opcode == Opcode.LOAD and insn.memory_type == MemType.UOP:
        load_uops(m, insn)
    f.executed[f.executed_count] = index
    f.executed_count += 1


@kernel
def retire(m: Machine, f: Flow, stage: StageFlow) -> None:
    """Push the tokens of the current instruction and free the stage; FINISH stops it."""
    insn = m.insns[stage.current]
    for token in range(TOKENS):
        f.tokens[token] += insn.pushes >> token & 1
    f.retired[stage.current] = 1
    stage.current = NONE
    if insn.opcode == Opcode.FINISH:
        stage.stopped = True
        f.finished = True
