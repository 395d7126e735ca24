"""How a run of a compiled engine ended, as a `RunResult`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.dataflow import Dataflow, StageState
from vta_hw.spec.isa import FaultClass, Opcode, Stage
from vta_hw.spec.registers import byte_counter
from vta_hw.spec.result import Fault, RunResult, Status
from vta_hw.spec.semantics import IntArray


@dataclass(frozen=True)
class StageEnd:
    """What a stage holds at the end: the queue, and the oldest that was issued and not retired."""

    queue: Sequence[int]
    current: int | None
    stopped: bool


@dataclass(frozen=True)
class Ending:
    """The control state in which a run ended; `retired` is true for each instruction that did."""

    faults: Mapping[int, FaultClass]
    fetched: int
    finished: bool
    retired: IntArray
    tokens: Sequence[int]
    stages: Sequence[StageEnd]


def stream_of(words: IntArray) -> bytes:
    """The instruction stream of 64-bit words."""
    return np.ascontiguousarray(words, "<u8").tobytes()


def result_of(
    config: VtaConfig, words: IntArray, table: IntArray, ending: Ending, limit: int
) -> RunResult:
    """The verdict of a run without a clock, and what its retired instructions moved."""
    all_retired = bool(ending.retired.all())
    counters = counts(config, table if all_retired else table[ending.retired])
    fault, status = None, Status.OK
    if not (ending.finished and all_retired and not ending.faults):
        status, fault = _verdict(config, words, ending, limit)
    return RunResult(
        status=status,
        fault=fault,
        instructions=int(ending.retired.sum()),
        macs=counters["gemm_ops"] * config.macs_per_cycle,
        counters=counters,
    )


def counts(config: VtaConfig, rows: IntArray) -> dict[str, int]:
    """The counters of `vta_sim.counters` over instructions of the table."""
    opcode, memory = rows["opcode"], rows["memory_type"]
    elements = rows["y_size"].astype(np.int64) * rows["x_size"]
    found = {}
    transfers = np.isin(opcode, (Opcode.LOAD, Opcode.STORE))
    for kind in (*(m for m in MemType if m is not MemType.OUT), MemType.OUT):
        moved = elements[transfers & (memory == kind)].sum()
        found[byte_counter(kind)] = int(moved) * config.elem_bytes(kind)
    rounds = np.maximum(rows["uop_end"].astype(np.int64) - rows["uop_bgn"], 0)
    steps = rounds * rows["iter_out"] * rows["iter_in"]
    resets = rows["reset"] != 0
    found["gemm_ops"] = int(steps[(opcode == Opcode.GEMM) & ~resets].sum())
    found["gemm_reset_ops"] = int(steps[(opcode == Opcode.GEMM) & resets].sum())
    found["alu_ops"] = int(steps[opcode == Opcode.ALU].sum())
    for stage in Stage:
        count = int((rows["stage"] == stage).sum())
        found[f"{stage.name.lower()}_instructions"] = count
    return found


def _verdict(
    config: VtaConfig, words: IntArray, ending: Ending, limit: int
) -> tuple[Status, Fault | None]:
    # Sentences are needed by few runs, and what writes them takes time to import.
    from vta_sim.report import describe_end, describe_fault

    instructions = isa.decode_all(stream_of(words), config)
    flow = Dataflow(instructions, config.cmd_queue_depth)
    flow.tokens = list(ending.tokens)
    flow.fetched, flow.finished = ending.fetched, ending.finished
    flow.faults = dict(ending.faults)
    flow.retired = int(ending.retired.sum())
    flow.stages = [
        StageState(deque(s.queue), s.current, worked=s.current is not None, stopped=s.stopped)
        for s in ending.stages
    ]
    status, index = flow.verdict()
    if status is Status.OK:
        return status, None
    if status is Status.FAULT:
        assert index is not None
        kind = flow.faults[index]
        text = describe_fault(index, instructions[index], kind, config, limit)
        return status, Fault(kind.text, index, text)
    return status, Fault(status.value, index, describe_end(status, index, flow.waits()))
