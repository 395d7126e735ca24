"""The functional simulator: exact results of a program, without a clock.

Stages run decoupled, ordered by nothing but tokens, queues and the order of dispatch. A program
without hazards gives the same memory in every interleaving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.dataflow import Dataflow
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.isa import Instruction, Stage
from vta_hw.spec.result import Fault, RunResult, Status
from vta_hw.spec.semantics import IntArray, Scratchpads, execute
from vta_sim.checks import check_memory
from vta_sim.counters import Counters
from vta_sim.memory import InitTracker
from vta_sim.report import describe_end, describe_fault


def run(
    config: VtaConfig,
    stream: bytes | Sequence[Instruction],
    dram: IntArray,
    *,
    bases: Mapping[MemType, int] | None = None,
    dram_limit: int | None = None,
    interleave: np.random.Generator | None = None,
    report_uninitialised: bool = False,
    pads: Scratchpads | None = None,
) -> RunResult:
    """Run a program until nothing moves any more, and say how it ended.

    Parameters
    ----------
    stream
        Encoded instructions, or instructions as `isa.decode` gives them.
    dram
        All of DRAM as a contiguous uint8 array; changed in place.
    bases
        Base registers in bytes (absent ones are 0).
    dram_limit
        End of legal addresses in bytes; the length of `dram` by default.
    interleave
        Draws one of the legal orders of events; without it the order is fixed.
    report_uninitialised
        Add a note for each instruction and memory that reads what this run has not written.
    pads
        On-chip memories to start from and to change in place; fresh ones are zero.
    """
    limit = check_memory(dram, dram_limit, bases or {})
    if pads is None:
        pads = Scratchpads(config)
    elif pads.config.program_hash != config.program_hash:
        raise ProgramError(
            f"the scratchpads are those of config {pads.config.name!r}, which differs from "
            f"{config.name!r}; make them for the config that runs"
        )
    instructions = isa.decode_all(stream, config) if isinstance(stream, bytes) else stream
    machine = _Machine(config, instructions, dram, dict(bases or {}), limit, pads)
    if report_uninitialised:
        machine.tracker = InitTracker(pads)
    if interleave is None:
        machine.run_in_turns()
    else:
        machine.run_at_random(interleave)
    return machine.result()


class _Machine:
    """One run: the control state, the memories, and what is recorded on the way."""

    def __init__(
        self,
        config: VtaConfig,
        instructions: Sequence[Instruction],
        dram: IntArray,
        bases: Mapping[MemType, int],
        limit: int,
        pads: Scratchpads,
    ) -> None:
        self.config = config
        self.instructions = instructions
        self.dram = dram
        self.bases = bases
        self.limit = limit
        self.pads = pads
        self.flow = Dataflow(instructions, config.cmd_queue_depth)
        self.counters = Counters(config)
        self.tracker: InitTracker | None = None

    def run_in_turns(self) -> None:
        """Fetch as far as possible, then let each stage go as far as it can; until none moves."""
        flow, moved = self.flow, True
        while moved:
            moved = False
            while flow.can_dispatch():
                flow.dispatch()
                moved = True
            for stage in Stage:
                while self._advance(stage):
                    moved = True

    def _advance(self, stage: Stage) -> bool:
        """Take the stage one instruction further, as far as it goes; whether it moved at all."""
        flow = self.flow
        issues = flow.can_issue(stage)
        if issues:
            flow.issue(stage)
            self._work(stage)
        retires = flow.can_retire(stage)
        if retires:
            self._retire(stage)
        return issues or retires

    def run_at_random(self, rng: np.random.Generator) -> None:
        """Take one possible step at a time, each kind of step with a random speed of its own."""
        flow = self.flow
        steps: list[tuple[Callable[[], bool], Callable[[], None]]] = [
            (flow.can_dispatch, flow.dispatch)
        ]
        for stage in Stage:
            steps += (
                (partial(flow.can_issue, stage), partial(flow.issue, stage)),
                (partial(flow.can_work, stage), partial(self._work, stage)),
                (partial(flow.can_retire, stage), partial(self._retire, stage)),
            )
        speeds = rng.random(len(steps)) ** 3 + 1e-3
        while (weights := speeds * [possible() for possible, _ in steps]).any():
            steps[int(rng.choice(len(steps), p=weights / weights.sum()))][1]()

    def _work(self, stage: Stage) -> None:
        index = self.flow.current(stage)
        insn = self.instructions[index]
        fault = execute(insn, self.pads, self.dram, self.config, self.bases, self.limit)
        if fault is not None:
            self.flow.fail(stage, fault)
            return
        self.flow.work(stage)
        if self.tracker:
            self.tracker.record(index, insn)

    def _retire(self, stage: Stage) -> None:
        self.counters.add(self.instructions[self.flow.current(stage)])
        self.flow.retire(stage)

    def result(self) -> RunResult:
        """The verdict and what was counted."""
        status, index = self.flow.verdict()
        return RunResult(
            status=status,
            fault=None if status is Status.OK else self._fault(status, index),
            instructions=self.flow.retired,
            macs=self.counters.macs,
            counters=self.counters.counts,
            notes=self.tracker.notes() if self.tracker else (),
        )

    def _fault(self, status: Status, index: int | None) -> Fault:
        if status is Status.FAULT:
            assert index is not None
            fault = self.flow.faults[index]
            text = describe_fault(index, self.instructions[index], fault, self.config, self.limit)
            return Fault(fault.text, index, text)
        return Fault(status.value, index, describe_end(status, index, self.flow.waits()))
