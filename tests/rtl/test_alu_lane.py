"""The arithmetic of the ALU's lanes, with micro-ops as close to each other as the ALU lets them."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.rtl import alu_model
from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.isa import REQUANT_OPS, AluOp, Rounding

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
hdl = pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from amaranth.lib import wiring  # noqa: E402
from amaranth.lib.wiring import In, Out  # noqa: E402
from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.alu_lane import FORWARDS, STAGES, TAKE, AluLane  # noqa: E402
from vta_hw.rtl.alu_operation import OPERATION, decode_operation  # noqa: E402
from vta_hw.rtl.fabric import PLAIN, Fabric  # noqa: E402

LANES = 8
FORWARDED = (AluOp.MIN, AluOp.MAX, AluOp.ADD, AluOp.SHR)
WORD = 0xFFFFFFFF


class Lanes(wiring.Component):
    """Some lanes side by side, which does for more numbers per cycle."""

    def __init__(self, requant):
        self.requant = requant
        super().__init__(
            {
                "operation": In(OPERATION.size),
                "read": In(32 * LANES),
                "immediate": In(16),
                "take": In(TAKE.size),
                "stage": In(STAGES),
                "forward": In(FORWARDS + 1),
                "result": Out(32 * LANES),
            }
        )

    def elaborate(self, platform):
        m = hdl.Module()
        for i in range(LANES):
            lane = m.submodules[f"lane_{i}"] = AluLane(requant=self.requant)
            m.d.comb += [
                lane.operation.eq(self.operation),
                lane.read.eq(self.read.word_select(i, 32)),
                lane.immediate.eq(self.immediate),
                lane.take.eq(self.take),
                lane.stage.eq(self.stage),
                lane.forward.eq(self.forward),
                self.result.word_select(i, 32).eq(lane.result),
            ]
        return m


def _operation_bits(operation, imm):
    is_req = operation == AluOp.REQ
    fields = decode_operation(
        lambda opcode: opcode == operation, lambda mode: is_req and mode == imm >> 8 & 3
    )
    zero_point = (imm & 255 ^ 128) - 128 if is_req else 0
    return OPERATION.const(fields | {"zero_point": zero_point}).as_value().value


class Schedule:
    """What the ports hold in each cycle of one instruction, which begins with cycle 0."""

    def __init__(self, operation, imm):
        self.operation, self.imm = operation, imm
        self.reads, self.expected = {}, {}
        self.takes, self.stages, self.forwards = (defaultdict(int) for _ in range(3))
        self.cycle = 1  # of the next grant, counted from the read of the first: grant + 3

    def take(self, name, cycle):
        self.takes[cycle] |= TAKE.const({name: 1}).as_value().value

    def begin(self, immediate_form):
        self.take("immediate", 0)
        if self.operation == AluOp.RSR and immediate_form:
            self.take("amount", 2)

    def sources(self, vectors):
        names = ("operand", "multiplier", "shifts")
        for i, vector in enumerate(vectors):
            self.reads[self.cycle] = vector
            for name in names[i : i + 1] if len(vectors) > 1 else names[:2]:
                self.take(name, self.cycle)
            if self.operation == AluOp.RSR:
                self.take("amount", self.cycle + 2)
            self.cycle += 1

    def micro_op(self, values, expected, distance=0):
        self.reads[self.cycle] = values
        for i in range(STAGES):
            self.stages[self.cycle + i] |= 1 << i
        self.forwards[self.cycle] = 1 << distance
        self.expected[self.cycle + STAGES] = expected
        self.cycle += 1


def _instruction(random_, operation, immediate_form, steps):
    """An instruction's worth of micro-ops, with what each of them should give."""
    imm = random_.getrandbits(16) & 0xCFF if operation == AluOp.REQ else 0
    if operation == AluOp.REQ:
        imm = imm & 0xFF | random_.randrange(3) << 8
    elif immediate_form:
        draw = alu_model.amount(random_) if random_.random() < 0.5 else random_.getrandbits(16)
        imm = ((draw & 0xFFFF) ^ 0x8000) - 0x8000
    plan = Schedule(operation, imm)
    plan.begin(immediate_form)
    numbers: list[int] = []
    second: list[tuple[int, ...]] = [(imm,)] * LANES
    recent: dict[int, list[int]] = {}
    for step in range(steps):
        draw = random_.random()
        if not step or draw < 0.3:
            numbers = [alu_model.number(random_) for _ in range(LANES)]
        elif draw < 0.6:  # near what the second operand was made for
            numbers = [alu_model.wrap(x + random_.randrange(-2, 3)) for x in numbers]
        if not immediate_form and (not step or random_.random() < 0.25):
            second = [alu_model.second(random_, operation, imm, x) for x in numbers]
            plan.sources(list(zip(*second, strict=True)))
        plan.cycle += random_.choice((0, 0, 0, 0, 1, 2, 7))
        values, distance = numbers, 0
        sources = [age for age in range(1, FORWARDS + 1) if plan.cycle - age in recent]
        if operation in FORWARDED and sources and random_.random() < 0.5:
            distance = random_.choice(sources)
            values = recent[plan.cycle - distance]
        expected = [
            alu_model.apply(operation, a, b, imm) for a, b in zip(values, second, strict=True)
        ]
        recent[plan.cycle] = expected
        shown = numbers if not distance else [random_.getrandbits(32) for _ in range(LANES)]
        plan.micro_op(shown, expected, distance)
    return plan


def _pack(values):
    return sum((value & WORD) << 32 * i for i, value in enumerate(values))


def _unpack(word):
    return [alu_model.wrap(word >> 32 * i & WORD) for i in range(LANES)]


async def _play(dut, plan, random_):
    dut.operation.value = _operation_bits(plan.operation, plan.imm)
    dut.immediate.value = plan.imm & 0xFFFF
    last: dict[object, int] = {}
    for cycle in range(max(plan.expected) + 1):
        for port, values in (
            (dut.take, plan.takes), (dut.stage, plan.stages), (dut.forward, plan.forwards),
        ):  # fmt: skip
            if last.get(port) != values.get(cycle, 0):
                last[port] = values.get(cycle, 0)
                port.value = last[port]
        if cycle in plan.reads:
            dut.read.value = _pack(plan.reads[cycle])
        elif random_.random() < 0.1:
            dut.read.value = random_.getrandbits(32 * LANES)
        await FallingEdge(dut.clk)
        if cycle + 1 in plan.expected:
            found = _unpack(int(dut.result.value))
            place = f"{plan.operation.name} imm={plan.imm:#x} cycle {cycle + 1}"
            assert found == plan.expected[cycle + 1], place


@cocotb.test()
async def computes(dut):
    random_ = rng()
    forms = [
        (operation, form)
        for operation in AluOp
        for form in (False, True)
        if (operation not in REQUANT_OPS or parameters()["requant"])
        and not (operation == AluOp.REQ and form)
    ]
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    for port in (dut.take, dut.stage, dut.forward):
        port.value = 0
    await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(parameters()["instructions"]):
        operation, form = random_.choice(forms)
        if parameters()["requant"] and random_.random() < 0.4:
            operation, form = AluOp.REQ, False
        await _play(dut, _instruction(random_, operation, form, 16), random_)


@pytest.mark.parametrize(
    ("requant", "fabric"),
    [(True, PLAIN), (False, PLAIN), (False, Fabric(wide_multipliers=True))],
    ids=["requant", "plain", "wide"],
)
def test_computes(requant, fabric, request):
    run_cocotb(
        Lanes(requant), __name__, ["computes"],
        seed=request.config.getoption("--seed"),
        parameters={"requant": requant, "instructions": 400},
        fabric=fabric,
    )  # fmt: skip


def test_model_of_itself():
    """The model's own numbers: examples worked by hand from docs/isa.md."""
    assert alu_model.rsr(-5, 1) == -3 and alu_model.rsr(5, 1) == 3 and alu_model.rsr(-1, 1) == -1
    assert alu_model.rsr(alu_model.INT32_MIN, 32) == -1 and alu_model.rsr(1 << 30, 32) == 0
    assert alu_model.rdhm(-(1 << 31), -(1 << 31)) == (1 << 31) - 1
    assert alu_model.shr(-1, 99) == -1 and alu_model.shr(1, -31) == -(1 << 31)
    word = 0x7F80 << 16
    one_half = 0x3F000000
    for x, y in ((1, 0), (3, 2), (-1, 0), (-3, -2), (5, 2), (1 << 30, 127)):
        assert alu_model.req(x, (0, one_half, word), Rounding.FLOAT << 8) == y
    assert alu_model.req(3, (0, 1 << 30, word), Rounding.SINGLE << 8) == 2
    assert alu_model.req(-3, (0, 1 << 30, word), Rounding.SINGLE << 8) == -1
    assert alu_model.req(-3, (0, 1 << 30, word | 1), Rounding.DOUBLE << 8) == -1
