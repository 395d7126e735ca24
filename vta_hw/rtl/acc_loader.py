"""The loader of ACC."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from vta_hw.rtl.load_control import LoadControl
from vta_hw.rtl.loader import align, connect_control
from vta_hw.rtl.signatures import LOAD_JOB, AccLoad, ReadPort, Work, bus_bits, element_bits
from vta_hw.spec import machine
from vta_hw.spec.config import ACC_LANE_BITS, MemType, VtaConfig

LEAST_INT32 = 1 << 31
LEAST_INT8 = 0xFFFFFF80
"""-128, sign-extended."""


class AccLoader(Component):
    """Loads ACC from elements of 32 or of 8 bits per lane (rules L2 to L5, D1, D2).

    At most `STAGE_SLOTS` jobs may be here at a time.

    Members
    -------
    work : In(Work(LOAD_JOB))
        Ready while the waiting place is empty.
    port : Out(ReadPort)
    acc : Out(AccLoad)
        A beat takes its slots in the cycle in which it arrives, if it completes elements.
    moving : Out(1)
        A job is taken or a vector filled.
    busy : Out(1)
        A beat arrives or a vector is filled.
    port_wait : Out(1)
        A vector could be filled but for a beat or a slot.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                "work": In(Work(LOAD_JOB)),
                "port": Out(ReadPort(config)),
                "acc": Out(AccLoad(config)),
                "moving": Out(1),
                "busy": Out(1),
                "port_wait": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The beats of an element that is longer are kept until its last one arrives."""
        m = Module()
        memories = (MemType.ACC, MemType.ACC_8BIT)
        m.submodules.control = control = LoadControl(self._config, memories)
        connect_control(m, self, control)

        most_parts = machine.beats_per_element(self._config, MemType.ACC)
        earlier = [
            Signal(bus_bits(self._config), name=f"part_{part}") for part in range(most_parts - 1)
        ]
        for part, kept in enumerate(earlier):
            with m.If(self.port.beat & (control.part == part)):
                m.d.sync += kept.eq(self.port.data)

        wide, narrow = (self._elements(m, memory, earlier, control.offset) for memory in memories)
        width = element_bits(self._config, MemType.ACC)
        extended = Cat(
            Cat(narrow[low : low + 8], narrow[low + 7].replicate(24))
            for low in range(0, len(narrow), 8)
        )
        replica = Signal(width)
        with m.If(self.acc.beat & control.replicate):
            m.d.sync += replica.eq(self.acc.data)
        least = Mux(control.fill_eight_bit, LEAST_INT8, LEAST_INT32)
        padding = Signal(ACC_LANE_BITS)
        m.d.comb += [
            padding.eq(Mux(control.least, least, 0)),
            self.acc.beat.eq(self.port.beat & control.complete),
            self.acc.index.eq(control.index),
            self.acc.count.eq(control.count),
            self.acc.data.eq(Mux(control.eight_bit, extended, wide)),
            self.acc.fill.eq(control.fill),
            self.acc.fill_index.eq(control.fill_index),
            self.acc.fill_data.eq(
                Mux(control.replicate, replica, padding.replicate(width // ACC_LANE_BITS))
            ),
            control.filled.eq(control.fill & self.acc.fill_grant),
        ]
        return m

    def _elements(
        self, m: Module, memory: MemType, earlier: Sequence[Signal], offset: Value
    ) -> Signal:
        """What the beat that arrives completes, as it lies in memory."""
        parts = machine.beats_per_element(self._config, memory)
        if parts > 1:
            element = Signal(element_bits(self._config, memory))
            m.d.comb += element.eq(Cat(*earlier[: parts - 1], self.port.data))
            return element
        elements = machine.elements_per_beat(self._config, memory)
        log = self._config.log_elem_bytes(memory)
        return align(m, self.port.data, offset[log:], elements, 8 << log)
