"""Timing of programs: cycles, counters, and when each instruction did what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.events import Timeline
from vta_hw.spec.isa import FaultClass, Stage, TokenQueue
from vta_hw.spec.registers import (
    COUNTERS,
    FETCH_STATES,
    STAGE_STATES,
    UNIT_COUNTERS,
    State,
    state_counter,
)
from vta_hw.spec.result import RunResult
from vta_hw.spec.semantics import IntArray
from vta_sim.checks import check_launch, check_memory
from vta_sim.lang import cpu
from vta_sim.lang.build import BRIEF, Library, Record
from vta_sim.lang.kinds import StructType
from vta_sim.native.flow import stage_orders
from vta_sim.native.machine import machine_of
from vta_sim.native.table import decode
from vta_sim.native.verdict import Ending, StageEnd, result_of
from vta_sim.native.volatile import refuse_volatile
from vta_sim.timing import states
from vta_sim.timing.parts import ALU, CLIENTS, GEMM, UOP, BeatsOfBurst, Core
from vta_sim.timing.run import free_core, run_core
from vta_sim.timing.spans import MISSING

_RANKS = {
    State.BUSY: states.BUSY,
    State.MEMORY: states.MEMORY,
    State.PORT: states.PORT,
    State.TOKEN_FULL: states.TOKEN_FULL,
    State.DRAIN: states.DRAIN,
    State.LOAD_TO_COMPUTE: states.WAIT + TokenQueue.LOAD_TO_COMPUTE,
    State.COMPUTE_TO_LOAD: states.WAIT + TokenQueue.COMPUTE_TO_LOAD,
    State.COMPUTE_TO_STORE: states.WAIT + TokenQueue.COMPUTE_TO_STORE,
    State.STORE_TO_COMPUTE: states.WAIT + TokenQueue.STORE_TO_COMPUTE,
    State.IDLE: states.IDLE,
}
_BEATS_NUMBERS = StructType(BeatsOfBurst).dtype.itemsize // np.dtype(np.int64).itemsize
_MARGIN = 4
"""Spans ahead of a loader beyond open bursts: what has ended on the bus and still comes."""


@dataclass(frozen=True, eq=False)
class Work:
    """What a timeline lacks, in the same cycles.

    `done` has the cycle in which the work of each instruction ends (L5, G3, T5), where it has
    retired. `gemm_slots` are the spans in which GEMM is granted a slot, as rows of (first cycle,
    last cycle).
    """

    done: IntArray
    gemm_slots: IntArray


@dataclass(frozen=True)
class Timing:
    """What a program does when; `executed` are the instructions that take effect, in order.

    `result` has a timeline if one was asked for, and there is `work` then.
    """

    result: RunResult
    executed: IntArray
    work: Work | None = None


@lru_cache(maxsize=4)
def _library(isa: str) -> Library:
    return Library("timing", (run_core, states.count_states, free_core), {}, BRIEF)


def time_program(
    config: VtaConfig,
    words: IntArray,
    dram: IntArray,
    *,
    insn_base: int,
    bases: Mapping[MemType, int] | None = None,
    dram_limit: int | None = None,
    latency: int | None = None,
    timeline: bool = False,
) -> Timing:
    """Time a stream of instructions, given as 64-bit words of shape (n, 2), low word first.

    The parameters are those of `vta_sim.cycle.simulate`; `dram` is read for micro-ops only.
    Raises `VolatileProgramError` for a program that may change its own micro-ops.
    """
    bases = dict(bases or {})
    limit = check_memory(dram, dram_limit, bases)
    check_launch(insn_base, bases, latency)
    table = decode(words, config, bases)
    refuse_volatile(table, config)
    core = _core(config, table, dram, limit, insn_base, latency or config.dram_latency)
    library = _library(cpu.chosen().isa)
    try:
        cycles = int(library["run_core"](core.address))
        counted = _counters(library, core, cycles)
        spans = (_spans(core["read"]["bus"]), _spans(core["write"]["bus"])) if timeline else None
        work = _work(core) if timeline else None
    finally:
        library["free_core"](core.address)
    plain = result_of(config, words, table, _ending(core), limit)
    counters = {"cycles": cycles, **plain.counters, **counted}
    moments = None
    if spans is not None:
        columns = [core.kept(name) for name in ("dispatch", "issue", "retire")]
        moments = Timeline(cycles, columns[0], columns[1], columns[2], *spans)
    result = RunResult(
        status=plain.status,
        fault=plain.fault,
        instructions=plain.instructions,
        macs=plain.macs,
        cycles=cycles,
        counters={name: counters[name] for name in COUNTERS},
        timeline=moments,
    )
    executed = core.kept("executed")[: int(core["executed_count"])]
    return Timing(result, np.ascontiguousarray(executed), work)


def _core(
    config: VtaConfig, table: IntArray, dram: IntArray, limit: int, insn_base: int, latency: int
) -> Record:
    count = len(table)
    core = Record(Core)
    core.embed("machine", machine_of(config, table, dram, limit))
    core["bus_bytes"] = machine.bus_bytes(config)
    core["window"] = machine.burst_window(config)
    for name in ("dispatch", "issue", "done", "retire"):
        core[name] = np.zeros(count, np.int64)
    for name in ("bad", "has_work", "faults", "was_executed", "executed"):
        core[name] = np.zeros(count, np.int32)
    rings = []

    def ring(size: int) -> int:
        rings.append(np.zeros(size, np.int64))
        return int(rings[-1].ctypes.data)

    orders = stage_orders(table)
    for stage, order in zip(core["stages"], orders, strict=True):
        stage["order"] = order.ctypes.data
    ahead = config.max_reads + _MARGIN
    for client in range(UOP, CLIENTS):
        loader = core["loaders"][client]["ahead"]
        loader["items"], loader["room"] = ring(2 * ahead), ahead
    read, write, acc, fetch = (core[name] for name in ("read", "write", "acc", "fetch"))
    read["latency"] = write["latency"] = latency
    read["max_reads"] = write["max_writes"] = config.max_reads
    read["open"], write["open"] = ring(config.max_reads), ring(config.max_reads)
    acc["top"] = config.depth_bits(MemType.ACC) - 1
    acc["beats"], acc["beats_room"] = ring(_BEATS_NUMBERS * ahead), ahead
    fetch["insn_base"], fetch["queue_depth"] = insn_base, config.cmd_queue_depth
    fetch["available"] = ring(max(1, count))
    core.keep("rings", [*rings, *orders])
    return core


def _counters(library: Library, core: Record, cycles: int) -> dict[str, int]:
    sums, sweep = Record(states.Sums), Record(states.Sweep)
    library["count_states"](core.address, sweep.address, sums.address, cycles)
    found = {
        "read_bursts": core["read"]["burst_count"],
        "read_beats": core["read"]["beat_count"],
        "write_bursts": core["write"]["burst_count"],
        "write_beats": core["write"]["beat_count"],
    }
    for name, rank in zip(FETCH_STATES, states.FETCH_RANKS, strict=True):
        found[f"{name}_cycles"] = sums["fetch"][rank]
    units = [*(sums[f"unit_{kind}"][unit] for unit in (GEMM, ALU) for kind in ("busy", "port"))]
    for name, value in zip(
        UNIT_COUNTERS, [*units, sums["dma_busy"], sums["dma_port"]], strict=True
    ):
        found[f"{name}_cycles"] = value
    ranks = sums["stages"].reshape(len(Stage), -1)
    for stage, names in STAGE_STATES.items():
        for state in names:
            found[state_counter(stage, state)] = ranks[stage][_RANKS[state]]
    return {name: int(value) for name, value in found.items()}


def _work(core: Record) -> Work:
    return Work(core.kept("done").copy(), _spans(core["acc"]["works"][GEMM]["granted"]))


def _spans(spans: Any) -> IntArray:
    count = int(spans["count"])
    rows = Record.view(int(spans["items"]), 2 * count, np.dtype(np.int64))
    return rows.reshape(-1, 2).copy()


def _ending(core: Record) -> Ending:
    faults, retire = core.kept("faults"), core.kept("retire")
    found = {int(i): FaultClass(int(faults[i])) for i in np.flatnonzero(faults)}
    fetch = core["fetch"]
    dispatched = int(fetch["dispatched"])
    if int(fetch["stopped_in"]) != MISSING:
        found[dispatched] = FaultClass.BAD_OPCODE
    stages = []
    for stage, order in zip(core["stages"], core.others("rings")[-len(Stage) :], strict=True):
        left, issued = int(stage["left"]), int(stage["issued"])
        queue = order[issued : int(stage["dispatched"])].tolist()
        current = int(order[left]) if left < issued else None
        stages.append(StageEnd(queue, current, bool(stage["stopped"])))
    return Ending(
        faults=found,
        fetched=dispatched,
        finished=any(bool(stage["finished"]) for stage in core["stages"]),
        retired=retire != MISSING,
        tokens=[int(count) for count in core["tokens"]["counts"]],
        stages=stages,
    )
