"""The instruction fetch: rules F1 to F4."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_hw.spec.config import INSN_BYTES
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.flights import enter
from vta_sim.timing.parts import FETCH, NOBODY, Core
from vta_sim.timing.spans import NEVER


@kernel
def plan_chunk(core: Core, cycle: i64) -> None:
    """Decide whether the next chunk is requested from `cycle` on (F1)."""
    fetch = core.fetch
    first = fetch.requested
    core.read.request[FETCH] = NEVER
    if first == core.machine.count or fetch.stopped_in != NOBODY:
        return
    size = chunk(core, first)
    if first - fetch.dispatched <= machine.FETCH_BUFFER - size:
        core.read.request[FETCH] = cycle
        core.read.beats[FETCH] = last_beat(core, first, first + size - 1) + 1
        core.read.next = min(core.read.next, cycle)


@kernel
def chunk(core: Core, first: i64) -> i64:
    """Instructions of the fetch burst that begins with instruction `first` (rule B2)."""
    place = core.fetch.insn_base // INSN_BYTES + first
    return min(machine.FETCH_CHUNK - place % machine.FETCH_CHUNK, core.machine.count - first)


@kernel
def last_beat(core: Core, first: i64, index: i64) -> i64:
    """Which beat of the chunk that begins with `first` has the last byte of `index`."""
    base = core.fetch.insn_base
    end = base + INSN_BYTES * (index + 1) - 1
    return end // core.bus_bytes - (base + INSN_BYTES * first) // core.bus_bytes


@kernel
def fetch_granted(core: Core, cycle: i64, first: i64) -> None:
    """A chunk arrives from cycle `first` on; its instructions can be dispatched later (F2)."""
    fetch = core.fetch
    begin = fetch.requested
    size = chunk(core, begin)
    for index in range(begin, begin + size):
        # An instruction that arrives in a can be dispatched from a + 2 on.
        fetch.available[index] = first + last_beat(core, begin, index) + 2
    fetch.requested += size
    if fetch.dispatched == begin:
        fetch.next = min(fetch.next, fetch.available[begin])
    plan_chunk(core, cycle + 1)


@kernel
def queue_has_room(core: Core, cycle: i64) -> None:
    """A queue has room from `cycle` on."""
    if core.fetch.blocked_since != NEVER:
        core.fetch.next = min(core.fetch.next, cycle)


@kernel
def step_fetch(core: Core, n: i64) -> None:
    """Dispatch at most one instruction in cycle n (F3)."""
    fetch = core.fetch
    fetch.next = NEVER
    index = fetch.dispatched
    if fetch.stopped_in != NOBODY or index >= fetch.requested:
        return
    if n < fetch.available[index]:
        fetch.next = fetch.available[index]
        return
    insn = core.machine.insns[index]
    if not insn.known:  # F4
        fetch.stopped_in = n
        core.read.request[FETCH] = NEVER
        return
    stage = core.stages[insn.stage]
    if stage.dispatched - stage.issued >= fetch.queue_depth:
        fetch.blocked_since = min(fetch.blocked_since, n)
        return
    fetch.queue_full.add(fetch.blocked_since, n - 1)
    fetch.blocked_since = NEVER
    enter(core, stage, index, n)
    fetch.dispatched += 1
    if core.read.request[FETCH] == NEVER:
        plan_chunk(core, n + 1)
    if fetch.dispatched < fetch.requested:
        fetch.next = max(n + 1, fetch.available[fetch.dispatched])
