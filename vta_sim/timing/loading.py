"""The four loaders, and padding: rules L2 to L5, D1 and D2."""

from __future__ import annotations

from vta_hw.spec.config import MemType
from vta_hw.spec.isa import Stage
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.bursts import (
    burst_beats,
    filled_before,
    filled_vectors,
    is_at_end,
    next_burst,
    open_cursor,
    replicates,
)
from vta_sim.timing.flights import finish
from vta_sim.timing.parts import ACC, INP, NOBODY, UOP, WGT, Core, LoaderPart
from vta_sim.timing.spans import NEVER


@kernel
def loader_of(core: Core, memory: i64) -> LoaderPart:
    """The loader of a memory type that can be loaded."""
    if memory == MemType.UOP:
        return core.loaders[UOP]
    if memory == MemType.INP:
        return core.loaders[INP]
    if memory == MemType.WGT:
        return core.loaders[WGT]
    return core.loaders[ACC]


@kernel
def stage_of_loader(loader: LoaderPart) -> i64:
    """The stage whose instructions it works on."""
    return Stage.LOAD if loader.client == INP or loader.client == WGT else Stage.COMPUTE


@kernel
def loader_is_vacant(loader: LoaderPart, n: i64) -> bool:
    """Whether the waiting place is empty in cycle n."""
    return loader.waiting == NOBODY and n > loader.taken


@kernel
def offer_load(core: Core, index: i64) -> None:
    """A LOAD that has issued goes to the waiting place."""
    loader = loader_of(core, core.machine.insns[index].memory_type)
    loader.waiting = index
    loader.next = min(loader.next, core.issue[index] + 1)


@kernel
def step_loader(core: Core, loader: LoaderPart, n: i64) -> None:
    """What happens in cycle n; fillings are carried out up to the cycle before."""
    loader.next = NEVER
    if loader.client == ACC:
        # Only one LOAD is in the unit (G1), so the loader is free when another one waits; its
        # filling goes on with the slots.
        if loader.waiting != NOBODY:
            take(core, loader, n)
        return
    filling = loader.filling
    if filling.active:
        last = run_filling(loader, n)
        if filling.left:
            loader.next = least_end(loader) + 1
        else:
            filling_ended(core, loader, last)
    if loader.waiting == NOBODY:
        return
    if loader.job != NOBODY:  # L2
        if not is_at_end(loader.cursor) or filling.active:
            return
        free = max(loader.last_grant, loader.last_fill) + 1
        if filled_vectors(core.machine.insns[loader.waiting]):
            free = max(free, loader.last_arrival + 1)
        if n < free:
            loader.next = min(loader.next, free)
            return
    take(core, loader, n)


@kernel
def take(core: Core, loader: LoaderPart, n: i64) -> None:
    """Begin with the instruction that waits."""
    index = loader.waiting
    insn = core.machine.insns[index]
    loader.waiting = NOBODY
    loader.job = index
    loader.taken = n
    loader.last_grant = -1
    loader.last_arrival = -1
    loader.last_fill = -1
    core.stages[stage_of_loader(loader)].to_issue.wake(n + 1)
    loader.replicates = replicates(insn)
    rows = min(insn.y_size, 1) if loader.replicates else insn.y_size  # D2
    open_cursor(core, loader.cursor, insn, rows)
    if filled_vectors(insn) and not loader.replicates:
        fill_from(core, loader, n + 1)  # L4
    if not is_at_end(loader.cursor):
        ask(core, loader, n + 1)  # L3


@kernel
def ask(core: Core, loader: LoaderPart, cycle: i64) -> None:
    """Request the next burst from `cycle` on."""
    core.read.request[loader.client] = cycle
    core.read.beats[loader.client] = burst_beats(core, loader.cursor)
    core.read.next = min(core.read.next, cycle)


@kernel
def loader_granted(core: Core, loader: LoaderPart, cycle: i64, first: i64, last: i64) -> None:
    """A burst was granted; its beats arrive from `first` to `last`."""
    if loader.client == ACC:
        expect_beats(core, loader, cycle, first, last)
    elif loader.filling.active:
        # Before it grants, all of these cycles are known; then older arrivals can be forgotten.
        run_filling(loader, cycle)
    next_burst(core, loader.cursor)
    loader.last_grant = cycle
    loader.last_arrival = last
    loader.arrivals.add(first, last)
    loader.ahead.drop_before(cycle)
    loader.ahead.push(first, last)
    core.read.request[loader.client] = NEVER
    if not is_at_end(loader.cursor):
        ask(core, loader, cycle + 1)  # L3
        return
    if loader.client != ACC and loader.waiting != NOBODY:
        loader.next = min(loader.next, cycle + 1)
    if loader.replicates:
        fill_from(core, loader, last + 1)  # D2
    elif not loader.filling.active:
        load_done(core, loader)


@kernel
def expect_beats(core: Core, loader: LoaderPart, n: i64, first: i64, last: i64) -> None:
    """The burst granted in n brings beats that need slots (D1)."""
    acc = core.acc
    while acc.beats_count and acc.beats[acc.beats_begin].last < n:
        acc.beats_begin = (acc.beats_begin + 1) % acc.beats_room
        acc.beats_count -= 1
    burst = acc.beats[(acc.beats_begin + acc.beats_count) % acc.beats_room]
    acc.beats_count += 1
    burst.first = first
    burst.last = last
    burst.index = loader.job
    burst.row = loader.cursor.row
    burst.at = loader.cursor.at


@kernel
def load_done(core: Core, loader: LoaderPart) -> None:
    """All beats are known and all vectors filled (L5)."""
    done = max(loader.last_arrival, loader.last_fill)
    finish(core, stage_of_loader(loader), loader.job, done)


# -- filling --------------------------------------------------------------------------------------


@kernel
def fill_from(core: Core, loader: LoaderPart, start: i64) -> None:
    """Begin to fill vectors."""
    filling = loader.filling
    filling.active = True
    filling.start = start
    filling.cycle = start
    insn = core.machine.insns[loader.job]
    filling.left = filled_vectors(insn)
    if loader.client == ACC:
        filling.upper = filling.left - filled_before(insn, 1 << core.acc.top)
    else:
        loader.next = min(loader.next, least_end(loader) + 1)


@kernel
def is_free(loader: LoaderPart, n: i64) -> bool:
    """Whether no beat arrives in cycle n; n must not fall from call to call."""
    loader.ahead.drop_before(n)
    return loader.ahead.count == 0 or n < loader.ahead.first(0)


@kernel
def run_filling(loader: LoaderPart, end: i64) -> i64:
    """Fill in all free cycles before `end`; the last one used, or -1 if none was."""
    filling = loader.filling
    last = -1
    n = filling.cycle
    while n < end and filling.left:
        if not is_free(loader, n):
            n = loader.ahead.last(0) + 1
            continue
        stop = min(end, n + filling.left)
        if loader.ahead.count:
            stop = min(stop, loader.ahead.first(0))
        last = stop - 1
        loader.filled.add(n, last)
        filling.left -= stop - n
        n = stop
    filling.cycle = max(n, end)
    return last


@kernel
def least_end(loader: LoaderPart) -> i64:
    """The earliest cycle in which the last vector can be filled, by what is known now."""
    n = loader.filling.cycle
    left = loader.filling.left
    for number in range(loader.ahead.count):
        first = loader.ahead.first(number)
        last = loader.ahead.last(number)
        if last < n:
            continue
        if first - n >= left:
            break
        left -= max(0, first - n)
        n = last + 1
    return n + left - 1


@kernel
def filling_ended(core: Core, loader: LoaderPart, last: i64) -> None:
    """The last vector was filled in cycle `last`."""
    loader.could_fill.add(loader.filling.start, last)
    loader.filling.active = False
    loader.last_fill = last
    if is_at_end(loader.cursor):
        load_done(core, loader)
