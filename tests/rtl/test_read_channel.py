"""The read channel: who is granted when, what goes out, when beats arrive (rules C1 to C3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from tests.rtl.axi_checker import ReadChecker, watch
from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import begin
from vta_hw.spec.config import VtaConfig

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

from vta_hw.rtl.read_channel import ReadChannel  # noqa: E402
from vta_hw.rtl.signatures import READ_CLIENTS  # noqa: E402

DRAM_BYTES = 1 << 14
OKAY, SLVERR = 0, 2
INPUTS = (
    *(f"{name}__request__{part}" for name in READ_CLIENTS for part in ("valid", "payload")),
    *(f"axi__{name}" for name in ("arready", "rvalid", "rid", "rdata", "rresp", "rlast")),
)


def configured() -> tuple[VtaConfig, int]:
    config = VtaConfig.load("tiny").override(parameters()["set"])
    return config, 1 << (config.log_bus_width - 3)


def random_burst(random: Random, bus: int) -> tuple[int, int]:
    """Address and beats; a burst stays in its page."""
    beats = random.choice([1, 1, 2, random.randint(1, min(64, 4096 // bus))])
    page = random.randrange(DRAM_BYTES // 4096) * 4096
    return page + random.randint(0, 4096 // bus - beats) * bus, beats


class Memory:
    """Rule M1, or with `stalls` any memory: when an address is taken and which beat is there."""

    def __init__(self, random: Random, latency: int, stalls: bool) -> None:
        self._random, self._latency, self._stalls = random, latency, stalls
        self._due: deque[tuple[int, int, bool]] = deque()  # (not before, address, last)
        self._free = 0

    def ready(self) -> bool:
        return not self._stalls or self._random.random() < 0.5

    def accept(self, now: int, address: int, beats: int, bus: int) -> None:
        begins = max(now + self._latency, self._free)
        for n in range(beats):
            self._due.append((begins + n, address + n * bus, n == beats - 1))
        self._free = begins + beats

    def beat(self, now: int) -> tuple[int, bool] | None:
        held = not self._due or self._due[0][0] > now
        if held or (self._stalls and self._random.random() < 0.4):
            return None
        return self._due.popleft()[1:]


class Model:
    """The channel, one cycle after the other, from the rules."""

    def __init__(self, max_reads: int) -> None:
        self.max_reads = max_reads
        self.address: tuple[int, int] | None = None
        self.open: deque[str] = deque()
        self.arriving: tuple[str, int, bool, bool] | None = None

    def granted(self, asking: Mapping[str, object], ready: bool) -> str | None:
        room = len(self.open) < self.max_reads and (self.address is None or ready)
        return next((name for name in READ_CLIENTS if name in asking and room), None)

    def step(
        self,
        grant: str | None,
        burst: tuple[int, int] | None,
        ready: bool,
        beat: tuple[int, bool, bool] | None,
    ) -> None:
        self.arriving = None
        if beat:
            data, last, error = beat
            self.arriving = (self.open[0], data, last, error)
            if last:
                self.open.popleft()
        if ready:
            self.address = None
        if grant:
            self.address = burst
            self.open.append(grant)


def check(dut: Any, model: Model, grant: str | None, asking: Mapping[str, object]) -> None:
    """Hold what is to be seen in a cycle against the model."""
    assert int(dut.axi__arvalid.value) == (model.address is not None)
    if model.address:
        assert (int(dut.axi__araddr.value), int(dut.axi__arlen.value) + 1) == model.address
    for name in asking:
        assert int(getattr(dut, f"{name}__request__ready").value) == (name == grant), name
    arrives = model.arriving
    for name in READ_CLIENTS:
        hit = arrives is not None and arrives[0] == name
        assert int(getattr(dut, f"{name}__beat").value) == hit, name
        if arrives and hit:
            parts = ("data", "last", "error")
            seen = tuple(int(getattr(dut, f"{name}__{part}").value) for part in parts)
            assert seen == arrives[1:]
    assert int(dut.read_burst.value) == (grant is not None)
    moving = grant is not None or bool(model.open) or arrives is not None
    assert int(dut.moving.value) == moving


@cocotb.test()
async def grants_by_the_rules(dut: Any) -> None:
    config, bus = configured()
    given, random = parameters(), rng()
    dram = random.randbytes(DRAM_BYTES)
    memory = Memory(random, given["latency"], given["stalls"])
    model = Model(config.max_reads)
    asking: dict[str, tuple[int, int]] = {}
    await begin(dut, INPUTS)
    grants = beats = 0
    for now in range(given["cycles"]):
        busy = 0.6 if now % 600 < 400 else 0.02
        for name in READ_CLIENTS:
            if name not in asking and random.random() < busy:
                asking[name] = random_burst(random, bus)
            request = asking.get(name)
            getattr(dut, f"{name}__request__valid").value = int(request is not None)
            if request:
                word = request[0] | request[1] - 1 << 32
                getattr(dut, f"{name}__request__payload").value = word
        ready = memory.ready()
        dut.axi__arready.value = int(ready)
        if ready and model.address:
            memory.accept(now, *model.address, bus)
        beat = memory.beat(now)
        error = random.random() < 0.1
        dut.axi__rvalid.value = int(beat is not None)
        seen = None
        if beat:
            data = int.from_bytes(dram[beat[0] : beat[0] + bus], "little")
            dut.axi__rdata.value = data
            dut.axi__rlast.value = int(beat[1])
            dut.axi__rresp.value = SLVERR if error else OKAY
            seen = (data, beat[1], error)
        grant = model.granted(asking, ready)
        await ReadOnly()
        check(dut, model, grant, asking)
        assert int(dut.axi__rready.value) == 1
        assert int(dut.read_beat.value) == (beat is not None)
        model.step(grant, asking.pop(grant) if grant else None, ready, seen)
        grants += grant is not None
        beats += beat is not None
        await FallingEdge(dut.clk)
    assert grants > given["cycles"] // 100 and beats > given["cycles"] // 20


@cocotb.test()
async def drops_late_beats(dut: Any) -> None:
    """Beats of bursts from before a reset reach nobody and close nothing."""
    config, bus = configured()
    random = rng()
    await begin(dut, INPUTS)
    for _ in range(30):
        late = random.randint(1, config.max_reads)
        dut.axi__arready.value = 1
        for _ in range(late):
            name = random.choice(READ_CLIENTS)
            getattr(dut, f"{name}__request__valid").value = 1
            await FallingEdge(dut.clk)
            getattr(dut, f"{name}__request__valid").value = 0
        assert int(dut.moving.value)
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        for _ in range(late):
            dut.axi__rvalid.value, dut.axi__rlast.value = 1, random.randint(0, 1)
            await ReadOnly()
            assert not int(dut.moving.value) and not int(dut.read_beat.value)
            assert not any(int(getattr(dut, f"{name}__beat").value) for name in READ_CLIENTS)
            await FallingEdge(dut.clk)
        dut.axi__rvalid.value = 0
        # All bursts can be opened again, and their beats go to who asked for them.
        names = [random.choice(READ_CLIENTS) for _ in range(config.max_reads)]
        for name in names:
            port = getattr(dut, f"{name}__request__valid")
            port.value = 1
            await ReadOnly()
            assert int(getattr(dut, f"{name}__request__ready").value)
            await FallingEdge(dut.clk)
            port.value = 0
        await FallingEdge(dut.clk)
        for name in names:
            dut.axi__rvalid.value = dut.axi__rlast.value = 1
            data = random.getrandbits(8 * bus)
            dut.axi__rdata.value = data
            await FallingEdge(dut.clk)
            dut.axi__rvalid.value = 0
            assert [n for n in READ_CLIENTS if int(getattr(dut, f"{n}__beat").value)] == [name]
            assert int(getattr(dut, f"{name}__data").value) == data
        await FallingEdge(dut.clk)
        assert not int(dut.moving.value)


@cocotb.test()
async def reads_from_an_axi_ram(dut: Any) -> None:
    """What each client asked for arrives, in order, whatever the memory does."""
    from cocotbext.axi import AxiRamRead, AxiReadBus

    config, bus = configured()
    random = rng()
    dram = random.randbytes(DRAM_BYTES)
    await begin(dut, INPUTS[:-6])
    axi = AxiReadBus.from_prefix(dut, "axi_")
    ram = AxiRamRead(axi, dut.clk, dut.rst, size=DRAM_BYTES)
    ram.write(0, dram)
    ram.ar_channel.set_pause_generator(iter(lambda: random.random() < 0.5, None))
    ram.r_channel.set_pause_generator(iter(lambda: random.random() < 0.3, None))
    checker = ReadChecker(bus, config.max_reads)
    cocotb.start_soon(watch(checker, dut, "axi__", dut.clk))
    await FallingEdge(dut.clk)
    wanted = {name: [random_burst(random, bus) for _ in range(40)] for name in READ_CLIENTS}
    expected = {
        name: [
            (dram[address + n * bus : address + (n + 1) * bus], n == beats - 1)
            for address, beats in bursts
            for n in range(beats)
        ]
        for name, bursts in wanted.items()
    }
    found: dict[str, list[tuple[bytes, bool]]] = {name: [] for name in READ_CLIENTS}
    for _ in range(60000):
        raised = {name: bursts for name, bursts in wanted.items() if bursts}
        for name in READ_CLIENTS:
            getattr(dut, f"{name}__request__valid").value = int(name in raised)
        for name, bursts in raised.items():
            word = bursts[0][0] | bursts[0][1] - 1 << 32
            getattr(dut, f"{name}__request__payload").value = word
        await ReadOnly()
        for name in READ_CLIENTS:
            if name in raised and int(getattr(dut, f"{name}__request__ready").value):
                wanted[name].pop(0)
            if int(getattr(dut, f"{name}__beat").value):
                data = int(getattr(dut, f"{name}__data").value).to_bytes(bus, "little")
                found[name].append((data, bool(int(getattr(dut, f"{name}__last").value))))
        over = not raised and not int(dut.moving.value)
        await FallingEdge(dut.clk)
        if over:
            break
    assert found == expected
    checker.finish()


CASES = [(5, 4, 1, False), (6, 64, 7, False), (6, 64, 3, True), (8, 1, 2, True)]


@pytest.mark.parametrize(("bus", "max_reads", "latency", "stalls"), CASES)
def test_grants(
    bus: int, max_reads: int, latency: int, stalls: bool, request: pytest.FixtureRequest
):
    settings = [f"LOG_BUS_WIDTH={bus}", f"MAX_READS={max_reads}"]
    run_cocotb(
        ReadChannel(VtaConfig.load("tiny").override(settings)),
        __name__, ["grants_by_the_rules", "drops_late_beats"],
        seed=int(request.config.getoption("--seed")),
        parameters={"set": settings, "latency": latency, "stalls": stalls, "cycles": 3000},
    )  # fmt: skip


@pytest.mark.parametrize(("bus", "max_reads"), [(6, 64), (8, 1)])
def test_against_an_axi_ram(bus: int, max_reads: int, request: pytest.FixtureRequest):
    settings = [f"LOG_BUS_WIDTH={bus}", f"MAX_READS={max_reads}"]
    run_cocotb(
        ReadChannel(VtaConfig.load("tiny").override(settings)),
        __name__, ["reads_from_an_axi_ram"],
        seed=int(request.config.getoption("--seed")), parameters={"set": settings},
    )  # fmt: skip
