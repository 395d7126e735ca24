"""Around a `Link` in a cocotb simulation: a serial line, memory, the core's registers, checks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import cocotb
from amaranth.lib.wiring import In, Signature
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import Event, FallingEdge, First, ReadOnly, RisingEdge, Timer, select
from cocotb.utils import get_sim_time

from fpga.protocol import Deframer
from tests.fpga.link_model import MAPPED, DeviceModel
from tests.rtl.axi_checker import ReadChecker, WriteChecker
from vta_hw.rtl.control_port import AxiLite
from vta_hw.rtl.read_channel import AxiRead
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.machine import OKAY, SLVERR, bus_bytes
from vta_hw.spec.registers import READ_ONLY

CLOCK_HZ, BAUD = 850_000, 100_000
"""Fewer cycles than a board has, and not a whole number of them in a bit."""
CYCLE_NS = 100
BIT_NS = CYCLE_NS * CLOCK_HZ // BAUD

_PAYLOAD = {"ar": ("araddr", "arlen"), "aw": ("awaddr", "awlen"), "w": ("wdata", "wstrb")}


class Board:
    """Everything that the link is connected to; `model` holds memory, registers and `running`.

    `dead` names channels and others that do not answer (``ar r aw w b settle``). With `most_wait`
    0 everything is ready before it is asked; otherwise things take up to so many cycles.
    """

    def __init__(self, dut: Any, model: DeviceModel, random: Random, config: VtaConfig) -> None:
        self.dut, self.model, self.random, self.config = dut, model, random, config
        self.dead: set[str] = set()
        self.most_wait = 3
        self.resets = 0
        self.settle_to_write: set[int] = set()
        self._settled_cycle = -1
        self._bus_bytes = bus_bytes(config)
        self._open: dict[str, bool] = {}
        self.checkers: dict[str, Any] = {}

    async def start(self) -> None:
        dut = self.dut
        dut.rx.value = 1
        dut.running.value = dut.settled.value = 0
        buses: dict[str, Signature] = {
            "memory_read": AxiRead(self.config),
            "memory_write": AxiWrite(self.config),
            "control": AxiLite(),
        }
        for bus, signature in buses.items():
            for name, member in signature.members.items():
                if member.flow is In:
                    getattr(dut, f"{bus}__{name}").value = 0
        Clock(dut.clk, CYCLE_NS, unit="ns").start()
        dut.rst.value = 1
        await self.cycles(3)
        dut.rst.value = 0
        await self.cycles(3)
        reading, writing = ("arready", "rvalid"), ("awready", "wready", "bvalid")
        for serve, bus, driven in (
            (self._read, "memory_read", reading),
            (self._write, "memory_write", writing),
            (self._read_register, "control", reading),
            (self._write_register, "control", writing),
        ):
            cocotb.start_soon(self._slave(serve, bus, driven))
        cocotb.start_soon(self._settle())
        cocotb.start_soon(self._watch_reset())
        for bus, channels in (("memory_read", ("ar",)), ("memory_write", ("aw", "w"))):
            self._check_anew(bus)
            cocotb.start_soon(self._watch(bus, channels))

    async def cycles(self, count: int) -> None:
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    def set_running(self, running: bool) -> None:
        self.dut.running.value = int(running)
        self.model.running = running

    def finish(self) -> None:
        for checker in self.checkers.values():
            checker.finish()

    def _check_anew(self, bus: str) -> None:
        self._open[bus] = False
        kind = ReadChecker if bus == "memory_read" else WriteChecker
        self.checkers[bus] = kind(self._bus_bytes, 1)

    async def _slave(
        self, serve: Callable[[], Coroutine[Any, Any, None]], bus: str, driven: tuple[str, ...]
    ) -> None:
        """Serve one transaction after the other; a reset ends the one that is under way."""
        while True:
            first, _ = await select(serve(), RisingEdge(self.dut.core_reset))
            if first == 1:
                for name in driven:
                    getattr(self.dut, f"{bus}__{name}").value = 0
                if bus in self._open:
                    self._check_anew(bus)
                await FallingEdge(self.dut.core_reset)

    async def _accept(self, bus: str, *channels: str) -> dict[str, int]:
        """Take what the link presents at once on channels, in any order; gives its signals."""
        readies = {name: getattr(self.dut, f"{bus}__{name}ready") for name in channels}
        valids = [getattr(self.dut, f"{bus}__{name}valid") for name in channels]
        share = 0.4 if self.most_wait else 1.0
        for channel, ready in readies.items():
            ready.value = int(share == 1.0 and channel not in self.dead)
        if not int(valids[0].value):
            await RisingEdge(valids[0])
        await FallingEdge(self.dut.clk)
        assert all(int(valid.value) for valid in valids)
        if bus == "control" and "aw" in channels:
            self.settle_to_write.add(self._cycle() - self._settled_cycle)
        names = [name for channel in channels for name in _PAYLOAD[channel]]
        handles = {name: getattr(self.dut, f"{bus}__{name}", None) for name in names}
        # AXI4-Lite has no lengths.
        signals = {
            name: int(handle.value) for name, handle in handles.items() if handle is not None
        }
        left = set(channels)
        while left:
            taken = {name for name in sorted(left) if self.random.random() < share} - self.dead
            for name in left:
                readies[name].value = int(name in taken)
            await FallingEdge(self.dut.clk)
            left -= taken
            for name in taken:
                readies[name].value = 0
        return signals

    async def _present(self, bus: str, channel: str, **signals: int) -> None:
        """Give an answer, after a while."""
        await self.cycles(self.random.randint(0, self.most_wait))
        while channel in self.dead:
            await self.cycles(50)
        for name, value in signals.items():
            getattr(self.dut, f"{bus}__{channel}{name}").value = value
        valid = getattr(self.dut, f"{bus}__{channel}valid")
        valid.value = 1
        await FallingEdge(self.dut.clk)
        valid.value = 0

    async def _read(self) -> None:
        signals = await self._accept("memory_read", "ar")
        self._open["memory_read"] = True
        address, end = signals["araddr"], signals["araddr"] + self._bus_bytes
        assert address % self._bus_bytes == 0 and signals["arlen"] == 0
        beat = int.from_bytes(self.model.memory[address:end], "little")
        response = SLVERR if end > self.model.broken else OKAY
        await self._present("memory_read", "r", data=beat, resp=response, last=1)
        self._open["memory_read"] = False

    async def _write(self) -> None:
        signals = await self._accept("memory_write", "aw", "w")
        self._open["memory_write"] = True
        address, strobes = signals["awaddr"], signals["wstrb"]
        assert address % self._bus_bytes == 0 and signals["awlen"] == 0
        failed = address + self._bus_bytes > self.model.broken
        beat = signals["wdata"].to_bytes(self._bus_bytes, "little")
        for lane in range(0 if failed else self._bus_bytes):
            if strobes >> lane & 1:
                self.model.memory[address + lane] = beat[lane]
        await self._present("memory_write", "b", resp=SLVERR if failed else OKAY)
        self._open["memory_write"] = False

    async def _read_register(self) -> None:
        offset = (await self._accept("control", "ar"))["araddr"]
        value = self.model.registers.get(offset, 0)
        response = OKAY if offset in MAPPED else SLVERR
        await self._present("control", "r", data=value, resp=response)

    async def _write_register(self) -> None:
        signals = await self._accept("control", "aw", "w")
        assert signals["wstrb"] == 0xF
        offset, value = signals["awaddr"], signals["wdata"]
        known = offset in MAPPED and offset not in READ_ONLY
        if known:
            self.model.writes.append((offset, value))
            self.model.registers[offset] = value
        await self._present("control", "b", resp=OKAY if known else SLVERR)

    def _cycle(self) -> int:
        return int(get_sim_time("ns")) // CYCLE_NS

    async def _settle(self) -> None:
        """Let a write wait; `settle` must fall in the cycle after the one with `settled`."""
        dut = self.dut
        while True:
            await RisingEdge(dut.settle)
            await self.cycles(self.random.choice([1, 2, 7, 40]))
            while "settle" in self.dead and int(dut.settle.value):
                await self.cycles(10)
            if int(dut.settle.value):
                dut.settled.value = 1
                self._settled_cycle = self._cycle()
                await FallingEdge(dut.clk)
                assert not int(dut.settle.value), "settle is held for too long"
                dut.settled.value = 0

    async def _watch_reset(self) -> None:
        while True:
            await RisingEdge(self.dut.core_reset)
            self.resets += 1
            self.set_running(False)
            self.model.registers.clear()

    async def _watch(self, bus: str, channels: tuple[str, ...]) -> None:
        """Rules of AXI, in the cycles in which there is something to see."""
        names = self.checkers[bus].signals
        handles = {name: getattr(self.dut, f"{bus}__{name}") for name in names}
        valids = [handles[f"{channel}valid"] for channel in channels]
        while True:
            if not self._open[bus] and not any(int(valid.value) for valid in valids):
                await First(*(RisingEdge(valid) for valid in valids))
            await FallingEdge(self.dut.clk)
            await ReadOnly()
            if not int(self.dut.core_reset.value):
                values = {name: int(handle.value) for name, handle in handles.items()}
                self.checkers[bus].step(values)


class SimulatedLine:
    """The serial line: a `Line` for a driver that runs in `bridge`, and bytes for coroutines.

    `there` and `back` may change each frame that is sent and each byte that comes.
    """

    name = "simulation"

    def __init__(
        self,
        board: Board,
        there: Callable[[bytes], bytes] = bytes,
        back: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._dut = board.dut
        self._there, self._back = there, back
        self._queue, self._queued = bytearray(), Event()
        self._came, self._coming = bytearray(), Event()
        self._now = 0.0
        self._deframer = Deframer()
        cocotb.start_soon(self._sender())
        cocotb.start_soon(self._receiver())

    # For the driver's thread.

    def now(self) -> float:
        return self._now

    def write(self, data: bytes) -> None:
        resume(self.put)(self._there(data))

    def read(self, timeout_s: float) -> bytes:
        return resume(self.get)(timeout_s)

    def close(self) -> None:
        pass

    # For coroutines.

    async def put(self, data: bytes) -> None:
        self._queue += data
        self._queued.set()

    async def get(self, timeout_s: float) -> bytes:
        wait = max(BIT_NS, int(timeout_s * CLOCK_HZ * CYCLE_NS))
        if not self._came:
            self._coming.clear()
            await First(self._coming.wait(), Timer(wait, unit="ns"))
        data = self._back(bytes(self._came))
        self._came.clear()
        self._now = self.time()
        return data

    async def contents(self, count: int, timeout_s: float = 1.0) -> list[bytes]:
        """As many contents of frames; fewer when there are no more."""
        found: list[bytes] = []
        while len(found) < count:
            data = await self.get(timeout_s)
            if not data:
                break
            found += self._deframer.feed(data)
        return found

    def time(self) -> float:
        """Seconds by the board's clock."""
        return get_sim_time("ns") / CYCLE_NS / CLOCK_HZ

    async def idle(self) -> None:
        """Until all has been sent."""
        while self._queue:
            await Timer(BIT_NS, unit="ns")
        await Timer(12 * BIT_NS, unit="ns")

    async def _sender(self) -> None:
        while True:
            if not self._queue:
                self._queued.clear()
                await self._queued.wait()
            while self._queue:
                await self.bits(self._queue[0] << 1 | 1 << 9, 10)
                del self._queue[0]

    async def bits(self, pattern: int, count: int) -> None:
        """Levels of the line, the one in bit 0 first; one step for all that are equal."""
        while count:
            level, length = pattern & 1, 1
            while length < count and pattern >> length & 1 == level:
                length += 1
            self._dut.rx.value = level
            await Timer(length * BIT_NS, unit="ns")
            pattern, count = pattern >> length, count - length

    async def _receiver(self) -> None:
        dut = self._dut
        while True:
            await FallingEdge(dut.tx)
            await Timer(BIT_NS // 2, unit="ns")
            byte = 0
            for place in range(8):
                await Timer(BIT_NS, unit="ns")
                byte |= int(dut.tx.value) << place
            await Timer(BIT_NS, unit="ns")
            assert int(dut.tx.value), "no stop bit"
            self._came.append(byte)
            self._coming.set()
