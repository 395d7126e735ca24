"""The serial line: rates that no clock divides, senders that are off, pulses, lost stop bits."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from random import Random

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.sim import Simulator

from fpga.protocol import CRC_RESIDUE
from fpga.soc.crc import Crc
from fpga.soc.uart import BitTimer, UartReceiver, UartTransmitter

BAUD = 3_000_000
CLOCKS = (24_000_000, 50_000_000, 60_000_000, 62_500_000, 64_000_000, 75_000_000, 80_000_000)


class Sender:
    """Drives the line of a receiver at its own rate."""

    def __init__(self, ctx, dut: UartReceiver, rate: float) -> None:
        self._ctx, self._dut, self._bit_s = ctx, dut, 1 / rate

    async def level(self, value: int, bits: float) -> None:
        self._ctx.set(self._dut.line, value)
        await self._ctx.delay(bits * self._bit_s)

    async def byte(self, value: int, stop: int = 1) -> None:
        for bit in (0, *(value >> place & 1 for place in range(8)), stop):
            await self.level(bit, 1)


def receive(clock_hz: int, rate: float, send: Callable) -> list[int | None]:
    """What the receiver gives for what `send` does with the line: bytes, and None for errors."""
    dut = UartReceiver(clock_hz, BAUD)
    got: list[int | None] = []

    async def sender(ctx):
        ctx.set(dut.line, 1)
        await ctx.delay(3.3 / clock_hz)
        await send(Sender(ctx, dut, rate))
        await ctx.delay(2 / BAUD)

    async def listener(ctx):
        async for _, _, valid, data, error in ctx.tick().sample(dut.valid, dut.data, dut.error):
            if valid:
                got.append(data)
            if error:
                got.append(None)

    simulator = Simulator(dut)
    simulator.add_clock(1 / clock_hz)
    simulator.add_testbench(sender)
    simulator.add_testbench(listener, background=True)
    simulator.run()
    return got


@pytest.mark.parametrize("clock_hz", CLOCKS)
@pytest.mark.parametrize("error", [-0.02, 0.0, 0.02])
def test_senders_that_are_off(clock_hz: int, error: float):
    random = Random(clock_hz)
    sent = [0x00, 0xFF, 0x55, 0xAA, 0x7E, 0x01, 0x80, *random.randbytes(8)]

    async def send(line: Sender) -> None:
        for value in sent:
            await line.byte(value)
            if random.random() < 0.3:
                await line.level(1, random.random() * 3)

    assert receive(clock_hz, BAUD * (1 + error), send) == sent


def test_pulses_are_not_seen():
    clock_hz = 50_000_000
    cycle = BAUD / clock_hz

    async def send(line: Sender) -> None:
        for length in (0.9 * cycle, 0.3, 0.4):
            await line.level(0, length)
            await line.level(1, 1.7)
        await line.byte(0x5A)
        # Shorter than a cycle, in the middle of each bit.
        for bit in (0, 1, 0, 1, 1, 0, 0, 1, 0, 1):
            await line.level(bit, 0.5)
            await line.level(1 - bit, 0.9 * cycle)
            await line.level(bit, 0.5 - 0.9 * cycle)

    assert receive(clock_hz, BAUD, send) == [0x5A, 0b01001101]


def test_a_byte_without_stop_bit():
    async def send(line: Sender) -> None:
        await line.byte(0x12)
        await line.byte(0x34, stop=0)
        await line.level(0, 25)
        await line.level(1, 1)
        await line.byte(0x56)

    assert receive(50_000_000, BAUD, send) == [0x12, None, 0x56]


@pytest.mark.parametrize("clock_hz", CLOCKS)
def test_edges_are_at_most_a_cycle_late(clock_hz: int):
    dut = UartTransmitter(clock_hz, BAUD)
    sent = [0x00, 0x7E, 0x55, 0xFF, 0xC3] * 4
    levels: list[int] = []

    async def feed(ctx):
        for value in sent:
            ctx.set(dut.bytes.payload, value)
            ctx.set(dut.bytes.valid, 1)
            await ctx.tick().until(dut.bytes.ready)
        ctx.set(dut.bytes.valid, 0)
        await ctx.tick().repeat(int(12 * clock_hz / BAUD))

    async def listen(ctx):
        async for *_, level in ctx.tick().sample(dut.line):
            levels.append(level)

    simulator = Simulator(dut)
    simulator.add_clock(1 / clock_hz)
    simulator.add_testbench(feed)
    simulator.add_testbench(listen, background=True)
    simulator.run()
    bits = [bit for value in sent for bit in (0, *(value >> n & 1 for n in range(8)), 1)]
    begin, cycles = levels.index(0), clock_hz / BAUD
    for place, bit in enumerate(bits):
        first, last = begin + place * cycles + 1, begin + (place + 1) * cycles - 1
        assert set(levels[round(first) : round(last)]) == {bit}, place
    assert set(levels[round(begin + len(bits) * cycles) :]) == {1}


def test_a_clock_that_is_too_slow():
    with pytest.raises(ValueError, match="^a baud rate of 3000000 needs a clock of 24000000 Hz"):
        BitTimer(23_999_999, BAUD)


def test_crc_of_the_hardware_is_that_of_zlib():
    dut = Crc()
    contents = [b"123456789", b"\x00", bytes(range(40))]
    values: list[int] = []

    async def run(ctx):
        for content in contents:
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            for byte in content + zlib.crc32(content).to_bytes(4, "little"):
                values.append(ctx.get(dut.value))
                ctx.set(dut.data, byte)
                ctx.set(dut.enable, 1)
                await ctx.tick()
                ctx.set(dut.enable, 0)
                await ctx.tick().until(~dut.busy)
            assert values[-4] == zlib.crc32(content) ^ 0xFFFFFFFF
            assert ctx.get(dut.value) == CRC_RESIDUE

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(run)
    simulator.run()
