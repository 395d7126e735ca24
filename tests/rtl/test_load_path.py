"""Two loaders behind the read channel and the memory of rule M1: cycles counted from the page."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from tests.rtl.bench import parameters, run_cocotb
from tests.rtl.load_bench import STAGE_SLOTS, begin
from tests.rtl.load_model import Job
from vta_hw.spec.config import MemType, VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
hdl = pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from amaranth.lib import wiring  # noqa: E402
from amaranth.lib.wiring import In, Out, connect, flipped  # noqa: E402
from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

from vta_hw.rtl.loader import Loader  # noqa: E402
from vta_hw.rtl.read_channel import AxiRead, ReadChannel  # noqa: E402
from vta_hw.rtl.scratchpad import Scratchpad  # noqa: E402
from vta_hw.rtl.signatures import LOAD_JOB, ElementRead, Work, element_bits  # noqa: E402

BUS, ELEMENT = 8, 4  # bytes, in config tiny
MEMORIES = (MemType.INP, MemType.WGT)


class LoadPath(wiring.Component):
    """The loaders of INP and WGT, the read channel, and INP itself."""

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        bits = element_bits(config, MemType.INP)
        super().__init__(
            {
                "inp": In(Work(LOAD_JOB)),
                "wgt": In(Work(LOAD_JOB)),
                "axi": Out(AxiRead(config)),
                "read": In(ElementRead(config.depth_bits(MemType.INP), bits)),
                "moving": Out(1),
                "read_beat": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Any:
        m = hdl.Module()
        m.submodules.channel = channel = ReadChannel(self._config)
        m.submodules.pad = pad = Scratchpad(self._config, MemType.INP, 1)
        m.submodules.inp = inp = Loader(self._config, MemType.INP)
        m.submodules.wgt = wgt = Loader(self._config, MemType.WGT)
        connect(m, flipped(self.inp), inp.work)
        connect(m, flipped(self.wgt), wgt.work)
        connect(m, inp.port, channel.inp)
        connect(m, wgt.port, channel.wgt)
        connect(m, inp.write, pad.write)
        connect(m, flipped(self.read), pad.read[0])
        connect(m, channel.axi, flipped(self.axi))
        m.d.comb += [
            self.moving.eq(channel.moving | inp.moving | wgt.moving),
            self.read_beat.eq(channel.read_beat),
        ]
        return m


class Run:
    """Drives jobs in given cycles; notes when they are done and when beats are on the bus."""

    def __init__(self, dut: Any, latency: int) -> None:
        self.dut, self.latency = dut, latency
        self.done: dict[str, list[int]] = {"inp": [], "wgt": []}
        self.beats: list[int] = []
        self.accepted: list[int] = []
        self.moving: list[int] = []

    async def __call__(self, jobs: dict[str, list[tuple[int, Job]]], cycles: int) -> None:
        """`jobs` are issued in their cycle or in the first after it with room."""
        dut = self.dut
        starts = [f"{name}__start__{part}" for name in jobs for part in ("valid", "payload")]
        answers = ("arready", "rvalid", "rid", "rdata", "rresp", "rlast")
        await begin(dut, (*starts, *(f"axi__{name}" for name in answers), "read__enable"))
        left = {name: deque(queue) for name, queue in jobs.items()}
        due: deque[tuple[int, bool]] = deque()
        dut.axi__arready.value = 1
        for now in range(cycles):
            # As the stage does: no more in flight than it has slots.
            held = {name: len(jobs[name]) - len(left[name]) - len(self.done[name]) for name in left}
            offered = {
                name: bool(queue) and queue[0][0] <= now and held[name] < STAGE_SLOTS
                for name, queue in left.items()
            }
            for name, offers in offered.items():
                getattr(dut, f"{name}__start__valid").value = int(offers)
                if offers:
                    word = left[name][0][1].pack(LOAD_JOB)
                    getattr(dut, f"{name}__start__payload").value = word
            beat = due.popleft() if due and due[0][0] <= now else None
            dut.axi__rvalid.value = int(beat is not None)
            dut.axi__rlast.value = int(bool(beat and beat[1]))
            dut.axi__rdata.value = now
            await ReadOnly()
            for name, offers in offered.items():
                if offers and int(getattr(dut, f"{name}__start__ready").value):
                    left[name].popleft()
                if int(getattr(dut, f"{name}__done").value):
                    self.done[name].append(now)
            if int(dut.axi__arvalid.value):
                self.accepted.append(now)
                first = max(now + self.latency, due[-1][0] + 1 if due else 0)
                count = int(dut.axi__arlen.value) + 1
                due.extend((first + n, n == count - 1) for n in range(count))
            if beat:
                self.beats.append(now)
            if int(dut.moving.value):
                self.moving.append(now)
            await FallingEdge(dut.clk)


@cocotb.test()
async def one_load(dut: Any) -> None:
    """Issued in 0: taken 1, granted 2, accepted 3; beats on the bus from 3 + L, one later here."""
    latency = parameters()["latency"]
    run = Run(dut, latency)
    # 6 elements from the middle of a beat: 4 beats.
    await run({"inp": [(0, Job(ELEMENT, 0x104, 0, 1, 6, 10))], "wgt": []}, latency + 20)
    assert run.accepted == [3]
    assert run.beats == [3 + latency + n for n in range(4)]
    arrives = 3 + latency + 3 + 1
    assert run.done["inp"] == [arrives + 1]
    # The last beat carried the number of its cycle; element 5 is its low half.
    dut.read__enable.value = 1
    dut.read__index.value = 10 + 5
    await FallingEdge(dut.clk)
    assert int(dut.read__data.value) == 3 + latency + 3
    assert run.moving == list(range(1, arrives + 1))


@cocotb.test()
async def padding_only(dut: Any) -> None:
    """Issued in 0, taken in 1, 5 vectors in 2 to 6; the next waits until the cycle after."""
    run = Run(dut, 4)
    pads = Job(ELEMENT, 0, 0, 0, 5, 20, fill_first=5)
    await run({"inp": [(0, pads), (1, pads)], "wgt": []}, 30)
    # Room again in 2, so issued in 2; taken in 7, filled in 8 to 12.
    assert run.done["inp"] == [7, 13]
    assert run.moving == list(range(1, 13))


@cocotb.test()
async def rows_are_requested_back_to_back(dut: Any) -> None:
    """Three rows of one beat: granted in 2, 3 and 4."""
    run = Run(dut, 1)
    await run({"inp": [(0, Job(ELEMENT, 0, 64, 3, 2, 0))], "wgt": []}, 30)
    assert run.accepted == [3, 4, 5]
    assert run.beats == [4, 5, 6]
    assert run.done["inp"] == [8]


@cocotb.test()
async def inp_comes_before_wgt(dut: Any) -> None:
    """Both ask from 2 on; WGT's bursts are granted when INP asks for none."""
    run = Run(dut, 4)
    rows = Job(ELEMENT, 0, 64, 3, 2, 0)
    wide = Job(16, 0, 64, 2, 1, 0)
    await run({"inp": [(0, rows)], "wgt": [(0, wide)]}, 40)
    assert run.accepted == [3, 4, 5, 6, 7]
    # 3 beats of INP from 7 on, then 2 and 2 of WGT up to 13.
    assert run.beats == list(range(7, 14))
    assert run.done == {"inp": [11], "wgt": [15]}


@cocotb.test()
async def a_stream_of_loads_keeps_the_bus_busy(dut: Any) -> None:
    """At latency 32: jobs of one row of 16 beats each, issued as soon as there is room."""
    run = Run(dut, 32)
    rows = [(0, Job(ELEMENT, 128 * n, 0, 1, 32, 0)) for n in range(20)]
    await run({"inp": rows, "wgt": []}, 420)
    # The bursts are long accepted when they are due: no gap at all.
    assert run.beats == [35 + n for n in range(20 * 16)]
    assert run.done["inp"] == [35 + 16 * (n + 1) + 1 for n in range(20)]


COROUTINES = [
    "one_load",
    "padding_only",
    "rows_are_requested_back_to_back",
    "inp_comes_before_wgt",
    "a_stream_of_loads_keeps_the_bus_busy",
]


@pytest.mark.parametrize("latency", [1, 32])
def test_cycles(latency: int):
    run_cocotb(
        LoadPath(VtaConfig.load("tiny")), __name__, COROUTINES, parameters={"latency": latency}
    )
