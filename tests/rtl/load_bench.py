"""Drives a loader alone, in cocotb, beside its model."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from tests.rtl.load_model import DRAM_BYTES, Cycle, Job, LoaderModel

Observe = Callable[[Any, Cycle, bytes, bytes], None]
STAGE_SLOTS = 8
FAULT_BUS = 10


async def begin(dut: Any, inputs: tuple[str, ...]) -> None:
    """Start the clock, hold reset for a cycle; at the end a cycle begins."""
    from cocotb.clock import Clock
    from cocotb.triggers import FallingEdge

    for name in inputs:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


async def run_jobs(
    dut: Any,
    random: Random,
    jobs: list[Job],
    layout: Any,
    bus: int,
    check_writes: Observe,
    *,
    grants: bool = False,
) -> None:
    """Run `jobs`; requests are granted, beats arrive and slots are granted at random.

    Every cycle is held against the model. Ends when all jobs are done.
    """
    inputs = (
        "work__start__valid", "work__start__payload", "port__request__ready", "port__beat",
        "port__data", "port__last", "port__error",
    )  # fmt: skip
    await begin(dut, inputs + (("acc__fill_grant",) if grants else ()))
    dram = random.randbytes(DRAM_BYTES)
    model = LoaderModel(bus)
    left = deque(jobs)
    beats: deque[tuple[int, int]] = deque()  # (earliest cycle, address)
    started = done = 0
    pace = dict.fromkeys(("start", "ready", "beat", "grant"), 1.0)
    while done < len(jobs):
        if model.now % 64 == 0:
            pace = {name: random.choice([0.2, 0.7, 1.0]) for name in pace}
        now = model.now
        room = model.waiting is None and started - done < STAGE_SLOTS
        start = bool(left) and room and random.random() < pace["start"]
        ready = random.random() < pace["ready"]
        beat = bool(beats) and beats[0][0] <= now and random.random() < pace["beat"]
        error = beat and random.random() < 0.01
        grant = not grants or random.random() < pace["grant"]
        job = left.popleft() if start else None
        started += start
        dut.work__start__valid.value = int(start)
        if job:
            dut.work__start__payload.value = job.pack(layout)
        dut.port__request__ready.value = int(ready)
        dut.port__beat.value = int(beat)
        dut.port__error.value = int(error)
        found = b""
        if beat:
            address = beats.popleft()[1]
            found = dram[address : address + bus]
            dut.port__data.value = int.from_bytes(found, "little")
        if grants:
            dut.acc__fill_grant.value = int(grant)
        cycle = model.cycle(job, ready, beat, error, grant)
        if ready and cycle.request:
            # The bus takes it in the next cycle; the soonest beat is one later, and arrives then.
            address, count = cycle.request
            beats.extend((now + 3, address + n * bus) for n in range(count))
        await _settle()
        _check(dut, cycle, now, bus)
        check_writes(dut, cycle, found, dram)
        done += cycle.done
        await _next(dut)
    assert not beats


def _settle() -> Awaitable[Any]:
    from cocotb.triggers import ReadOnly

    return ReadOnly()


def _next(dut: Any) -> Awaitable[Any]:
    from cocotb.triggers import FallingEdge

    return FallingEdge(dut.clk)


def _check(dut: Any, cycle: Cycle, now: int, bus: int) -> None:
    request = None
    if int(dut.port__request__valid.value):
        payload = int(dut.port__request__payload.value)
        request = (payload & 0xFFFFFFFF, (payload >> 32) + 1)
    seen = {
        "ready": int(dut.work__start__ready.value),
        "request": request,
        "done": int(dut.work__done.value),
        "fault": int(dut.work__fault.value),
        "moving": int(dut.moving.value),
        "busy": int(dut.busy.value),
        "port_wait": int(dut.port_wait.value),
    }
    expected = {name: getattr(cycle, name) for name in seen}
    expected["fault"] = FAULT_BUS if cycle.fault else 0
    assert seen == expected, f"cycle {now}: {seen}, not {expected}"
