"""The control port: registers on AXI4-Lite, launch of a run, interrupt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, Signature

from vta_hw.rtl.signatures import ADDRESS_BITS, INDEX_BITS
from vta_hw.spec import registers
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.machine import OKAY, SLVERR
from vta_hw.spec.registers import COUNTERS, Register, Verdict

WORD_BITS = 32
STROBES = WORD_BITS // 8
VERDICT_BITS = max(Verdict).bit_length()

_WORD_LOW = STROBES.bit_length() - 1
_COUNTER_WORD = registers.COUNTER_BASE >> _WORD_LOW
_COUNTER_WORDS = len(COUNTERS) * (registers.COUNTER_BITS // WORD_BITS)

ACC_WRITES = len(COUNTERS)
"""Number under which the counters give the sum of their operations, after their own numbers."""

SETTINGS = data.StructLayout(
    {
        "insn_count": INDEX_BITS,
        "insn_base": ADDRESS_BITS,
        "base_uop": ADDRESS_BITS,
        "base_inp": ADDRESS_BITS,
        "base_wgt": ADDRESS_BITS,
        "base_acc": ADDRESS_BITS,
        "base_out": ADDRESS_BITS,
        "dram_limit": ADDRESS_BITS + 1,
    }
)
"""What a run is launched with; `dram_limit` is the end of legal addresses, 2^32 included."""

_STORED = {
    "insn_count": Register.INSN_COUNT,
    "insn_base": Register.INSN_BASE,
    "base_uop": Register.UOP_BASE,
    "base_inp": Register.INP_BASE,
    "base_wgt": Register.WGT_BASE,
    "base_acc": Register.ACC_BASE,
    "base_out": Register.OUT_BASE,
    "dram_limit": Register.DRAM_LIMIT,
}
_PAGED = (
    Register.UOP_BASE,
    Register.INP_BASE,
    Register.WGT_BASE,
    Register.ACC_BASE,
    Register.OUT_BASE,
)


class AxiLite(Signature):
    """An AXI4-Lite bus with words of 32 bits, seen from its master."""

    def __init__(self) -> None:
        super().__init__(
            {
                "awaddr": Out(registers.ADDRESS_BITS),
                "awprot": Out(3),
                "awvalid": Out(1),
                "awready": In(1),
                "wdata": Out(WORD_BITS),
                "wstrb": Out(STROBES),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                "araddr": Out(registers.ADDRESS_BITS),
                "arprot": Out(3),
                "arvalid": Out(1),
                "arready": In(1),
                "rdata": In(WORD_BITS),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class ControlPort(wiring.Component):
    """The registers of `vta_hw.spec.registers`, behind AXI4-Lite.

    A launch raises `clear` for one cycle; the next one is cycle 0 of the run, with `start` and
    `running`. The run lasts to the cycle with `ended`, inclusive, in which `verdict` and
    `verdict_index` are taken over. While it runs, writes to CONTROL and to what it was launched
    with change nothing. What is not mapped, and writes to what can only be read, answer SLVERR;
    the two low address bits are ignored.

    Parameters
    ----------
    config
        Gives the registers CONFIG_HASH.

    Members
    -------
    axi
        The bus, as its slave.
    irq
        The interrupt, high while it is enabled and pending.
    settings
        What the run was launched with (`SETTINGS`), constant from `clear` on while it runs.
    clear, start, running
        Course of a run, see above.
    ended, verdict, verdict_index
        Its end.
    counter, counter_value, settled
        The counter `COUNTERS[counter]`, or `ACC_WRITES`, one cycle later. After a run, no read is
        accepted until the counters are `settled`.
    """

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            {
                "axi": In(AxiLite()),
                "irq": Out(1),
                "settings": Out(SETTINGS),
                "clear": Out(1),
                "start": Out(1),
                "running": Out(1),
                "ended": In(1),
                "verdict": In(VERDICT_BITS),
                "verdict_index": In(INDEX_BITS),
                "counter": Out(range(ACC_WRITES + 1)),
                "counter_value": In(registers.COUNTER_BITS),
                "settled": In(1),
            }
        )
        self._hash = int(config.hash, 16)

    def elaborate(self, platform: Any) -> Module:
        """Build the registers, then the two sides of the bus."""
        m = Module()
        values = {
            register: Signal(WORD_BITS, name=register.name.lower())
            for register in (*_STORED.values(), Register.VERDICT, Register.IRQ_ENABLE)
        }
        values[Register.VERDICT_INDEX] = Signal(WORD_BITS, name="index", init=registers.NO_INDEX)
        values[Register.IRQ_STATUS] = Signal(1, name="irq_status")
        values[Register.CONTROL] = Signal(3, name="control")
        for name, register in _STORED.items():
            m.d.comb += self.settings[name].eq(values[register])
        limit = values[Register.DRAM_LIMIT]
        m.d.comb += [
            self.settings.dram_limit.eq(Cat(limit, limit == 0)),
            self.irq.eq(values[Register.IRQ_ENABLE][0] & values[Register.IRQ_STATUS]),
        ]
        self._write_side(m, values)
        self._run(m, values)
        self._read_side(m, values)
        return m

    def _write_side(self, m: Module, values: Mapping[Register, Signal]) -> None:
        """Take address and data in any order; write when both are there and the response is."""
        axi = self.axi
        address, address_held = Signal(registers.ADDRESS_BITS - _WORD_LOW), Signal()
        word, strobes, word_held = Signal(WORD_BITS), Signal(STROBES), Signal()
        write = Signal()
        m.d.comb += [
            axi.awready.eq(~address_held),
            axi.wready.eq(~word_held),
            write.eq(address_held & word_held & ~axi.bvalid),
        ]
        with m.If(axi.awvalid & axi.awready):
            m.d.sync += [address_held.eq(1), address.eq(axi.awaddr[_WORD_LOW:])]
        with m.If(axi.wvalid & axi.wready):
            m.d.sync += [word_held.eq(1), word.eq(axi.wdata), strobes.eq(axi.wstrb)]
        with m.If(axi.bready):
            m.d.sync += axi.bvalid.eq(0)
        with m.If(write):
            m.d.sync += [address_held.eq(0), word_held.eq(0)]
            m.d.sync += [axi.bvalid.eq(1), axi.bresp.eq(SLVERR)]
            with m.Switch(address):
                for register in Register:
                    if register not in registers.READ_ONLY:
                        with m.Case(register >> _WORD_LOW):
                            m.d.sync += axi.bresp.eq(OKAY)
                            self._write(m, register, values[register], word, strobes)

    def _write(
        self, m: Module, register: Register, value: Signal, word: Signal, strobes: Signal
    ) -> None:
        busy = self.clear | self.running
        bit = word[0] & strobes[0]
        merged = Cat(
            Mux(strobe, word.word_select(i, 8), value[8 * i : 8 * i + 8])
            for i, strobe in enumerate(strobes)
        )
        match register:
            case Register.CONTROL:
                with m.If(bit & ~busy):
                    m.d.sync += [self.clear.eq(1), value.eq(1 << registers.CONTROL_LAUNCH)]
            case Register.IRQ_STATUS:
                with m.If(bit):
                    m.d.sync += value.eq(0)
            case Register.IRQ_ENABLE:
                m.d.sync += value.eq(merged & 1)
            case _:
                unused = PAGE_BYTES - 1 if register in _PAGED else 0
                with m.If(~busy):
                    m.d.sync += value.eq(merged & ~Const(unused, WORD_BITS))

    def _run(self, m: Module, values: Mapping[Register, Signal]) -> None:
        """Follow a run. Comes after the writes: an end that meets one is not lost."""
        m.d.sync += self.start.eq(self.clear)
        with m.If(self.clear):
            m.d.sync += [self.clear.eq(0), self.running.eq(1)]
        with m.If(self.running & self.ended):
            good = self.verdict == Verdict.OK
            m.d.sync += [
                self.running.eq(0),
                values[Register.VERDICT].eq(self.verdict),
                values[Register.VERDICT_INDEX].eq(self.verdict_index),
                values[Register.IRQ_STATUS].eq(1),
                values[Register.CONTROL].eq(
                    Mux(good, 1 << registers.CONTROL_OK, 1 << registers.CONTROL_FAULT)
                ),
            ]

    def _read_side(self, m: Module, values: Mapping[Register, Signal]) -> None:
        """Take an address; a cycle later the counters answer, then the word is given."""
        axi = self.axi
        address = Signal(registers.ADDRESS_BITS - _WORD_LOW)
        counter_word = Signal.like(address)
        asked, answered = Signal(), Signal()
        m.d.comb += [
            axi.arready.eq(~(asked | answered | axi.rvalid) & (self.running | self.settled)),
            counter_word.eq(address - _COUNTER_WORD),
            self.counter.eq(counter_word[1:]),
        ]
        with m.Switch(address):
            with m.Case(Register.CYCLES >> _WORD_LOW):
                m.d.comb += self.counter.eq(COUNTERS.index("cycles"))
            with m.Case(Register.ACC_WRITES >> _WORD_LOW):
                m.d.comb += self.counter.eq(ACC_WRITES)
        m.d.sync += [asked.eq(axi.arvalid & axi.arready), answered.eq(asked)]
        with m.If(axi.arvalid & axi.arready):
            m.d.sync += address.eq(axi.araddr[_WORD_LOW:])
        with m.If(axi.rready):
            m.d.sync += axi.rvalid.eq(0)
        low, high = self.counter_value[:WORD_BITS], self.counter_value[WORD_BITS:]
        words: dict[Register, Any] = {
            **values,
            Register.CYCLES: low,
            Register.ACC_WRITES: low,
            Register.ID: Const(registers.CORE_ID, WORD_BITS),
            Register.CONFIG_HASH_LOW: Const(self._hash & 0xFFFFFFFF, WORD_BITS),
            Register.CONFIG_HASH_HIGH: Const(self._hash >> WORD_BITS, WORD_BITS),
        }
        with m.If(answered):
            m.d.sync += [axi.rvalid.eq(1), axi.rdata.eq(0), axi.rresp.eq(SLVERR)]
            with m.If((address >= _COUNTER_WORD) & (counter_word < _COUNTER_WORDS)):
                m.d.sync += [axi.rdata.eq(Mux(counter_word[0], high, low)), axi.rresp.eq(OKAY)]
            with m.Switch(address):
                for register in Register:
                    with m.Case(register >> _WORD_LOW):
                        word: Value = words[register]
                        m.d.sync += [axi.rdata.eq(word), axi.rresp.eq(OKAY)]
