"""GEMM on the ACC memory, beside beats and another unit: cycle by cycle, then the sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
hdl = pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from amaranth.lib import wiring  # noqa: E402
from amaranth.lib.wiring import In, Out, connect, flipped  # noqa: E402
from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.acc_memory import AccMemory  # noqa: E402
from vta_hw.rtl.gemm import Gemm  # noqa: E402
from vta_hw.rtl.signatures import AccLoad, AccSlot, gemm_job  # noqa: E402
from vta_hw.spec.config import VtaConfig  # noqa: E402
from vta_hw.spec.isa import FaultClass  # noqa: E402
from vta_hw.spec.machine import ACC_READ_DELAY  # noqa: E402

JOBS = 120
SMALL = ("LOG_UOP_BUFF_SIZE=8", "LOG_INP_BUFF_SIZE=10", "LOG_WGT_BUFF_SIZE=11")
KINDS = ("sum", "same", "reset", "empty", "uop", "dst", "src", "wgt", "wraps", "reset_beyond")


class GemmAndMemory(wiring.Component):
    """Both, with all their other ports outside."""

    def __init__(self, config):
        self.parts = Gemm(config), AccMemory(config)
        members = self.parts[0].signature.members
        outside = {name: members[name].signature for name in ("work", "uop", "inp", "wgt")}
        super().__init__(
            {
                "work": In(outside["work"].flip()),
                **{name: Out(outside[name]) for name in ("uop", "inp", "wgt")},
                "load": In(AccLoad(config)),
                "alu": In(AccSlot(config)),
                "moving": Out(1),
                "port": Out(1),
            }
        )

    def elaborate(self, platform):
        m = hdl.Module()
        m.submodules.gemm, m.submodules.memory = gemm, memory = self.parts
        connect(m, gemm.acc, memory.gemm)
        for name in ("uop", "inp", "wgt"):
            connect(m, getattr(gemm, name), flipped(getattr(self, name)))
        connect(m, flipped(self.work), gemm.work)
        connect(m, flipped(self.load), memory.load)
        connect(m, flipped(self.alu), memory.alu)
        m.d.comb += [self.moving.eq(gemm.moving), self.port.eq(gemm.port)]
        return m


@dataclass
class Sizes:
    """Of the configuration, in elements and lanes."""

    batch: int
    block_in: int
    block_out: int
    depths: dict[str, int]
    beat_most: int
    widths: list[tuple[str, int]]

    @property
    def lanes(self) -> int:
        return self.batch * self.block_out

    @property
    def reserved(self) -> set[int]:
        """Elements of ACC that GEMM does not touch here; the others do."""
        depth = self.depths["acc"]
        return {depth // 2 - 1, depth // 2, depth - 1}

    def pack(self, job: dict[str, int]) -> int:
        word, low = 0, 0
        for name, width in self.widths:
            assert 0 <= job[name] < 1 << width, (name, job)
            word |= job[name] << low
            low += width
        return word


def micro_ops(
    job: dict[str, int], uops: list[tuple[int, int, int]], sizes: Sizes
) -> Iterator[tuple[int, int, int] | FaultClass]:
    """The loops of docs/isa.md, up to the first bad micro-op."""
    for o in range(job["iter_out"]):
        for n in range(job["iter_in"]):
            for u in range(job["uop_bgn"], job["uop_end"]):
                if u >= len(uops):
                    yield FaultClass.UOP_RANGE
                    return
                dst, src, wgt = (
                    uops[u][place] + o * job[f"{name}_factor_out"] + n * job[f"{name}_factor_in"]
                    for place, name in enumerate(("dst", "src", "wgt"))
                )
                bad = dst >= sizes.depths["acc"]
                if not job["reset"]:
                    bad |= src >= sizes.depths["inp"] or wgt >= sizes.depths["wgt"]
                if bad:
                    yield FaultClass.INDEX_RANGE
                    return
                yield dst, src, wgt


def random_job(random: Any, kind: str, sizes: Sizes, uops: list[Any]) -> dict[str, int]:
    """A job of the kind on the micro-ops that it writes to `uops`; about 50 of them at most."""
    depth = sizes.depths
    count = random.choice((1, 1, 2, 3, 4, 5, 7))
    begin = random.randrange(len(uops) - count)
    outer, inner = random.choice((1, 1, 2, 3)), random.choice((1, 1, 2, 4))
    lowest = random.choice((0, depth["acc"] // 2 + 1, depth["acc"] // 2 - 4))
    spread = 1 if kind == "same" else random.choice((2, 3, 4))
    few = 0 if kind == "same" else 2
    for u in range(begin, begin + count):
        dst = (lowest + random.randrange(spread)) % (depth["acc"] - 1)
        src, wgt = (random.randrange(depth[name] // 2) for name in ("inp", "wgt"))
        uops[u] = (dst, src, wgt)
    job = {
        "reset": int(kind in ("reset", "reset_beyond") or random.random() < 0.1),
        "uop_bgn": begin,
        "uop_end": begin + count,
        "iter_out": outer,
        "iter_in": inner,
        "dst_factor_out": random.randint(0, few),
        "dst_factor_in": random.randint(0, few),
        **{f"{name}_factor_{loop}": random.randint(0, 4) for name in ("src", "wgt")
           for loop in ("out", "in")},
    }  # fmt: skip
    widths = dict(sizes.widths)
    if kind == "empty":
        name, value = random.choice(
            [("iter_out", 0), ("iter_in", 0), ("uop_end", begin), ("uop_end", max(0, begin - 1))]
        )
        job[name] = value
    elif kind == "uop":
        begin = random.choice((len(uops) - 1, len(uops) - count))
        uops[begin : len(uops)] = [(1, 2, 3)] * (len(uops) - begin)
        job |= {"uop_bgn": begin, "uop_end": (1 << widths["uop_end"]) - 1, "iter_in": 9}
    elif kind in ("dst", "src", "wgt"):
        loop = random.choice(("out", "in"))
        job |= {
            "reset": int(kind == "dst" and random.random() < 0.5),
            f"iter_{loop}": random.choice((9, 16383)),
            f"{kind}_factor_{loop}": (1 << widths[f"{kind}_factor_{loop}"]) // 4 + 1,
        }
    elif kind == "wraps":
        # Without the carries, each index would come back to where it began.
        name = random.choice(("src", "wgt"))
        half = 1 << (widths[f"{name}_factor_out"] - 1)
        job |= {"reset": 0, "iter_out": 7, "iter_in": 4, f"{name}_factor_out": half}
        job[f"{name}_factor_in"] = 0
    elif kind == "reset_beyond":
        job |= {f"{name}_factor_in": (1 << widths[f"{name}_factor_in"]) - 1
                for name in ("src", "wgt")} | {"iter_in": 9, "dst_factor_in": 0}  # fmt: skip
    return job


class Machine:
    """What the component should do and hold, and the memories around it."""

    def __init__(self, dut: Any, random: Any, sizes: Sizes) -> None:
        self.dut, self.random, self.sizes = dut, random, sizes
        depths = sizes.depths
        self.uops = [(0, 0, 0)] * depths["uop"]
        self.inp = [self.bytes(sizes.batch * sizes.block_in) for _ in range(depths["inp"])]
        self.wgt = [self.bytes(sizes.block_out * sizes.block_in) for _ in range(depths["wgt"])]
        self.acc = [
            [random.getrandbits(32) for _ in range(sizes.lanes)] for _ in range(depths["acc"])
        ]
        self.cycle = 0
        self.busy = {"beat": 0.0, "alu": 0.0}
        self.alu_writes: dict[int, list[int]] = {}
        self.reads: dict[str, tuple[bool, int]] = {}
        self.done: tuple[int, int] = (-1, 0)
        self.resets = False

    def bytes(self, count: int) -> list[int]:
        return [self.random.choice((-128, 127, self.random.randint(-128, 127)))
                for _ in range(count)]  # fmt: skip

    def element(self, memory: str, index: int) -> int:
        if memory == "uop":
            dst, src, wgt = self.uops[index]
            acc_bits = (self.sizes.depths["acc"] - 1).bit_length()
            src_bits = max(acc_bits, (self.sizes.depths["inp"] - 1).bit_length())
            return dst | src << acc_bits | wgt << acc_bits + src_bits
        values = getattr(self, memory)[index]
        return sum((value & 255) << 8 * place for place, value in enumerate(values))

    def word(self, lanes: list[int]) -> int:
        return sum(value << 32 * place for place, value in enumerate(lanes))

    def half(self, index: int) -> int:
        return 2 * index // self.sizes.depths["acc"]

    def step(self, micro_op: tuple[int, int, int], reset: int) -> None:
        """One micro-op, as docs/isa.md has it."""
        dst, src, wgt = micro_op
        sizes, k = self.sizes, self.sizes.block_in
        if reset:
            self.acc[dst] = [0] * sizes.lanes
            return
        for b in range(sizes.batch):
            row = self.inp[src][b * k : (b + 1) * k]
            for c in range(sizes.block_out):
                column = self.wgt[wgt][c * k : (c + 1) * k]
                total = sum(x * y for x, y in zip(row, column, strict=True))
                lane = b * sizes.block_out + c
                self.acc[dst][lane] = (self.acc[dst][lane] + total) & 0xFFFFFFFF

    async def tick(self, asked: int | None = None, start: int | None = None) -> bool:
        """One cycle in which GEMM should ask for the slot of `asked`: whether it is granted."""
        dut, random, lanes = self.dut, self.random, self.sizes.lanes
        dut.work__start__valid.value = start is not None
        dut.work__start__payload.value = random.getrandbits(64) if start is None else start
        for memory, (enable, index) in self.reads.items():
            if enable:
                getattr(dut, f"{memory}__data").value = self.element(memory, index)
        taken = self.drive_beat()
        alu = None
        if random.random() < self.busy["alu"]:
            alu = random.choice(sorted(self.sizes.reserved))
        dut.alu__valid.value = alu is not None
        dut.alu__index.value = alu or 0
        dut.alu__write.value = 1
        value = self.alu_writes.pop(self.cycle, [random.getrandbits(32) for _ in range(lanes)])
        dut.alu__write_data.value = self.word(value)
        await FallingEdge(dut.clk)
        granted = asked is not None and self.half(asked) not in taken
        found = bool(dut.moving.value), bool(dut.port.value)
        assert found == (granted, asked is not None and not granted), (self.cycle, asked)
        if asked is not None:
            taken.add(self.half(asked))
        assert bool(dut.alu__grant.value) == (alu is not None and self.half(alu) not in taken)
        if dut.alu__grant.value:
            self.alu_writes[self.cycle + 8] = [random.getrandbits(32) for _ in range(lanes)]
        done = self.cycle == self.done[0]
        assert bool(dut.work__done.value) == done, (self.cycle, self.done)
        if done:
            assert int(dut.work__fault.value) == self.done[1]
        for memory in ("uop", "inp", "wgt"):
            port = getattr(dut, f"{memory}__enable"), getattr(dut, f"{memory}__index")
            self.reads[memory] = bool(port[0].value), int(port[1].value)
        assert not (self.resets and (self.reads["inp"][0] or self.reads["wgt"][0]))
        await RisingEdge(dut.clk)
        self.cycle += 1
        return granted

    def drive_beat(self) -> set[int]:
        """Perhaps a beat to reserved elements: the halves that it takes."""
        dut, random, sizes = self.dut, self.random, self.sizes
        index = random.choice(sorted(sizes.reserved))
        most = 2 if sizes.beat_most > 1 and index + 1 in sizes.reserved else 1
        count = random.randint(1, most)
        beat = random.random() < self.busy["beat"]
        dut.load__beat.value = beat
        dut.load__index.value = index
        dut.load__count.value = count
        dut.load__data.value = random.getrandbits(32 * sizes.lanes * sizes.beat_most)
        return {self.half(index), self.half(index + count - 1)} if beat else set()

    async def start(self) -> None:
        """Reset, then known values in all of ACC."""
        dut = self.dut
        for port in ("load__fill", "load__fill_index", "load__fill_data", "uop__data",
                     "inp__data", "wgt__data"):  # fmt: skip
            getattr(dut, port).value = 0
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        dut.rst.value = 1
        await RisingEdge(dut.clk)
        await self.tick()
        dut.rst.value = 0
        for index, lanes in enumerate(self.acc):
            dut.load__fill.value = 1
            dut.load__fill_index.value = index
            dut.load__fill_data.value = self.word(lanes)
            await self.tick()
        dut.load__fill.value = 0

    async def run(self, job: dict[str, int]) -> list[tuple[int, int]]:
        """One job, held to rules G3 and G4: (cycle of its slot, dst) of each micro-op."""
        assert self.dut.work__start__ready.value
        begin = self.cycle
        slots: list[tuple[int, int]] = []
        fault = 0
        self.resets = bool(job["reset"])
        await self.tick(start=self.sizes.pack(job))
        await self.tick_until_end(begin + 1)
        todo = list(micro_ops(job, self.uops, self.sizes))
        for micro_op in todo:
            assert not self.dut.work__start__ready.value
            if isinstance(micro_op, FaultClass):
                fault = int(micro_op)
                break
            while not await self.tick(asked=micro_op[0]):
                pass
            slots.append((self.cycle - 1, micro_op[0]))
            self.step(micro_op, job["reset"])
        # The end is in the cycle before this one; with a fault it is this one.
        if not todo:
            self.done = (begin + 2, 0)
        else:
            self.done = (self.cycle + bool(fault), fault)
        while self.cycle <= self.done[0]:
            await self.tick()
        assert int(self.dut.work__amount.value) == len(slots)
        return slots

    async def tick_until_end(self, cycle: int) -> None:
        while self.cycle <= cycle:
            await self.tick()

    async def check_acc(self) -> None:
        """All of ACC, read through the port of the other unit."""
        self.busy = {"beat": 0.0, "alu": 0.0}
        for _ in range(12):
            await self.tick()
        dut, depth = self.dut, self.sizes.depths["acc"]
        dut.alu__write.value = 0
        delay = ACC_READ_DELAY
        for index in range(depth + delay):
            dut.alu__valid.value = index < depth
            dut.alu__index.value = min(index, depth - 1)
            await FallingEdge(dut.clk)
            if index >= delay and index - delay not in self.sizes.reserved:
                found = int(dut.alu__read_data.value)
                assert found == self.word(self.acc[index - delay]), f"acc[{index - delay}]"
            await RisingEdge(dut.clk)
            self.cycle += 1


@cocotb.test()
async def random_jobs(dut: Any) -> None:
    given = parameters()
    sizes = Sizes(**given)
    random = rng()
    machine = Machine(dut, random, sizes)
    await machine.start()
    distances: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    while sum(kinds.values()) < JOBS:
        kind = KINDS[sum(kinds.values()) % len(KINDS)]
        job = random_job(random, kind, sizes, machine.uops)
        todo = list(micro_ops(job, machine.uops, sizes))
        wanted = {"empty": [], "uop": [FaultClass.UOP_RANGE]}.get(kind, todo[-1:])
        if kind in ("dst", "src", "wgt"):
            wanted = [FaultClass.INDEX_RANGE]
        dsts = {op[0] for op in todo if not isinstance(op, FaultClass)}
        if todo[-1:] != wanted or dsts & sizes.reserved or len(todo) > 300:
            continue
        kinds[kind] += 1
        if random.random() < 0.5:
            machine.busy = {name: random.choice((0, 0.1, 0.5, 0.9)) for name in machine.busy}
        slots = await machine.run(job)
        seen: dict[int, int] = {}
        for cycle, dst in slots:
            distances[cycle - seen.get(dst, cycle)] += 1
            seen[dst] = cycle
        for _ in range(random.choice((3, 3, 4, 9))):
            await machine.tick()
    assert all(distances[distance] for distance in range(1, 7)), distances
    assert set(kinds) == set(KINDS)
    await machine.check_acc()


@cocotb.test()
async def full_rate(dut: Any) -> None:
    """One micro-op per cycle in every shape of loop, all to one element."""
    sizes = Sizes(**parameters())
    machine = Machine(dut, rng(), sizes)
    await machine.start()
    machine.uops[3:7] = [(1, place, place) for place in range(4)]
    for count, outer, inner in ((1, 1, 1), (1, 1, 9), (1, 9, 1), (4, 1, 1), (3, 2, 2), (2, 3, 1)):
        job = dict.fromkeys((name for name, _ in sizes.widths), 0)
        job |= {"uop_bgn": 3, "uop_end": 3 + count, "iter_out": outer, "iter_in": inner}
        begin = machine.cycle
        slots = await machine.run(job)
        total = count * outer * inner
        assert slots == [(begin + 2 + place, 1) for place in range(total)]
        assert machine.done == (begin + 2 + total, 0)
        await machine.tick()
    await machine.check_acc()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tiny", []),
        ("batch4", [*SMALL, "LOG_ACC_BUFF_SIZE=13", "LOG_BUS_WIDTH=9"]),
        pytest.param("rect", [*SMALL, "LOG_ACC_BUFF_SIZE=11"], marks=pytest.mark.slow),
        (
            "rect",
            [*SMALL, "LOG_BATCH=1", "LOG_BLOCK_IN=0", "LOG_BLOCK_OUT=2", "LOG_ACC_BUFF_SIZE=12"],
        ),
    ],
)
def test_gemm(name, settings, request):
    config = VtaConfig.load(name).override([*settings, "EXTENSIONS="])
    acc_log = config.log_acc_buff - 2 - config.log_batch - config.log_block_out
    lanes = config.batch * config.block_out
    run_cocotb(
        GemmAndMemory(config),
        __name__,
        ["random_jobs", "full_rate"],
        seed=request.config.getoption("--seed"),
        parameters={
            "batch": config.batch,
            "block_in": config.block_in,
            "block_out": config.block_out,
            "depths": {
                "uop": 1 << config.log_uop_buff >> 2,
                "inp": 1 << config.log_inp_buff >> config.log_batch + config.log_block_in,
                "wgt": 1 << config.log_wgt_buff >> config.log_block_in + config.log_block_out,
                "acc": 1 << acc_log,
            },
            "beat_most": max(1, (1 << config.log_bus_width) // (8 * lanes)),
            "widths": [
                (field_name, field.width) for field_name, field in gemm_job(config)
            ],
        },
    )  # fmt: skip
