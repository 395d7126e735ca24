"""Runs of programs on the compiled functional simulator.

A program is analysed once: decoded, taken through the dataflow to its end, all instructions that
take effect proved to stay within their memories, their loops regrouped. After that a run is
arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.isa import FaultClass, Opcode, unpack_uops
from vta_hw.spec.result import RunResult
from vta_hw.spec.semantics import IntArray
from vta_sim.checks import check_memory
from vta_sim.lang import cpu
from vta_sim.lang.build import BRIEF, Library, Record
from vta_sim.lang.kinds import StructType, kernel
from vta_sim.native import flow as flows
from vta_sim.native import plan as plans
from vta_sim.native.alu import reset_acc, run_alu
from vta_sim.native.engine import BYTES_GROUP, BYTES_OFFSET, Engine, Uops
from vta_sim.native.gemm import run_gemm
from vta_sim.native.gemm_plan import GemmPlan, GemmTables
from vta_sim.native.machine import machine_of
from vta_sim.native.table import decode
from vta_sim.native.transfers import load_memory, store_memory
from vta_sim.native.verdict import Ending, StageEnd, result_of
from vta_sim.native.volatile import refuse_volatile

_PAGE_PLACE = 2048
"""Where memories begin in a page. Copies are slow on some CPUs where the target lies a few bytes
behind the source in a page, and large arrays, as DRAM is one, begin at the beginning of a page."""


@kernel
def run_order(e: Engine) -> None:
    """Carry out the instructions of a plan, in its order."""
    for step in range(e.order_count):
        insn = e.insns[e.order[step]]
        if insn.opcode == Opcode.GEMM:
            if insn.plan != plans.NO_PATTERN:
                if insn.reset:
                    reset_acc(e, insn)
                else:
                    run_gemm(e, insn)
        elif insn.opcode == Opcode.ALU:
            run_alu(e, insn)
        elif insn.opcode == Opcode.LOAD:
            load_memory(e, insn)
        elif insn.opcode == Opcode.STORE:
            store_memory(e, insn)


@lru_cache(maxsize=4)
def _analysis(isa: str) -> Library:
    """The functions that look at programs; they are the same for all configurations."""
    functions: tuple[Callable[..., Any], ...] = (
        flows.run_flow,
        plans.make_plan,
        plans.free_plan,
        plans.uops_unchanged,
    )
    return Library("analysis", functions, {}, BRIEF)


@lru_cache(maxsize=64)
def _arithmetic(batch: int, block_in: int, block_out: int, layout: str, isa: str) -> Library:
    """The functions that compute, for blocks of one shape."""
    return Library("arithmetic", (run_order,), shape_constants(batch, block_in, block_out, layout))


def shape_constants(batch: int, block_in: int, block_out: int, isa: str) -> dict[str, int]:
    """The constants of `vta_sim.native.engine`."""
    return {
        "BATCH": batch,
        "BLOCK_IN": block_in,
        "BLOCK_OUT": block_out,
        "INP_LANES": batch * block_in,
        "ACC_LANES": batch * block_out,
        "GROUP": min(BYTES_GROUP if isa == "vnni" else 2, block_in),
        "LANE_BITS": block_out.bit_length() - 1,
        # A few registers for each of the parameters.
        "REQ_LANES": min(batch * block_out, {"vnni": 16, "avx2": 8, "generic": 4}[isa]),
        # As many as leave registers for weights and inputs.
        "ROWS": {"vnni": 8, "avx2": 6, "generic": 2}[isa],
    }


class Scratch:
    """The on-chip memories of one machine, for one run at a time."""

    def __init__(self, config: VtaConfig, layout: str | None = None) -> None:
        """`layout` is the CPU level whose arrangement of data is used, by default this CPU's."""
        batch, block_in, block_out = config.batch, config.block_in, config.block_out
        isa = cpu.chosen().isa
        layout = layout or isa
        self.library = _arithmetic(batch, block_in, block_out, layout, isa)
        group = shape_constants(batch, block_in, block_out, layout)["GROUP"]
        weights = config.depth(MemType.WGT)
        inputs = config.depth(MemType.INP) * batch * block_in
        wide = group != BYTES_GROUP
        self.config = config
        self.record = Record(Engine)
        self._run = self.library["run_order"]
        self._program: FunctionalProgram | None = None
        self._cleared: list[tuple[IntArray, int]] = []
        self._memory("acc", config.depth(MemType.ACC) * batch * block_out, np.int32, 0)
        self._memory("wgt", weights * block_in * block_out, np.int8, 0)
        self._memory("is_packed", weights, np.uint8, 0)
        if wide:
            self._memory("inp_words", inputs, np.int16, 0)
            self._memory("packed_words", weights * block_in * block_out, np.int16)
        else:
            self._memory("inp_bytes", inputs, np.uint8, BYTES_OFFSET)
            self._memory("packed_bytes", weights * block_in * block_out, np.int8)
            self._memory("sums", weights * block_out, np.int32)
        self._memory("scratch", 2 * block_in * block_out, np.int8)

    def _memory(self, name: str, size: int, kind: Any, start: int | None = None) -> None:
        dtype = np.dtype(kind)
        raw = np.zeros(size * dtype.itemsize + PAGE_BYTES, np.uint8)
        skip = (_PAGE_PLACE - raw.ctypes.data) % PAGE_BYTES
        memory = raw[skip : skip + size * dtype.itemsize].view(dtype)
        self.record[name] = memory
        if start is not None:
            self._cleared.append((memory, start))

    def run(self, program: FunctionalProgram, dram: IntArray) -> None:
        """Carry out a program on `dram`; all memories are zero before."""
        if program.config.program_hash != self.config.program_hash:
            raise ProgramError(
                f"the program was analysed for config {program.config.name!r}, which differs from "
                f"{self.config.name!r} of these memories; analyse it for the config that runs"
            )
        check_memory(dram, program.limit, {})
        if not dram.flags.writeable:
            raise ProgramError("DRAM must be an array that can be written; give a copy of it")
        for memory, start in self._cleared:
            memory.fill(start)
        record = self.record
        record["dram"] = dram
        if program is not self._program:
            for name, table in program.tables.items():
                record[name] = table
            record["order_count"] = len(program.tables["order"])
            self._program = program
        self._run(record.address)


class FunctionalProgram:
    """A program analysed for one DRAM limit and one set of base registers.

    `result` is the verdict; `tables` are what an `Engine` reads. An `order` is that of the effects
    of instructions, by default the one of `vta_sim.functional.run`.
    """

    def __init__(
        self,
        config: VtaConfig,
        words: IntArray,
        dram: IntArray,
        *,
        bases: Mapping[MemType, int] | None = None,
        dram_limit: int | None = None,
        order: IntArray | None = None,
        result: RunResult | None = None,
    ) -> None:
        """`order` and `result` come together, from a timing of the program."""
        limit = check_memory(dram, dram_limit, bases or {})
        self.config = config
        self.limit = limit
        self._library = _analysis(cpu.chosen().isa)
        table = decode(words, config, bases or {})
        refuse_volatile(table, config)
        if (order is None) != (result is None):
            raise ProgramError(
                "an order of effects and a result come from one timing; give both or none of them"
            )
        if order is None or result is None:
            order, ending = self._flow(table, dram)
            result = result_of(config, words, table, ending, limit)
        self.result = result
        self.tables = {"insns": table, "order": order, **self._plan(table, order, dram)}
        loads = (table["opcode"] == Opcode.LOAD) & (table["memory_type"] == MemType.UOP)
        self._loads = np.ascontiguousarray(order[loads[order]])
        self._uop_loads = (self._loads.ctypes.data, len(self._loads))
        self._insns_address = table.ctypes.data

    def is_current(self, dram: IntArray) -> bool:
        """Whether DRAM has the micro-ops that the analysis saw, and ends no earlier."""
        if dram.size < self.limit:
            return False
        addresses = (self._insns_address, dram.ctypes.data, *self._uop_loads)
        return bool(self._library["uops_unchanged"](*addresses, self._seen.ctypes.data))

    def _flow(self, table: IntArray, dram: IntArray) -> tuple[IntArray, Ending]:
        machine = machine_of(self.config, table, dram, self.limit)
        flow = flows.flow_of(self.config, table)
        self._library["run_flow"](machine.address, flow.address)
        order = flow.kept("executed")[: int(flow["executed_count"])]
        return np.ascontiguousarray(order), _ending(flow)

    def _plan(self, table: IntArray, order: IntArray, dram: IntArray) -> dict[str, IntArray]:
        config = self.config
        machine = machine_of(config, table, dram, self.limit)
        planner = Record(plans.Planner)
        size = 1 << max(4, (2 * len(table)).bit_length())
        planner["buckets"] = np.full(size, plans.NO_PATTERN, np.int32)
        planner["bucket_mask"] = size - 1
        planner["patterns"] = np.zeros(len(table), StructType(plans.Pattern).dtype)
        bad = self._library["make_plan"](
            machine.address, planner.address, order.ctypes.data, len(order)
        )
        try:
            if bad != plans.ALL_FINE:
                raise ProgramError(
                    f"instruction {bad} becomes illegal when instructions take effect in the order "
                    f"in which they retire; a hint `overlap` is false, see vta check"
                )
            patterns = planner.kept("patterns")[: int(planner["pattern_count"])]
            pool = planner.copy_of("pool", int(planner["pool_count"]), np.dtype(np.uint32))
            self._seen = planner.copy_of("seen", int(planner["seen_count"]), np.dtype(np.uint8))
        finally:
            self._library["free_plan"](planner.address)
        return _patterns(config, table, patterns, pool)


def _ending(flow: Record) -> Ending:
    faults = flow.kept("faults")
    stages = []
    for stage, order in zip(flow["stages"], flow.others("orders"), strict=True):
        queue = order[int(stage["issued"]) : int(stage["dispatched"])].tolist()
        current = None if stage["current"] == flows.NONE else int(stage["current"])
        stages.append(StageEnd(queue, current, bool(stage["stopped"])))
    return Ending(
        faults={int(i): FaultClass(int(faults[i])) for i in np.flatnonzero(faults)},
        fetched=int(flow["fetched"]),
        finished=bool(flow["finished"]),
        retired=flow.kept("retired") != 0,
        tokens=[int(count) for count in flow["tokens"]],
        stages=stages,
    )


def _patterns(
    config: VtaConfig, table: IntArray, patterns: IntArray, pool: IntArray
) -> dict[str, IntArray]:
    """Micro-ops of all patterns, decoded, and the plans of GEMM."""
    decoded = unpack_uops(pool, config)
    uops = np.zeros(2 * len(pool), np.int32)
    rows = np.zeros(len(patterns), StructType(Uops).dtype)
    gemms = GemmTables(config.batch)
    made = np.zeros(len(patterns), StructType(GemmPlan).dtype)
    for number, pattern in enumerate(patterns):
        first, count = int(pattern["uops"]), int(pattern["count"])
        rows[number] = (2 * first, count)
        own = {name: values[first : first + count] for name, values in decoded.items()}
        uops[2 * first : 2 * first + count] = own["dst"]
        uops[2 * first + count : 2 * (first + count)] = own["src"]
        insn = table[int(pattern["insn"])]
        if insn["opcode"] == Opcode.GEMM and not insn["reset"]:
            made[number] = gemms.add(insn, own)
    return {"uops": uops, "patterns": rows, "plans": made, **gemms.finished()}
