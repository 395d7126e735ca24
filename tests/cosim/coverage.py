"""What runs on the machine have exercised, as a table of bins that should all be hit.

Bins of the program come from its instructions, bins of the machine from the counters and the
timeline of the cycle simulator (which equal those of the RTL, or the comparison fails).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.events import Timeline
from vta_hw.spec.isa import (
    Alu,
    AluOp,
    FaultClass,
    Finish,
    Gemm,
    Instruction,
    Load,
    Stage,
    Store,
    TokenQueue,
)
from vta_hw.spec.result import RunResult

FORWARDING = range(1, 6)
_FAST = (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)
_WINDOW = 4096


def form(insn: Instruction) -> str:
    """The kind of instruction that bins distinguish."""
    match insn:
        case Load() | Store() if not insn.x_size:
            return f"{isa.stage_of(insn).name.lower()} no-op"
        case Load():
            return f"load {MemType(insn.memory_type).name.lower()}"
        case Store():
            return "store"
        case Gemm():
            return "gemm reset" if insn.reset else "gemm"
        case Alu():
            operand = "imm" if insn.use_imm else "reg"
            return f"alu {AluOp(insn.alu_opcode).name.lower()} {operand}"
    return "finish"


def _token_form(name: str) -> str:
    """The kind of instruction that bins of tokens distinguish."""
    # The operation of an ALU instruction does not meet tokens: they are popped at its issue and
    # pushed at its retirement, which wait for the last slot whatever is computed. What an
    # instruction asks slots for does differ between an immediate, a register and REQ.
    if name.startswith("alu"):
        operation, operand = name.split()[1:]
        return "alu req" if operation == "req" else f"alu {operand}"
    return name


_STAGES = {
    "load wgt": Stage.LOAD,
    "load inp": Stage.LOAD,
    "load no-op": Stage.LOAD,
    "store": Stage.STORE,
    "store no-op": Stage.STORE,
}
_TOKEN_FORMS = (
    *_STAGES,
    "load uop",
    "load acc",
    "load acc_8bit",
    "gemm",
    "gemm reset",
    "alu imm",
    "alu reg",
    "alu req",
    "finish",
    "compute no-op",
)


def _token_bins() -> Iterator[str]:
    for name in _TOKEN_FORMS:
        flags = isa.TOKEN_FLAGS[_STAGES.get(name, Stage.COMPUTE)]
        if name == "finish":
            flags = {flag: queue for flag, queue in flags.items() if flag.startswith("pop")}
        for values in product((False, True), repeat=len(flags)):
            chosen = [flag for flag, value in zip(flags, values, strict=True) if value]
            yield _token_bin(name, chosen)


def _token_bin(name: str, flags: Iterable[str]) -> str:
    return f"tokens: {name}: {' '.join(sorted(flags)) or 'none'}"


def _operation_bins() -> Iterator[str]:
    for op in AluOp:
        yield f"form: alu {op.name.lower()} reg"
        if op is not AluOp.REQ:
            yield f"form: alu {op.name.lower()} imm"


_LOADS = ("load uop", "load wgt", "load inp", "load acc", "load acc_8bit")
_UNITS = ("gemm", "alu", "dma")
PAIRINGS = tuple((a, b) for a in _UNITS for b in _UNITS if a != b)

BINS = (
    *_token_bins(),
    *_operation_bins(),
    *(f"pads: {name}: {what}" for name in _LOADS for what in ("zero", "only")),
    *(f"pads: {name}: least" for name in _LOADS[1:]),
    *(f"rows: {name}: {what}" for name in _LOADS for what in ("strided", "repeated", "one")),
    *(f"rows: load {name}: replicated" for name in ("acc", "acc_8bit")),
    *(f"rounding: {mode.name.lower()}" for mode in isa.Rounding),
    *(f"fault: {fault.text}" for fault in FaultClass if fault is not FaultClass.BUS),
    *(f"verdict: {name}" for name in ("ok", "deadlock", "finish_not_drained", "no_finish")),
    *(f"crosses 4 KiB: {name}" for name in (*_LOADS, "store")),
    *(f"forwarded: {unit}: {d}" for unit in ("gemm", "alu") for d in FORWARDING),
    *(f"source: {what}" for what in ("held", "changed", "overwritten", "req held", "req changed")),
    "queue full",
    *(f"token counter full: {queue.name.lower()}" for queue in TokenQueue),
    *(f"slot refused: {unit}" for unit in _UNITS),
    *(f"overlap: {younger} beside {older}" for older, younger in PAIRINGS),
)


class Coverage:
    """Counts of bins over many runs."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()

    def add(
        self,
        config: VtaConfig,
        instructions: Sequence[Instruction],
        uops: Sequence[np.ndarray | None],
        result: RunResult,
    ) -> None:
        """Take in one run; `uops` are the micro-ops of GEMM and ALU instructions as executed."""
        name = result.fault.kind if result.fault else "ok"
        group = "fault" if result.status.value == "fault" else "verdict"
        self.hits[f"{group}: {name}"] += 1
        assert result.timeline is not None
        for index, insn in enumerate(instructions):
            if result.timeline.retire[index] >= 0:
                self.hits.update(_instruction_bins(insn, config))
                words = uops[index]
                if words is not None:
                    self.hits.update(_loop_bins(insn, words, config))
        self.hits.update(_counter_bins(result))
        self.hits.update(_full_bins(instructions, result.timeline, result))
        self.hits.update(_overlap_bins(instructions, result.timeline))

    def empty(self) -> list[str]:
        """Bins that nothing has hit."""
        return [name for name in BINS if not self.hits[name]]

    def table(self) -> str:
        """All bins with their counts."""
        width = max(map(len, BINS))
        return "\n".join(f"{name:{width}}  {self.hits[name]}" for name in BINS)


def _instruction_bins(insn: Instruction, config: VtaConfig) -> Iterator[str]:
    name = form(insn)
    flags = [flag for flag in isa.TOKEN_FLAGS[isa.stage_of(insn)] if getattr(insn, flag)]
    yield _token_bin(_token_form(name), flags)
    yield f"form: {name}"
    match insn:
        case Load() if insn.x_size:
            yield from _load_bins(insn, name)
            yield from _crossing(insn, name, config)
        case Store() if insn.x_size:
            yield from _crossing(insn, name, config)
        case Alu(alu_opcode=AluOp.REQ):
            yield f"rounding: {isa.Rounding(insn.imm >> 8 & 3).name.lower()}"


def _load_bins(insn: Load, name: str) -> Iterator[str]:
    pads = insn.y_pad_0 or insn.y_pad_1 or insn.x_pad_0 or insn.x_pad_1
    if pads:
        yield f"pads: {name}: {'least' if insn.pad_min else 'zero'}"
        if not insn.y_size:
            yield f"pads: {name}: only"
    if insn.y_size > 1:
        yield f"rows: {name}: {'strided' if insn.x_stride else 'repeated'}"
        if not pads and insn.x_size == 1 and not insn.x_stride:
            yield f"rows: {name}: replicated"
    elif insn.y_size:
        yield f"rows: {name}: one"


def _crossing(insn: Load | Store, name: str, config: VtaConfig) -> Iterator[str]:
    size = config.elem_bytes(MemType(insn.memory_type))
    for row in range(insn.y_size):
        begin = (insn.dram_base + row * insn.x_stride) * size
        if begin // _WINDOW != (begin + insn.x_size * size - 1) // _WINDOW:
            yield f"crosses 4 KiB: {name}"
            return


def _loop_bins(insn: Instruction, words: np.ndarray, config: VtaConfig) -> Iterator[str]:
    assert isinstance(insn, Gemm | Alu)
    dst, src = _indices(insn, words, config, "dst"), _indices(insn, words, config, "src")
    if isinstance(insn, Alu):
        yield from _source_bins(insn, dst, src)
        if insn.alu_opcode not in _FAST or not insn.use_imm:
            return
    elif insn.reset:
        # It writes zeros: nothing that it computes with could be forwarded.
        return
    unit = "gemm" if isinstance(insn, Gemm) else "alu"
    last: dict[int, int] = {}
    for step, index in enumerate(dst):
        distance = step - last.get(index, -100)
        if distance in FORWARDING:
            yield f"forwarded: {unit}: {distance}"
        last[index] = step


def _source_bins(insn: Alu, dst: Sequence[int], src: Sequence[int]) -> Iterator[str]:
    if insn.use_imm:
        return
    prefix = "req " if insn.alu_opcode == AluOp.REQ else ""
    for step in range(1, len(dst)):
        if src[step] != src[step - 1]:
            yield f"source: {prefix}changed"
        elif dst[step - 1] == src[step] and not prefix:
            yield "source: overwritten"
        else:
            yield f"source: {prefix}held"


def _indices(insn: Gemm | Alu, words: np.ndarray, config: VtaConfig, name: str) -> list[int]:
    if not len(words):
        return []
    base = isa.unpack_uops(words, config)[name]
    outer = np.arange(insn.iter_out) * getattr(insn, f"{name}_factor_out")
    inner = np.arange(insn.iter_in) * getattr(insn, f"{name}_factor_in")
    sums = outer[:, None, None] + inner[None, :, None] + base[None, None, :]
    found: list[int] = sums.ravel().tolist()
    return found


def _counter_bins(result: RunResult) -> Iterator[str]:
    counters = result.counters
    if counters["fetch_queue_full_cycles"]:
        yield "queue full"
    for unit in _UNITS:
        if counters[f"{unit}_port_cycles"]:
            yield f"slot refused: {unit}"


def _full_bins(
    instructions: Sequence[Instruction], line: Timeline, result: RunResult
) -> Iterator[str]:
    """Queues whose full counter an instruction has waited for with its retirement."""
    for queue in TokenQueue:
        pushers = [i for i, insn in enumerate(instructions) if queue in isa.pushes(insn)]
        poppers = [i for i, insn in enumerate(instructions) if queue in isa.pops(insn)]
        pushed, popped = np.sort(line.retire[pushers]), np.sort(line.issue[poppers])
        pushed, popped = pushed[pushed >= 0], popped[popped >= 0]
        before = pushed - 1
        tokens = np.searchsorted(pushed, before) - np.searchsorted(popped, before)
        stages = {isa.stage_of(instructions[i]).name.lower() for i in pushers}
        waited = any(result.counters[f"{stage}_token_full_cycles"] for stage in stages)
        if waited and (tokens == isa.TOKEN_MAX).any():
            yield f"token counter full: {queue.name.lower()}"


def _unit(insn: Instruction) -> str | None:
    match insn:
        case Gemm():
            return "gemm"
        case Alu():
            return "alu"
        case Load():
            return "dma"
    return None


def _overlap_bins(instructions: Sequence[Instruction], timeline: Timeline) -> Iterator[str]:
    """Pairs of compute instructions of different units that were in flight together."""
    stage = [
        index
        for index, insn in enumerate(instructions)
        if isa.stage_of(insn) is Stage.COMPUTE
        and not isinstance(insn, Finish)
        and timeline.issue[index] >= 0
    ]
    for place, younger in enumerate(stage):
        for older in stage[max(0, place - 2) : place]:
            retired = timeline.retire[older]
            if retired < 0 or timeline.issue[younger] <= retired:
                a, b = _unit(instructions[older]), _unit(instructions[younger])
                if a != b and None not in (a, b):
                    yield f"overlap: {b} beside {a}"
