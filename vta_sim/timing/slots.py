"""The slots of the two halves of ACC: who is granted one in which cycle (rule G2)."""

from __future__ import annotations

from vta_hw.spec.isa import Stage
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.bursts import beat_halves, filled_place
from vta_sim.timing.flights import fail, finish
from vta_sim.timing.loading import filling_ended, is_free, run_filling
from vta_sim.timing.parts import ACC, ALU, GEMM, UNITS, Core, Work
from vta_sim.timing.work import ended, grant_slot, half_asked, run_work


@kernel
def slots_wanted(core: Core) -> bool:
    """Whether a unit asks, or will ask, for slots that it has not been granted."""
    works = core.acc.works
    return works[GEMM].active or works[ALU].active or core.loaders[ACC].filling.active


@kernel
def advance_slots(core: Core, end: i64) -> bool:
    """Go on to cycle `end`, or past the first in which a unit ends; whether one did."""
    acc = core.acc
    filling = core.loaders[ACC].filling
    while acc.cycle < end and slots_wanted(core):
        n = acc.cycle
        stop = end
        active = 0
        for unit in range(UNITS):
            work = acc.works[unit]
            if work.active:
                if work.start <= n:
                    active += 1
                else:
                    stop = min(stop, work.start)
        if filling.active:
            if filling.start <= n:
                active += 1
            else:
                stop = min(stop, filling.start)
        if active == 0:
            acc.cycle = stop
            continue
        if active > 1 or beats_in(core, n):
            share_slots(core, n)
            stop = n + 1
        else:
            stop = run_alone(core, n, stop)
        acc.cycle = stop
        if units_ended(core, stop - 1):
            return True
    return False


@kernel
def beats_in(core: Core, n: i64) -> bool:
    """Whether beats arrive in cycle n that GEMM or ALU could meet."""
    acc = core.acc
    while acc.beats_count and acc.beats[acc.beats_begin].last < n:
        acc.beats_begin = (acc.beats_begin + 1) % acc.beats_room
        acc.beats_count -= 1
    if acc.beats_count == 0 or acc.beats[acc.beats_begin].first > n:
        return False
    return acc.works[GEMM].active or acc.works[ALU].active


@kernel
def run_alone(core: Core, n: i64, end: i64) -> i64:
    """Only one unit asks from n to before `end`: grant it all; the end, or where it ended."""
    acc = core.acc
    loader = core.loaders[ACC]
    if loader.filling.active and loader.filling.start <= n:
        loader.filling.cycle = n
        last = run_filling(loader, end)
        return end if loader.filling.left else last + 1
    if acc.beats_count:
        end = min(end, acc.beats[acc.beats_begin].first)
    gemm = acc.works[GEMM]
    if gemm.active and gemm.start <= n:
        return run_one(core, gemm, n, end)
    return run_one(core, acc.works[ALU], n, end)


@kernel
def run_one(core: Core, work: Work, n: i64, end: i64) -> i64:
    """Grant all that a unit asks for; `end`, or where it ended."""
    run_work(core, work, n, end)
    return work.granted.end() + 1 if ended(work) else end


@kernel
def share_slots(core: Core, n: i64) -> None:
    """One cycle in which there are several that may ask."""
    acc = core.acc
    taken = 0
    if beats_in(core, n):
        taken = beat_halves(core, acc.beats[acc.beats_begin], n)
    for unit in range(UNITS):
        work = acc.works[unit]
        if work.active and n >= work.start:
            half = half_asked(core, work, n)
            if half and not taken & half:
                taken |= half
                grant_slot(core, work, n)
    loader = core.loaders[ACC]
    filling = loader.filling
    if filling.active and n >= filling.start and is_free(loader, n):
        number = filling.total - filling.left
        place = filled_place(core, core.machine.insns[loader.job], number)
        if not taken & 1 << (place >> acc.top):
            loader.filled.add(n, n)
            filling.left -= 1


@kernel
def units_ended(core: Core, n: i64) -> bool:
    """Take leave of the units that have ended in cycle n; whether one has."""
    found = False
    for unit in range(UNITS):
        work = core.acc.works[unit]
        if work.active and ended(work):
            work.active = False
            work.asked.add(work.start, n)
            if work.fault:
                fail(core, Stage.COMPUTE, work.index, n + 1, work.fault)  # G4
            else:
                finish(core, Stage.COMPUTE, work.index, n)  # G3
            found = True
    loader = core.loaders[ACC]
    if loader.filling.active and not loader.filling.left:
        filling_ended(core, loader, n)
        found = True
    return found
