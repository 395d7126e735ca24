"""The on-chip memories UOP, INP and WGT."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In

from vta_hw.rtl.fabric import IN_BLOCKS, IN_LUTS, fabric_of
from vta_hw.rtl.memories import parted_memory
from vta_hw.rtl.signatures import ElementRead, ElementWrite, element_bits
from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig

_LANE = 9  # bits with a write enable of their own in a block RAM,
_BLOCK_LANES = 4  # so many in one that is 36 bits wide


class Scratchpad(Component):
    """A memory of elements with one writer and `readers` readers.

    Elements shorter than a beat lie in banks by their low index bits, so that a beat's elements are
    written at once from any index on; of a longer one, parts as wide as the bus can be written. An
    element read in the cycle in which it is written has an undefined value.

    Members
    -------
    write : In(ElementWrite)
        Takes effect at the end of the cycle. `count` is at least 1, and `index` + `count` at most
        the depth.
    read : In(ElementRead).array(readers)
    """

    def __init__(self, config: VtaConfig, memory: MemType, readers: int) -> None:
        self._config = config
        self._memory = memory
        read = ElementRead(config.depth_bits(memory), element_bits(config, memory))
        super().__init__(
            {"write": In(ElementWrite(config, memory)), "read": In(read).array(readers)}
        )

    def elaborate(self, platform: object) -> Module:
        """As many banks as a beat has elements, or as there are elements."""
        m = Module()
        elements = machine.elements_per_beat(self._config, self._memory)
        depth = self._config.depth(self._memory)
        banks = min(elements, depth)
        width = element_bits(self._config, self._memory)
        if len(self.write.parts) > 1 and fabric_of(platform).nine_bit_lanes:
            self._connect_lanes(m)
            return m
        memories = [parted_memory(width, depth // banks) for _ in range(banks)]
        for number, memory in enumerate(memories):
            m.submodules[f"bank_{number}"] = memory
        if banks == 1:
            self._connect_parts(m, memories[0])
        else:
            self._connect_banks(m, memories)
        for reader in self.read:
            self._connect_reader(m, reader, memories)
        return m

    def _connect_parts(self, m: Module, memory: Memory) -> None:
        write = self.write
        parts = len(write.parts)
        width = element_bits(self._config, self._memory)
        port = memory.write_port(granularity=width // parts if parts > 1 else None)
        m.d.comb += [
            port.addr.eq(write.index),
            port.data.eq(write.data),
            port.en.eq(Mux(write.enable, write.parts, 0)),
        ]

    def _connect_lanes(self, m: Module) -> None:
        """One memory per four lanes of 9 bits; one per part for its bits that fill no lane."""
        width = len(self.write.data) // len(self.write.parts)
        lanes = [
            range(start, min(start + _LANE, end))
            for end in range(width, len(self.write.data) + 1, width)
            for start in range(end - width, end, _LANE)
        ]
        full = [lane for lane in lanes if len(lane) == _LANE]
        groups = [full[n : n + _BLOCK_LANES] for n in range(0, len(full), _BLOCK_LANES)]
        groups += [[lane] for lane in lanes if len(lane) < _LANE]
        memories = []
        for number, group in enumerate(groups):
            bits, style = len(group[0]), IN_BLOCKS if len(group[0]) == _LANE else IN_LUTS
            memory = parted_memory(bits * len(group), self._config.depth(self._memory), style)
            m.submodules[f"lanes_{number}"] = memory
            memories.append(memory)
            port = memory.write_port(granularity=bits if len(group) > 1 else None)
            enables = [self.write.enable & self.write.parts[lane.start // width] for lane in group]
            m.d.comb += [
                port.addr.eq(self.write.index),
                port.data.eq(Cat(self.write.data[lane.start : lane.stop] for lane in group)),
                port.en.eq(Cat(enables)),
            ]
        for reader in self.read:
            for memory, group in zip(memories, groups, strict=True):
                port = memory.read_port()
                m.d.comb += [port.addr.eq(reader.index), port.en.eq(reader.enable)]
                for place, lane in enumerate(group):
                    part = port.data.word_select(place, len(lane))
                    m.d.comb += reader.data[lane.start : lane.stop].eq(part)

    def _connect_banks(self, m: Module, memories: list[Memory]) -> None:
        write = self.write
        bank_bits = (len(memories) - 1).bit_length()
        width = element_bits(self._config, self._memory)
        lanes = [write.data.word_select(lane, width) for lane in range(len(memories))]
        filled = [write.enable & (lane < write.count) for lane in range(len(memories))]
        entries: list[Value] = [
            Cat(lane, enable) for lane, enable in zip(lanes, filled, strict=True)
        ]
        for bit in range(bank_bits):
            turned = entries[-(1 << bit) :] + entries[: -(1 << bit)]
            chosen = [Signal(width + 1, name=f"turn_{bit}_{n}") for n in range(len(entries))]
            for target, stay, turn in zip(chosen, entries, turned, strict=True):
                m.d.comb += target.eq(Mux(write.index[bit], turn, stay))
            entries = list(chosen)
        row, first_bank = write.index[bank_bits:], write.index[:bank_bits]
        for bank, (memory, entry) in enumerate(zip(memories, entries, strict=True)):
            port = memory.write_port()
            m.d.comb += [
                port.addr.eq(row + (bank < first_bank)),
                port.data.eq(entry[:width]),
                port.en.eq(entry[width]),
            ]

    def _connect_reader(self, m: Module, reader: Any, memories: list[Memory]) -> None:
        bank_bits = (len(memories) - 1).bit_length()
        bank = reader.index[:bank_bits]
        chosen = Signal(bank_bits)
        with m.If(reader.enable):
            m.d.sync += chosen.eq(bank)
        found = []
        for number, memory in enumerate(memories):
            port = memory.read_port()
            m.d.comb += [
                port.addr.eq(reader.index[bank_bits:]),
                port.en.eq(reader.enable & (bank == number)),
            ]
            found.append(Mux(chosen == number, port.data, 0) if bank_bits else port.data)
        m.d.comb += reader.data.eq(reduce(or_, found))
