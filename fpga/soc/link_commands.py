"""The middle of the link: takes requests one by one, does what they ask, answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fpga.protocol import (
    ANSWER,
    ANSWER_FIELDS,
    BLOCK_BYTES,
    CARRIES_DATA,
    COUNTER_BITS,
    DEFAULT_RUN_LIMIT_MS,
    GREETING_BYTES,
    HEADER_BYTES,
    ONCE,
    RECORD_BYTES,
    REGISTER_SPACE_BYTES,
    REQUEST_FIELDS,
    RUN_LIMIT_BITS,
    STATISTICS,
    STATISTICS_BYTES,
    Greeting,
    Op,
    Status,
)
from fpga.soc.link_bus import ByteMaster, RegisterMaster
from fpga.soc.link_tx import CONTENT_BYTE
from vta_hw.rtl.control_port import AxiLite
from vta_hw.rtl.read_channel import AxiRead
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import REGISTER_BYTES

COUNTERS = data.StructLayout(dict.fromkeys(STATISTICS, COUNTER_BITS))

_RECORD = data.StructLayout({"length": 8 * RECORD_BYTES, **REQUEST_FIELDS})
_RECORD_BYTES = RECORD_BYTES + HEADER_BYTES
_ANSWER_HEADER_BYTES = sum(REQUEST_FIELDS[name] for name in ANSWER_FIELDS) // 8
_STATUS_BITS = max(Status).bit_length()


def _among(value: Value, choices: Iterable[int]) -> Value:
    return Cat(value == choice for choice in choices).any()


class LinkCommands(wiring.Component):
    """Does what requests ask for, in order, one after the other.

    Members
    -------
    requests : In(stream.Signature(8))
        As `LinkRx` gives them.
    answers : Out(stream.Signature(CONTENT_BYTE))
        Contents, for `LinkTx`.
    memory_read, memory_write, control, settle, settled
        See `ByteMaster` and `RegisterMaster`.
    running, core_reset : In(1)
        The core runs; it is being reset, and what the buses had to do is off.
    reset, waiting, limit_ms : Out(1), Out(1), Out(24)
        For `LinkWatchdog`.
    counters : In(COUNTERS)
        What STATISTICS answers.
    repeat : Out(1)
        A request of `ONCE` was not carried out again, for one cycle.
    """

    def __init__(self, config: VtaConfig, greeting: Greeting) -> None:
        self._config, self._greeting = config, greeting
        super().__init__(
            {
                "requests": In(stream.Signature(8)),
                "answers": Out(stream.Signature(CONTENT_BYTE)),
                "memory_read": Out(AxiRead(config)),
                "memory_write": Out(AxiWrite(config)),
                "control": Out(AxiLite()),
                "settle": Out(1),
                "settled": In(1),
                "running": In(1),
                "core_reset": In(1),
                "reset": Out(1),
                "waiting": Out(1),
                "limit_ms": Out(RUN_LIMIT_BITS, init=DEFAULT_RUN_LIMIT_MS),
                "counters": In(COUNTERS),
                "repeat": Out(1),
            }
        )
        self._bytes, self._registers = ByteMaster(config), RegisterMaster()
        self._record = Signal(_RECORD)
        """What precedes the request's data; a block's address and count follow its progress."""
        self._index = Signal(range(max(GREETING_BYTES, _RECORD_BYTES)))
        """Number of the next byte to come or to go, of a part that is no block."""
        self._byte = Signal(8)
        """From the request to memory, or to the answer."""
        self._value = Signal(8 * REGISTER_BYTES)
        self._unread = Signal(range(BLOCK_BYTES + 1))
        """Bytes of the request's data that are still to be taken."""
        self._unsent = Signal(range(BLOCK_BYTES + 1))
        """Bytes of the answer's data that are still to be given."""
        self._status = Signal(_STATUS_BITS)

    def elaborate(self, platform: Any) -> Module:
        """One state machine that asks the masters by pulses."""
        m = Module()
        m.submodules.byte_master = memory = self._bytes
        m.submodules.register_master = registers = self._registers
        for master, names in (
            (memory, ("memory_read", "memory_write")),
            (registers, ("control",)),
        ):
            for name in names:
                wiring.connect(m, getattr(master, name), wiring.flipped(getattr(self, name)))
            m.d.comb += [master.address.eq(self._record.address), master.clear.eq(self.core_reset)]
            m.d.sync += [master.read.eq(0), master.write.eq(0)]
        m.d.comb += [
            memory.data.eq(self._byte),
            registers.data.eq(self._value),
            self.settle.eq(registers.settle),
            registers.settled.eq(self.settled),
        ]
        m.d.sync += [self.reset.eq(0), self.repeat.eq(0)]
        with m.FSM():
            self._take(m)
            self._check(m)
            self._read_and_write_registers(m)
            self._read_and_write_memory(m)
            with m.State("RESET"), m.If(~self.core_reset & ~self.reset):
                m.next = "SKIP"
            self._answer(m)
        return m

    def _shift_in(self, m: Module, into: Value, size_bytes: int, then: str) -> None:
        """Take bytes of the request, the first one to the low end of `into`."""
        m.d.comb += self.requests.ready.eq(1)
        with m.If(self.requests.valid):
            m.d.sync += into.eq(Cat(into[8:], self.requests.payload))
            m.d.sync += self._index.eq(self._index + 1)
            with m.If(self._index == size_bytes - 1):
                m.d.sync += self._index.eq(0)
                m.next = then

    def _take(self, m: Module) -> None:
        with m.State("HEADER"):
            self._shift_in(m, self._record.as_value(), _RECORD_BYTES, "CHECK")
        with m.State("SKIP"):
            with m.If(self._unread == 0):
                m.next = "ANSWER"
            with m.Else():
                m.d.comb += self.requests.ready.eq(1)
                m.d.sync += self._unread.eq(self._unread - self.requests.valid)

    def _check(self, m: Module) -> None:
        """Compare in one cycle, decide in the next."""
        record, limit = self._record, self._greeting.memory_bytes
        last, last_once, last_status = Signal.like(record.sequence), Signal(), Signal(_STATUS_BITS)
        once, repeat, whole, bare, block, inside, word, mapped = (Signal() for _ in range(8))
        with m.State("CHECK"):
            unread = (record.length - HEADER_BYTES)[: len(self._unread)]
            carries = _among(record.op, CARRIES_DATA)
            m.d.sync += [
                self._unread.eq(unread),
                self._unsent.eq(0),
                once.eq(_among(record.op, ONCE)),
                repeat.eq(last_once & (record.sequence == last)),
                whole.eq(unread == Mux(carries, record.count, 0)),
                bare.eq(record.count == 0),
                word.eq(record.count == REGISTER_BYTES),
                block.eq((record.count != 0) & (record.count <= BLOCK_BYTES)),
                inside.eq(record.address + record.count <= limit),
                mapped.eq((record.address < REGISTER_SPACE_BYTES) & (record.address[:2] == 0)),
            ]
            m.next = "DECIDE"
        with m.State("DECIDE"), m.If(~self.core_reset):
            m.next = "SKIP"
            m.d.sync += [
                last.eq(record.sequence),
                last_once.eq(once),
                self._status.eq(Status.BAD_REQUEST),
            ]
            with m.If(repeat & once):
                m.d.sync += [self.repeat.eq(1), self._status.eq(last_status)]
            with m.Elif(whole), m.Switch(record.op):
                self._decide_bare(m, bare)
                self._decide_register(m, word, mapped)
                self._decide_memory(m, block, inside)
        with m.State("KEEP"):
            m.d.sync += last_status.eq(self._status)
            m.next = "HEADER"

    def _decide_bare(self, m: Module, bare: Signal) -> None:
        for op, size_bytes in ((Op.IDENTIFY, GREETING_BYTES), (Op.STATISTICS, STATISTICS_BYTES)):
            with m.Case(op), m.If(bare):
                m.d.sync += [self._status.eq(Status.OK), self._unsent.eq(size_bytes)]
        with m.Case(Op.SET_RUN_LIMIT), m.If(bare & (self._record.address[RUN_LIMIT_BITS:] == 0)):
            m.d.sync += [self._status.eq(Status.OK), self.limit_ms.eq(self._record.address)]
        with m.Case(Op.RESET), m.If(bare):
            m.d.sync += [self._status.eq(Status.OK), self.reset.eq(1)]
            m.next = "RESET"

    def _decide_register(self, m: Module, word: Signal, mapped: Signal) -> None:
        for op, state in ((Op.READ_REGISTER, "REGISTER"), (Op.WRITE_REGISTER, "VALUE")):
            with m.Case(op), m.If(word):
                m.d.sync += self._status.eq(Status.BAD_ADDRESS)
                with m.If(mapped):
                    m.d.sync += self._status.eq(Status.OK)
                    m.d.sync += self._registers.read.eq(op == Op.READ_REGISTER)
                    m.next = state

    def _decide_memory(self, m: Module, block: Signal, inside: Signal) -> None:
        for op in (Op.READ_MEMORY, Op.WRITE_MEMORY):
            with m.Case(op), m.If(block):
                m.d.sync += self._status.eq(Status.BAD_ADDRESS)
                with m.If(inside & self.running):
                    m.d.sync += self._status.eq(Status.BUSY)
                with m.Elif(inside):
                    m.d.sync += self._status.eq(Status.OK)
                    if op is Op.READ_MEMORY:
                        m.d.sync += self._unsent.eq(self._record.count)
                    else:
                        m.next = "TAKE"

    def _read_and_write_registers(self, m: Module) -> None:
        registers = self._registers
        with m.State("VALUE"):
            m.d.sync += self._unread.eq(0)
            self._shift_in(m, self._value, REGISTER_BYTES, "SETTLE")
        with m.State("SETTLE"):
            m.d.sync += registers.write.eq(1)
            m.next = "REGISTER"
        with m.State("REGISTER"):
            m.d.comb += self.waiting.eq(1)
            with m.If(self.core_reset):
                m.d.sync += self._status.eq(Status.BUS_ERROR)
                m.next = "SKIP"
            with m.Elif(registers.done):
                m.d.sync += self._value.eq(registers.value)
                with m.If(registers.error):
                    m.d.sync += self._status.eq(Status.BAD_ADDRESS)
                with m.Elif(self._record.op == Op.READ_REGISTER):
                    m.d.sync += self._unsent.eq(REGISTER_BYTES)
                m.next = "SKIP"

    def _read_and_write_memory(self, m: Module) -> None:
        memory, record = self._bytes, self._record
        with m.State("TAKE"):
            with m.If(self._unread == 0):
                m.next = "ANSWER"
            with m.Elif(self.requests.valid):
                m.d.comb += self.requests.ready.eq(1)
                m.d.sync += [
                    self._byte.eq(self.requests.payload),
                    self._unread.eq(self._unread - 1),
                    memory.write.eq(1),
                ]
                m.next = "MEMORY"
        with m.State("MEMORY"):
            m.d.comb += self.waiting.eq(1)
            failed, reads = Signal(), Signal()
            m.d.comb += failed.eq(self.core_reset | (memory.done & memory.error))
            m.d.comb += reads.eq(record.op == Op.READ_MEMORY)
            with m.If(memory.done):
                m.d.sync += record.address.eq(record.address + 1)
            with m.If(failed):
                m.d.sync += self._status.eq(Status.BUS_ERROR)
                m.next = "SKIP"
                with m.If(reads):
                    m.next = "STATUS"
            with m.Elif(memory.done):
                m.next = "TAKE"
                with m.If(reads):
                    m.d.sync += self._byte.eq(memory.value)
                    m.next = "GIVE"

    def _answer(self, m: Module) -> None:
        """The parts of an answer, in order."""
        answers, record = self.answers, self._record
        header = Cat(*(record[name] for name in ANSWER_FIELDS)) | ANSWER << (
            8 * (_ANSWER_HEADER_BYTES - 1)
        )
        with m.State("ANSWER"):
            m.d.comb += [
                answers.valid.eq(1),
                answers.payload.byte.eq(header.word_select(self._index[:2], 8)),
            ]
            with m.If(answers.ready):
                m.d.sync += self._index.eq(self._index + 1)
                with m.If(self._index == _ANSWER_HEADER_BYTES - 1):
                    m.d.sync += self._index.eq(0)
                    m.next = "FETCH"
        self._fetch(m)
        with m.State("GIVE"):
            m.d.comb += [answers.valid.eq(1), answers.payload.byte.eq(self._byte)]
            with m.If(answers.ready):
                m.d.sync += [self._unsent.eq(self._unsent - 1), self._index.eq(self._index + 1)]
                m.next = "FETCH"
        with m.State("STATUS"):
            m.d.comb += [answers.valid.eq(1), answers.payload.last.eq(1)]
            m.d.comb += answers.payload.byte.eq(self._status)
            with m.If(answers.ready):
                m.d.sync += self._index.eq(0)
                m.next = "KEEP"

    def _fetch(self, m: Module) -> None:
        """The next byte of the answer's data."""
        high = Signal(COUNTER_BITS - 8)
        word = self.counters.as_value().word_select(self._index[1:], COUNTER_BITS)
        with m.State("FETCH"):
            m.next = "GIVE"
            with m.If(self._unsent == 0):
                m.next = "STATUS"
            with m.Else(), m.Switch(self._record.op):
                with m.Case(Op.IDENTIFY):
                    m.d.sync += self._byte.eq(Array(self._greeting.encode())[self._index])
                with m.Case(Op.STATISTICS):
                    # Both bytes of a counter are of the same moment.
                    m.d.sync += [self._byte.eq(Mux(self._index[0], high, word)), high.eq(word[8:])]
                with m.Case(Op.READ_REGISTER):
                    m.d.sync += self._byte.eq(self._value)
                    m.d.sync += self._value.eq(self._value >> 8)
                with m.Default():
                    m.d.sync += self._bytes.read.eq(1)
                    m.next = "MEMORY"
