"""What the registers of a core say about a run, for every device that has such registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtime.device import DeviceError
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.dataflow import Dataflow
from vta_hw.spec.events import Timeline
from vta_hw.spec.isa import FaultClass, Instruction, Stage
from vta_hw.spec.registers import NO_INDEX, Register, Verdict
from vta_hw.spec.result import Fault, RunResult, Status
from vta_hw.spec.semantics import ADDRESS_LIMIT
from vta_sim.report import describe_end, describe_fault

BASE_REGISTERS = (
    Register.UOP_BASE,
    Register.INP_BASE,
    Register.WGT_BASE,
    Register.ACC_BASE,
    Register.OUT_BASE,
)
"""Registers that every DRAM address of a LOAD or STORE is relative to."""


class CoreError(DeviceError):
    """Registers that contradict each other, or name what the kit does not know."""


def limit_register(end: int, config: VtaConfig) -> int:
    """The value of DRAM_LIMIT for legal addresses below `end`."""
    if end:
        return end % ADDRESS_LIMIT
    # 0 stands for 2^32; nothing fits into one byte either, unless elements are as short.
    if min(config.elem_bytes(memory) for memory in MemType) == 1:
        raise DeviceError(
            "the core cannot be told that DRAM has no bytes at all; give it at least one"
        )
    return 1


def result_of(
    verdict_word: int,
    verdict_index: int,
    counters: Mapping[str, int],
    config: VtaConfig,
    instructions: Callable[[], Sequence[Instruction]],
    limit: int,
    timeline: Timeline | None = None,
) -> RunResult:
    """The result that VERDICT, VERDICT_INDEX and all counters stand for after a run.

    `limit` is the number of bytes from the base registers on that were legal. `instructions` are
    the program's; they are asked for only where the verdict is to be explained.
    """
    try:
        verdict = Verdict(verdict_word)
    except ValueError as error:
        raise CoreError(
            f"the core ended with verdict {verdict_word}, which does not exist; see whether its "
            f"registers can be read reliably"
        ) from error
    index = None if verdict_index == NO_INDEX else verdict_index
    return RunResult(
        status=verdict.status,
        fault=_fault(verdict, index, config, instructions, limit),
        instructions=sum(counters[f"{stage.name.lower()}_instructions"] for stage in Stage),
        macs=counters["gemm_ops"] * config.macs_per_cycle,
        cycles=counters["cycles"],
        counters=counters,
        timeline=timeline,
    )


def _fault(
    verdict: Verdict,
    index: int | None,
    config: VtaConfig,
    instructions: Callable[[], Sequence[Instruction]],
    limit: int,
) -> Fault | None:
    status = verdict.status
    if status is Status.OK:
        return None
    if verdict is Verdict.BAD_LAUNCH or (status is Status.FAULT and index is None):
        raise CoreError(f"the core ended with {verdict.name.lower()} for a sound launch")
    listing = instructions()
    if index is not None and index >= len(listing):
        raise CoreError(
            f"the core names instruction {index} of {len(listing)} in its verdict "
            f"{verdict.name.lower()}; see whether its registers can be read reliably"
        )
    if status is Status.FAULT:
        assert index is not None
        fault = FaultClass(verdict)
        text = describe_fault(index, listing[index], fault, config, limit)
        return Fault(fault.text, index, text)
    # No instruction was bad, so that the tokens alone tell what waits for what.
    flow = Dataflow(listing, config.cmd_queue_depth)
    flow.run_alone()
    return Fault(status.value, index, describe_end(status, index, flow.waits()))
