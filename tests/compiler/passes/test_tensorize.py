"""Nests matched against the GEMM unit, and every kind of mismatch."""

from __future__ import annotations

import re
from typing import Any

import pytest

from compiler import te
from compiler.errors import LoweringError
from compiler.loop.expr import binary, compare
from compiler.loop.nodes import Access, Apply, Func, Stmt, walk
from compiler.passes.lower_schedule import lower_schedule
from compiler.passes.tensorize import tensorize
from compiler.topi.gemm_intrin import gemm_intrin
from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.conftest import Golden
from vta_hw.spec.config import VtaConfig


@pytest.mark.parametrize("kind", ["conv", "borders"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("tensorize", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("tensorize", name, seed)


TINY = VtaConfig.load("tiny")


def gemm_nest(
    *,
    block: int = 4,
    rows: int = 1,
    narrow: str = "int8",
    operator: str = "*",
    swap: bool = False,
    reduction: str = "sum",
    at: str = "b",
    transposed: bool = False,
    scopes: tuple[str, str, str] = ("inp", "wgt", "acc"),
) -> Func:
    """A blocked matrix product on tiny, wrong in one way if an argument is given."""
    x = te.placeholder((3, 2, rows, block), narrow, "x")
    w = te.placeholder((2, 2, 4, 4), "int8", "w")
    k, c = te.reduce_axis(2, "k"), te.reduce_axis(4, "c")

    def element(n: te.Var, m: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        lanes = (c.var, o) if transposed else (o, c.var)
        activation = x(n, k.var, b, c.var).astype("int32")
        weight = w(m, k.var, *lanes).astype("int32")
        factors = (weight, activation) if swap else (activation, weight)
        product = binary(operator, *factors)
        if reduction == "sum":
            return te.sum(product, [k, c])
        return te.max(product, [k, c], init=0)

    y = te.compute((3, 2, rows, 4), element, "y")
    s = te.Schedule(y)
    acc = s.cache_write(y, scopes[2])
    s.cache_read(x, scopes[0], [acc])
    s.cache_read(w, scopes[1], [acc])
    n, m, b, o = s[acc].axes
    s[acc].reorder(k, n, m, b, o, c)
    s[acc].tensorize({"b": b, "m": m, "o": o}[at], gemm_intrin(TINY))
    return lower_schedule(s, (x, w, y), "f")


def refused(text: str, func: Func) -> None:
    with pytest.raises(LoweringError, match=f"^{re.escape(text)}$"):
        tensorize(func)


PREFIX = "tensorize stage 'y.acc' with 'gemm': expected "


def test_a_product_is_matched() -> None:
    steps = [s.op for s in walk(tensorize(gemm_nest()).body) if isinstance(s, Apply)]
    assert steps == ["vta.reset", "vta.gemm"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"at": "m"}, "2 loops (b in 1, o in 4), found 3 (m in 2, b in 1, o in 4)"),
        ({"at": "o"}, "2 loops (b in 1, o in 4), found 1 (o in 4)"),
        (
            {"rows": 2},
            "an operand 'out' whose last axes are [1, 4], found 'y.acc' of shape [3, 2, 2, 4]",
        ),
        (
            {"block": 8},
            "an operand 'inp' whose last axes are [1, 4], found 'x.inp' of shape [3, 2, 1, 8]",
        ),
        ({"narrow": "int32"}, "int32(inp[b, c]), found x.inp[n, k, b, c]"),
        (
            {"operator": "+"},
            "int32(inp[b, c])*int32(wgt[o, c]), found int32(x.inp[n, k, b, c]) + "
            "int32(w.wgt[m, k, o, c])",
        ),
        (
            {"swap": True},
            "an operand 'inp' whose last axes are [1, 4], found 'w.wgt' of shape [2, 2, 4, 4]",
        ),
        ({"reduction": "max"}, "an accumulation with '+', found max(y.acc[n, m, b, o], "),
        ({"transposed": True}, "'o' for 'o', found 'c'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_first_term_that_differs_is_named(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(LoweringError, match="^" + re.escape(PREFIX + text)):
        tensorize(gemm_nest(**wrong))


@pytest.mark.parametrize(
    ("scopes", "text"),
    [
        (("dram", "wgt", "acc"), "'x.dram' must be in memory 'inp', not in 'dram'"),
        (("inp", "inp", "acc"), "'w.inp' must be in memory 'wgt', not in 'inp'"),
        (("inp", "wgt", "inp"), "'y.inp' must be in memory 'acc', not in 'inp'"),
    ],
)
def test_operands_are_in_the_memories_of_the_unit(scopes: tuple[str, str, str], text: str) -> None:
    refused(f"GEMM operand {text}; use cache_read or set_scope", gemm_nest(scopes=scopes))


def test_the_reset_stands_before_a_step_that_reduces_all() -> None:
    x = te.placeholder((1, 4), "int8", "x")
    w = te.placeholder((4, 4), "int8", "w")
    c = te.reduce_axis(4, "c")

    def element(b: te.Var, o: te.Var) -> te.Expr:
        return te.sum(x(b, c.var).astype("int32") * w(o, c.var).astype("int32"), [c])

    y = te.compute((1, 4), element, "y")
    s = te.Schedule(y)
    acc = s.cache_write(y, "acc")
    s.cache_read(x, "inp", [acc])
    s.cache_read(w, "wgt", [acc])
    s[acc].tensorize(s[acc].axes[0], gemm_intrin(TINY))
    func = tensorize(lower_schedule(s, (x, w, y), "f"))
    assert [s.op for s in walk(func.body) if isinstance(s, Apply)] == ["vta.reset", "vta.gemm"]


def test_a_guarded_nest_is_no_step() -> None:
    x = te.placeholder((7, 1, 4), "int8", "x")
    w = te.placeholder((2, 4, 4), "int8", "w")
    k, c = te.reduce_axis(2, "k"), te.reduce_axis(4, "c")

    def element(n: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        a, weight = x(n, b, c.var), w(k.var, o, c.var)
        return te.sum(a.astype("int32") * weight.astype("int32"), [k, c])

    y = te.compute((7, 1, 4), element, "y")
    s = te.Schedule(y)
    n, b, o = s[y].axes
    n_o, n_i = s[y].split(n, 2)
    s[y].reorder(k, n_o, n_i, b, o, c)
    s[y].tensorize(b, gemm_intrin(TINY))
    refused(
        "tensorize stage 'y' with 'gemm': expected loops without a remainder (split by divisors), "
        "found steps only where n.o*2 + n.i < 7",
        lower_schedule(s, (x, w, y), "f"),
    )


def double_if(op: str, bound: int = 0) -> te.TensorIntrin:
    """out[c] = 2 p[c] where p[c] compares with `bound`, else p[c]."""
    p = te.placeholder((4,), "int32", "p")

    def element(c: te.Var) -> te.Expr:
        return te.select(compare(op, p(c), bound), p(c) * 2, p(c))

    def rule(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
        return Apply("vta.double", dst, srcs)

    return te.TensorIntrin("double", (p,), te.compute((4,), element, "out"), compute=rule)


@pytest.mark.parametrize(("op", "bound"), [("<", 0), (">=", 0), ("<", 1)])
def test_conditions_are_compared(op: str, bound: int) -> None:
    x = te.placeholder((3, 4), "int32", "x")
    y = te.compute(
        (3, 4), lambda i, j: te.select(compare("<", x(i, j), 0), x(i, j) * 2, x(i, j)), "y"
    )
    s = te.Schedule(y)
    s[y].tensorize(s[y].axes[1], double_if(op, bound))
    func = lower_schedule(s, (x, y), "f")
    if (op, bound) == ("<", 0):
        step = [s for s in walk(tensorize(func).body) if isinstance(s, Apply)]
        assert [(s.op, len(s.srcs)) for s in step] == [("vta.double", 1)]
    else:
        wanted = f"p[c] {op} {bound}" if op == ">=" else f"{bound}"
        found = "x[i, j] < 0" if op == ">=" else "0"
        refused(f"tensorize stage 'y' with 'double': expected {wanted}, found {found}", func)
