"""A serial line of bytes: one start bit, 8 data bits, low one first, one stop bit."""

from __future__ import annotations

from math import gcd
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

DATA_BITS = 8
FRAME_BITS = DATA_BITS + 2
LEAST_CLOCKS_PER_BIT = 8
"""Below, the receiver would no longer stand a sender that is 2 % too slow or too fast."""


class BitTimer:
    """Ticks at exactly `baud` times in `clock_hz` clock cycles, whatever the two are.

    A sum grows by baud / g in each cycle and falls by clock_hz / g in the one in which it reaches
    that (g: their greatest common divisor). The rate has no error; single ticks come up to one
    clock cycle late.
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        if clock_hz < LEAST_CLOCKS_PER_BIT * baud:
            raise ValueError(
                f"a baud rate of {baud} needs a clock of {LEAST_CLOCKS_PER_BIT * baud} Hz or more, "
                f"not {clock_hz} Hz"
            )
        divisor = gcd(clock_hz, baud)
        self._step, self._period = baud // divisor, clock_hz // divisor
        self._sum = Signal(range(self._period))
        self.tick = Signal()
        """High for one cycle in each bit."""

    def build(self, m: Module, restart: Any = 0) -> None:
        """Put it into `m`; the first tick after `restart` comes after half a bit."""
        rest = self._period - self._step
        m.d.comb += self.tick.eq(self._sum >= rest)
        m.d.sync += self._sum.eq(Mux(self.tick, self._sum - rest, self._sum + self._step))
        with m.If(restart):
            m.d.sync += self._sum.eq(self._period // 2)


class UartReceiver(wiring.Component):
    """Bytes from a line that is not synchronous to the clock.

    The line is seen through two flip-flops and the majority of three cycles in a row, so that
    pulses of one cycle are not seen at all; what looks like a start bit must still do so in its
    middle. Bits are sampled in their middles, counted from the edge of the start bit.

    Members
    -------
    line : In(1)
        High when idle.
    valid, data : Out(1), Out(8)
        A byte has come, for one cycle.
    error : Out(1)
        A byte has come without its stop bit, for one cycle. Nothing is received until the line is
        high again.
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        self._timer = BitTimer(clock_hz, baud)
        super().__init__({"line": In(1), "valid": Out(1), "data": Out(DATA_BITS), "error": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        """Filter, then sample."""
        m = Module()
        now, before, earlier = (Signal(init=1, name=f"line_{age}") for age in range(3))
        level = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.line, now, init=1)
        m.d.sync += [
            before.eq(now),
            earlier.eq(before),
            level.eq((now & before) | (now & earlier) | (before & earlier)),
        ]
        start, tick = Signal(), self._timer.tick
        self._timer.build(m, start)
        left = Signal(range(FRAME_BITS))
        m.d.sync += [self.valid.eq(0), self.error.eq(0)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += start.eq(~level)
                m.d.sync += left.eq(DATA_BITS)
                with m.If(~level):
                    m.next = "START"
            with m.State("START"), m.If(tick):
                m.next = "DATA"
                with m.If(level):
                    m.next = "IDLE"
            with m.State("DATA"), m.If(tick):
                m.d.sync += [left.eq(left - 1), self.data.eq(Cat(self.data[1:], level))]
                with m.If(left == 1):
                    m.next = "STOP"
            with m.State("STOP"), m.If(tick):
                m.d.sync += [self.valid.eq(level), self.error.eq(~level)]
                m.next = "RELEASE"
            with m.State("RELEASE"), m.If(level):
                m.next = "IDLE"
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a line.

    Members
    -------
    bytes : In(stream.Signature(8))
        What is sent. Bytes that are there in time follow each other without a gap.
    line : Out(1)
        High when idle; registered.
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        self._timer = BitTimer(clock_hz, baud)
        super().__init__({"bytes": In(stream.Signature(DATA_BITS)), "line": Out(1, init=1)})

    def elaborate(self, platform: Any) -> Module:
        """Shift out a bit at each tick."""
        m = Module()
        timer = self._timer
        timer.build(m)
        bits = Signal(FRAME_BITS - 1, init=-1)
        left = Signal(range(FRAME_BITS))
        m.d.comb += self.bytes.ready.eq(timer.tick & (left == 0))
        with m.If(timer.tick):
            m.d.sync += [self.line.eq(bits[0]), bits.eq(Cat(bits[1:], 1))]
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            with m.Elif(self.bytes.valid):
                m.d.sync += [
                    self.line.eq(0),
                    bits.eq(Cat(self.bytes.payload, 1)),
                    left.eq(FRAME_BITS - 1),
                ]
        return m
