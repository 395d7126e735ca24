"""Issue and retirement: rules S1 to S6, L1, G1, T1, and what each stage starts."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import TOKEN_MAX, FaultClass, Opcode, Stage, TokenQueue
from vta_sim.lang.kinds import i64, kernel
from vta_sim.native.legality import fault_of, sram_rows, steps
from vta_sim.native.table import Insn
from vta_sim.native.uops import load_uops
from vta_sim.timing.channels import offer_store, store_is_vacant
from vta_sim.timing.fetching import queue_has_room
from vta_sim.timing.flights import fail, finish
from vta_sim.timing.loading import loader_is_vacant, loader_of, offer_load
from vta_sim.timing.parts import ALU, GEMM, TOKENS, Core, StagePart
from vta_sim.timing.spans import NEVER
from vta_sim.timing.work import begin_work, first_bad


@kernel
def ready(core: Core, stage: StagePart, index: i64) -> i64:
    """The first cycle in which the head is ready (S1)."""
    dispatched = core.dispatch[index] + machine.DISPATCH_TO_READY
    return max(dispatched, stage.last_issue + machine.ISSUE_INTERVAL)


@kernel
def step_issue(core: Core, stage: StagePart, n: i64) -> None:
    """Issue the head in cycle n, if it can (S2)."""
    stage.to_issue.begin(n)
    if stage.stopped or stage.closed or stage.issued == stage.dispatched:
        return
    index = stage.head()
    since = ready(core, stage, index)
    if n < since:
        stage.to_issue.wake(since)
        return
    insn = core.machine.insns[index]
    for token in range(TOKENS):
        if insn.pops >> token & 1 and core.tokens.counts[token] == 0:
            return
    if not has_room(core, stage, insn, n):
        return
    note_waits(core, insn, since, n)
    for token in range(TOKENS):
        if insn.pops >> token & 1:
            core.tokens.changes[token] -= 1
            core.tokens.changed = True
    stage.issued += 1
    stage.last_issue = n
    core.issue[index] = n
    queue_has_room(core, n + 1)
    start(core, stage, index, insn, n)
    if core.bad[index] and core.done[index] == n:  # S3
        stage.closed = True
        return
    if stage.issued < stage.dispatched:
        stage.to_issue.wake(ready(core, stage, stage.head()))


@kernel
def note_waits(core: Core, insn: Insn, since: i64, end: i64) -> None:
    """Note the cycles from `since` to before `end` in which a popped counter was 0."""
    for token in range(TOKENS):
        if insn.pops >> token & 1:
            present = min(core.tokens.present_since[token], end)
            if present > since:
                core.waits[token].add(since, present - 1)
                since = present


@kernel
def has_work(insn: Insn) -> bool:
    """Rule S4, for a transfer that is good."""
    rows = sram_rows(insn) if insn.opcode == Opcode.LOAD else insn.y_size
    return insn.x_size > 0 and rows > 0


@kernel
def has_room(core: Core, stage: StagePart, insn: Insn, n: i64) -> bool:
    """Rules L1, G1, T1."""
    if stage.number == Stage.COMPUTE:
        return unit_has_room(core, stage, insn)
    if stage.in_flight() >= machine.STAGE_SLOTS:
        return False
    # S3: a bad instruction counts as one without work.
    if fault_of(core.machine, insn) or not has_work(insn):
        return True
    if stage.number == Stage.STORE:
        return store_is_vacant(core, n)
    return loader_is_vacant(loader_of(core, insn.memory_type), n)


@kernel
def unit_has_room(core: Core, stage: StagePart, insn: Insn) -> bool:
    """Rule G1."""
    if stage.in_flight() == 0:
        return True
    if not (core.machine.has_overlap and insn.overlap):
        return False
    for place in range(stage.left, stage.issued):
        older = core.machine.insns[stage.order[place]].opcode
        if older == insn.opcode or older == Opcode.FINISH:
            return False
    return True


@kernel
def start(core: Core, stage: StagePart, index: i64, insn: Insn, n: i64) -> None:
    """Hand an instruction that issues in cycle n to its unit."""
    fault = fault_of(core.machine, insn)
    if insn.opcode == Opcode.GEMM or (
        insn.opcode == Opcode.ALU and fault != FaultClass.BAD_ALU_OPCODE
    ):
        start_loops(core, index, insn, n, fault)
    elif fault:
        fail(core, stage.number, index, n, fault)
    elif insn.opcode == Opcode.LOAD and has_work(insn):
        core.has_work[index] = 1
        offer_load(core, index)
    elif insn.opcode == Opcode.STORE and has_work(insn):
        core.has_work[index] = 1
        offer_store(core, index)
    else:
        finish(core, stage.number, index, n)


@kernel
def start_loops(core: Core, index: i64, insn: Insn, n: i64, fault: i64) -> None:
    """GEMM or ALU begins, unless it has no micro-ops (G3) or the first is bad (G4)."""
    first = n + machine.FIRST_SLOT
    count = steps(insn)
    if count == 0:
        finish(core, Stage.COMPUTE, index, n + 1)
        return
    if fault:
        count = first_bad(core, insn)
        if count == 0:
            fail(core, Stage.COMPUTE, index, first, fault)
            return
    unit = GEMM if insn.opcode == Opcode.GEMM else ALU
    begin_work(core, core.acc.works[unit], index, first, count, fault)


# -- retirement -----------------------------------------------------------------------------------


@kernel
def step_retire(core: Core, stage: StagePart, n: i64) -> None:
    """Retire the oldest in cycle n, if it can (S5), or stop the stage with it (S6)."""
    stage.to_retire.begin(n)
    if stage.stopped or stage.in_flight() == 0:
        return
    index = stage.oldest()
    if core.done[index] == NEVER:
        return
    due = max(core.done[index] + machine.DONE_TO_RETIRE, stage.last_retire + 1)
    if n < due:
        stage.to_retire.wake(due)
        return
    if core.bad[index]:  # S6
        stage.stopped = True
        core.faults[index] = core.bad[index]
        core.last_stop = max(core.last_stop, n)
        return
    insn = core.machine.insns[index]
    take_effect(core, index, insn)
    for token in range(TOKENS):
        if insn.pushes >> token & 1 and core.tokens.counts[token] == TOKEN_MAX:
            stage.full_since = min(stage.full_since, n)
            return
    stage.token_full.add(stage.full_since, n - 1)
    stage.full_since = NEVER
    for token in range(TOKENS):
        if insn.pushes >> token & 1:
            core.tokens.changes[token] += 1
            core.tokens.changed = True
    leave(core, stage, index, insn, n)


@kernel
def take_effect(core: Core, index: i64, insn: Insn) -> None:
    """What an instruction does takes place when it would retire."""
    if core.was_executed[index]:
        return
    core.was_executed[index] = 1
    core.executed[core.executed_count] = index
    core.executed_count += 1
    if insn.opcode == Opcode.LOAD and insn.memory_type == MemType.UOP:
        load_uops(core.machine, insn)


@kernel
def leave(core: Core, stage: StagePart, index: i64, insn: Insn, n: i64) -> None:
    """An instruction retires in cycle n."""
    core.retire[index] = n
    stage.last_retire = n
    stage.left += 1
    if insn.opcode == Opcode.FINISH:
        stage.stopped = True
        stage.finished = True
        return
    stage.to_issue.wake(n + 1)
    if stage.in_flight():
        done = core.done[stage.oldest()]
        if done != NEVER:
            stage.to_retire.wake(max(n + 1, done + machine.DONE_TO_RETIRE))


# -- tokens ---------------------------------------------------------------------------------------


@kernel
def commit_tokens(core: Core, n: i64) -> None:
    """The changes of cycle n are seen from n + 1 on (S2, S5)."""
    tokens = core.tokens
    if not tokens.changed:
        return
    tokens.changed = False
    for token in range(TOKENS):
        change = tokens.changes[token]
        if change == 0:
            continue
        before = tokens.counts[token]
        after = before + change
        tokens.counts[token] = after
        tokens.changes[token] = 0
        if after and not before:
            tokens.present_since[token] = n + 1
            core.stages[consumer(token)].to_issue.wake(n + 1)
        elif not after:
            tokens.present_since[token] = NEVER
        if before == TOKEN_MAX and after < TOKEN_MAX:
            core.stages[producer(token)].to_retire.wake(n + 1)


@kernel
def consumer(token: i64) -> i64:
    """The stage that pops from a counter."""
    if token == TokenQueue.COMPUTE_TO_LOAD:
        return Stage.LOAD
    return Stage.STORE if token == TokenQueue.COMPUTE_TO_STORE else Stage.COMPUTE


@kernel
def producer(token: i64) -> i64:
    """The stage that pushes onto a counter."""
    if token == TokenQueue.LOAD_TO_COMPUTE:
        return Stage.LOAD
    return Stage.STORE if token == TokenQueue.STORE_TO_COMPUTE else Stage.COMPUTE
