"""Runs programs on a whole core in simulation, cycle by cycle, with a memory of plain Python.

`Run` knows the core's ports by name only; a `Ports` gives it those of a simulator: Amaranth's own
(`simulate`), or cocotb's (``tests/rtl/test_core.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import numpy as np

from vta_hw.spec.config import INSN_BYTES, PAGE_BYTES, VtaConfig
from vta_hw.spec.registers import (
    CONTROL_FAULT,
    CONTROL_LAUNCH,
    CONTROL_OK,
    COUNTERS,
    NO_INDEX,
    Register,
    Verdict,
    counter_address,
)

STAGES = ("load", "compute", "store")
TAPS = ("dispatch", *(f"{stage}_{event}" for stage in STAGES for event in ("issue", "retire")))
OKAY, SLVERR = 0, 2


def stream_base(dram: bytes) -> int:
    """Where the stream is put: on the next page behind `dram`."""
    return -(-len(dram) // PAGE_BYTES) * PAGE_BYTES


class Ports(Protocol):
    """A core's ports: `get` is valid between `settle` and `tick`."""

    def get(self, name: str) -> int:
        """The value of a port in this cycle."""

    def set(self, name: str, value: int) -> None:
        """Drive a port in this cycle."""

    async def settle(self) -> None:
        """Let outputs follow inputs."""

    async def tick(self) -> None:
        """Go on to the next cycle."""


class Memory:
    """DRAM behind the bus: rules M1 and M2, or with `stalls` a slower one that obeys AXI.

    `broken` is a range of addresses that answer with an error.
    """

    def __init__(
        self,
        data: np.ndarray,
        beat_bytes: int,
        latency: int,
        stalls: Random | None = None,
        broken: range = range(0),
    ) -> None:
        self.data = data
        self._beat_bytes = beat_bytes
        self._latency = latency
        self._stalls = stalls
        self._broken = broken
        self._cycle = 0
        self._reads: deque[tuple[int, int, bool]] = deque()  # (not before, address, last)
        self._addresses: deque[tuple[int, int]] = deque()  # (address, beats)
        self._responses: deque[tuple[int, int]] = deque()  # (not before, response)
        self._written = self._failed = 0
        self._offered = {"r": False, "b": False}
        self.beats: dict[str, list[int]] = {"r": [], "w": []}

    def _stalled(self) -> bool:
        return self._stalls is not None and self._stalls.random() < 0.4

    def drive(self, ports: Ports) -> None:
        """Set the memory's side of the bus for this cycle."""
        for channel in ("ar", "aw", "w"):
            ready = not self._stalled()
            if self._stalls and channel == "w":
                # Allowed by AXI: to take data only once the address has been taken.
                ready = ready and bool(self._addresses)
            ports.set(f"m_axi_{channel}ready", int(ready))
        for channel, waiting in (("r", self._reads), ("b", self._responses)):
            due = bool(waiting) and waiting[0][0] <= self._cycle
            if not self._offered[channel]:
                self._offered[channel] = due and not self._stalled()
            ports.set(f"m_axi_{channel}valid", int(self._offered[channel]))
        if self._offered["r"]:
            _, address, last = self._reads[0]
            beat = bytes(self.data[address : address + self._beat_bytes])
            ports.set("m_axi_rdata", int.from_bytes(beat, "little"))
            ports.set("m_axi_rlast", int(last))
            ports.set("m_axi_rresp", SLVERR if address in self._broken else OKAY)
        if self._offered["b"]:
            ports.set("m_axi_bresp", self._responses[0][1])

    def sample(self, ports: Ports) -> None:
        """Take what passes on the bus in this cycle."""
        if self._offered["r"] and ports.get("m_axi_rready"):
            self._reads.popleft()
            self._offered["r"] = False
            self.beats["r"].append(self._cycle)
        if self._offered["b"] and ports.get("m_axi_bready"):
            self._responses.popleft()
            self._offered["b"] = False
        for channel in ("ar", "aw"):
            if self._passes(ports, channel):
                address = ports.get(f"m_axi_{channel}addr")
                beats = ports.get(f"m_axi_{channel}len") + 1
                self._check(address, beats)
                if channel == "aw":
                    self._addresses.append((address, beats))
                for beat in range(beats if channel == "ar" else 0):
                    place = address + beat * self._beat_bytes
                    self._reads.append((self._cycle + self._latency, place, beat == beats - 1))
        if self._passes(ports, "w"):
            self._write(ports)
        self._cycle += 1

    def _passes(self, ports: Ports, channel: str) -> bool:
        return bool(ports.get(f"m_axi_{channel}valid") and ports.get(f"m_axi_{channel}ready"))

    def _check(self, address: int, beats: int) -> None:
        last = address + beats * self._beat_bytes - 1
        assert address % self._beat_bytes == 0
        assert address // PAGE_BYTES == last // PAGE_BYTES
        assert last < len(self.data), f"{last:#x} is beyond the memory"

    def _write(self, ports: Ports) -> None:
        assert self._addresses, "data without an address"
        self.beats["w"].append(self._cycle)
        address, beats = self._addresses[0]
        place = address + self._written * self._beat_bytes
        self._failed |= place in self._broken
        beat = ports.get("m_axi_wdata").to_bytes(self._beat_bytes, "little")
        strobes = ports.get("m_axi_wstrb")
        for offset, byte in enumerate(beat):
            if strobes >> offset & 1:
                self.data[place + offset] = byte
        self._written += 1
        assert ports.get("m_axi_wlast") == (self._written == beats)
        if self._written == beats:
            response = SLVERR if self._failed else OKAY
            self._responses.append((self._cycle + self._latency, response))
            self._addresses.popleft()
            self._written = self._failed = 0


@dataclass
class Outcome:
    """What came of a run; `moments` are cycles of events by name and instruction."""

    cycles: int
    verdict: Verdict
    index: int | None
    counters: dict[str, int]
    dram: np.ndarray
    moments: dict[str, dict[int, int]] = field(default_factory=dict)
    bus: dict[str, list[int]] = field(default_factory=dict)


class Driver:
    """Drives the core of one simulation: reset, registers, runs."""

    def __init__(self, ports: Ports, config: VtaConfig) -> None:
        self._ports = ports
        self._config = config
        self._memory: Memory | None = None
        self._running = 0
        self._moments: dict[str, dict[int, int]] = {}
        self._data = np.zeros(0, np.uint8)
        self._dram_bytes = 0

    async def reset(self) -> None:
        """Two cycles of reset, of the memory too."""
        self._memory = None
        for name in ("awvalid", "wvalid", "arvalid", "awprot", "arprot"):
            self._ports.set(f"s_axi_{name}", 0)
        for name in ("bready", "rready"):
            self._ports.set(f"s_axi_{name}", 1)
        for name in ("arready", "awready", "wready", "rvalid", "bvalid", "rid", "bid"):
            self._ports.set(f"m_axi_{name}", 0)
        self._ports.set("rst", 1)
        for _ in range(2):
            await self._ports.settle()
            await self._ports.tick()
        self._ports.set("rst", 0)

    async def step(self) -> None:
        """One cycle, up to the point where its outputs can be read."""
        if self._memory:
            self._memory.drive(self._ports)
        await self._ports.settle()
        self._record()
        if self._memory:
            self._memory.sample(self._ports)

    def _record(self) -> None:
        get = self._ports.get
        if not get("tap_running"):
            return
        for name in TAPS:
            if get(f"tap_{name}"):
                seen = self._moments.setdefault(name.rpartition("_")[2], {})
                index = get(f"tap_{name}_index")
                assert index not in seen, f"{name} of {index} twice"
                seen[index] = self._running
        self._running += 1

    async def write(self, address: int, value: int) -> int:
        """Write a register; returns the response."""
        ports = self._ports
        ports.set("s_axi_awaddr", address)
        ports.set("s_axi_wdata", value)
        ports.set("s_axi_wstrb", 15)
        waiting = {"aw", "w"}
        for channel in waiting:
            ports.set(f"s_axi_{channel}valid", 1)
        while True:
            await self.step()
            taken = {channel for channel in waiting if ports.get(f"s_axi_{channel}ready")}
            answered, response = ports.get("s_axi_bvalid"), ports.get("s_axi_bresp")
            await ports.tick()
            for channel in taken:
                ports.set(f"s_axi_{channel}valid", 0)
            waiting -= taken
            if answered:
                return response

    async def read(self, address: int) -> int:
        """Read a register that exists."""
        ports = self._ports
        ports.set("s_axi_araddr", address)
        ports.set("s_axi_arvalid", 1)
        while True:
            await self.step()
            taken, answered = ports.get("s_axi_arready"), ports.get("s_axi_rvalid")
            data, response = ports.get("s_axi_rdata"), ports.get("s_axi_rresp")
            await ports.tick()
            if taken:
                ports.set("s_axi_arvalid", 0)
            if answered:
                assert response == OKAY
                return data

    async def run(self, stream: bytes, dram: bytes, **options: Any) -> Outcome:
        """Run a stream to its end, see `launch`."""
        await self.launch(stream, dram, **options)
        return await self.finish()

    async def launch(
        self,
        stream: bytes,
        dram: bytes,
        *,
        latency: int | None = None,
        stalls: Random | None = None,
        broken: range = range(0),
        misplace: int = 0,
    ) -> None:
        """Launch a stream, which lies behind `dram` in memory, `misplace` bytes too high."""
        base = stream_base(dram)
        self._data = np.zeros(base + PAGE_BYTES * (1 + len(stream) // PAGE_BYTES), np.uint8)
        self._data[: len(dram)] = np.frombuffer(dram, np.uint8)
        self._data[base : base + len(stream)] = np.frombuffer(stream, np.uint8)
        beat_bytes = 1 << self._config.log_bus_width - 3
        latency = self._config.dram_latency if latency is None else latency
        self._memory = Memory(self._data, beat_bytes, latency, stalls, broken)
        self._running, self._moments = 0, {}
        await self.write(Register.INSN_COUNT, len(stream) // INSN_BYTES)
        await self.write(Register.INSN_BASE, base + misplace)
        await self.write(Register.DRAM_LIMIT, len(dram))
        self._dram_bytes = len(dram)
        await self.write(Register.CONTROL, 1 << CONTROL_LAUNCH)

    async def finish(self, most_cycles: int = 200_000) -> Outcome:
        """Go on until the run ends, and read what came of it."""
        ran = 0
        while self._running > ran or not ran:
            ran = self._running
            await self.step()
            await self._ports.tick()
            assert self._running < most_cycles, "the run does not end"
        return await self._outcome(self._data[: self._dram_bytes])

    async def _outcome(self, dram: np.ndarray) -> Outcome:
        assert self._memory is not None
        counters = {}
        for name in COUNTERS:
            address = counter_address(name)
            counters[name] = await self.read(address) | await self.read(address + 4) << 32
        verdict = Verdict(await self.read(Register.VERDICT))
        index = await self.read(Register.VERDICT_INDEX)
        ended = CONTROL_OK if verdict is Verdict.OK else CONTROL_FAULT
        assert await self.read(Register.CONTROL) == 1 << ended
        assert await self.read(Register.CYCLES) == self._running == counters["cycles"]
        writes = sum(counters[name] for name in ("gemm_ops", "gemm_reset_ops", "alu_ops"))
        assert await self.read(Register.ACC_WRITES) == writes
        return Outcome(
            self._running,
            verdict,
            None if index == NO_INDEX else index,
            counters,
            dram,
            self._moments,
            self._memory.beats,
        )


class _SimulatorPorts:
    """The ports of a component in Amaranth's simulator."""

    def __init__(self, context: Any, core: Any, reset: Any) -> None:
        self._context = context
        self._core = core
        self._reset = reset

    def get(self, name: str) -> int:
        return int(self._context.get(getattr(self._core, name)))

    def set(self, name: str, value: int) -> None:
        self._context.set(self._reset if name == "rst" else getattr(self._core, name), value)

    async def settle(self) -> None:
        return None

    async def tick(self) -> None:
        await self._context.tick()


def simulate(
    config: VtaConfig, body: Callable[[Driver], Awaitable[None]], waves: str | None = None
) -> None:
    """Run `body` with the driver of a core in Amaranth's own simulator; slow, but it sees all."""
    from amaranth.hdl import Module, ResetInserter, Signal
    from amaranth.sim import Simulator

    from vta_hw.rtl.core import Core

    core, reset = Core(config), Signal()
    top = Module()
    top.submodules.core = ResetInserter(reset)(core)
    simulator = Simulator(top)
    simulator.add_clock(1e-6)

    async def testbench(context: Any) -> None:
        driver = Driver(_SimulatorPorts(context, core, reset), config)
        await driver.reset()
        await body(driver)

    simulator.add_testbench(testbench)
    if waves:
        with simulator.write_vcd(waves):
            simulator.run()
    else:
        simulator.run()
