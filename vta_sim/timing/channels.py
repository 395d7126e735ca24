"""The two channels of the memory bus: rules M1, M2, C1 to C3; and the store engine: T2 to T5."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_hw.spec.isa import Stage
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.bursts import burst_beats, is_at_end, next_burst, open_cursor
from vta_sim.timing.fetching import fetch_granted
from vta_sim.timing.flights import finish
from vta_sim.timing.loading import loader_granted
from vta_sim.timing.parts import CLIENTS, FETCH, NOBODY, Core, Cursor
from vta_sim.timing.spans import NEVER


@kernel
def step_read(core: Core, n: i64) -> None:
    """Grant at most one request in cycle n."""
    read = core.read
    while read.open_count and read.open[read.open_begin] < n:
        read.open_begin = (read.open_begin + 1) % read.max_reads
        read.open_count -= 1
    if read.open_count >= read.max_reads:  # C1: a burst is open up to its last beat
        read.next = read.open[read.open_begin] + 1
        return
    for client in range(CLIENTS):  # C1: the first that requests
        if read.request[client] <= n:
            grant(core, client, n)
            break
    soonest = NEVER
    for client in range(CLIENTS):
        soonest = min(soonest, read.request[client])
    read.next = max(n + 1, soonest)


@kernel
def grant(core: Core, client: i64, n: i64) -> None:
    """A client's burst is granted in cycle n: accepted in n + 1 (C2, M1)."""
    read = core.read
    first = max(n + 1 + read.latency, read.bus.end() + 1)
    last = first + read.beats[client] - 1
    read.bus.add(first, last)
    read.burst_count += 1
    read.beat_count += read.beats[client]
    read.open[(read.open_begin + read.open_count) % read.max_reads] = last
    read.open_count += 1
    if client == FETCH:
        fetch_granted(core, n, first + 1)
    else:
        loader_granted(core, core.loaders[client], n, first + 1, last + 1)  # C3


@kernel
def offer_store(core: Core, index: i64) -> None:
    """A STORE that has issued goes to the waiting place."""
    write = core.write
    write.waiting = index
    write.next = max(core.issue[index], write.last_read) + 1  # T2


@kernel
def store_is_vacant(core: Core, n: i64) -> bool:
    """Whether the waiting place is empty in cycle n."""
    return core.write.waiting == NOBODY and n > core.write.taken


@kernel
def step_store(core: Core, cursor: Cursor, n: i64) -> None:
    """Take the STORE that waits in cycle n; `cursor` is room to work in."""
    write = core.write
    index = write.waiting
    insn = core.machine.insns[index]
    write.waiting = NOBODY
    write.taken = n
    core.stages[Stage.STORE].to_issue.wake(n + 1)
    open_cursor(core, cursor, insn, insn.y_size)
    read = max(n + 1, core.issue[index] + machine.STORE_READ_DELAY) - 1  # T3
    response = read + 1
    while not is_at_end(cursor):
        beats = burst_beats(core, cursor)
        next_burst(core, cursor)
        first = read + 1
        while write.open_count and write.open[write.open_begin] < first:
            write.open_begin = (write.open_begin + 1) % write.max_writes
            write.open_count -= 1
        if write.open_count >= write.max_writes:  # T3: open up to its response
            first = write.open[write.open_begin] + 1
            write.open_begin = (write.open_begin + 1) % write.max_writes
            write.open_count -= 1
        read = first + beats - 1
        write.reads.add(first, read)
        write.bus.add(first + 2, read + 2)  # T4
        response = read + 2 + write.latency  # M2
        write.open[(write.open_begin + write.open_count) % write.max_writes] = response
        write.open_count += 1
        write.burst_count += 1
        write.beat_count += beats
    write.last_read = read
    write.last_arrival = response + 1
    finish(core, Stage.STORE, index, response + 1)  # T5
    write.next = NEVER
