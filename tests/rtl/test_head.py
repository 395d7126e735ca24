"""Decoding and checking of single instructions, against the definition of the instruction set."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth.hdl", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.head import STAGE_UNITS, STEPS, Head, head_layout, job_layouts  # noqa: E402
from vta_hw.rtl.signatures import ALU_FIELDS, GEMM_FIELDS  # noqa: E402
from vta_hw.rtl.transfer import STAGE_MEMORIES, base_name  # noqa: E402
from vta_hw.spec import isa, machine  # noqa: E402
from vta_hw.spec.config import INSN_BITS, PAGE_BYTES, MemType, VtaConfig  # noqa: E402
from vta_hw.spec.isa import Alu, Finish, Gemm, Load, Stage, Store  # noqa: E402
from vta_hw.spec.semantics import Scratchpads, check  # noqa: E402

PAD = "pad"


# -- random instructions --------------------------------------------------------------------------


def _fields(random, form, config):
    """Random values of every field, many of them 0."""
    values = {}
    for slot in isa.layout(form, config):
        if slot.name != "opcode":
            value = random.getrandbits(slot.width) if random.random() < 0.6 else 0
            if slot.signed and value >> (slot.width - 1):
                value -= 1 << slot.width
            values[slot.name] = value
    return values


def _transfer(random, form, config, memories, limit, bases):
    """Mostly one whose ends are near those of its memories."""
    values = _fields(random, form, config)
    small = random.random() < 0.95
    for name in ("y_size", "x_size", "x_stride"):
        values[name] = random.choice((0, 1, 1, 2, 3, random.randrange(20))) if small else 0xFFFF
    if form is Store and random.random() < 0.8:
        values.update(y_pad_0=0, y_pad_1=0, x_pad_0=0, x_pad_1=0)
    if random.random() < 0.5:
        values.update(pop_prev=0, pop_next=0, push_prev=0, push_next=0)
    if random.random() < 0.2:
        values.update(x_stride=0, x_size=1)
    memory = random.choice(memories)
    values["memory_type"] = int(memory) if random.random() < 0.95 else random.randrange(8)
    insn = form(**values)
    rows, columns = insn.sram_shape if form is Load else (insn.y_size, insn.x_size)
    end = config.depth(memory) - rows * columns + random.choice((-9, -1, 0, 0, 1))
    reach = (insn.y_size - 1) * insn.x_stride + insn.x_size
    last = limit - bases[MemType.ACC if memory is MemType.ACC_8BIT else memory]
    start = last // config.elem_bytes(memory) - reach + random.choice((-9, -1, 0, 0, 1))
    changes = {}
    if random.random() < 0.8:
        changes["sram_base"] = min(max(end, 0), 0xFFFF)
    if random.random() < 0.8:
        changes["dram_base"] = min(max(start, 0), 0xFFFFFFFF)
    return replace(insn, **changes)


def _instruction(random, config, stage, limit, bases):
    memories = STAGE_MEMORIES[stage]
    if stage is Stage.STORE:
        return _transfer(random, Store, config, memories, limit, bases)
    if stage is Stage.LOAD:
        insn = _transfer(random, Load, config, memories, limit, bases)
        refused = (int(MemType.INP), int(MemType.WGT), 4, 6, 7)
        if insn.memory_type in refused:
            return insn
        return replace(insn, memory_type=random.choice(refused))
    form = random.choice((Load, Load, Gemm, Alu, Alu, Finish))
    if form is Load:
        insn = _transfer(random, Load, config, memories, limit, bases)
        kinds = [int(memory) for memory in memories]
        return insn if insn.memory_type in kinds else replace(insn, memory_type=kinds[0])
    values = _fields(random, form, config)
    if form is Alu and random.random() < 0.7:
        values["imm"] &= 0x0F00
        values["use_imm"] = random.random() < 0.3
    return form(**values)


def _word(random, insn, config):
    """Its word, with noise in the bits that mean nothing."""
    taken = sum((1 << slot.width) - 1 << slot.low for slot in isa.layout(type(insn), config))
    return isa.encode(insn, config) | (random.getrandbits(INSN_BITS) & ~taken)


# -- what is expected -----------------------------------------------------------------------------


def _expected_fault(insn, pads, config, limit, bases):
    if isinstance(insn, Gemm):
        return 0
    if isinstance(insn, Alu):
        insn = replace(insn, iter_out=0)
    return int(check(insn, pads, config, limit, bases) or 0)


def _expected_work(insn):
    match insn:
        case Finish():
            return False
        case Load():
            return insn.x_size > 0 and insn.sram_shape[0] > 0
        case Store():
            return insn.x_size > 0 and insn.y_size > 0
    return True


def _expected_units(insn):
    match insn:
        case Gemm():
            return ("gemm",)
        case Alu():
            return ("alu",)
        case Store():
            return ("store",)
        case Load(memory_type=MemType.ACC_8BIT):
            return ("acc",)
        case Load() if insn.memory_type != MemType.OUT and insn.memory_type < 6:
            return (MemType(insn.memory_type).name.lower(),)
    return ()


def _elements(insn, base, size):
    """What each element of a LOAD holds: PAD, or the address of what is read."""
    rows, columns = insn.sram_shape
    for row in range(rows):
        for column in range(columns):
            y, x = row - insn.y_pad_0, column - insn.x_pad_0
            if 0 <= y < insn.y_size and 0 <= x < insn.x_size:
                yield base + (insn.dram_base + y * insn.x_stride + x) * size
            else:
                yield PAD


def _elements_of_job(job, size):
    """The same, as the loader does it."""
    yield from [PAD] * job.fill_first
    for row in range(job.rows):
        if row:
            yield from [PAD] * job.fill_between
        start = job.address + row * job.stride
        yield from (start + column * size for column in range(job.columns))
    yield from [job.address if job.replicate else PAD] * job.fill_last


def _check_load(insn, job, base, config):
    memory = MemType(insn.memory_type)
    size = config.elem_bytes(memory)
    assert job.sram == insn.sram_base
    assert list(_elements_of_job(job, size)) == list(_elements(insn, base, size))
    assert job.least == insn.pad_min
    assert job.eight_bit == (memory is MemType.ACC_8BIT)
    shape = (insn.y_pad_0, insn.y_pad_1, insn.x_pad_0, insn.x_pad_1, insn.x_stride, insn.x_size)
    accumulators = memory in (MemType.ACC, MemType.ACC_8BIT)
    assert job.replicate == (accumulators and shape == (0, 0, 0, 0, 0, 1) and insn.y_size > 1)


def _check_store(insn, job, base, config):
    size = config.elem_bytes(MemType.OUT)
    expected = (base + insn.dram_base * size, insn.x_stride * size, insn.y_size, insn.x_size)
    assert (job.address, job.stride, job.rows, job.columns) == expected
    assert job.sram == insn.sram_base


def _check(dut, insn, index, config, stage, limit, bases, pads):
    """Hold all outputs against the instruction; returns its fault."""
    info = head_layout(stage).from_bits(int(dut.info.value))
    fault = _expected_fault(insn, pads, config, limit, bases)
    assert info.index == index
    assert info.pops == sum(1 << queue for queue in isa.pops(insn))
    assert info.pushes == sum(1 << queue for queue in isa.pushes(insn))
    assert info.bad == fault
    assert info.finish == isinstance(insn, Finish)
    assert info.work == (fault == 0 and _expected_work(insn))
    units = _expected_units(insn)
    assert [name for bit, name in enumerate(STAGE_UNITS[stage]) if info.unit >> bit & 1] == [*units]
    if stage is Stage.COMPUTE:
        assert info.overlap == getattr(insn, "overlap", False)
    if fault or not isinstance(insn, Finish | Load | Store):
        moved = 0
    else:
        moved = getattr(insn, "x_size", 0) * getattr(insn, "y_size", 0)
    if not fault:
        assert info.elements == moved
    if not info.work:
        return fault
    (unit,) = units
    job = job_layouts(config, stage)[unit].from_bits(int(getattr(dut, f"job_{unit}").value))
    match insn:
        case Gemm() | Alu():
            names = GEMM_FIELDS if isinstance(insn, Gemm) else ALU_FIELDS
            assert {n: job[n] for n in names} == {n: getattr(insn, n) for n in names}
            assert info.reset == insn.reset
        case Load():
            memory = MemType(insn.memory_type)
            assert info.memory == memory
            base = bases[MemType.ACC if memory is MemType.ACC_8BIT else memory]
            _check_load(insn, job, base, config)
        case Store():
            assert info.memory == MemType.OUT
            _check_store(insn, job, bases[MemType.OUT], config)
    return fault


# -- the coroutine --------------------------------------------------------------------------------


@cocotb.test()
async def decodes_and_checks(dut):
    random = rng()
    given = parameters()
    config = VtaConfig.load(given["config"]).override(given["set"])
    stage = Stage[given["stage"]]
    pads = Scratchpads(config)
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.valid.value = dut.issue.value = 0
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    faults: Counter[int] = Counter()
    limit, bases = 1 << 32, {}
    for index in range(given["count"]):
        if index % 40 == 0:
            limit = random.choice((1 << 32, (1 << 32) - 1, random.randrange(1 << 27, 1 << 32)))
            bases = {m: PAGE_BYTES * random.randrange(limit // PAGE_BYTES) for m in MemType}
            dut.dram_limit.value = limit
            for memory in STAGE_MEMORIES[stage]:
                register = MemType.ACC if memory is MemType.ACC_8BIT else memory
                getattr(dut, base_name(memory)).value = bases[register]
        insn = _instruction(random, config, stage, limit, bases)
        dut.valid.value = 1
        dut.instruction.value = _word(random, insn, config) | index << INSN_BITS
        last = STEPS + random.choice((0, 0, 1, 5))
        for cycle in range(last + 1):
            await FallingEdge(dut.clk)
            assert dut.ready.value == (cycle >= STEPS), cycle
            if cycle < last:
                await RisingEdge(dut.clk)
        fault = _check(dut, insn, index, config, stage, limit, bases, pads)
        faults[fault] += 1
        dut.issue.value = 1
        await RisingEdge(dut.clk)
        dut.issue.value = dut.valid.value = 0
        for _ in range(random.choice((0, 0, 0, 1, 3))):
            await FallingEdge(dut.clk)
            assert dut.ready.value == 0
            await RisingEdge(dut.clk)
    assert set(given["faults"]) <= set(faults), f"only {faults}"


def test_steps_give_the_latencies_of_the_page():
    # The queue shows a dispatched instruction after two cycles, the one behind an issued one after
    # one.
    assert machine.DISPATCH_TO_READY == 2 + STEPS
    assert machine.ISSUE_INTERVAL == 1 + STEPS


FAULTS = {
    Stage.LOAD: ("BAD_FLAGS", "BAD_MEMORY_TYPE", "SRAM_RANGE", "DRAM_RANGE"),
    Stage.COMPUTE: ("SRAM_RANGE", "DRAM_RANGE", "BAD_ALU_OPCODE"),
    Stage.STORE: ("BAD_FLAGS", "BAD_MEMORY_TYPE", "BAD_PAD", "SRAM_RANGE", "DRAM_RANGE"),
}


@pytest.mark.parametrize("stage", list(Stage), ids=lambda stage: stage.name.lower())
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tiny", []),
        ("rect", []),
        ("batch4", []),
        ("pynq", ["LOG_BLOCK=0", "LOG_UOP_BUFF_SIZE=12", "LOG_INP_BUFF_SIZE=8",
                  "LOG_WGT_BUFF_SIZE=8", "LOG_ACC_BUFF_SIZE=10"]),
    ],
    ids=["tiny", "rect", "batch4", "scalar"],
)  # fmt: skip
def test_head(request, name, changes, stage):
    config = VtaConfig.load(name).override(changes)
    faults = [0, *(int(isa.FaultClass[fault]) for fault in FAULTS[stage])]
    given = {"config": name, "set": changes, "stage": stage.name, "count": 800, "faults": faults}
    seed = request.config.getoption("--seed")
    run_cocotb(Head(config, stage), __name__, ["decodes_and_checks"], seed=seed, parameters=given)
