"""One run of the machine, from cycle 0 to the last (rules R1 and R2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from vta_hw.spec import isa, machine, semantics
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.dataflow import Dataflow, StageState
from vta_hw.spec.events import Timeline
from vta_hw.spec.isa import Alu, FaultClass, Gemm, Instruction, Load, TokenQueue
from vta_hw.spec.isa import Stage as StageName
from vta_hw.spec.registers import COUNTERS
from vta_hw.spec.result import Fault, RunResult, Status
from vta_hw.spec.sdram import SETTLED_TO_RUN, SdramTiming
from vta_hw.spec.semantics import IntArray, Scratchpads
from vta_sim.checks import check_launch, check_memory
from vta_sim.counters import Counters
from vta_sim.cycle.acc import AccPort
from vta_sim.cycle.engines import ComputeEngine, LoadEngine, Memories, StoreStageEngine
from vta_sim.cycle.fetch import Fetch
from vta_sim.cycle.loader import AccLoader, Loader
from vta_sim.cycle.memory import Memory, ReadChannel, SteadyMemory, WriteChannel
from vta_sim.cycle.sdram import Sdram
from vta_sim.cycle.sdram_writes import SdramWrites
from vta_sim.cycle.spans import NEVER
from vta_sim.cycle.stages import Engine, Record, Stage
from vta_sim.cycle.states import Painter, moments, rows, stage_states
from vta_sim.cycle.store import StoreEngine
from vta_sim.cycle.tokens import Tokens
from vta_sim.report import describe_end, describe_fault


def simulate(
    config: VtaConfig,
    stream: bytes | Sequence[Instruction],
    dram: IntArray,
    *,
    insn_base: int,
    bases: Mapping[MemType, int] | None = None,
    dram_limit: int | None = None,
    latency: int | None = None,
    sdram: SdramTiming | None = None,
    execute: bool = True,
) -> RunResult:
    """Run a program cycle by cycle of the machine, and say how it ended and when what happened.

    Parameters
    ----------
    stream
        Encoded instructions, or instructions as `isa.decode` gives them.
    dram
        All of DRAM as a contiguous uint8 array; changed in place.
    insn_base
        Address at which the machine fetches the stream, a multiple of 16. The stream need not be
        in `dram`.
    bases
        Base registers in bytes, multiples of 4096 (absent ones are 0).
    dram_limit
        End of legal addresses in bytes; the length of `dram` by default.
    latency
        Of the memory, in cycles; the config's by default.
    sdram
        The memory is this SDRAM behind its controller (``docs/sdram.md``) instead, settled before
        the launch; `latency` is of no effect.
    execute
        Whether results are computed. If not, everything else is the same, as long as no LOAD UOP
        reads what a STORE of this run has written.
    """
    bases = dict(bases or {})
    limit = check_memory(dram, dram_limit, bases)
    check_launch(insn_base, bases, latency)
    instructions = isa.decode_all(stream, config) if isinstance(stream, bytes) else stream
    memories = Memories(config, Scratchpads(config), bases, limit)
    if latency is None:
        latency = config.dram_latency
    core = _Core(memories, instructions, dram, insn_base, sdram or latency, execute)
    core.run()
    return core.result()


class Part(Protocol):
    """A part of the machine, seen from the loop over cycles."""

    next: int
    """The next cycle in which it might do something."""

    def step(self, n: int) -> None:
        """Do what is to be done in cycle n, and set `next` to a later one."""


class _Core:
    """All parts of the machine, and the loop over the cycles in which something happens."""

    def __init__(
        self,
        memories: Memories,
        instructions: Sequence[Instruction],
        dram: IntArray,
        insn_base: int,
        memory: SdramTiming | int,
        execute: bool,
    ) -> None:
        """`memory` is an SDRAM, or the latency of a steady memory in cycles."""
        config = memories.config
        self.memories = memories
        self.instructions = instructions
        self.dram = dram
        self.executes = execute
        self.counters = Counters(config)
        self.record = Record.of(len(instructions))
        self.tokens = Tokens()
        self.stages = [Stage(instructions, self.record, self.tokens) for _ in StageName]
        self.numbers: list[list[int]] = [[] for _ in StageName]
        for index, insn in enumerate(instructions):
            self.numbers[isa.stage_of(insn)].append(index)
        load, compute, store = self.stages
        self.acc = AccPort(config)
        self._set_memory(config, memory)
        wake = self.read.wake
        self.uop_loader = Loader(wake, compute.issue.wake)
        self.acc_loader = AccLoader(wake, compute.issue.wake, self.acc, config)
        self.inp_loader = Loader(wake, load.issue.wake)
        self.wgt_loader = Loader(wake, load.issue.wake)
        placed = [self.stages[isa.stage_of(insn)] for insn in instructions]
        self.fetch = Fetch(config, instructions, placed, insn_base, wake)
        self.read.clients = (self.fetch, *self.loaders)
        self.store = StoreEngine(self.write, store.issue.wake)
        self._connect()

    def _set_memory(self, config: VtaConfig, memory: SdramTiming | int) -> None:
        self.write: WriteChannel | SdramWrites
        behind: Memory
        if isinstance(memory, SdramTiming):
            words = machine.bus_bytes(config) // memory.part.word_bytes
            behind = Sdram(memory, words, -SETTLED_TO_RUN)
            self.read = ReadChannel(behind, config.max_reads)
            self.write = SdramWrites(behind, self.read, config.max_reads)
        else:
            self.read = ReadChannel(SteadyMemory(memory), config.max_reads)
            self.write = WriteChannel(memory, config.max_reads)

    @property
    def loaders(self) -> tuple[Loader, ...]:
        """All four, in the order of their priority on the bus."""
        return self.uop_loader, self.acc_loader, self.inp_loader, self.wgt_loader

    def _connect(self) -> None:
        load, compute, store = self.stages
        memories = self.memories
        inputs: dict[int, Loader] = {MemType.INP: self.inp_loader, MemType.WGT: self.wgt_loader}
        operands: dict[int, Loader] = {
            MemType.UOP: self.uop_loader,
            MemType.ACC: self.acc_loader,
            MemType.ACC_8BIT: self.acc_loader,
        }
        self.compute = ComputeEngine(memories, compute, operands, self.acc)
        engines: tuple[Engine, ...] = (
            LoadEngine(memories, load, inputs),
            self.compute,
            StoreStageEngine(memories, store, self.store),
        )
        for stage, engine in zip(self.stages, engines, strict=True):
            stage.connect(engine, self.fetch.wake, self._execute, self.counters.add)
        ends = {
            TokenQueue.LOAD_TO_COMPUTE: (load, compute),
            TokenQueue.COMPUTE_TO_LOAD: (compute, load),
            TokenQueue.COMPUTE_TO_STORE: (compute, store),
            TokenQueue.STORE_TO_COMPUTE: (store, compute),
        }
        self.tokens.connect(
            [ends[queue][1].issue.wake for queue in TokenQueue],
            [ends[queue][0].retire.wake for queue in TokenQueue],
        )

    def _execute(self, insn: Instruction) -> None:
        """What an instruction does takes place when it would retire."""
        if self.executes or (isinstance(insn, Load) and insn.memory_type == MemType.UOP):
            memories = self.memories
            fault = semantics.execute(
                insn, memories.pads, self.dram, memories.config, memories.bases, memories.limit
            )
            assert fault is None, fault

    def run(self) -> None:
        """Take the cycles in which something may happen, one after the other.

        Within a cycle everything compares with the state before it. This is why loaders (whose
        waiting places issue looks at) note when they took something, tokens change at the end, and
        the others come in this order: dispatch before issue, issue before retirement.
        """
        parts: tuple[Part, ...] = (
            *self.loaders,
            self.store,
            self.read,
            *([self.write] if isinstance(self.write, SdramWrites) else []),
            self.fetch,
            *(stage.issue for stage in self.stages),
            *(stage.retire for stage in self.stages),
        )
        acc, tokens = self.acc, self.tokens
        while True:
            n = min([part.next for part in parts])
            if acc.busy and acc.advance(n):
                continue
            if n == NEVER:
                break
            for part in parts:
                if part.next <= n:
                    part.step(n)
            tokens.commit(n)

    # -- what came out ----------------------------------------------------------------------------

    def _cycles(self) -> int:
        """Cycles of the run, by rule R2."""
        record = self.record
        grants = [*self.compute.granted.values(), *(loader.filled for loader in self.loaders)]
        last = max(
            0,
            self.read.bus.end + 1,
            self.store.last_arrival,
            self.fetch.stopped_in or 0,
            record.last_stop,
            *record.dispatch,
            *record.issue,
            *record.retire,
            *(spans.end for spans in grants),
        )
        return last + machine.QUIET + 1

    def result(self) -> RunResult:
        """The verdict, the counters and the timeline."""
        cycles = self._cycles()
        self.fetch.close(cycles)
        for stage in self.stages:
            stage.issue.close(cycles)
            stage.retire.close(cycles)
        flow = self._flow()
        status, index = flow.verdict()
        record = self.record
        return RunResult(
            status=status,
            fault=None if status is Status.OK else self._fault(flow, status, index),
            instructions=flow.retired,
            macs=self.counters.macs,
            cycles=cycles,
            counters=self._counters(cycles),
            timeline=Timeline.of(
                cycles,
                (record.dispatch, record.issue, record.retire),
                list(self.read.bus),
                list(self.write.bus),
            ),
        )

    def _flow(self) -> Dataflow:
        """The control state in which the run ended, for its verdict."""
        flow = Dataflow(self.instructions, self.memories.config.cmd_queue_depth)
        flow.tokens = self.tokens.counts
        flow.fetched = self.fetch.dispatched
        flow.faults = dict(self.record.faults)
        if self.fetch.stopped_in is not None:
            flow.faults[flow.fetched] = FaultClass.BAD_OPCODE
        flow.finished = any(stage.finished for stage in self.stages)
        for state, stage in enumerate(self.stages):
            oldest = stage.in_flight[0].index if stage.in_flight else None
            flow.stages[state] = StageState(
                deque(stage.queue), oldest, worked=oldest is not None, stopped=stage.stopped
            )
        flow.retired = sum(1 for n in self.record.retire if n >= 0)
        return flow

    def _fault(self, flow: Dataflow, status: Status, index: int | None) -> Fault:
        if status is Status.FAULT:
            assert index is not None
            kind = flow.faults[index]
            memories = self.memories
            text = describe_fault(
                index, self.instructions[index], kind, memories.config, memories.limit
            )
            return Fault(kind.text, index, text)
        return Fault(status.value, index, describe_end(status, index, flow.waits()))

    def _counters(self, cycles: int) -> dict[str, int]:
        found = {
            "cycles": cycles,
            **self.counters.counts,
            "read_bursts": self.read.bursts,
            "read_beats": self.read.beats,
            "write_bursts": self.write.bursts,
            "write_beats": self.write.beats,
            **self._fetch_states(cycles),
            **self._units(cycles),
        }
        uop, acc, inp, wgt = self.loaders
        load, compute, store = self.stages
        granted, asked = self.compute.granted, self.compute.asked
        busy = {
            StageName.LOAD: rows(inp.arrivals, inp.filled, wgt.arrivals, wgt.filled),
            StageName.COMPUTE: rows(
                *granted.values(), uop.arrivals, uop.filled, acc.arrivals, acc.filled
            ),
            StageName.STORE: rows(self.write.reads),
        }
        # Where a unit asks for a slot and is granted none, it is not busy.
        port = rows((first, last) for kind in (Gemm, Alu) for first, last in asked[kind])
        for name, stage in zip(StageName, self.stages, strict=True):
            found |= stage_states(
                name,
                stage,
                self.numbers[name],
                busy[name],
                cycles,
                port if name is StageName.COMPUTE else None,
            )
        return {name: found[name] for name in COUNTERS}

    def _fetch_states(self, cycles: int) -> dict[str, int]:
        stop = self.fetch.stopped_in
        dispatched = self.record.dispatch
        end = cycles - 1 if stop is None else stop
        if self.fetch.dispatched == len(dispatched):
            end = max(dispatched, default=-1)
        layers = {
            "fetch_busy_cycles": moments(dispatched),
            "fetch_queue_full_cycles": rows(self.fetch.queue_full),
            "fetch_memory_cycles": rows([(0, end)]),
        }
        return Painter(cycles, layers).count(list(layers), "fetch_idle_cycles")

    def _units(self, cycles: int) -> dict[str, int]:
        found = {}
        for kind, name in ((Gemm, "gemm"), (Alu, "alu")):
            granted, asked = rows(self.compute.granted[kind]), rows(self.compute.asked[kind])
            painter = Painter(cycles, {"granted": granted, "asked": asked})
            found[f"{name}_busy_cycles"] = painter.total("granted")
            found[f"{name}_port_cycles"] = painter.without([("asked", "granted")])
        uop, acc = self.uop_loader, self.acc_loader
        painter = Painter(
            cycles,
            {
                "busy": rows(uop.arrivals, uop.filled, acc.arrivals, acc.filled),
                "uop": rows(uop.could_fill),
                "uop filled": rows(uop.filled),
                "acc": rows(acc.could_fill),
                "acc filled": rows(acc.filled),
            },
        )
        found["dma_busy_cycles"] = painter.total("busy")
        pairs = [("uop", "uop filled"), ("acc", "acc filled")]
        found["dma_port_cycles"] = painter.without(pairs)
        return found
