"""The ALU against the rules and the tables: every slot, end and number of random instructions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.rtl import alu_model
from tests.rtl.alu_timing import depths, follow
from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import REQUANT_OPS, Alu, AluOp, FaultClass, MicroOp, encode_uop
from vta_hw.spec.machine import ACC_READ_DELAY, ACC_WRITE_DELAY, DONE_TO_RETIRE

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl import alu  # noqa: E402
from vta_hw.rtl.signatures import alu_job  # noqa: E402

WORD = 0xFFFFFFFF
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "rows": {"LOG_BATCH": 1, "LOG_BLOCK_OUT": 1, "LOG_BLOCK_IN": 3, "LOG_ACC_BUFF_SIZE": 11,
             "LOG_UOP_BUFF_SIZE": 7},
    "plain": {"EXTENSIONS": [], "LOG_INP_BUFF_SIZE": 11},
}  # fmt: skip
"""Changes of `tiny`. In `plain`, a micro-op's src can name more than ACC has."""


def make_config(name):
    values = VtaConfig.load("tiny").to_dict() | CONFIGS[name]
    if "LOG_BLOCK_OUT" in CONFIGS[name]:
        del values["LOG_BLOCK"]
    return VtaConfig.from_dict(values, name)


class Bench:
    """Plays UOP, ACC and the stage around one ALU, and watches its ports."""

    def __init__(self, dut, config, random_):
        self.dut, self.config, self.random = dut, config, random_
        self.lanes = config.batch * config.block_out
        uops, elements = depths(config)
        self.uops = [MicroOp(dst=0, src=0)] * uops
        self.acc = [self.vector() for _ in range(elements)]
        self.written = [list(vector) for vector in self.acc]
        self.cycle = 0
        self.busy_share = 0.0
        self.closed: dict[int, bool] = {}
        self.slots, self.ports, self.done = [], set(), []
        self.on_its_way = []

    def vector(self):
        return [alu_model.number(self.random) for _ in range(self.lanes)]

    def free(self, cycle):
        """Whether nobody else has the slot of `cycle`."""
        if cycle not in self.closed:
            self.closed[cycle] = self.random.random() < self.busy_share
        return not self.closed[cycle]

    async def step(self):
        """One cycle; the inputs of it are set."""
        dut = self.dut
        dut.acc__grant.value = self.free(self.cycle)
        await FallingEdge(dut.clk)
        if dut.acc__valid.value and self.free(self.cycle):
            assert dut.moving.value
            slot = (self.cycle, int(dut.acc__index.value), bool(dut.acc__write.value))
            self.slots.append(slot)
            self.on_its_way.append(slot)
        else:
            assert not dut.moving.value
        if dut.port.value:
            self.ports.add(self.cycle)
        if dut.work__done.value:
            # It is high one cycle after the end.
            amount, fault = int(dut.work__amount.value), int(dut.work__fault.value)
            self.done.append((self.cycle - 1, fault, amount))
        read = self._memory()
        uop = int(dut.uop__index.value) if dut.uop__enable.value else None
        dut.acc__read_data.value = (
            sum((x & WORD) << 32 * i for i, x in enumerate(self.written[read]))
            if read is not None
            else self.random.getrandbits(32 * self.lanes)
        )
        await RisingEdge(dut.clk)
        if uop is not None:
            dut.uop__data.value = encode_uop(self.uops[uop], self.config)
        self.cycle += 1

    def _memory(self):
        """What of ACC is written in this cycle; the index that is read in it, as of then."""
        read = None
        for slot in list(self.on_its_way):
            granted, index, write = slot
            if write and self.cycle == granted + ACC_WRITE_DELAY:
                word = int(self.dut.acc__write_data.value)
                lanes = range(self.lanes)
                self.written[index] = [alu_model.wrap(word >> 32 * i & WORD) for i in lanes]
            if self.cycle == granted + ACC_READ_DELAY:
                read = index
            if self.cycle == granted + ACC_WRITE_DELAY:
                self.on_its_way.remove(slot)
        return read

    async def run(self, job, bins):
        """Issue `job` now; check all of it, except that its results are there in `finish`."""
        self.slots.clear()
        self.ports.clear()
        self.done.clear()
        issue = self.cycle
        course = follow(job, self.uops, self.acc, issue, self.free, bins)
        fields = {name: int(getattr(job, name)) for name, _ in alu_job(self.config)}
        bits = alu_job(self.config).const(fields).as_value().value
        self.dut.work__start__payload.value = bits
        self.dut.work__start__valid.value = 1
        assert self.dut.work__start__ready.value
        await self.step()
        self.dut.work__start__valid.value = 0
        self.dut.work__start__payload.value = self.random.getrandbits(len(f"{bits:b}"))
        # The next one issues after this one's retirement at the earliest.
        while self.cycle <= course.done + DONE_TO_RETIRE:
            await self.step()
        text = f"{job} issued in {issue}"
        assert self.slots == course.slots, text
        assert self.ports == course.waits, text
        assert self.done == [(course.done, course.fault, course.amount)], text
        return course

    async def finish(self):
        """Let everything arrive in ACC and compare it."""
        while self.on_its_way:
            await self.step()
        assert self.written == self.acc

    async def reset(self):
        self.dut.rst.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        self.on_its_way.clear()
        self.written = [list(vector) for vector in self.acc]


async def _begin(dut):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    bench = Bench(dut, make_config(parameters()["config"]), rng())
    dut.work__start__valid.value = 0
    dut.acc__grant.value = 0
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    await bench.reset()
    return bench


# -- random instructions --------------------------------------------------------------------------


def _random_job(bench, operation):
    """An instruction on few elements, so that its micro-ops meet; sometimes one that faults."""
    random_, config = bench.random, bench.config
    uops, elements = depths(config)
    count = random_.choice((0, 1, 1, 2, 3, 4, 6))
    begin = random_.randrange(uops - 8)
    if random_.random() < 0.03:
        begin, count = uops - 2, 4
    window = random_.choice((1, 2, 3, 6, 20))
    base = random_.randrange(elements - 40)
    far = base if random_.random() < 0.6 else (base + window + 3) % (elements - 40)
    for u in range(begin, min(begin + count, uops)):
        src = far + random_.choice((0, random_.randrange(window)))
        bench.uops[u] = MicroOp(dst=base + random_.randrange(window), src=src)
        if random_.random() < 0.05:
            source_bits = max(config.depth_bits(m) for m in (MemType.ACC, MemType.INP))
            bench.uops[u] = MicroOp(
                dst=elements - 1 - random_.randrange(2),
                src=(1 << source_bits) - 1 - random_.randrange(4),
            )
    if not bench.on_its_way:
        for index in range(far, far + window + 3):
            _prepare(bench, operation, index)
    step = (0, 0, 0, 1, 2)
    use_imm = operation != AluOp.REQ and random_.random() < 0.4
    imm = random_.getrandbits(8) | random_.randrange(3) << 8
    if operation != AluOp.REQ:
        imm = alu_model.amount(random_) & 0xFFFF
        imm -= (imm & 0x8000) << 1
    return Alu(
        uop_bgn=begin, uop_end=begin + count,
        iter_out=random_.choice((0, 1, 1, 2, 3)), iter_in=random_.choice((1, 1, 2, 4)),
        dst_factor_out=random_.choice(step), dst_factor_in=random_.choice(step),
        src_factor_out=random_.choice(step), src_factor_in=random_.choice(step),
        alu_opcode=operation, use_imm=use_imm, imm=imm,
    )  # fmt: skip


def _prepare(bench, operation, index):
    """Second operands of sense for shifts, which random numbers hardly are."""
    if operation in (AluOp.SHR, AluOp.RSR) and bench.random.random() < 0.7:
        bench.acc[index] = [alu_model.amount(bench.random) for _ in range(bench.lanes)]
        bench.written[index] = list(bench.acc[index])


@cocotb.test()
async def runs(dut):
    bench = await _begin(dut)
    bins: Counter[str] = Counter()
    has_requant = bench.config.has("requant")
    operations = [op for op in AluOp if has_requant or op not in REQUANT_OPS]
    for number in range(parameters()["instructions"]):
        if number % 10 == 0:
            bench.busy_share = bench.random.choice((0, 0, 0.2, 0.6))
            await bench.finish()
        course = await bench.run(_random_job(bench, bench.random.choice(operations)), bins)
        if course.fault:
            await bench.finish()
            await bench.reset()
        for _ in range(bench.random.choice((0, 0, 0, 1, 5))):
            await bench.step()
    await bench.finish()
    slow = range(1, 5)
    wanted = [
        "conflict", "src changed", "src overwritten", "src held",
        *(f"fast dst again after {age}" for age in range(1, 7)), "slow dst again after 5",
        *(f"slow dst waits at {age}" for age in slow), *(f"source waits at {age}" for age in slow),
        f"fault {FaultClass.UOP_RANGE}", f"fault {FaultClass.INDEX_RANGE}",
        *(["held though overwritten"] if has_requant else []),
    ]  # fmt: skip
    assert not [name for name in wanted if not bins[name]], bins


# -- cycles by hand -------------------------------------------------------------------------------

MADE_BY_HAND = [
    # operation, use_imm, (dst, src) of the micro-ops; cycles after the issue, dst marked by +
    (AluOp.ADD, True, [(0, 0), (1, 1), (0, 0), (0, 0)], "+2 +3 +4 +5"),
    (AluOp.ADD, False, [(0, 9), (1, 9), (0, 9)], "2 +3 +4 +5"),
    (AluOp.MAX, False, [(0, 8), (1, 9), (2, 8)], "2 +3 4 +5 6 +7"),
    (AluOp.MIN, False, [(9, 9), (0, 9)], "2 +3 8 +9"),
    (AluOp.SHR, False, [(0, 9), (9, 9), (1, 9)], "2 +3 +4 9 +10"),
    (AluOp.ADD, False, [(0, 9), (1, 0)], "2 +3 8 +9"),
    (AluOp.ADD, False, [(0, 9), (1, 8), (2, 0)], "2 +3 4 +5 8 +9"),
    (AluOp.MUL, True, [(0, 0), (0, 0), (1, 1)], "+2 +7 +8"),
    (AluOp.MUL, False, [(0, 9), (1, 9), (0, 8)], "2 +3 +4 5 +8"),
    (AluOp.RDHM, False, [(0, 9), (0, 9)], "2 +3 +8"),
    (AluOp.RSR, True, [(0, 0), (1, 0), (2, 0), (0, 0)], "+2 +3 +4 +7"),
    (AluOp.REQ, False, [(0, 7), (1, 7), (2, 4)], "2 3 4 +5 +6 7 8 9 +10"),
    (AluOp.REQ, False, [(8, 7), (1, 7), (2, 6)], "2 3 4 +5 +6 7 8 10 +11"),
    (AluOp.REQ, False, [(0, 7), (0, 7)], "2 3 4 +5 +10"),
]


@cocotb.test()
async def takes_the_cycles_made_by_hand(dut):
    bench = await _begin(dut)
    for operation, use_imm, steps, text in MADE_BY_HAND:
        bench.uops[: len(steps)] = [MicroOp(dst=dst, src=src) for dst, src in steps]
        job = Alu(alu_opcode=operation, use_imm=use_imm, uop_end=len(steps), iter_out=1, iter_in=1)
        issue = bench.cycle
        await bench.run(job, Counter())
        cycles = [f"{'+' * write}{cycle - issue}" for cycle, _, write in bench.slots]
        assert cycles == text.split(), (operation.name, steps)
        await bench.finish()


@cocotb.test()
async def ends_without_micro_ops_in_the_next_cycle(dut):
    bench = await _begin(dut)
    job = Alu(alu_opcode=AluOp.ADD, use_imm=True, uop_end=1, iter_out=1, iter_in=1)
    empty: tuple[dict[str, Any], ...] = (
        {"uop_end": 0}, {"uop_bgn": 3}, {"iter_out": 0}, {"iter_in": 0},
    )  # fmt: skip
    for nothing in empty:
        issue = bench.cycle
        await bench.run(replace(job, **nothing), Counter())
        assert bench.done == [(issue + 1, 0, 0)]


@cocotb.test()
async def faults_in_the_cycle_of_the_ask(dut):
    bench = await _begin(dut)
    uops, elements = depths(bench.config)
    good, job = MicroOp(dst=1, src=1), Alu(uop_end=2, iter_out=1, iter_in=1, use_imm=True)
    cases: list[tuple[MicroOp, dict[str, Any], str, int]] = [
        (MicroOp(dst=1, src=elements - 1), {"src_factor_in": 1, "iter_in": 2}, "+2 +3 +4", 3),
        (MicroOp(dst=elements - 1), {"dst_factor_out": 1, "iter_out": 2}, "+2 +3 +4", 3),
        (good, {"uop_bgn": uops - 1, "uop_end": uops + 1}, "+2", 1),
        (good, {"uop_bgn": uops - 1, "uop_end": uops, "dst_factor_in": elements - 1,
                "iter_in": 2}, "+2", 1),
    ]  # fmt: skip
    if bench.config.has("requant"):
        req: dict[str, Any] = {"alu_opcode": AluOp.REQ, "use_imm": False}
        cases += [
            (MicroOp(dst=1, src=elements - 2), req, "2 3 4 +5", 1),
            (MicroOp(dst=1, src=elements - 1), req | {"uop_bgn": 1}, "", 0),
            (MicroOp(dst=1, src=elements - 3), req, "2 3 4 +5 6 7 8 +10", 2),
        ]
    for second, changes, text, amount in cases:
        bench.uops[0], bench.uops[1], bench.uops[-1] = good, second, good
        issue = bench.cycle
        course = await bench.run(replace(job, **changes), Counter())
        cycles = [f"{'+' * write}{cycle - issue}" for cycle, _, write in bench.slots]
        assert cycles == text.split() and course.amount == amount, changes
        if course.fault:
            assert course.done == (course.slots[-1][0] + 1 if course.slots else issue + 2)
            await bench.finish()
            await bench.reset()


def _run(request, config, *coroutines, **more):
    run_cocotb(
        alu.Alu(make_config(config)), __name__, coroutines,
        seed=request.config.getoption("--seed"), parameters={"config": config, **more},
    )  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_random(config, request):
    _run(request, config, "runs", instructions=400)


def test_cycles(request):
    _run(
        request, "tiny", "takes_the_cycles_made_by_hand",
        "ends_without_micro_ops_in_the_next_cycle", "faults_in_the_cycle_of_the_ask",
    )  # fmt: skip
