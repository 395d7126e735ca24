"""One run of the machine, from cycle 0 to the last (rules R1 and R2)."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.channels import step_read, step_store
from vta_sim.timing.fetching import plan_chunk, step_fetch
from vta_sim.timing.loading import step_loader
from vta_sim.timing.parts import (
    CLIENTS,
    FETCH,
    NOBODY,
    STAGES,
    TOKENS,
    UNITS,
    UOP,
    Core,
)
from vta_sim.timing.slots import advance_slots, slots_wanted
from vta_sim.timing.spans import MISSING, NEVER
from vta_sim.timing.stages import commit_tokens, note_waits, ready, step_issue, step_retire


@kernel
def reset_core(core: Core) -> None:
    """All parts as they are in cycle 0; what is not set here is zero."""
    for token in range(TOKENS):
        core.tokens.present_since[token] = NEVER
    for number in range(STAGES):
        stage = core.stages[number]
        stage.number = number
        stage.last_issue = -machine.ISSUE_INTERVAL
        stage.last_retire = -1
        stage.full_since = NEVER
        stage.to_issue.next = NEVER
        stage.to_retire.next = NEVER
    for client in range(CLIENTS):
        loader = core.loaders[client]
        loader.client = client
        loader.waiting = NOBODY
        loader.job = NOBODY
        loader.taken = -1
        loader.next = NEVER
        core.read.request[client] = NEVER
    core.read.next = NEVER
    core.write.next = NEVER
    core.write.waiting = NOBODY
    core.write.taken = -1
    core.write.last_read = -1
    core.write.last_arrival = -1
    core.fetch.next = NEVER
    core.fetch.blocked_since = NEVER
    core.fetch.stopped_in = NOBODY
    for index in range(core.machine.count):
        core.dispatch[index] = MISSING
        core.issue[index] = MISSING
        core.retire[index] = MISSING
        core.done[index] = NEVER
    plan_chunk(core, 1)  # F1: the first chunk in cycle 1


@kernel
def run_core(core: Core) -> i64:
    """Take the cycles in which something may happen, one after the other; the cycles of the run.

    Within a cycle everything compares with the state before it: the order below is that of
    `vta_sim.cycle.simulate`.
    """
    reset_core(core)
    while True:
        n = next_cycle(core)
        if slots_wanted(core) and advance_slots(core, n):
            continue
        if n == NEVER:
            break
        step(core, n)
    cycles = last_movement(core) + machine.QUIET + 1
    close(core, cycles)
    return cycles


@kernel
def next_cycle(core: Core) -> i64:
    """The first cycle in which a part may have something to do."""
    n = min(core.read.next, core.write.next, core.fetch.next)
    for client in range(UOP, CLIENTS):
        n = min(n, core.loaders[client].next)
    for number in range(STAGES):
        n = min(n, core.stages[number].to_issue.next, core.stages[number].to_retire.next)
    return n


@kernel
def step(core: Core, n: i64) -> None:
    """One cycle."""
    for client in range(UOP, CLIENTS):
        if core.loaders[client].next <= n:
            step_loader(core, core.loaders[client], n)
    if core.write.next <= n:
        # No loader has this number, so its cursor is free.
        step_store(core, core.loaders[FETCH].cursor, n)
    if core.read.next <= n:
        step_read(core, n)
    if core.fetch.next <= n:
        step_fetch(core, n)
    for number in range(STAGES):
        if core.stages[number].to_issue.next <= n:
            step_issue(core, core.stages[number], n)
    for number in range(STAGES):
        if core.stages[number].to_retire.next <= n:
            step_retire(core, core.stages[number], n)
    commit_tokens(core, n)


@kernel
def last_movement(core: Core) -> i64:
    """The last moving cycle (R2)."""
    last = max(0, core.read.bus.end() + 1, core.write.last_arrival)
    last = max(last, core.fetch.stopped_in, core.last_stop)
    for index in range(core.machine.count):
        last = max(last, core.dispatch[index], core.issue[index], core.retire[index])
    for unit in range(UNITS):
        last = max(last, core.acc.works[unit].granted.end())
    for client in range(UOP, CLIENTS):
        last = max(last, core.loaders[client].filled.end())
    return last


@kernel
def close(core: Core, cycles: i64) -> None:
    """The run took so many cycles: what still waits has waited to the end."""
    core.fetch.queue_full.add(core.fetch.blocked_since, cycles - 1)
    for number in range(STAGES):
        stage = core.stages[number]
        if stage.issued < stage.dispatched and not stage.stopped:
            index = stage.head()
            note_waits(core, core.machine.insns[index], ready(core, stage, index), cycles)
        stage.token_full.add(stage.full_since, cycles - 1)
        for place in range(stage.left, stage.issued):
            index = stage.order[place]
            core.done[index] = min(core.done[index], cycles - 1)


@kernel
def free_core(core: Core) -> None:
    """Give all memory of spans back."""
    core.read.bus.free()
    core.write.reads.free()
    core.write.bus.free()
    core.fetch.queue_full.free()
    for number in range(STAGES):
        core.stages[number].token_full.free()
    for token in range(TOKENS):
        core.waits[token].free()
    for client in range(CLIENTS):
        loader = core.loaders[client]
        loader.arrivals.free()
        loader.filled.free()
        loader.could_fill.free()
    for unit in range(UNITS):
        core.acc.works[unit].granted.free()
        core.acc.works[unit].asked.free()
