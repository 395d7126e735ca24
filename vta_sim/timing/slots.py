"""The slots of the two halves of ACC: who is granted one in which cycle (rule G2)."""

from __future__ import annotations

from vta_hw.spec.isa import Stage
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.bursts import take_beats
from vta_sim.timing.flights import fail, finish
from vta_sim.timing.loading import filling_ended, run_filling
from vta_sim.timing.parts import (
    ACC,
    ALU,
    BLOCK,
    GEMM,
    LOWER,
    UNITS,
    UPPER,
    AccPart,
    Core,
    Filling,
    Work,
)
from vta_sim.timing.plans import grant_plan, plan_run, plan_slots
from vta_sim.timing.work import ended, lay_out, run_work


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
            stop = share_slots(core, n, stop)
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
def share_slots(core: Core, n: i64, end: i64) -> i64:
    """Several ask from n to before `end`, or beats arrive: the end, or where one ended.

    What one is granted depends on those who go before alone. So they plan one after the other, each
    for all these cycles with what the others left. The plans are carried out up to where the first
    of them ends: what comes after is not known.
    """
    acc = core.acc
    loader = core.loaders[ACC]
    filling = loader.filling
    acc.size = min(end - n, BLOCK)
    is_first = True
    fills = filling.active and n >= filling.start
    if beats_in(core, n):
        burst = acc.beats[acc.beats_begin]
        acc.size = min(acc.size, burst.last + 1 - n)
        take_beats(core, burst, n)
        is_first = False
        fills = False  # L4
    elif acc.beats_count:
        acc.size = min(acc.size, acc.beats[acc.beats_begin].first - n)
    for unit in range(UNITS):
        work = acc.works[unit]
        if work.active and n >= work.start:
            plan_work(core, work, n, is_first)
            is_first = False
    if fills:
        lay_out_padding(acc, filling)
        plan_slots(acc, acc.padding, n)
    end = n + acc.size
    for unit in range(UNITS):
        work = acc.works[unit]
        if work.active and n >= work.start:
            grant_plan(work.slots, work.granted, end)
    if fills:
        filling.left -= grant_plan(acc.padding, loader.filled, end)
    return end


@kernel
def plan_work(core: Core, work: Work, n: i64, is_first: bool) -> None:
    """Plan the slots of GEMM or ALU; if it is the first, nobody has taken any."""
    acc = core.acc
    lay_out(core, work, acc.size)
    if is_first and work.is_plain:
        plan_run(acc, work.slots, n)
        return
    if is_first:
        for place in range(acc.size):
            acc.taken[place] = 0
    plan_slots(acc, work.slots, n)


@kernel
def lay_out_padding(acc: AccPart, filling: Filling) -> None:
    """Lay out the vectors to be filled next, so many as can be in the cycles to plan."""
    acc.padding.at = 0
    acc.padding.count = min(filling.left, acc.size)
    for number in range(acc.padding.count):
        acc.padding.halves[number] = LOWER if filling.left - number > filling.upper else UPPER


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
