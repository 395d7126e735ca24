"""The instruction at the head of a stage's queue: decoded, checked, and ready at the right time."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.signatures import (
    FAULT_BITS,
    INSTRUCTION,
    LOAD_JOB,
    REQ_IMMEDIATE,
    STORE_JOB,
    alu_job,
    gemm_job,
    instruction_fields,
)
from vta_hw.rtl.tokens import QUEUES
from vta_hw.rtl.transfer import ELEMENTS_BITS, LIMIT_BITS, Transfer, base_ports
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import REQUANT_OPS, TOKEN_FLAGS, AluOp, FaultClass, Opcode, Rounding, Stage

STAGE_UNITS: Mapping[Stage, tuple[str, ...]] = {
    Stage.LOAD: ("inp", "wgt"),
    Stage.COMPUTE: ("gemm", "alu", "uop", "acc"),
    Stage.STORE: ("store",),
}
"""Those that a stage hands its instructions to, in the order of the bits that name them."""

STEPS = 3
"""Cycles of decoding and checking: from the first in which the queue shows an instruction."""


def job_layouts(config: VtaConfig, stage: Stage) -> dict[str, data.Layout]:
    """The layout of the job of each unit of `stage`."""
    layouts = {"gemm": gemm_job(config), "alu": alu_job(config), "store": STORE_JOB}
    return {unit: layouts.get(unit, LOAD_JOB) for unit in STAGE_UNITS[stage]}


def head_layout(stage: Stage) -> data.StructLayout:
    """What a stage must know of an instruction, its job apart.

    `pops` and `pushes` have a bit per ``TokenQueue``, `unit` one per unit of STAGE_UNITS (none for
    FINISH). `work` says that the unit gets a job. `bad` is the class of the fault that the checks
    found, or 0. `elements` of `memory` move from or to DRAM (LOAD and STORE, else 0).
    """
    return data.StructLayout(
        {
            "index": INSTRUCTION["index"].shape,
            "pops": QUEUES,
            "pushes": QUEUES,
            "unit": len(STAGE_UNITS[stage]),
            "work": 1,
            "bad": FAULT_BITS,
            "finish": 1,
            "overlap": 1,
            "reset": 1,
            "memory": range(max(MemType) + 1),
            "elements": ELEMENTS_BITS,
        }
    )


class Head(wiring.Component):
    """Decodes and checks the oldest instruction of a stage's queue.

    Members
    -------
    valid, instruction, issue
        The queue's side, see `StageQueue`; `issue` is high when it issues.
    base_{memory}, dram_limit
        See `Transfer`.
    ready
        The instruction may issue as far as decoding goes (rule S1): STEPS cycles after the first
        with `valid`. With `ready`, and as long as it is high, the following hold.
    info
        See `head_layout`.
    job_{unit}
        What the unit is handed, if `info.work`.
    """

    def __init__(self, config: VtaConfig, stage: Stage) -> None:
        self._config = config
        self._stage = stage
        self._instruction = Signal(INSTRUCTION)
        jobs = job_layouts(config, stage)
        super().__init__(
            {
                "valid": In(1),
                "instruction": In(INSTRUCTION),
                "issue": In(1),
                "dram_limit": In(LIMIT_BITS),
                **{name: In(width) for name, width in base_ports(stage).items()},
                "ready": Out(1),
                "info": Out(head_layout(stage)),
                **{f"job_{unit}": Out(layout) for unit, layout in jobs.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The queue keeps the word until it issues; here it is decoded from a register.

        The queue's block RAM is slow, and whether it issues depends on what is decoded. Both the
        register and what is decoded of it are up to date long before STEPS cycles have passed.
        """
        m = Module()
        m.d.sync += self._instruction.eq(self.instruction)
        done = Signal(STEPS)
        m.d.sync += done.eq(Cat(self.valid, done[:-1]) & (~self.issue).replicate(STEPS))
        m.submodules.transfer = transfer = Transfer(self._config, self._stage)
        m.d.comb += [
            self.ready.eq(done[-1]),
            transfer.word.eq(self.instruction.word),
            transfer.held.eq(self._instruction.word),
            transfer.step.eq(Cat(self.valid, done[:-1]) & ~done),
            transfer.dram_limit.eq(self.dram_limit),
            self.info.index.eq(self._instruction.index),
        ]
        for name in base_ports(self._stage):
            m.d.comb += getattr(transfer, name).eq(getattr(self, name))
        self._connect_tokens(m)
        if self._stage is Stage.COMPUTE:
            self._connect_compute(m, transfer)
        else:
            self._connect_transfer(m, transfer)
        return m

    def _fields(self, form: type[isa.Instruction]) -> data.View:
        return instruction_fields(form, self._config)(self._instruction.word)

    def _connect_tokens(self, m: Module) -> None:
        fields = self._fields(isa.Finish)
        for flag, queue in TOKEN_FLAGS[self._stage].items():
            bits = self.info.pops if flag.startswith("pop") else self.info.pushes
            m.d.comb += bits[queue].eq(fields[flag])

    def _connect_transfer(self, m: Module, transfer: Transfer) -> None:
        memory = self._fields(isa.Load).memory_type
        m.d.comb += [
            self.info.work.eq(transfer.work),
            self.info.bad.eq(transfer.bad),
            self.info.memory.eq(memory),
            self.info.elements.eq(transfer.elements),
        ]
        if self._stage is Stage.STORE:
            m.d.comb += [self.info.unit.eq(1), self.job_store.eq(transfer.job)]
            return
        m.d.sync += self.info.unit.eq(Cat(memory == MemType.INP, memory == MemType.WGT))
        for unit in STAGE_UNITS[self._stage]:
            m.d.comb += getattr(self, f"job_{unit}").eq(transfer.job)

    def _connect_compute(self, m: Module, transfer: Transfer) -> None:
        load, gemm, alu = (self._fields(form) for form in (isa.Load, isa.Gemm, isa.Alu))
        opcode = load.opcode
        is_load, is_gemm, is_alu = (
            opcode == code for code in (Opcode.LOAD, Opcode.GEMM, Opcode.ALU)
        )
        is_uop = load.memory_type == MemType.UOP
        m.d.sync += self.info.unit.eq(
            Cat(is_gemm, is_alu, is_load & is_uop, is_load & ~is_uop)
        )  # fmt: skip
        m.d.comb += [
            self.info.finish.eq(opcode == Opcode.FINISH),
            self.info.reset.eq(gemm.reset),
            self.info.memory.eq(load.memory_type),
        ]
        if self._config.has("overlap"):
            m.d.sync += self.info.overlap.eq(
                (is_load & load.overlap) | (is_gemm & gemm.overlap) | (is_alu & alu.overlap)
            )
        # Not in branches: Yosys writes every part of a signal that has a branch as a process of its
        # own, and simulators never run one that only assigns a constant.
        bad_operation, loads, computes = Signal(), Signal(), Signal()
        m.d.sync += [
            bad_operation.eq(is_alu & self._bad_operation(alu)),
            loads.eq(is_load),
            computes.eq(is_gemm | (is_alu & ~self._bad_operation(alu))),
        ]
        m.d.comb += [
            self.info.work.eq((loads & transfer.work) | computes),
            self.info.bad.eq(
                Mux(loads, transfer.bad, Mux(bad_operation, FaultClass.BAD_ALU_OPCODE, 0))
            ),
            self.info.elements.eq(Mux(loads, transfer.elements, 0)),
        ]
        for job, fields in ((self.job_gemm, gemm), (self.job_alu, alu)):
            m.d.comb += [job[name].eq(fields[name]) for name, _ in job.shape()]
        m.d.comb += [self.job_uop.eq(transfer.job), self.job_acc.eq(transfer.job)]

    def _bad_operation(self, alu: data.View) -> Value:
        if not self._config.has("requant"):
            return Cat(alu.alu_opcode == operation for operation in REQUANT_OPS).any()
        parameters = REQ_IMMEDIATE(alu.imm.as_unsigned())
        modes = Cat(parameters.mode == mode for mode in Rounding)
        wrong = alu.use_imm | (parameters.sub_operation != Const(0)) | ~modes.any()
        return (alu.alu_opcode == AluOp.REQ) & wrong
