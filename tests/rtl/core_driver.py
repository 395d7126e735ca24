"""Runs programs on a whole core in simulation, cycle by cycle, with a memory of plain Python.

`Driver` knows the ports of the core by name only; a `Ports` gives it those of a simulator: that of
Amaranth itself (`simulate`), or cocotb (``tests/rtl/test_core.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from tests.rtl.axi_checker import ReadChecker, WriteChecker
from tests.rtl.core_memory import OKAY, SLVERR, Memory, Ports
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
_RESPONSES = {"b": ("resp",), "r": ("data", "resp")}
_HOLDS = 3
"""A response of the control port waits up to as many cycles until it is taken."""


def stream_base(dram: bytes) -> int:
    """Where the stream is put: on the next page behind `dram`."""
    return -(-len(dram) // PAGE_BYTES) * PAGE_BYTES


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
    transfers: Counter[str] = field(default_factory=Counter)


class _Responses:
    """Checks that a response of the control port stays as it is until it is taken."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[int]] = {}

    def step(self, ports: Ports) -> None:
        """Take the signals of one cycle."""
        for channel, names in _RESPONSES.items():
            held = self._waiting.pop(channel, None)
            if held is None and not ports.get(f"s_axi_{channel}valid"):
                continue
            assert ports.get(f"s_axi_{channel}valid"), f"s_axi_{channel}valid fell before ready"
            payload = [ports.get(f"s_axi_{channel}{name}") for name in names]
            assert held in (None, payload), f"s_axi_{channel} changed while waiting for ready"
            if not ports.get(f"s_axi_{channel}ready"):
                self._waiting[channel] = payload


class Driver:
    """Drives the core of one simulation: reset, registers, runs.

    It checks that the core keeps to AXI, on both of its ports.
    """

    def __init__(self, ports: Ports, config: VtaConfig) -> None:
        self._ports = ports
        self._config = config
        self._memory: Memory | None = None
        self._running = 0
        self._moments: dict[str, dict[int, int]] = {}
        self._data = np.zeros(0, np.uint8)
        self._dram_bytes = 0
        self._turn = 0
        self._new_checkers()

    def _new_checkers(self) -> None:
        beat_bytes, limit = 1 << self._config.log_bus_width - 3, self._config.max_reads
        self._checkers = ReadChecker(beat_bytes, limit), WriteChecker(beat_bytes, limit)
        self._responses = _Responses()

    async def reset(self) -> None:
        """Two cycles of reset, of the memory too."""
        self._memory = None
        for name in ("awvalid", "wvalid", "arvalid", "awprot", "arprot"):
            self._ports.set(f"s_axi_{name}", 0)
        for name in ("bready", "rready"):
            self._ports.set(f"s_axi_{name}", 0)
        for name in ("arready", "awready", "wready", "rvalid", "bvalid", "rid", "bid"):
            self._ports.set(f"m_axi_{name}", 0)
        self._ports.set("rst", 1)
        for _ in range(2):
            await self._ports.settle()
            await self._ports.tick()
        self._ports.set("rst", 0)
        self._new_checkers()

    async def step(self) -> None:
        """One cycle, up to the point where its outputs can be read."""
        if self._memory:
            self._memory.drive(self._ports)
        await self._ports.settle()
        self._record()
        self._responses.step(self._ports)
        if self._memory:
            for checker in self._checkers:
                checker.step({name: self._ports.get(f"m_axi_{name}") for name in checker.signals})
            self._memory.sample(self._ports)

    def _hold(self) -> int:
        """For how many cycles the next response waits."""
        self._turn += 1
        return self._turn % (_HOLDS + 1)

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
        hold = self._hold()
        while True:
            ports.set("s_axi_bready", int(not hold))
            await self.step()
            taken = {channel for channel in waiting if ports.get(f"s_axi_{channel}ready")}
            answered, response = ports.get("s_axi_bvalid"), ports.get("s_axi_bresp")
            await ports.tick()
            for channel in taken:
                ports.set(f"s_axi_{channel}valid", 0)
            waiting -= taken
            if answered and not hold:
                ports.set("s_axi_bready", 0)
                return response
            hold -= bool(answered)

    async def read(self, address: int) -> int:
        """Read a register that exists."""
        ports = self._ports
        ports.set("s_axi_araddr", address)
        ports.set("s_axi_arvalid", 1)
        hold = self._hold()
        while True:
            ports.set("s_axi_rready", int(not hold))
            await self.step()
            taken, answered = ports.get("s_axi_arready"), ports.get("s_axi_rvalid")
            data, response = ports.get("s_axi_rdata"), ports.get("s_axi_rresp")
            await ports.tick()
            if taken:
                ports.set("s_axi_arvalid", 0)
            if answered and not hold:
                assert response == OKAY
                ports.set("s_axi_rready", 0)
                return data
            hold -= bool(answered)

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
        error: int = SLVERR,
        dead: tuple[str, int] | None = None,
        misplace: int = 0,
    ) -> None:
        """Launch a stream, which lies behind `dram` in memory, `misplace` bytes too high.

        The other options are those of `Memory`.
        """
        base = stream_base(dram)
        self._data = np.zeros(base + PAGE_BYTES * (1 + len(stream) // PAGE_BYTES), np.uint8)
        self._data[: len(dram)] = np.frombuffer(dram, np.uint8)
        self._data[base : base + len(stream)] = np.frombuffer(stream, np.uint8)
        beat_bytes = 1 << self._config.log_bus_width - 3
        latency = self._config.dram_latency if latency is None else latency
        self._memory = Memory(self._data, beat_bytes, latency, stalls, broken, error, dead)
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
        for checker in self._checkers:
            checker.finish()
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
            self._memory.transfers,
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
