"""The cycles that are left for slots of ACC that are asked for one after the other."""

from __future__ import annotations

from vta_hw.spec import machine
from vta_sim.lang.kinds import i64, kernel
from vta_sim.timing.parts import REACH, AccPart, Slots
from vta_sim.timing.spans import Spans

_LONG_AGO = -(1 << 30)


@kernel
def open_slots(slots: Slots) -> None:
    """None are laid out, and none have been granted."""
    slots.at = 0
    slots.count = 0
    slots.planned = 0
    for place in range(REACH):
        slots.cycles[place] = _LONG_AGO


@kernel
def earliest(slots: Slots, number: i64, planned: i64) -> i64:
    """The first cycle in which A3 lets a slot be asked for; `planned` are, of those before."""
    gap = slots.gaps[number]
    return slots.cycles[REACH + planned - gap] + machine.ACC_HAZARD if gap else _LONG_AGO


@kernel
def plan_run(acc: AccPart, slots: Slots, n: i64) -> None:
    """Plan the slots laid out, one per cycle from n on: nobody goes before, A3 holds for none."""
    acc.size = min(acc.size, slots.count - slots.at)
    for place in range(acc.size):
        acc.taken[place] = slots.halves[slots.at + place]
    slots.is_run = True
    slots.cycles[REACH] = n
    slots.planned = acc.size


@kernel
def plan_slots(acc: AccPart, slots: Slots, n: i64) -> None:
    """Plan the slots laid out, from cycle n on: each in the first cycle it can.

    The halves that those who go before have taken are left to them; the own ones are added. With
    the last slot the plan ends, for those who come after as well.
    """
    slots.is_run = False
    number = slots.at
    planned = 0
    half: i64 = slots.halves[number]
    free = earliest(slots, number, 0)
    for place in range(acc.size):
        if acc.taken[place] & half or n + place < free:
            continue
        acc.taken[place] |= half
        slots.cycles[REACH + planned] = n + place
        planned += 1
        number += 1
        if number == slots.count:
            acc.size = place + 1
            break
        half = slots.halves[number]
        free = earliest(slots, number, planned)
    slots.planned = planned


@kernel
def grant_plan(slots: Slots, granted: Spans, end: i64) -> i64:
    """What is planned before cycle `end` is granted; how many slots those are."""
    count = slots.planned
    if slots.is_run:
        first = slots.cycles[REACH]
        count = min(count, end - first)
        granted.add(first, first + count - 1)
        slots.at += count
        return count
    while count and slots.cycles[REACH + count - 1] >= end:
        count -= 1
    for number in range(count):
        cycle = slots.cycles[REACH + number]
        granted.add(cycle, cycle)
    # The last grants come to the front; these are before what is read later.
    for place in range(REACH):
        slots.cycles[place] = slots.cycles[count + place]
    slots.at += count
    return count


@kernel
def note_run(slots: Slots, n: i64, count: i64) -> None:
    """The next slots are granted, one per cycle from n on."""
    for number in range(max(0, count - REACH), count):
        for place in range(REACH - 1):
            slots.cycles[place] = slots.cycles[place + 1]
        slots.cycles[REACH - 1] = n + number
    slots.at += count
