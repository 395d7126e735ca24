"""Integer operations against plain Python integers, at the edges and at random."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vta_hw.spec import arith
from vta_hw.spec.arith import ALU, pack_req_shift, req, req_imm
from vta_hw.spec.errors import EncodingError
from vta_hw.spec.isa import AluOp, Rounding

LEAST, GREATEST = -(1 << 31), (1 << 31) - 1
EDGES = [
    LEAST, LEAST + 1, -(1 << 30) - 1, -(1 << 30), -65537, -129, -128, -33, -32, -31, -3, -2, -1,
    0, 1, 2, 3, 31, 32, 33, 34, 63, 127, 128, 255, 65536, (1 << 30) - 1, 1 << 30, GREATEST - 1,
    GREATEST,
]  # fmt: skip

int32 = st.integers(LEAST, GREATEST)


def _wrap(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _nearest(value: Fraction, tie: str) -> int:
    """The integer nearest to `value`; ties go up, away from zero, or to the even one."""
    low = value.numerator // value.denominator
    rest = value - low
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    match tie:
        case "up":
            return low + 1
        case "away":
            return low + 1 if value > 0 else low
        case _:
            return low + low % 2


def _shift_left(a: int, by: int) -> int:
    return _wrap(a * 2**by) if by < 32 else 0


def _shr(a: int, b: int) -> int:
    if b < 0:
        return _shift_left(a, -b)
    return a // 2**b if b < 64 else (-1 if a < 0 else 0)


def _rsr(a: int, b: int) -> int:
    if b < 0:
        return _shift_left(a, -b)
    return _nearest(Fraction(a, 2**b), "away") if b < 64 else 0


def _rdhm(a: int, b: int) -> int:
    return min(_nearest(Fraction(a * b, 1 << 31), "up"), GREATEST)


EXPECTED: dict[AluOp, Callable[[int, int], int]] = {
    AluOp.MIN: min,
    AluOp.MAX: max,
    AluOp.ADD: lambda a, b: _wrap(a + b),
    AluOp.SHR: _shr,
    AluOp.MUL: lambda a, b: _wrap(a * b),
    AluOp.RDHM: _rdhm,
    AluOp.RSR: _rsr,
}


def test_every_operation_has_a_meaning() -> None:
    assert set(ALU) == set(AluOp)
    assert set(EXPECTED) | {AluOp.REQ} == set(AluOp)


@pytest.mark.parametrize("op", EXPECTED)
def test_edges(op: AluOp) -> None:
    pairs = list(itertools.product(EDGES, EDGES))
    a, b = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    result = ALU[op].apply(a, b)
    assert result.dtype == np.int32
    wrong = [
        (x, y, int(r), EXPECTED[op](x, y))
        for (x, y), r in zip(pairs, result, strict=True)
        if r != EXPECTED[op](x, y)
    ]
    assert not wrong


@given(st.sampled_from(list(EXPECTED)), int32, int32 | st.integers(-40, 40))
def test_any_operands(op: AluOp, a: int, b: int) -> None:
    assert int(ALU[op].apply(np.array([a], np.int32), b)[0]) == EXPECTED[op](a, b)


@pytest.mark.parametrize("op", [op for op in EXPECTED if ALU[op].fold is not None])
def test_fold_is_the_operation_in_32_bits(op: AluOp) -> None:
    fold = ALU[op].fold
    assert fold is not None
    a, b = (np.array(x, np.int32) for x in zip(*itertools.product(EDGES, EDGES), strict=True))
    assert (fold(a, b) == ALU[op].apply(a, b)).all()


# -- REQ ------------------------------------------------------------------------------------------


def _float32(value: Fraction) -> Fraction:
    """`value` rounded to the nearest float32, ties to even (values in its normal range or zero)."""
    if value == 0:
        return value
    exponent = 0
    while abs(value) / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    while abs(value) / Fraction(2) ** exponent < 1 << 23:
        exponent -= 1
    unit = Fraction(2) ** exponent
    return _nearest(value / unit, "even") * unit


def _scaled(x: int, multiplier: int, right: int, mode: Rounding) -> int:
    match mode:
        case Rounding.DOUBLE:
            return _rsr(_rdhm(x, multiplier), right)
        case Rounding.SINGLE:
            return _nearest(Fraction(x * multiplier, 1 << (31 + right)), "up")
        case Rounding.FLOAT:
            (scale,) = struct.unpack("<f", struct.pack("<i", multiplier))
            product = _float32(_float32(Fraction(x)) * Fraction(scale))
            return _nearest(product, "even")


def _signed_byte(value: int) -> int:
    return (value + 128) % 256 - 128


@given(
    int32,
    int32,
    int32 | st.sampled_from([LEAST, GREATEST, 1 << 30]),
    st.integers(0, 63),
    st.integers(0, 31),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)),
    st.integers(-128, 127),
    st.sampled_from([Rounding.DOUBLE, Rounding.SINGLE]),
)
def test_req_integer_modes(
    a: int,
    bias: int,
    multiplier: int,
    right: int,
    left: int,
    clamp: tuple[int, int],
    zero: int,
    mode: Rounding,
) -> None:
    x = _wrap(_wrap(a + bias) << left)
    expected = min(max(_scaled(x, multiplier, right, mode) + zero, clamp[0]), clamp[1])
    packed = pack_req_shift(right, left, *clamp)
    assert int(req(a, bias, multiplier, packed, req_imm(zero, mode))) == expected


def test_req_integer_modes_at_the_edges() -> None:
    for mode, right in itertools.product((Rounding.DOUBLE, Rounding.SINGLE), (0, 1, 31, 32, 33)):
        pairs = list(itertools.product(EDGES, EDGES))
        x, multiplier = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
        result = req(x, 0, multiplier, pack_req_shift(right), req_imm(-5, mode))
        for (a, b), r in zip(pairs, result, strict=True):
            expected = min(max(_scaled(a, b, right, mode) - 5, -128), 127)
            assert r == expected, (mode, right, a, b)


def _bits(value: float) -> int:
    (bits,) = struct.unpack("<i", struct.pack("<f", value))
    return int(bits)


@given(
    int32,
    st.floats(2.0**-60, 2.0**20, width=32),
    st.booleans(),
    st.integers(-128, 127),
    st.integers(0, 63),
)
def test_req_float_mode(a: int, scale: float, negative: bool, zero: int, right: int) -> None:
    bits = _bits(-scale if negative else scale)
    expected = min(max(_scaled(a, bits, 0, Rounding.FLOAT) + zero, -128), 127)
    # The right shift has no effect in this mode.
    packed = pack_req_shift(right)
    assert int(req(a, 0, bits, packed, req_imm(zero, Rounding.FLOAT))) == expected


@pytest.mark.parametrize(
    ("x", "scale", "expected"),
    [
        (1, float("inf"), 127),
        (-1, float("inf"), -128),
        (0, float("inf"), 7),
        (5, float("nan"), 7),
        (3, 0.5, 7 + 2),  # 1.5 to the even 2
        (5, 0.5, 7 + 2),  # 2.5 to the even 2
        (-3, 0.5, 7 - 2),
        (1, 1e-45, 7),
        (GREATEST, 3e38, 127),
    ],
)
def test_req_float_mode_special_values(x: int, scale: float, expected: int) -> None:
    with np.errstate(all="raise"):
        result = req(x, 0, _bits(scale), pack_req_shift(0), req_imm(7, Rounding.FLOAT))
    assert int(result) == expected


def test_req_rounds_ties_as_its_mode_says() -> None:
    packed = pack_req_shift(0)
    half = 1 << 30  # 0.5 as a Q31 number
    x = np.array([-3, -1, 1, 3])
    single = req(x, 0, half, packed, req_imm(0, Rounding.SINGLE))
    assert single.tolist() == [-1, 0, 1, 2]
    # RDHM of 2x leaves the tie to RSR, which goes away from zero.
    double = req(x, 0, half, pack_req_shift(1, 1), req_imm(0, Rounding.DOUBLE))
    assert double.tolist() == [-2, -1, 1, 2]


def test_req_lanes_have_their_own_parameters() -> None:
    packed = pack_req_shift([0, 1], [0, 2], [-128, -1], [127, 1])
    result = req([100, 100], [1, 2], [1 << 30, 1 << 30], packed, req_imm(0, Rounding.DOUBLE))
    assert result.tolist() == [51, 1]


def test_req_with_crossed_clamp_takes_the_maximum() -> None:
    assert int(req(0, 0, 0, pack_req_shift(0, 0, 5, -5), req_imm(0, Rounding.DOUBLE))) == -5


def test_req_ignores_unused_parameter_bits() -> None:
    packed = int(pack_req_shift(3, 1, -7, 9))
    for noise in (1 << 6, 1 << 7, 1 << 13, 1 << 15):
        args = (1000, 5, 1 << 30)
        imm = req_imm(1, Rounding.DOUBLE)
        assert req(*args, packed, imm) == req(*args, packed | noise, imm)


@given(st.integers(0, 63), st.integers(0, 31), st.integers(-128, 127), st.integers(-128, 127))
def test_parameter_word_round_trip(right: int, left: int, low: int, high: int) -> None:
    word = pack_req_shift(right, left, low, high)
    assert [int(v) for v in arith.unpack_req_shift(word)] == [right, left, low, high]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((64,), r"the right shift of REQ must be within 0\.\.63, not 64"),
        ((0, 32), r"the left shift of REQ must be within 0\.\.31, not 32"),
        ((0, 0, -129), r"the clamp minimum of REQ must be within -128\.\.127, not -129"),
        ((0, 0, 0, [1, 128]), r"the clamp maximum of REQ must be within -128\.\.127, not 128"),
    ],
)
def test_parameter_word_refuses(values: tuple[int, ...], message: str) -> None:
    with pytest.raises(EncodingError, match=f"^{message}$"):
        pack_req_shift(*values)


def test_immediate_of_req() -> None:
    assert req_imm(-128, Rounding.FLOAT) == 0x280
    assert arith.req_mode(0x280) == Rounding.FLOAT
    assert arith.req_sub_operation(-0x8000) == 8
    with pytest.raises(EncodingError, match="zero point of REQ must be within"):
        req_imm(128, Rounding.DOUBLE)


def test_the_parts_of_req_lie_where_the_page_says() -> None:
    word = arith.pack_req_shift(0b100001, 0b10001, -127, 65)
    assert int(word) & 0xFFFFFFFF == 0b100001 | 0b10001 << 8 | 0x81 << 16 | 0x41 << 24
    assert [int(part) for part in arith.unpack_req_shift(word)] == [33, 17, -127, 65]
    assert [int(part) for part in arith.unpack_req_shift(word | 0xE0C0)] == [33, 17, -127, 65]
    assert arith.req_imm(-2, Rounding.FLOAT) == 0x02FE
    assert (arith.req_mode(-1), arith.req_sub_operation(0x5FFF)) == (3, 5)
