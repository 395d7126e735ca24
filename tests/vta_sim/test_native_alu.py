"""ALU and REQ on the compiled functional engine: every operation on the numbers that go wrong."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.gen_values import EDGES, req_lane
from tests.vta_sim.engines import Launch, functional_differences, timing_differences
from tests.vta_sim.native_sweep import machine
from vta_hw.spec import isa
from vta_hw.spec.arith import INT32_MAX, INT32_MIN
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Finish, Instruction, Load, MicroOp, Rounding

PLAIN = tuple(op for op in AluOp if op is not AluOp.REQ)
NUMBERS = np.array([*EDGES, 64, -64, 63, 2, -2, 3, INT32_MAX - 1, INT32_MIN + 1, 1 << 16], np.int64)
SHIFTS = np.array([*range(-70, 71), 255, -255, *EDGES], np.int64)
FLOATS = (
    0,
    0x80000000,  # -0
    1,  # the least denormal
    0x807FFFFF,  # the greatest, negative
    0x00800000,  # the least normal
    0x7F7FFFFF,
    0xFF7FFFFF,
    0x7F800000,  # infinite
    0xFF800000,
    0x7FC00000,  # not a number, quiet and signalling
    0x7F800001,
    0xFFFFFFFF,
    0x3F800000,
    0x3F000000,
    0xBF000000,
    0x33800000,
)


def launch(config: VtaConfig, acc: np.ndarray, uops: list[MicroOp], alus: list[Alu]) -> Launch:
    """ALU instructions over `acc`, which fills accumulators from the first one on."""
    words = b"".join(isa.encode_uop(uop, config).to_bytes(4, "little") for uop in uops)
    size = config.elem_bytes(MemType.ACC)
    image = words + bytes(-len(words) % size)
    numbers = (acc.astype(np.int64) & 0xFFFFFFFF).astype("<u4").tobytes()
    count = -(-len(numbers) // size)
    assert count <= config.depth(MemType.ACC)
    insns: list[Instruction] = [
        Load(memory_type=MemType.UOP, y_size=1, x_size=len(uops), x_stride=0),
        Load(memory_type=MemType.ACC, dram_base=len(image) // size, y_size=1, x_size=count),
        *alus,
        Finish(),
    ]
    image += numbers + bytes(-len(numbers) % size)
    return Launch(config, isa.encode_all(insns, config), image)


def _pairs(left: np.ndarray, right: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Every number of one beside every one of the other, filled up to whole elements."""
    a, b = (column.reshape(-1) for column in np.meshgrid(left, right))
    more = -len(a) % lanes
    return np.pad(a, (0, more)), np.pad(b, (0, more))


@pytest.mark.parametrize("op", PLAIN)
@pytest.mark.parametrize("name", ["default", "batch4", "rect"])
def test_register_form_on_extreme_numbers(name, op, rng):
    config = machine(name)
    lanes = config.batch * config.block_out
    shifts = op in (AluOp.SHR, AluOp.RSR)
    others = SHIFTS if shifts else np.append(NUMBERS, rng.integers(INT32_MIN, INT32_MAX, 100))
    mine = np.append(NUMBERS, rng.integers(INT32_MIN, INT32_MAX, 20))
    a, b = _pairs(mine, others, lanes)
    count = len(a) // lanes
    alu = Alu(
        uop_end=1,
        iter_out=1,
        iter_in=count,
        dst_factor_in=1,
        src_factor_in=1,
        alu_opcode=op,
    )
    chosen = launch(config, np.concatenate((a, b)), [MicroOp(dst=0, src=count)], [alu])
    assert functional_differences(chosen) == []


@pytest.mark.parametrize("op", PLAIN)
def test_immediate_form_on_extreme_numbers(op, rng):
    config = machine("default")
    lanes = config.block_out
    immediates = [*range(-35, 36), 64, -64, 255, -256, 32767, -32768]
    mine = np.append(NUMBERS, rng.integers(INT32_MIN, INT32_MAX, 7))
    mine = np.pad(mine, (0, -len(mine) % lanes))
    count = len(mine) // lanes
    alus = [
        Alu(
            uop_bgn=number,
            uop_end=number + 1,
            iter_out=1,
            iter_in=count,
            dst_factor_in=1,
            alu_opcode=op,
            use_imm=True,
            imm=imm,
        )
        for number, imm in enumerate(immediates)
    ]
    uops = [MicroOp(dst=number * count) for number in range(len(immediates))]
    assert functional_differences(launch(config, np.tile(mine, len(uops)), uops, alus)) == []


@pytest.mark.parametrize("op", PLAIN)
def test_micro_ops_see_what_the_former_wrote(op, rng):
    """dst and src of one instruction overlap, in both directions, or are the same."""
    config = machine("tiny")
    acc = rng.integers(INT32_MIN, INT32_MAX, 4 * 40)
    acc[::3] = rng.integers(-40, 40, len(acc[::3]))
    uops = [MicroOp(dst=1, src=0), MicroOp(dst=0, src=1), MicroOp(dst=3, src=3)]
    shapes: list[dict[str, Any]] = [
        {"dst_factor_in": 1, "src_factor_in": 1},
        {"dst_factor_in": 1},
        {"src_factor_in": 1},
        {"dst_factor_out": 2, "src_factor_out": 1, "src_factor_in": 2},
        {},
    ]
    alus = [
        Alu(uop_end=end, iter_out=3, iter_in=9, alu_opcode=op, reset=bool(end % 2), **shape)
        for shape in shapes
        for end in (1, 2, 3)
    ]
    assert functional_differences(launch(config, acc, uops, alus)) == []


# -- REQ ------------------------------------------------------------------------------------------


def _requantised(config: VtaConfig, lanes: np.ndarray, mode: Rounding, zeros: list[int]) -> Launch:
    """REQ of all rows of `lanes` (x, bias, multiplier, shifts), once for each zero point."""
    width = config.batch * config.block_out
    count = len(lanes) // width // len(zeros)
    lanes = lanes[: count * width * len(zeros)].reshape(-1, width, 4)
    numbers = lanes[..., 0]
    parameters = lanes[..., 1:].transpose(0, 2, 1)
    acc = np.concatenate((numbers.reshape(-1), parameters.reshape(-1)))
    total = count * len(zeros)
    uops = [MicroOp(dst=i * count, src=total + 3 * i * count) for i in range(len(zeros))]
    alus = [
        Alu(
            uop_bgn=number,
            uop_end=number + 1,
            iter_out=1,
            iter_in=count,
            dst_factor_in=1,
            src_factor_in=3,
            alu_opcode=AluOp.REQ,
            imm=_signed16(mode << 8 | zero & 0xFF | junk << 10),
        )
        for number, (zero, junk) in enumerate(zip(zeros, (0, 1, 2, 3, 0), strict=False))
    ]
    return launch(config, acc, uops, alus)


def _signed16(bits: int) -> int:
    return bits - ((bits & 0x8000) << 1)


def _packed(right: int, left: int, low: int, high: int, junk: int = 0) -> int:
    return right | left << 8 | (low & 0xFF) << 16 | (high & 0xFF) << 24 | junk


@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize("name", ["default", "batch4", "rect", "in1-out2"])
def test_requantisation_with_all_shifts(name, mode, rng):
    """All pairs of shifts, on extreme and on random numbers; some clamps are crossed."""
    config = machine(name)
    rows: list[tuple[int, ...]] = []
    multipliers = FLOATS if mode is Rounding.FLOAT else (*EDGES, 1 << 30, INT32_MAX, INT32_MIN)
    for right, left in product(range(64), range(32)):
        low, high = rng.choice([(-128, 127), (127, -128), (0, 6), (-1, -1), (5, -5)])
        junk = int(rng.integers(0, 2)) * 0xE0C0
        x = int(rng.choice([rng.integers(INT32_MIN, INT32_MAX), rng.choice(NUMBERS)]))
        bias = int(rng.choice([0, rng.integers(-300, 300), rng.choice(NUMBERS)]))
        multiplier = int(rng.choice([int(rng.choice(multipliers)), rng.integers(0, 1 << 32)]))
        rows.append((x, bias, multiplier, _packed(right, left, low, high, junk)))
    zeros = [0, -128, 127, 3]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    most = config.depth(MemType.ACC) // 4 * config.batch * config.block_out
    for first in range(0, len(rows), most):
        chosen = np.array(rows[first : first + most], np.int64)
        assert functional_differences(_requantised(config, chosen, mode, zeros)) == []


@pytest.mark.parametrize("mode", Rounding)
def test_requantisation_on_and_beside_ties(mode, rng):
    config = machine("default")
    random = Random(int(rng.integers(1 << 32)))
    rows: list[tuple[int, ...]] = []
    while len(rows) < 6000:
        x = random.choice((0, random.randint(-(1 << 20), 1 << 20), random.choice(EDGES)))
        rows.append((x, *req_lane(random, mode, x)))
    launched = _requantised(config, np.array(rows, np.int64), mode, [0, -128, 127, 1])
    assert functional_differences(launched) == []


def test_floats_that_are_none_or_hardly(rng):
    config = machine("default")
    numbers = [0, 1, -1, 2, INT32_MAX, INT32_MIN, 1 << 24, (1 << 24) + 1, -(1 << 24) - 1, 255, -7]
    rows = [
        (x, 0, scale, _packed(0, left, *clamps))
        for x, scale, left, clamps in product(
            numbers, FLOATS, (0, 1), ((-128, 127), (100, -100), (-5, 90))
        )
    ]
    launched = _requantised(config, np.array(rows, np.int64), Rounding.FLOAT, [0, 5])
    assert functional_differences(launched) == []


@pytest.mark.parametrize("mode", Rounding)
def test_parameters_are_held_while_their_place_repeats(mode, rng):
    """They are overwritten by the instruction that uses them, and read anew when src changes."""
    config = machine("tiny")
    acc = rng.integers(-(1 << 20), 1 << 20, 4 * 24)
    if mode is Rounding.FLOAT:
        acc[20:24] = acc[44:48] = 0x3F000000
    places = [(0, 4), (4, 4), (5, 4), (6, 4), (1, 4), (9, 10), (4, 5), (2, 4), (10, 10), (3, 10)]
    uops = [MicroOp(dst=dst, src=src) for dst, src in places]
    imm = _signed16(mode << 8 | 7)
    alus = [
        Alu(uop_end=10, iter_out=2, iter_in=2, alu_opcode=AluOp.REQ, imm=imm),
        Alu(uop_end=3, iter_out=2, iter_in=3, alu_opcode=AluOp.REQ, imm=imm, src_factor_out=1),
        Alu(uop_end=2, iter_out=1, iter_in=5, alu_opcode=AluOp.REQ, imm=imm, dst_factor_in=1),
        Alu(uop_end=1, iter_out=3, iter_in=4, alu_opcode=AluOp.REQ, imm=imm, src_factor_in=1),
    ]
    chosen = launch(config, acc, uops, alus)
    assert functional_differences(chosen) == []
    assert timing_differences(chosen) == []


@pytest.mark.parametrize("src", [252, 253, 254, 255])
def test_requantisation_at_the_end_of_accumulators(src, rng):
    config = machine("tiny")
    acc = rng.integers(INT32_MIN, INT32_MAX, 4 * 256)
    alu = Alu(uop_end=1, iter_out=2, iter_in=1, alu_opcode=AluOp.REQ, imm=0x100)
    chosen = launch(config, acc, [MicroOp(dst=255, src=src)], [alu])
    assert functional_differences(chosen) == []
    assert timing_differences(chosen) == []


@pytest.mark.parametrize(
    ("use_imm", "imm"), [(True, 0), (False, 0x300), (False, 0x1000), (False, -0x8000)]
)
@pytest.mark.parametrize("rounds", [0, 1])
def test_requantisations_that_do_not_exist(use_imm, imm, rounds):
    config = machine("tiny")
    alu = Alu(uop_end=1, iter_out=1, iter_in=rounds, alu_opcode=AluOp.REQ, use_imm=use_imm, imm=imm)
    chosen = launch(config, np.zeros(16), [MicroOp()], [alu])
    assert functional_differences(chosen) == []
    assert timing_differences(chosen) == []


@pytest.mark.parametrize("op", AluOp)
def test_operations_of_an_extension_that_the_machine_lacks(op):
    config = machine("plain")
    alu = Alu(uop_end=1, iter_out=1, iter_in=1, alu_opcode=op)
    chosen = launch(config, np.arange(16), [MicroOp(dst=1, src=2)], [alu])
    assert functional_differences(chosen) == []
    assert timing_differences(chosen) == []
