"""The loaders of UOP, INP and WGT."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from vta_hw.rtl.load_control import LoadControl
from vta_hw.rtl.signatures import LOAD_JOB, ElementWrite, ReadPort, Work, bus_bits, element_bits
from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig

LEAST_INT8 = 0x80


class Loader(Component):
    """Loads one memory (rules L2 to L5, D1): a beat that arrives in a is written in a.

    At most `STAGE_SLOTS` jobs may be here at a time.

    Parameters
    ----------
    memory
        UOP, INP or WGT.

    Members
    -------
    work : In(Work(LOAD_JOB))
        Ready while the waiting place is empty.
    port : Out(ReadPort)
    write : Out(ElementWrite)
    moving : Out(1)
        A job is taken or a vector filled.
    busy : Out(1)
        A beat arrives or a vector is filled.
    port_wait : Out(1)
        A vector could be filled but for a beat.
    """

    def __init__(self, config: VtaConfig, memory: MemType) -> None:
        self._config = config
        self._memory = memory
        super().__init__(
            {
                "work": In(Work(LOAD_JOB)),
                "port": Out(ReadPort(config)),
                "write": Out(ElementWrite(config, memory)),
                "moving": Out(1),
                "busy": Out(1),
                "port_wait": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """The control says where; here a beat is turned so that its first element comes first."""
        m = Module()
        m.submodules.control = control = LoadControl(self._config, (self._memory,))
        connect_control(m, self, control)
        parts = machine.beats_per_element(self._config, self._memory)
        elements = machine.elements_per_beat(self._config, self._memory)
        bus = bus_bits(self._config)
        log = self._config.log_elem_bytes(self._memory)
        aligned = align(
            m,
            self.port.data,
            control.offset[log:],
            elements,
            element_bits(self._config, self._memory),
        )
        # Padding is the same in every byte.
        padding = Mux(control.least, int.from_bytes(bytes([LEAST_INT8]) * (bus // 8)), 0)
        value = Signal(bus)
        m.d.comb += [
            value.eq(Mux(self.port.beat, aligned, padding)),
            control.filled.eq(control.fill),
            self.write.enable.eq(self.port.beat | control.fill),
            self.write.index.eq(Mux(self.port.beat, control.index, control.fill_index)),
            self.write.count.eq(Mux(self.port.beat, control.count, 1)),
            self.write.data.eq(value.replicate(parts)),
        ]
        for part in range(parts):
            m.d.comb += self.write.parts[part].eq(~self.port.beat | (control.part == part))
        return m


def connect_control(m: Module, loader: Component, control: LoadControl) -> None:
    """Hand the ports of a loader to its control."""
    connect(m, flipped(loader.work), control.work)
    connect(m, flipped(loader.port), control.port)
    m.d.comb += [
        getattr(loader, name).eq(getattr(control, name)) for name in ("moving", "busy", "port_wait")
    ]


def align(m: Module, beat: Signal, position: Value, elements: int, width: int) -> Signal:
    """The beat from element number `position` on; what lies beyond its end is arbitrary."""
    for bit in range((elements - 1).bit_length()):
        # A signal for each step: an expression that is used twice becomes hardware twice.
        turned = Signal.like(beat, name=f"aligned_{width}_{bit}")
        m.d.comb += turned.eq(Mux(position[bit], beat[width << bit :], beat))
        beat = turned
    return beat
