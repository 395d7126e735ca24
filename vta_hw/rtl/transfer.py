"""The checks of LOAD and STORE, and the jobs that they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.signatures import (
    ADDRESS_BITS,
    FAULT_BITS,
    LOAD_JOB,
    STORE_JOB,
    instruction_fields,
)
from vta_hw.spec import isa
from vta_hw.spec.config import INSN_BITS, MemType, VtaConfig
from vta_hw.spec.isa import (
    DRAM_BITS,
    PAD_BITS,
    SIZE_BITS,
    SRAM_BITS,
    STRIDE_BITS,
    TOKEN_FLAGS,
    FaultClass,
    Stage,
)

STAGE_MEMORIES: Mapping[Stage, tuple[MemType, ...]] = {
    Stage.LOAD: (MemType.INP, MemType.WGT),
    Stage.COMPUTE: (MemType.UOP, MemType.ACC, MemType.ACC_8BIT),
    Stage.STORE: (MemType.OUT,),
}
"""The memory types that each stage transfers."""

LIMIT_BITS = ADDRESS_BITS + 1
"""Holds the end of legal addresses, 2^32 included."""

ELEMENTS_BITS = SRAM_BITS + 1
"""Holds the elements that a legal LOAD or STORE moves: no memory is deeper than 2^SRAM_BITS."""

_SIDE_BITS = SIZE_BITS + 1  # holds x_pad_0 + x_size + x_pad_1

_FLAGS = ("pop_prev", "pop_next", "push_prev", "push_next")


def base_name(memory: MemType) -> str:
    """Name of the port with the base register of `memory`."""
    return f"base_{'acc' if memory is MemType.ACC_8BIT else memory.name.lower()}"


def base_ports(stage: Stage) -> dict[str, int]:
    """Names and widths of the base registers that `stage` uses."""
    return {base_name(memory): ADDRESS_BITS for memory in STAGE_MEMORIES[stage]}


class Transfer(wiring.Component):
    """Checks a LOAD or STORE of one stage in three steps and makes its job.

    `step` is high in the three cycles in which step 1, 2 and 3 are to be done, bit 0 first; `word`
    is there in the first, `held` is the same from the second on. The outputs hold from the cycle
    after the third.

    Members
    -------
    base_{memory}, dram_limit
        The base registers (multiples of a page) and the end of legal addresses, in bytes.
    bad
        The class of the instruction's fault, or 0.
    work
        It is not bad and has something to do.
    elements
        The elements that it moves from or to DRAM, of a legal one.
    job
        For the loader or the store engine; has a meaning only with `work`.
    """

    def __init__(self, config: VtaConfig, stage: Stage) -> None:
        self._config = config
        self._stage = stage
        self._form: type[isa.Instruction] = isa.Store if stage is Stage.STORE else isa.Load
        super().__init__(
            {
                "word": In(INSN_BITS),
                "held": In(INSN_BITS),
                "step": In(3),
                "dram_limit": In(LIMIT_BITS),
                **{name: In(width) for name, width in base_ports(stage).items()},
                "bad": Out(FAULT_BITS),
                "work": Out(1),
                "elements": Out(ELEMENTS_BITS),
                "job": Out(STORE_JOB if stage is Stage.STORE else LOAD_JOB),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Sums, then products, then comparisons."""
        m = Module()
        layout = instruction_fields(self._form, self._config)
        word, fields = layout(self.word), layout(self.held)
        # Step 1. Bases are multiples of every element size, so all is counted in elements.
        rows, columns = Signal(_SIDE_BITS), Signal(_SIDE_BITS)
        row_last = Signal(SIZE_BITS)
        first = Signal(DRAM_BITS + 1)
        base = self._pick(word, lambda e: getattr(self, base_name(e)) >> self._log(e))
        with m.If(self.step[0]):
            m.d.sync += [
                rows.eq(word.y_pad_0 + word.y_size + word.y_pad_1),
                columns.eq(word.x_pad_0 + word.x_size + word.x_pad_1),
                row_last.eq(word.y_size - 1),
                first.eq(base + word.dram_base),
            ]
        # Step 2.
        area, span = Signal(2 * _SIDE_BITS), Signal(SIZE_BITS + STRIDE_BITS)
        end = Signal(len(first) + 1)
        with m.If(self.step[1]):
            m.d.sync += [
                area.eq(rows * columns),
                span.eq(row_last * fields.x_stride),
                end.eq(first + fields.x_size),
                self.elements.eq(fields.x_size * fields.y_size),
            ]
        # Step 3.
        bad = self._verdict(m, fields, area, end + span)
        work = (fields.x_size != 0) & (
            (fields.y_size != 0) if self._stage is Stage.STORE else (rows != 0)
        )
        with m.If(self.step[2]):
            m.d.sync += [self.bad.eq(bad), self.work.eq(work & (bad == 0))]
        self._connect_job(m, fields, first)
        if self._stage is Stage.STORE:
            m.d.comb += self.job.rows.eq(fields.y_size)
        else:
            self._connect_padding(m, word, fields, columns)
        return m

    def _log(self, memory: MemType) -> int:
        return self._config.log_elem_bytes(memory)

    def _pick(self, fields: Value, of: Callable[[MemType], ValueLike]) -> Value:
        """What `of` gives for the instruction's memory type; anything for one that is not here."""
        *others, last = STAGE_MEMORIES[self._stage]
        picked = Value.cast(of(last))
        for memory in others:
            picked = Mux(fields.memory_type == memory, of(memory), picked)
        return picked

    def _verdict(self, m: Module, fields: Value, area: Value, end: Value) -> Signal:
        legal = TOKEN_FLAGS[self._stage]
        flags = [fields[flag] for flag in _FLAGS if flag not in legal]
        if self._stage is Stage.COMPUTE and self._config.has("pad_min"):
            flags.append(fields.pad_min & (fields.memory_type == MemType.UOP))
        memories = STAGE_MEMORIES[self._stage]
        unknown = ~Cat(fields.memory_type == memory for memory in memories).any()
        moves = fields.x_size != 0
        store = self._stage is Stage.STORE
        pads = (fields.y_pad_0 | fields.y_pad_1 | fields.x_pad_0 | fields.x_pad_1) != 0
        depth = self._pick(fields, lambda memory: self._config.depth(memory))
        limit = self._pick(fields, lambda memory: self.dram_limit >> self._log(memory))
        bad = Signal(FaultClass)
        with m.If(Cat(flags).any()):
            m.d.comb += bad.eq(FaultClass.BAD_FLAGS)
        with m.Elif(unknown & (moves if store else 1)):
            m.d.comb += bad.eq(FaultClass.BAD_MEMORY_TYPE)
        with m.Elif(moves & pads & (1 if store else 0)):
            m.d.comb += bad.eq(FaultClass.BAD_PAD)
        with m.Elif(moves & (fields.sram_base + area > depth)):
            m.d.comb += bad.eq(FaultClass.SRAM_RANGE)
        with m.Elif(moves & (fields.y_size != 0) & (end > limit)):
            m.d.comb += bad.eq(FaultClass.DRAM_RANGE)
        return bad

    def _connect_job(self, m: Module, fields: Value, first: Value) -> None:
        m.d.comb += [
            self.job.address.eq(self._pick(fields, lambda memory: first << self._log(memory))),
            self.job.stride.eq(
                self._pick(fields, lambda memory: fields.x_stride << self._log(memory))
            ),
            self.job.columns.eq(fields.x_size),
            self.job.sram.eq(fields.sram_base),
        ]

    def _connect_padding(self, m: Module, word: Value, fields: Value, columns: Value) -> None:
        # Without rows to read, all padding comes first and the pads left and right do not count.
        reads = Signal()
        above, below = Signal(PAD_BITS + 1), Signal(PAD_BITS)
        with m.If(self.step[0]):
            m.d.sync += [
                reads.eq(word.y_size != 0),
                above.eq(word.y_pad_0 + Mux(word.y_size != 0, 0, word.y_pad_1)),
                below.eq(Mux(word.y_size != 0, word.y_pad_1, 0)),
            ]
        before, after = Signal.like(self.job.fill_first), Signal.like(self.job.fill_last)
        with m.If(self.step[1]):
            m.d.sync += [
                before.eq(above * columns + Mux(reads, fields.x_pad_0, 0)),
                after.eq(below * columns + Mux(reads, fields.x_pad_1, 0)),
            ]
        m.d.comb += [
            self.job.fill_first.eq(before),
            self.job.fill_between.eq(fields.x_pad_0 + fields.x_pad_1),
        ]
        if self._config.has("pad_min"):
            m.d.comb += self.job.least.eq(fields.pad_min)
        if self._stage is Stage.COMPUTE:
            self._connect_replication(m, fields, after)
        else:
            m.d.comb += [self.job.rows.eq(fields.y_size), self.job.fill_last.eq(after)]

    def _connect_replication(self, m: Module, fields: Value, after: Value) -> None:
        """Rule D2: an element that is read again and again is read once."""
        eight_bit = fields.memory_type == MemType.ACC_8BIT
        pads = (fields.y_pad_0 | fields.y_pad_1 | fields.x_pad_0 | fields.x_pad_1) != 0
        replicate = Signal()
        with m.If(self.step[1]):
            m.d.sync += replicate.eq(
                (eight_bit | (fields.memory_type == MemType.ACC))
                & (fields.x_stride == 0)
                & (fields.x_size == 1)
                & (fields.y_size > 1)
                & ~pads
            )
        m.d.comb += [
            self.job.eight_bit.eq(eight_bit),
            self.job.replicate.eq(replicate),
            self.job.rows.eq(Mux(replicate, 1, fields.y_size)),
            self.job.fill_last.eq(Mux(replicate, fields.y_size - 1, after)),
        ]
