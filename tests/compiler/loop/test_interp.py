"""The interpreter: integer rules of expressions, boxes, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest

from compiler.errors import LoweringError
from compiler.loop.expr import Binary, Call, Const, Expr, Read, Var, call, cast, compare, select
from compiler.loop.interp import run
from compiler.loop.nodes import Access, Alloc, Apply, Buffer, Copy, For, Func, Region, Store, Task
from compiler.loop.units import ALU_IMM, GEMM, RESET
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import AluOp, Load

ZERO = Const(0)


def value(expr: Expr) -> int:
    """An expression's value, stored and read back."""
    out = Buffer("out", (1,), expr.dtype)
    array = np.zeros(1, expr.dtype)
    run(Func("f", (out,), Store(out, (ZERO,), expr)), {"out": array})
    return int(array[0])


def constant(number: int, dtype: str = "int32") -> Const:
    return Const(number, dtype)


@pytest.mark.parametrize(
    ("op", "a", "b", "expected"),
    [
        ("+", 2**31 - 1, 1, -(2**31)),
        ("-", -(2**31), 1, 2**31 - 1),
        ("*", 65536, 65536, 0),
        ("*", -3, 7, -21),
        ("//", -7, 2, -4),
        ("%", -7, 2, 1),
        (">>", -7, 1, -4),
        ("<<", 1, 31, -(2**31)),
        ("&", -1, 255, 255),
        ("min", -3, 2, -3),
        ("max", -3, 2, 2),
    ],
)
def test_integers_wrap_and_round_down(op: str, a: int, b: int, expected: int) -> None:
    assert value(Binary(op, constant(a), constant(b))) == expected


@pytest.mark.parametrize(
    ("number", "dtype", "expected"),
    [(200, "int8", -56), (-1, "uint8", 255), (2**31, "int32", -(2**31)), (-129, "int8", 127)],
)
def test_casts_keep_the_low_bits(number: int, dtype: str, expected: int) -> None:
    assert value(cast(dtype, Binary("+", constant(number), ZERO))) == expected


def test_only_the_chosen_side_is_evaluated() -> None:
    source = Buffer("x", (2,), "int32")
    out = Buffer("out", (3,), "int32")
    i = Var("i")
    body = select(compare("<", i, 2), Read(source, (i,)), Const(-1))
    arrays: dict[str, np.ndarray] = {"x": np.array([5, 6], np.int32), "out": np.zeros(3, np.int32)}
    run(Func("f", (source, out), For(i, 3, Store(out, (i,), body))), arrays)
    assert arrays["out"].tolist() == [5, 6, -1]


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("shr", (-7, 1), -4),
        ("shr", (-7, -1), -14),
        ("rsr", (-5, 1), -3),
        ("rdhm", (1 << 30, 1 << 30), 1 << 29),
    ],
)
def test_scalar_functions(name: str, args: tuple[int, ...], expected: int) -> None:
    assert value(call(name, *map(constant, args))) == expected


def test_scalar_functions_are_a_closed_set() -> None:
    with pytest.raises(ValueError, match="^scalar function must be one of rdhm, .*, not 'exp'$"):
        call("exp", ZERO)


def copied(shape: tuple[int, ...], begin: tuple[int, ...], pad: int | None) -> np.ndarray:
    source, target = Buffer("x", (3, 4), "int8"), Buffer("y", shape, "int32")
    copy = Copy(
        Region(target, (ZERO, ZERO), shape),
        Region(source, tuple(map(Const, begin)), shape),
        (0, 1),
        pad,
    )
    arrays: dict[str, np.ndarray] = {
        "x": np.arange(-6, 6, dtype=np.int8).reshape(3, 4),
        "y": np.full(shape, 99, np.int32),
    }
    run(Func("f", (source, target), copy), arrays)
    return arrays["y"]


def test_a_copy_extends_the_sign_and_pads_outside() -> None:
    assert copied((2, 2), (1, 2), None).tolist() == [[0, 1], [4, 5]]
    assert copied((2, 3), (-1, 2), -128).tolist() == [[-128, -128, -128], [-4, -3, -128]]


def test_a_copy_without_pad_stays_inside() -> None:
    text = "copy reads 'x' at [0, 4], outside its shape"
    with pytest.raises(LoweringError, match=f"^{re.escape(text)}"):
        copied((1, 2), (0, 3), None)


def test_fresh_buffers_hold_poison() -> None:
    out, fresh = Buffer("out", (1,), "int32"), Buffer("fresh", (1,), "int32")
    arrays: dict[str, np.ndarray] = {"out": np.zeros(1, np.int32)}
    run(Func("f", (out,), Alloc(fresh, Store(out, (ZERO,), Read(fresh, (ZERO,))))), arrays)
    assert arrays["out"][0] not in (0, 1)


@pytest.mark.parametrize(("index", "axis"), [((4, 0), 0), ((0, -1), 1)])
def test_an_index_outside_is_named(index: tuple[int, int], axis: int) -> None:
    out = Buffer("out", (4, 2), "int32")
    number, size = index[axis], out.shape[axis]
    text = f"index {number} of axis {axis} of 'out' is outside its size {size}"
    with pytest.raises(LoweringError, match=f"^{re.escape(text)}$"):
        run(
            Func("f", (out,), Store(out, tuple(map(Const, index)), ZERO)),
            {"out": np.zeros((4, 2), np.int32)},
        )


def test_arguments_match_their_parameters() -> None:
    out = Buffer("out", (4,), "int32")
    func = Func("f", (out,), Store(out, (ZERO,), ZERO))
    with pytest.raises(LoweringError, match="^no array given for parameter 'out' of 'f'$"):
        run(func, {})
    text = re.escape("parameter 'out' of 'f' is int32[4], not int8[4]")
    with pytest.raises(LoweringError, match=f"^{text}$"):
        run(func, {"out": np.zeros(4, np.int8)})
    with pytest.raises(LoweringError, match=re.escape("is int32[4], not int32[5]")):
        run(func, {"out": np.zeros(5, np.int32)})


def test_units_step_whole_elements(rng: np.random.Generator) -> None:
    inp, wgt = Buffer("inp", (3, 1, 4), "int8", "inp"), Buffer("wgt", (2, 4, 4), "int8", "wgt")
    acc = Buffer("acc", (2, 1, 4), "int32", "acc")
    arrays: dict[str, np.ndarray] = {
        "inp": rng.integers(-128, 128, (3, 1, 4)).astype(np.int8),
        "wgt": rng.integers(-128, 128, (2, 4, 4)).astype(np.int8),
        "acc": rng.integers(-99, 99, (2, 1, 4)).astype(np.int32),
    }
    before = arrays["acc"].copy()
    dst, srcs = Access(acc, (Const(1),)), (Access(inp, (Const(2),)), Access(wgt, (ZERO,)))
    run(Func("f", (inp, wgt, acc), Apply(GEMM, dst, srcs)), arrays)
    product = arrays["inp"][2].astype(int) @ arrays["wgt"][0].astype(int).T
    assert arrays["acc"].tolist() == [before[0].tolist(), (before[1] + product).tolist()]
    attrs = (("imm", -5), ("op", int(AluOp.MAX)))
    run(Func("f", (acc,), Apply(ALU_IMM, Access(acc, (ZERO,)), (), attrs)), arrays)
    assert arrays["acc"][0].tolist() == np.maximum(before[0], -5).tolist()
    run(Func("f", (acc,), Apply(RESET, Access(acc, (ZERO,)))), arrays)
    assert not arrays["acc"][0].any()


def test_a_faulting_instruction_is_named() -> None:
    operand = Buffer("x", (1, 1, 4), "int8")
    load = Load(memory_type=2, sram_base=255, y_size=1, x_size=2, x_stride=2)
    with pytest.raises(LoweringError, match="^instruction Load.* faults with sram_range$"):
        run(
            Func("f", (operand,), Task(load, operand)),
            {"x": np.zeros((1, 1, 4), np.int8)},
            VtaConfig.load("tiny"),
        )


def test_float_functions() -> None:
    half = Binary("/", Const(5.0, "float32"), Const(2.0, "float32"))
    assert value(cast("int32", half)) == 2
    assert value(cast("int32", Call("round_even", (half,), (), "float32"))) == 2
    assert value(cast("int32", Call("sqrt", (Const(9.0, "float32"),), (), "float32"))) == 3
