"""What a program's tokens amount to: how a run ends, what is left over, what the end awaits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.asm import format_insn
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.dataflow import Dataflow
from vta_hw.spec.footprint import IntArray
from vta_hw.spec.isa import Finish, Instruction, Load, Stage, Store, TokenQueue, Unknown
from vta_hw.spec.result import Fault, Status
from vta_sim.hazard_order import Event
from vta_sim.hazard_trace import Dram, Trace
from vta_sim.report import describe_end

UNKNOWN_MICRO_OPS = "unknown_micro_ops"
"""Kind of the finding that a GEMM or ALU instruction depends on what is in DRAM at run time."""

_KNOWN = -1


@dataclass(frozen=True)
class Subject:
    """A program with addresses, and how to speak of it: by layers and symbols, if `named`."""

    config: VtaConfig
    instructions: Sequence[Instruction]
    dram: Dram
    sources: Mapping[int, str] = field(default_factory=dict)
    named: bool = False


def run_tokens(subject: Subject) -> tuple[Status, Fault | None, tuple[str, ...]]:
    """How the run of the tokens alone ends, and what they leave behind.

    Whatever follows an unknown opcode is never fetched; how the rest would end is not asked then.
    """
    instructions = subject.instructions
    if any(isinstance(insn, Unknown) for insn in instructions):
        return Status.OK, None, ()
    flow = Dataflow(instructions, subject.config.cmd_queue_depth)
    flow.run_alone()
    status, index = flow.verdict()
    if status is not Status.OK:
        return status, Fault(status.value, index, describe_end(status, index, flow.waits())), ()
    return status, None, tuple(_left_over(flow, instructions))


def _left_over(flow: Dataflow, instructions: Sequence[Instruction]) -> list[str]:
    notes = []
    for queue in TokenQueue:
        count = flow.tokens[queue]
        if count:
            pushers = [i for i, insn in enumerate(instructions) if queue in isa.pushes(insn)]
            notes.append(
                f"{count} {'token' if count == 1 else 'tokens'} {queue.name.lower()} never popped, "
                f"pushed by instruction {pushers[-count]}{' and later ones' if count > 1 else ''}"
            )
    return notes


def not_awaited(traced: Trace, timeline: Sequence[Event], subject: Subject) -> list[str]:
    """Notes on transfers that FINISH does not wait for."""
    notes = []
    for step, _, clock in timeline:
        if not isinstance(subject.instructions[step.index], Finish):
            continue
        for stage in (Stage.LOAD, Stage.STORE):
            others = [other for other in traced.steps if other.stage is stage]
            late = [o for o in others[clock[stage] :] if o.reads or o.writes or o.rows]
            if late:
                text = format_insn(subject.instructions[late[0].index])
                notes.append(
                    f"FINISH (instruction {step.index}) does not wait for instruction "
                    f"{late[0].index} ({text}); the run ends when that is complete too"
                )
    return notes


def unknown_micro_ops(traced: Trace, timeline: Sequence[Event], subject: Subject) -> list[Fault]:
    """A fault for each LOAD UOP of bytes that are not known before a run, if they are executed.

    Not known is what the program does not hold, and what a STORE has written in some run. A STORE
    that comes later in the timeline is ordered after the LOAD, which then reads what is given, or
    it is not, which is a race and reported as one.
    """
    stored = np.zeros(traced.sizes["dram"], bool)
    origin = np.full(traced.sizes["uop"], _KNOWN)
    faults: dict[int, Fault] = {}
    for step, _, _ in timeline:
        insn = subject.instructions[step.index]
        if isinstance(insn, Store):
            for touch in step.writes:
                stored[touch.at] = True
        for touch in step.writes:
            if touch.memory == "uop":
                assert isinstance(insn, Load)
                changed = any(stored[read.at].any() for read in step.reads)
                known = step.rows is None or subject.dram.knows(step.rows, step.base)
                origin[touch.at] = _KNOWN
                if changed or not known:
                    origin[touch.at][_data(insn)] = step.index
        for touch in step.reads:
            if touch.memory == "uop":
                for load in set(origin[touch.at].tolist()) - {_KNOWN, *faults}:
                    faults[load] = _unknown(load, step.index, subject)
    return list(faults.values())


def _data(insn: Load) -> IntArray:
    """Which of the elements that a LOAD writes are no padding."""
    data = np.zeros(insn.sram_shape, bool)
    data[insn.y_pad_0 :, insn.x_pad_0 :][: insn.y_size, : insn.x_size] = True
    return data.reshape(-1)


def _unknown(load: int, user: int, subject: Subject) -> Fault:
    text = (
        f"instruction {load} ({format_insn(subject.instructions[load])}) loads micro-ops from "
        f"bytes that are not known before the program runs, so what instruction {user} does with "
        f"them cannot be told; make them constants"
    )
    return Fault(UNKNOWN_MICRO_OPS, load, text)
