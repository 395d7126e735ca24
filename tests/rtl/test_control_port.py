"""The control port: registers against a plain model, under back-pressure; the course of a run."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import COUNTERS, NO_INDEX, Register, counter_address

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
axi = pytest.importorskip("cocotbext.axi", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.control_port import ControlPort  # noqa: E402

OKAY, SLVERR = 0, 2
LAUNCHED_WITH = {
    Register.INSN_COUNT: 0xFFFFFFFF,
    Register.INSN_BASE: 0xFFFFFFFF,
    Register.UOP_BASE: 0xFFFFF000,
    Register.INP_BASE: 0xFFFFF000,
    Register.WGT_BASE: 0xFFFFF000,
    Register.ACC_BASE: 0xFFFFF000,
    Register.OUT_BASE: 0xFFFFF000,
    Register.DRAM_LIMIT: 0xFFFFFFFF,
}
CANNOT_BE_WRITTEN = (0x04, 0x24, 0x40, 0x44, 0x48, 0x50, 0x54)
ACC_WRITES = len(COUNTERS)


def counter_value(number: int) -> int:
    return ((number + 1) * 0x9E3779B97F4A7C15) % 2**64


class Model:
    """The register map as its documentation has it, between runs."""

    def __init__(self, config: VtaConfig) -> None:
        digest = int(config.hash, 16)
        self.words = {int(register): 0 for register in Register}
        self.words |= {0x40: 0x56544101, 0x44: digest % 2**32, 0x48: digest >> 32}
        self.words |= {0x04: counter_value(0) % 2**32, 0x24: counter_value(ACC_WRITES) % 2**32}
        self.words[0x54] = NO_INDEX
        for number, name in enumerate(COUNTERS):
            self.words[counter_address(name)] = counter_value(number) % 2**32
            self.words[counter_address(name) + 4] = counter_value(number) >> 32
        self.writable = {**LAUNCHED_WITH, Register.IRQ_ENABLE: 1}
        self.no_error = {*self.writable, Register.CONTROL, Register.IRQ_STATUS}

    def read(self, address: int) -> tuple[int, int]:
        return self.words.get(address, 0), OKAY if address in self.words else SLVERR

    def write(self, address: int, data: bytes, locked: bool = False) -> int:
        """Bytes of one word; the first at `address`."""
        word, shift = address & ~3, 8 * (address % 4)
        changed = (1 << 8 * len(data)) - 1 << shift
        value = int.from_bytes(data, "little") << shift
        if word in self.writable and not (locked and word in LAUNCHED_WITH):
            old = self.words[word]
            self.words[word] = (old & ~changed | value) & self.writable[Register(word)]
        if word == Register.IRQ_STATUS and value & 1:
            self.words[word] = 0
        return OKAY if word in self.no_error else SLVERR


class Bench:
    """Clock, reset, bus master and counters around the component."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.master: Any = None

    async def start(self) -> None:
        dut = self.dut
        dut.ended.value = dut.verdict.value = dut.verdict_index.value = 0
        dut.settled.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        bus = axi.AxiLiteBus.from_prefix(dut, "axi_")
        self.master = axi.AxiLiteMaster(bus, dut.clk, dut.rst)
        cocotb.start_soon(self._counters())
        dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)

    async def _counters(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            number = self.dut.counter.value
            asked = int(number) if number.is_resolvable else 0
            await RisingEdge(self.dut.clk)
            self.dut.counter_value.value = counter_value(asked)

    def pause(self, random) -> None:
        """Stall every channel at random."""
        write, read = self.master.write_if, self.master.read_if
        for channel in (
            write.aw_channel,
            write.w_channel,
            write.b_channel,
            read.ar_channel,
            read.r_channel,
        ):
            share = random.choice((0.0, 0.3, 0.8))
            pattern = [random.random() < share for _ in range(61)]
            channel.set_pause_generator(cycle(pattern))

    async def read(self, address: int) -> tuple[int, int]:
        answer = await self.master.read(address, 4)
        return int.from_bytes(answer.data, "little"), int(answer.resp)

    async def write(self, address: int, value: int) -> int:
        return int((await self.master.write(address, value.to_bytes(4, "little"))).resp)


@cocotb.test()
async def registers_match_the_model(dut):
    random, model = rng(), Model(VtaConfig.load(parameters()["config"]))
    bench = Bench(dut)
    await bench.start()
    addresses = [*model.words, *model.words, 0x28, 0x3C, 0x60, 0x7C, 0xFFC]
    addresses += [counter_address(COUNTERS[-1]) + 8]
    for address in addresses:
        assert await bench.read(address) == model.read(address), hex(address)
    for step in range(parameters()["steps"]):
        if step % 50 == 0:
            bench.pause(random)
        address = random.choice(addresses)
        if random.random() < 0.5:
            assert await bench.read(address) == model.read(address), hex(address)
            continue
        first = random.randrange(4)
        data = random.randbytes(random.randint(1, 4 - first))
        if address == Register.CONTROL and first == 0:
            data = bytes([data[0] & 0xFE]) + data[1:]
        response = model.write(address + first, data)
        assert int((await bench.master.write(address + first, data)).resp) == response
        settings = int(dut.settings.value)
        limit = model.words[Register.DRAM_LIMIT]
        for place, register in enumerate(LAUNCHED_WITH):
            assert settings >> 32 * place & 0xFFFFFFFF == model.words[register]
        assert settings >> 256 == (limit == 0)
    assert not int(dut.running.value)


@cocotb.test()
async def answers_in_any_order(dut):
    """Reads, and writes whose data comes long before or after the address, all at once."""
    random, model = rng(), Model(VtaConfig.load(parameters()["config"]))
    bench = Bench(dut)
    await bench.start()
    for _ in range(parameters()["steps"] // 10):
        bench.pause(random)
        registers = random.sample(list(LAUNCHED_WITH), 5)
        values = [random.getrandbits(32).to_bytes(4, "little") for _ in registers]
        writes = [
            cocotb.start_soon(bench.master.write(register, value))
            for register, value in zip(registers, values, strict=True)
        ]
        reads = [
            cocotb.start_soon(bench.master.read(counter_address(name), 8)) for name in COUNTERS[:5]
        ]
        for register, value, task in zip(registers, values, writes, strict=True):
            assert (await task).resp == model.write(register, value)
        for number, task in enumerate(reads):
            assert int.from_bytes((await task).data, "little") == counter_value(number)
        for register in registers:
            assert await bench.read(register) == model.read(register)


async def _launch(bench: Bench) -> None:
    """Launch; returns in cycle 0 of the run, having seen the cycle before it."""
    dut = bench.dut
    launch = cocotb.start_soon(bench.write(Register.CONTROL, 1))
    while True:
        await FallingEdge(dut.clk)
        assert not int(dut.running.value) and not int(dut.start.value)
        if int(dut.clear.value):
            break
    await FallingEdge(dut.clk)
    assert (int(dut.clear.value), int(dut.start.value), int(dut.running.value)) == (0, 1, 1)
    await FallingEdge(dut.clk)
    assert (int(dut.clear.value), int(dut.start.value), int(dut.running.value)) == (0, 0, 1)
    assert await launch == OKAY


async def _end(bench: Bench, verdict: int, index: int) -> None:
    dut = bench.dut
    await FallingEdge(dut.clk)
    dut.ended.value, dut.verdict.value, dut.verdict_index.value = 1, verdict, index
    assert int(dut.running.value)
    await FallingEdge(dut.clk)
    dut.ended.value, dut.verdict.value, dut.verdict_index.value = 0, 31, 0x12345678
    assert not int(dut.running.value)


@cocotb.test()
async def runs(dut):
    """Launch, a run during which settings are locked, its end, the interrupt; several times."""
    random, model = rng(), Model(VtaConfig.load(parameters()["config"]))
    bench = Bench(dut)
    await bench.start()
    for verdict, index in ((0, NO_INDEX), (5, 17), (19, NO_INDEX), (0, NO_INDEX), (16, 0)):
        enable = random.randrange(2)
        await bench.write(Register.IRQ_ENABLE, enable)
        assert await bench.read(Register.IRQ_STATUS) == (0, OKAY)
        for register in LAUNCHED_WITH:
            data = random.randbytes(4)
            model.write(register, data)
            await bench.master.write(register, data)
        await _launch(bench)
        assert await bench.read(Register.CONTROL) == (1, OKAY)
        for register in LAUNCHED_WITH:
            assert await bench.write(register, random.getrandbits(32)) == OKAY
            assert await bench.read(register) == model.read(register)
        assert await bench.write(Register.CONTROL, 1) == OKAY
        assert await bench.write(Register.VERDICT, 1) == SLVERR
        assert not int(dut.irq.value)
        dut.settled.value = 0
        await _end(bench, verdict, index)
        assert int(dut.irq.value) == enable
        waiting = cocotb.start_soon(bench.read(Register.CONTROL))
        for _ in range(20):
            await FallingEdge(dut.clk)
            assert not int(dut.axi__arready.value)
        dut.settled.value = 1
        assert await waiting == (4 if verdict else 2, OKAY)
        assert await bench.read(Register.CONTROL) == (4 if verdict else 2, OKAY)
        assert await bench.read(Register.VERDICT) == (verdict, OKAY)
        assert await bench.read(Register.VERDICT_INDEX) == (index, OKAY)
        assert await bench.read(Register.IRQ_STATUS) == (1, OKAY)
        assert await bench.write(Register.IRQ_STATUS, 0) == OKAY
        assert int(dut.irq.value) == enable
        assert await bench.write(Register.IRQ_STATUS, 1) == OKAY
        assert not int(dut.irq.value)
        assert not int(dut.running.value)


@pytest.mark.parametrize("name", ["tiny", "default"])
def test_control_port(name: str, request: pytest.FixtureRequest):
    run_cocotb(
        ControlPort(VtaConfig.load(name)),
        __name__,
        ["registers_match_the_model", "answers_in_any_order", "runs"],
        seed=request.config.getoption("--seed"),
        parameters={"config": name, "steps": 600},
    )
