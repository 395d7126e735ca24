"""The buffer of the link: whole requests in order, whatever comes and however slowly they go."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from amaranth.sim import Simulator

from fpga.protocol import CONTENT_BYTES, FLAG, HEADER_BYTES, STALL_MS, Deframer, frame
from fpga.soc.link_rx import BUFFER_BYTES, RING_BYTES, LinkRx
from tests.fpga.link_model import Noise

BYTE_CYCLES = 13
"""Between two bytes; a CRC takes 8."""


def simulate(dut: LinkRx, line: bytes, waits: list[int], pause: int = 0):
    """Contents that come out, and how many frames ended how.

    After each byte of the output as many cycles pass as `waits` says, in turn; nothing is taken in
    the first `pause` cycles.
    """
    taken = bytearray()
    counts = {"good": 0, "bad": 0, "stalled": 0, "overrun": 0}

    async def send(ctx):
        for byte in line:
            ctx.set(dut.data, byte)
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)
            await ctx.tick().repeat(BYTE_CYCLES - 1)
        await ctx.tick().repeat(pause + (max(waits) + 4) * RING_BYTES // 16)

    async def take(ctx):
        ready, left = False, pause
        async for _, _, valid, payload in ctx.tick().sample(dut.bytes.valid, dut.bytes.payload):
            if ready and valid:
                taken.append(payload)
                left = waits[len(taken) % len(waits)]
            ready, left = left == 0, max(0, left - 1)
            ctx.set(dut.bytes.ready, ready)

    async def count(ctx):
        signals = [getattr(dut, name) for name in counts]
        async for _, _, *events in ctx.tick().sample(*signals):
            for name, event in zip(counts, events, strict=True):
                counts[name] += event

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_testbench(take, background=True)
    simulator.add_testbench(count, background=True)
    simulator.run()
    found = []
    while taken:
        length = int.from_bytes(taken[:2], "little")
        found.append(bytes(taken[2 : 2 + length]))
        assert len(found[-1]) == length
        del taken[: 2 + length]
    return found, counts


@pytest.mark.parametrize("seed", range(3))
def test_requests_come_out_whole_and_in_order(seed: int):
    """A small ring that wraps often, damaged frames between the good ones, a slow reader."""
    random = Random(seed)
    noise = Noise(random, 0.4)
    frames = []
    for _ in range(40):
        content = random.randbytes(random.choice([HEADER_BYTES, 10, 20, 30]))
        if random.random() < 0.3:
            content = content.replace(content[3:4], bytes([FLAG]))
        frames.append(noise(frame(content)))
    line = bytes([FLAG]) + b"".join(frames) + bytes([FLAG])
    expected = [content for content in Deframer().feed(line) if len(content) >= HEADER_BYTES]
    found, counts = simulate(LinkRx(128), line, [0, 1, 5, 0, 2, 9])
    assert found == expected
    assert counts["good"] == len(expected) and counts["bad"] > 3
    assert counts["overrun"] == counts["stalled"] == 0


def test_what_finds_no_room_is_dropped_whole():
    contents = [bytes([number]) * 20 for number in range(1, 9)]
    line = bytes([FLAG]) + b"".join(map(frame, contents))
    found, counts = simulate(LinkRx(128), line, [0], pause=(len(line) + 5) * BYTE_CYCLES)
    assert found == contents[: len(found)], "in order, and nothing after the first that was lost"
    assert len(found) == (128 - 12) // 22
    assert (counts["good"], counts["overrun"]) == (len(found), len(contents) - len(found))
    assert counts["bad"] == 0


def test_what_is_promised_to_hosts_fits():
    assert RING_BYTES - BUFFER_BYTES == 16
    contents = [bytes([number]) * 18 for number in range(1, 6)]
    assert sum(len(content) + 2 for content in contents) <= 128 - 16
    line = bytes([FLAG]) + b"".join(map(frame, contents))
    found, counts = simulate(LinkRx(128), line, [0], pause=(len(line) + 5) * BYTE_CYCLES)
    assert found == contents and counts["overrun"] == 0
    assert BUFFER_BYTES > 4 * CONTENT_BYTES


def test_a_frame_that_stops_is_dropped_once():
    dut = LinkRx(128)
    whole = frame(bytes(range(1, 20)))
    seen: list[tuple[int, int]] = []

    async def send(ctx):
        async def put(data: bytes) -> None:
            for byte in data:
                ctx.set(dut.data, byte)
                ctx.set(dut.valid, 1)
                await ctx.tick()
                ctx.set(dut.valid, 0)
                await ctx.tick().repeat(BYTE_CYCLES - 1)

        await put(whole[:5])
        ctx.set(dut.tick, 1)
        await ctx.tick().repeat(STALL_MS - 1)
        ctx.set(dut.tick, 0)
        await put(whole[5:9])
        assert not seen
        ctx.set(dut.tick, 1)
        await ctx.tick().repeat(5 * STALL_MS)
        ctx.set(dut.tick, 0)
        await put(whole[9:])
        assert seen == [(1, 0)]
        await put(whole)

    async def count(ctx):
        async for _, _, stalled, bad in ctx.tick().sample(dut.stalled, dut.bad):
            if stalled or bad:
                seen.append((stalled, bad))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_testbench(count, background=True)
    simulator.run()
    assert seen == [(1, 0)]
