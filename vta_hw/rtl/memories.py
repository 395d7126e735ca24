"""Memories of which no entry is read in the cycle in which it is written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


def parted_memory(width: int, depth: int, attributes: Mapping[str, str] = NO_ATTRIBUTES) -> Memory:
    """A memory whose user takes any value for an entry that is read while it is written.

    The attribute tells Yosys, which else keeps the old value in registers beside the block RAM.
    Simulation does not know it: there the old value is read. `attributes` are added.
    """
    # No memory of a single row: its address would have no bits.
    return Memory(shape=width, depth=max(depth, 2), init=[], attrs={"no_rw_check": 1, **attributes})


class Queue(wiring.Component):
    """A queue in block RAM of at most `depth` (2 or more) entries, the one at the output included.

    What is pushed into an empty queue in n is at the output from n + 2 on, the entry behind one
    that is popped in the cycle after that. `attributes` are added to those of the memory.

    Members
    -------
    push, entry
        Enters; only while `level` is below `depth`.
    pop
        Removes the entry at the output; without effect while there is none.
    valid, head
        The oldest entry.
    level
        How many there are.
    """

    def __init__(
        self, width: int, depth: int, attributes: Mapping[str, str] = NO_ATTRIBUTES
    ) -> None:
        self._depth = depth
        self._attributes = attributes
        super().__init__(
            {
                "push": In(1),
                "entry": In(width),
                "pop": In(1),
                "valid": Out(1),
                "head": Out(width),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The output is the read port's; as many rows as a power of two, so that places wrap."""
        m = Module()
        rows = max(2, 1 << (self._depth - 2).bit_length())
        m.submodules.storage = storage = parted_memory(len(self.entry), rows, self._attributes)
        write, read = storage.write_port(), storage.read_port()
        first, behind = Signal(range(rows)), Signal(range(rows))
        stored = Signal(range(self._depth))
        m.d.comb += [
            write.en.eq(self.push),
            write.addr.eq(behind),
            write.data.eq(self.entry),
            read.en.eq((stored != 0) & (~self.valid | self.pop)),
            read.addr.eq(first),
            self.head.eq(read.data),
            self.level.eq(stored + self.valid),
        ]
        m.d.sync += stored.eq(stored + self.push - read.en)
        with m.If(self.push):
            m.d.sync += behind.eq(behind + 1)
        with m.If(read.en):
            m.d.sync += [first.eq(first + 1), self.valid.eq(1)]
        with m.Elif(self.pop):
            m.d.sync += self.valid.eq(0)
        return m
