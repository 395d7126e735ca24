"""What each stage does with an instruction that issues: rules S3, S4, L1, G1, G3, G4 and T1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, FaultClass, Finish, Gemm, Instruction, Load, Store
from vta_hw.spec.semantics import Scratchpads, address, check
from vta_sim.cycle.acc import AccPort
from vta_sim.cycle.bursts import transfer_bursts
from vta_sim.cycle.loader import Job, Loader
from vta_sim.cycle.loops import HazardWork, Indices, PlainWork, Work
from vta_sim.cycle.spans import Spans
from vta_sim.cycle.stages import Flight, Stage
from vta_sim.cycle.store import StoreEngine


@dataclass(frozen=True)
class Memories:
    """The memories of one run and what limits their use."""

    config: VtaConfig
    pads: Scratchpads
    bases: Mapping[MemType, int]
    limit: int

    def fault(self, insn: Instruction) -> FaultClass | None:
        """What the checks find in the present state."""
        return check(insn, self.pads, self.config, self.limit, self.bases)

    def address(self, insn: Load | Store) -> int:
        """Byte address of the first element of a transfer."""
        return address(insn, MemType(insn.memory_type), self.pads, self.bases)


def _has_work(insn: Load | Store) -> bool:
    """Rule S4, for a transfer that is good."""
    rows = insn.sram_shape[0] if isinstance(insn, Load) else insn.y_size
    return bool(insn.x_size and rows)


class LoadEngine:
    """The load stage: loaders of INP and WGT."""

    def __init__(self, memories: Memories, stage: Stage, loaders: Mapping[int, Loader]) -> None:
        self._memories = memories
        self._stage = stage
        self._loaders = loaders

    def has_room(self, index: int, n: int) -> bool:
        """Rule L1."""
        if len(self._stage.in_flight) >= machine.STAGE_SLOTS:
            return False
        insn = self._stage.instructions[index]
        assert isinstance(insn, Load)
        # S3: a bad instruction counts as one without work.
        if self._memories.fault(insn) or not _has_work(insn):
            return True
        return self._loaders[insn.memory_type].vacant(n)

    def start(self, flight: Flight, n: int) -> None:
        """Hand it to its loader."""
        insn = flight.insn
        assert isinstance(insn, Load)
        if fault := self._memories.fault(insn):
            flight.fail(n, fault)
        elif not _has_work(insn):
            flight.finish(n)
        else:
            flight.work = True
            address = self._memories.address(insn)
            job = Job.of(flight, insn, address, self._memories.config)
            self._loaders[insn.memory_type].offer(job)


class StoreStageEngine:
    """The store stage."""

    def __init__(self, memories: Memories, stage: Stage, engine: StoreEngine) -> None:
        self._memories = memories
        self._stage = stage
        self._engine = engine

    def has_room(self, index: int, n: int) -> bool:
        """Rule T1."""
        if len(self._stage.in_flight) >= machine.STAGE_SLOTS:
            return False
        insn = self._stage.instructions[index]
        assert isinstance(insn, Store)
        if self._memories.fault(insn) or not _has_work(insn):
            return True
        return self._engine.vacant(n)

    def start(self, flight: Flight, n: int) -> None:
        """Hand it to the store engine."""
        insn = flight.insn
        assert isinstance(insn, Store)
        if fault := self._memories.fault(insn):
            flight.fail(n, fault)
        elif not _has_work(insn):
            flight.finish(n)
        else:
            flight.work = True
            address = self._memories.address(insn)
            bursts = transfer_bursts(insn, address, insn.y_size, self._memories.config)
            self._engine.offer(flight, bursts)


class ComputeEngine:
    """The compute stage: GEMM, ALU and the loaders of UOP and ACC."""

    def __init__(
        self, memories: Memories, stage: Stage, loaders: Mapping[int, Loader], acc: AccPort
    ) -> None:
        self._memories = memories
        self._stage = stage
        self._loaders = loaders
        self._acc = acc
        self._overlaps = memories.config.has("overlap")
        self.granted = {Gemm: Spans(), Alu: Spans()}
        self.asked = {Gemm: Spans(), Alu: Spans()}

    def has_room(self, index: int, n: int) -> bool:
        """Rule G1."""
        in_flight = self._stage.in_flight
        if not in_flight:
            return True
        insn = self._stage.instructions[index]
        if not (self._overlaps and isinstance(insn, Gemm | Alu | Load) and insn.overlap):
            return False
        return not any(isinstance(older.insn, type(insn) | Finish) for older in in_flight)

    def start(self, flight: Flight, n: int) -> None:
        """Hand it to its unit."""
        insn = flight.insn
        fault = self._memories.fault(insn)
        match insn:
            case Gemm():
                self._start_loops(flight, insn, n, fault)
            case Alu() if fault is not FaultClass.BAD_ALU_OPCODE:
                self._start_loops(flight, insn, n, fault)
            case _ if fault:
                flight.fail(n, fault)
            case Load() if _has_work(insn):
                flight.work = True
                address = self._memories.address(insn)
                job = Job.of(flight, insn, address, self._memories.config)
                self._loaders[insn.memory_type].offer(job)
            case _:
                flight.finish(n)

    def _start_loops(
        self, flight: Flight, insn: Gemm | Alu, n: int, fault: FaultClass | None
    ) -> None:
        config = self._memories.config
        words = self._memories.pads.uop[insn.uop_bgn : insn.uop_end]
        indices = Indices(insn, words, config)
        start = n + machine.FIRST_SLOT
        if not indices.count:
            flight.finish(n + 1)  # G3
            return
        count = indices.first_bad() if fault else indices.count
        if not count:
            assert fault is not None
            flight.fail(start, fault)  # G4
            return
        kind = type(insn)
        granted, asked = self.granted[kind], self.asked[kind]

        def finish(last: int) -> None:
            asked.add(start, last)
            if fault:
                flight.fail(last + 1, fault)  # G4
            else:
                flight.finish(last)  # G3

        work: Work
        if isinstance(insn, Alu) and not (
            insn.use_imm and insn.alu_opcode in machine.FORWARDED_OPS
        ):
            work = HazardWork(start, granted, finish, insn, indices, count, config)
        else:
            work = PlainWork(start, granted, finish, indices, count, config)
        if isinstance(insn, Gemm):
            self._acc.start_gemm(work)
        else:
            self._acc.start_alu(work)
