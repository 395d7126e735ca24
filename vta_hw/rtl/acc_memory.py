"""The ACC memory: who gets a slot of it, reads and writes behind the slot, its mirror OUT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from vta_hw.rtl.copies import register_copies
from vta_hw.rtl.memories import parted_memory
from vta_hw.rtl.signatures import (
    AccLoad,
    AccSlot,
    OutRead,
    acc_elements,
    acc_index_bits,
    element_bits,
)
from vta_hw.spec.config import ACC_LANE_BITS, MemType, VtaConfig
from vta_hw.spec.machine import ACC_HALVES, ACC_READ_DELAY, ACC_WRITE_DELAY

_OUT_BITS = 8
# Cycles from a grant to the read of the memory itself, and to the one in which its data come.
_READ, _FOUND = 1, 2

if _FOUND + 1 != ACC_READ_DELAY:
    raise ImportError(f"what is read in cycle {_READ} is not there {ACC_READ_DELAY} after a grant")


@dataclass(frozen=True)
class _Place:
    """Where the elements of one bank are: `slot` is their place in a beat that begins at 0."""

    half: int
    slot: int


@dataclass(frozen=True)
class _Write:
    enable: Value
    row: Value
    data: Value


@dataclass(frozen=True)
class _Bank:
    """What a bank has two cycles after a grant, of which the ALU writes something newer or not."""

    value: Value
    overtaken: Value


class AccMemory(wiring.Component):
    """ACC and OUT, with the slots of rule G2.

    A grant in n is followed by a read in n + ACC_READ_DELAY and a write in n + ACC_WRITE_DELAY. A
    read sees the write of the same cycle. So that neither block RAM nor that write are in a long
    path, the memory is read before, and what is written until then replaces what it gave.

    OUT has the low 8 bits of each lane of what is written; an element of it that is read in the
    cycle in which it is written has an undefined value.

    Members
    -------
    load: the acc loader. `count` of a beat is at least 1; `fill` is never high beside a beat.
    gemm, alu: the units.
    out: the store engine.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        self._index_bits = acc_index_bits(config)
        self._element_bits = element_bits(config, MemType.ACC)
        self._elements = acc_elements(config)
        self._half_elements = config.depth(MemType.ACC) // ACC_HALVES
        self._banks = min(self._elements, self._half_elements)
        self._bank_depth = max(2, self._half_elements // self._banks)
        self._slot_bits = min(self._index_bits, (self._elements - 1).bit_length())
        self._out_bits = element_bits(config, MemType.OUT)
        self._access = data.StructLayout(
            {
                "index": self._index_bits,
                "count": range(self._elements + 1),
                "load": 1,
                "gemm": 1,
                "alu": 1,
                "write": 1,
            }
        )
        super().__init__(
            {
                "load": In(AccLoad(config)),
                "gemm": In(AccSlot(config)),
                "alu": In(AccSlot(config)),
                "out": In(OutRead(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Each half has its own pipeline of accesses; a bank belongs to one half."""
        m = Module()
        granted = self._arbitrate(m)
        accesses = [self._delay(m, half, access) for half, access in enumerate(granted)]
        loaded = self._loaded(m)
        out_data: list[Value] = [Const(0, self._out_bits)] * (ACC_HALVES * self._elements)
        halves = []
        for half, stages in enumerate(accesses):
            at_write, next_write = stages[ACC_WRITE_DELAY], stages[ACC_WRITE_DELAY - 1]
            banks = []
            for bank in range(self._banks):
                place = _Place(half, (half * self._half_elements + bank) % self._elements)
                name = f"{half}_{bank}"
                coming = Signal(self._element_bits, name=f"coming_{name}")
                settled = Signal(self._element_bits, name=f"settled_{name}")
                write_data = Signal(self._element_bits, name=f"write_data_{name}")
                value = loaded.word_select(place.slot, self._element_bits)
                m.d.comb += [
                    coming.eq(Mux(next_write.load, value, self.gemm.write_data)),
                    write_data.eq(Mux(at_write.alu, self.alu.write_data, settled)),
                ]
                m.d.sync += settled.eq(coming)
                row, _ = self._row(place, at_write.index)
                write = _Write(self._written(place, at_write), row, write_data)
                banks.append(self._acc_bank(m, place, stages, write, coming))
                out_data[half * self._elements + place.slot] = self._out_bank(m, place, write)
            number = stages[_FOUND].index[: (self._banks - 1).bit_length()]
            values = [bank.value for bank in banks]
            overtaken = [bank.overtaken for bank in banks]
            halves.append(
                (
                    _selected(m, values, number, f"found_{half}"),
                    _selected(m, overtaken, number, f"overtaken_{half}"),
                )
            )
        self._give(m, accesses[1][_FOUND], halves)
        self._read_out(m, out_data[: self._elements], out_data[self._elements :])
        return m

    # -- slots ------------------------------------------------------------------------------------

    def _arbitrate(self, m: Module) -> list[data.View]:
        """Rule G2; the access that each half grants, with none of its flags if there is none."""
        load, gemm, alu = self.load, self.gemm, self.alu
        beat_halves = (load.index[-1], self._last_half(m))
        granted = []
        # What is free for a unit does not look at whether it asks, which is known last.
        free: dict[str, list[Value]] = {"gemm": [], "alu": [], "fill": []}
        asks = {
            "gemm": (gemm.valid, gemm.index),
            "alu": (alu.valid, alu.index),
            "fill": (load.fill, load.fill_index),
        }
        for half in range(ACC_HALVES):
            access = Signal(self._access, name=f"granted_{half}")
            beat = load.beat & Cat(end == half for end in beat_halves).any()
            unasked = ~beat
            by = {}
            for name, (asked, index) in asks.items():
                here = Signal(name=f"free_{name}_{half}")
                m.d.comb += here.eq(unasked)
                free[name].append(here)
                by[name] = asked & (index[-1] == half) & here
                unasked = here & ~(asked & (index[-1] == half))
            m.d.comb += [
                access.index.eq(
                    Mux(
                        beat,
                        load.index,
                        Mux(
                            by["gemm"], gemm.index, Mux(by["alu"], alu.index, load.fill_index)
                        ),
                    )
                ),
                access.count.eq(Mux(beat, load.count, 1)),
                access.load.eq(beat | by["fill"]),
                access.gemm.eq(by["gemm"]),
                access.alu.eq(by["alu"]),
                access.write.eq(
                    beat | by["fill"] | (by["gemm"] & gemm.write) | (by["alu"] & alu.write)
                ),
            ]  # fmt: skip
            granted.append(access)
        grants = {
            name: asked & Mux(index[-1], free[name][1], free[name][0])
            for name, (asked, index) in asks.items()
        }
        m.d.comb += [
            gemm.grant.eq(grants["gemm"]),
            alu.grant.eq(grants["alu"]),
            load.fill_grant.eq(grants["fill"]),
        ]
        return granted

    def _last_half(self, m: Module) -> Value:
        """The half in which a beat's last element is.

        Another than that of its first only if that is in the last place for a beat of its half.
        """
        load, bits = self.load, self._slot_bits
        if bits >= self._index_bits:
            last = Signal(self._index_bits)
            m.d.comb += last.eq(load.index + load.count - 1)
            return last[-1]
        leaves = Signal(bits + 1)
        m.d.comb += leaves.eq(load.index[:bits] + load.count - 1)
        return load.index[-1] ^ (load.index[bits:-1].all() & (leaves[bits] if bits else Const(0)))

    def _delay(self, m: Module, half: int, access: data.View) -> list[data.View]:
        """The access so many cycles after its grant."""
        stages = [access]
        for stage in range(1, ACC_WRITE_DELAY + 1):
            stages.append(Signal(self._access, name=f"access_{half}_{stage}"))
            m.d.sync += stages[-1].eq(stages[-2])
        return stages

    def _loaded(self, m: Module) -> Value:
        """What a beat or a fill brought, each element in its slot, one cycle before its write."""
        load = self.load
        width = self._elements * self._element_bits
        depth = 1 << (ACC_WRITE_DELAY - 1).bit_length()
        m.submodules.delay = delay = Memory(shape=unsigned(width), depth=depth, init=[])
        write, read = delay.write_port(), delay.read_port()
        place = Signal(range(depth))
        # Of the cycles from the slot to the write, one goes before the memory and two behind it.
        pending = Signal(ACC_WRITE_DELAY - 3)
        value = load.data
        for level, bit in enumerate(load.index[: self._slot_bits]):
            value = _turned(m, value, bit, self._element_bits << level, f"load_{level}")
        stored, store = Signal(width), Signal()
        m.d.sync += [
            store.eq(load.beat | load.fill_grant),
            stored.eq(Mux(load.fill, load.fill_data.replicate(self._elements), value)),
        ]
        m.d.comb += [
            write.en.eq(store),
            write.addr.eq(place),
            write.data.eq(stored),
            read.addr.eq(place - len(pending)),
            read.en.eq(pending[-1]),
        ]
        m.d.sync += [place.eq(place + 1), pending.eq(Cat(write.en, pending))]
        return read.data

    # -- banks ------------------------------------------------------------------------------------

    def _row(self, place: _Place, index: Value) -> tuple[Value, Value]:
        """Of the elements from `index` on, as many as in a beat, one is in the slot of `place`.

        Gives its row in a bank, and whether it is in the half of `place`.
        """
        if self._banks < self._elements:
            # ACC has no more elements than a beat: each bank holds one.
            return Const(0, 1), Const(1)
        element = index
        if self._elements > 1:
            low, high = index[: self._slot_bits], index[self._slot_bits :]
            element = (high + (low > place.slot))[: len(high)]
        return element[:-1], element[-1] == place.half

    def _written(self, place: _Place, access: data.View) -> Value:
        if self._elements == 1:
            return access.write
        _, in_half = self._row(place, access.index)
        distance = (place.slot - access.index)[: (self._elements - 1).bit_length()]
        return access.write & in_half & (distance < access.count)

    def _acc_bank(
        self, m: Module, place: _Place, stages: Sequence[data.View], write: _Write, coming: Value
    ) -> _Bank:
        """ACC of one bank, of which `coming` is written in the next cycle unless it is the ALU's.

        It is read one cycle after the grant. Of what is written from then on, the newest takes the
        place of what it gave; what does is found in the cycle before.
        """
        memory = parted_memory(self._element_bits, self._bank_depth)
        m.submodules[f"acc_{place.half}_{place.slot}"] = memory
        write_port = memory.write_port()
        read_port = memory.read_port()
        m.d.comb += [
            write_port.en.eq(write.enable),
            write_port.addr.eq(write.row),
            write_port.data.eq(write.data),
            read_port.en.eq(stages[_READ].gemm | stages[_READ].alu),
            read_port.addr.eq(self._row(place, stages[_READ].index)[0]),
        ]

        def meets(writer: data.View, reader: data.View) -> Value:
            row, _ = self._row(place, writer.index)
            return self._written(place, writer) & (row == self._row(place, reader.index)[0])

        name = f"{place.half}_{place.slot}"
        missed, hit, next_hit = (
            Signal(name=f"{kind}_{name}") for kind in ("missed", "hit", "next_hit")
        )
        missed_data = Signal.like(write.data, name=f"missed_data_{name}")
        reading, after = stages[_READ], stages[ACC_WRITE_DELAY - 2]
        m.d.sync += [
            missed.eq(meets(stages[ACC_WRITE_DELAY], reading)),
            missed_data.eq(write.data),
            hit.eq(meets(stages[ACC_WRITE_DELAY - 1], reading)),
            next_hit.eq(meets(after, reading) & ~after.alu),
        ]
        next_write = stages[ACC_WRITE_DELAY - 1]
        value = Signal.like(write.data, name=f"value_{name}")
        overtaken = Signal(name=f"overtaken_{name}")
        m.d.comb += [
            value.eq(
                Mux(
                    next_hit,
                    coming,
                    Mux(hit, write.data, Mux(missed, missed_data, read_port.data)),
                )
            ),
            overtaken.eq(next_write.alu & meets(next_write, stages[_FOUND])),
        ]
        return _Bank(value, overtaken)

    def _give(self, m: Module, upper: data.View, halves: Sequence[tuple[Value, Value]]) -> None:
        """To each unit what its half has, one cycle later; `upper` is what the upper one found.

        What the ALU writes in that cycle is newer: it knows that itself, GEMM gets it.
        """
        (low, low_overtaken), (high, high_overtaken) = halves
        found, overtaken = {}, {}
        for unit in ("gemm", "alu"):
            found[unit] = Signal(self._element_bits, name=f"{unit}_found")
            m.d.sync += found[unit].eq(Mux(upper[unit], high, low))
            overtaken[unit] = Mux(upper[unit], high_overtaken, low_overtaken)
        gemm_fresh = Signal()
        given = Signal(self._element_bits, name="gemm_given")
        m.d.sync += [
            gemm_fresh.eq(overtaken["gemm"]),
            given.eq(Mux(gemm_fresh, self.alu.write_data, found["gemm"])),
        ]
        m.d.comb += [
            self.gemm.read_data.eq(given),
            self.alu.read_data.eq(found["alu"]),
            self.alu.fresh.eq(Cat(register_copies(m, "alu_fresh", overtaken["alu"]))),
        ]

    def _out_bank(self, m: Module, place: _Place, write: _Write) -> Value:
        """OUT of one bank; gives what is read from it."""
        memory = parted_memory(self._out_bits, self._bank_depth)
        m.submodules[f"out_{place.half}_{place.slot}"] = memory
        write_port = memory.write_port()
        read_port = memory.read_port()
        lanes = range(self._element_bits // ACC_LANE_BITS)
        m.d.comb += [
            write_port.en.eq(write.enable),
            write_port.addr.eq(write.row),
            write_port.data.eq(
                Cat(write.data.word_select(lane, ACC_LANE_BITS)[:_OUT_BITS] for lane in lanes)
            ),
            read_port.en.eq(self.out.enable),
            read_port.addr.eq(self._row(place, self.out.index)[0]),
        ]
        return read_port.data

    def _read_out(self, m: Module, low: Sequence[Value], high: Sequence[Value]) -> None:
        """From the slots of both halves to the elements in their order."""
        index = Signal(self._index_bits)
        with m.If(self.out.enable):
            m.d.sync += index.eq(self.out.index)
        slots = []
        for slot, halves in enumerate(zip(low, high, strict=True)):
            if self._banks < self._elements:
                slots.append(halves[slot // self._half_elements % ACC_HALVES])
            else:
                slots.append(Mux(self._row(_Place(1, slot), index)[1], halves[1], halves[0]))
        value = Signal.like(self.out.data)
        m.d.comb += value.eq(Cat(slots))
        amount = index[: self._slot_bits]
        for level, bit in enumerate(amount):
            value = _turned(m, value, bit, -self._out_bits << level, f"out_{level}")
        m.d.comb += self.out.data.eq(value)


def _selected(m: Module, values: Sequence[Value], number: Value, name: str) -> Value:
    """values[number], by a tree of multiplexers; there are 2^len(number)."""
    for level, bit in enumerate(number):
        pairs = list(zip(values[::2], values[1::2], strict=True))
        values = []
        for place, (low, high) in enumerate(pairs):
            value = Signal.like(low, name=f"{name}_{level}_{place}")
            m.d.comb += value.eq(Mux(bit, high, low))
            values.append(value)
    return values[0]


def _turned(m: Module, value: Value, by: Value, amount: int, name: str) -> Value:
    """`value` rotated up by `amount` bits if `by` is high."""
    turned = Signal.like(value, name=name)
    m.d.comb += turned.eq(Mux(by, value.rotate_left(amount), value))
    return turned
