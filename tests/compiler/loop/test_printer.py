"""Every statement and expression as text."""

from __future__ import annotations

import pytest

from compiler import te
from compiler.loop.expr import Binary, Const, Expr, Var, both, call, compare, select
from compiler.loop.nodes import (
    Access,
    Alloc,
    Apply,
    Buffer,
    Copy,
    For,
    Func,
    If,
    Region,
    Seq,
    Store,
    Task,
)
from compiler.loop.printer import to_text
from compiler.loop.units import ALU_IMM, GEMM
from tests.conftest import Golden
from vta_hw.spec.isa import Gemm, Load

ONE, TWO = Var("i"), Var("j")


def test_statements(golden: Golden) -> None:
    x, w = Buffer("x", (4, 1, 4), "int8"), Buffer("w", (2, 4, 4), "int8", "wgt")
    a = Buffer("a", (4, 1, 4), "int32", "acc")
    zero = Const(0)
    body = Alloc(
        a,
        Seq(
            (
                Copy(
                    Region(a, (zero, zero, zero), (3, 1, 4)),
                    Region(x, (ONE - 1, zero, zero), (3, 1, 4)),
                    (0, 1, 2),
                    -128,
                ),
                For(
                    TWO, 3, Apply(GEMM, Access(a, (TWO,)), (Access(x, (ONE,)), Access(w, (zero,))))
                ),
                Apply(ALU_IMM, Access(a, (zero,)), (), (("imm", -3), ("op", 2))),
                If(compare("<", ONE, 3), Store(a, (ONE, zero, zero), Const(7))),
                Task(Load(memory_type=2, sram_base=5, x_size=3, y_size=1, pop_next=True), x),
                Task(Gemm(uop_end=2, iter_out=1, iter_in=1), None, (1, 2)),
            )
        ),
    )
    golden(to_text(Func("f", (x, w), For(ONE, 4, body, "vthread"))))


X = te.placeholder((8,), "int32", "x")
TEXTS: list[tuple[Expr, str]] = [
    (ONE * 3 + TWO, "i*3 + j"),
    ((ONE + TWO) * 3, "(i + j)*3"),
    (ONE - (TWO - 1), "i - (j - 1)"),
    (ONE - TWO - 1, "i - j - 1"),
    ((ONE + 1) // 2 * 4, "(i + 1)//2*4"),
    (ONE % (TWO * 2), "i%(j*2)"),
    ((ONE >> 2) + 1, "(i >> 2) + 1"),
    (te.maximum(ONE, TWO + 1), "max(i, j + 1)"),
    (select(both(compare(">=", ONE, 1), compare("<", TWO, 2)), ONE, 0),
     "select((i >= 1 and j < 2), i, 0)"),
    (X(ONE + 1).astype("int8"), "int8(x[i + 1])"),
    (Const(3, "int8"), "int8(3)"),
    (call("req", ONE, TWO, imm=5), "req(i, j, imm=5)"),
    (te.sum(X(ONE), [te.reduce_axis(8, "k")]), "sum(x[i], over k)"),
    (Binary("<<", ONE, TWO), "i << j"),
]  # fmt: skip


@pytest.mark.parametrize(("expr", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_expressions(expr: Expr, text: str) -> None:
    assert str(expr) == text
