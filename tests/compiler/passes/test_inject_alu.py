"""Element-wise nests as ALU steps, and what the ALU cannot do."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from compiler import te
from compiler.errors import LoweringError
from compiler.loop.expr import Const, Read, Var
from compiler.loop.interp import run
from compiler.loop.nodes import Apply, Buffer, For, Func, Store, walk
from compiler.loop.units import ALU, ALU_IMM, RESET
from compiler.passes.inject_alu import inject_alu
from compiler.passes.inject_dma import inject_dma
from compiler.passes.lower_schedule import lower_schedule
from compiler.passes.reuse_in_place import reuse_in_place
from tests.compiler.kernels import KERNELS
from tests.compiler.passes.checks import check_equal, check_golden
from tests.compiler.passes.shorthand import ELEMENT, TINY, on_accumulator, refused
from tests.conftest import Golden
from vta_hw.spec.isa import AluOp


@pytest.mark.parametrize("kind", ["conv", "borders", "max_pool", "average_pool", "add"])
def test_text(kind: str, golden: Golden) -> None:
    check_golden("inject_alu", kind, golden)


@pytest.mark.parametrize("name", KERNELS)
def test_same_result(name: str, seed: int) -> None:
    check_equal("inject_alu", name, seed)


def alu_of(element: Callable[..., te.Expr], *names: str) -> tuple[Func, Func]:
    """The function before the pass and after it; `element` gets the loaded inputs and i, b, o."""

    def stage(*loaded: te.Tensor) -> te.Tensor:
        return te.compute((6, *ELEMENT), lambda *at: element(*loaded, *at), "stage")

    s, params = on_accumulator(dict.fromkeys(names or ("a",), (6,)), stage)
    before = inject_dma(reuse_in_place(lower_schedule(s, params, "f")))
    return before, inject_alu(before, TINY)


def steps(func: Func) -> list[tuple[str, dict[str, int]]]:
    return [(s.op, dict(s.attrs)) for s in walk(func.body) if isinstance(s, Apply)]


def check_same(before: Func, after: Func, rng: np.random.Generator) -> None:
    given = {
        p.name: rng.integers(-(2**31), 2**31, p.shape).astype(p.dtype) for p in before.params[:-1]
    }
    results = []
    for func in (before, after):
        arrays = {**given, "out": np.zeros(before.params[-1].shape, np.int8)}
        run(func, arrays)
        results.append(arrays["out"])
    np.testing.assert_array_equal(results[1], results[0])


STEPS: dict[str, tuple[Callable[..., te.Expr], list[tuple[str, dict[str, int]]]]] = {
    "add immediate": (lambda a, *at: a(*at) + 5, [(ALU_IMM, {"op": 2, "imm": 5})]),
    "subtract immediate": (lambda a, *at: a(*at) - 5, [(ALU_IMM, {"op": 2, "imm": -5})]),
    "greatest immediate": (lambda a, *at: a(*at) + 32767, [(ALU_IMM, {"op": 2, "imm": 32767})]),
    "least immediate": (lambda a, *at: a(*at) + -32768, [(ALU_IMM, {"op": 2, "imm": -32768})]),
    # A constant first operand is put into a fresh accumulator.
    "immediate first": (
        lambda a, *at: te.minimum(7, a(*at)),
        [(RESET, {}), (ALU_IMM, {"op": 2, "imm": 7}), (ALU, {"op": 0})],
    ),
    "max": (lambda a, *at: te.maximum(a(*at), -3), [(ALU_IMM, {"op": 1, "imm": -3})]),
    "multiply": (lambda a, *at: a(*at) * 11, [(ALU_IMM, {"op": 4, "imm": 11})]),
    "shift right": (lambda a, *at: a(*at) >> 3, [(ALU_IMM, {"op": 3, "imm": 3})]),
    "shift left": (
        lambda a, *at: te.call("shr", a(*at), te.Const(-4)),
        [(ALU_IMM, {"op": 3, "imm": -4})],
    ),
    "round shift": (
        lambda a, *at: te.call("rsr", a(*at), te.Const(4)),
        [(ALU_IMM, {"op": 6, "imm": 4})],
    ),
    "chain": (
        lambda a, *at: te.minimum(te.maximum((a(*at) + 5) >> 2, -9), 9),
        [
            (ALU_IMM, {"op": 2, "imm": 5}),
            (ALU_IMM, {"op": 3, "imm": 2}),
            (ALU_IMM, {"op": 1, "imm": -9}),
            (ALU_IMM, {"op": 0, "imm": 9}),
        ],
    ),
    "constant": (lambda a, *at: te.Const(5), [(RESET, {}), (ALU_IMM, {"op": 2, "imm": 5})]),
    "zero": (lambda a, *at: te.Const(0), [(RESET, {})]),
    "constant plus operand": (
        lambda a, *at: te.Const(5) + (te.Const(2) + a(*at)),
        [
            (RESET, {}),
            (ALU_IMM, {"op": 2, "imm": 2}),
            (ALU, {"op": 2}),
            (ALU_IMM, {"op": 2, "imm": 5}),
        ],
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_operations(name: str, rng: np.random.Generator) -> None:
    element, expected = STEPS[name]
    before, after = alu_of(element)
    assert steps(after) == expected
    check_same(before, after, rng)


TENSORS: dict[str, tuple[Callable[..., te.Expr], AluOp]] = {
    "sum": (lambda a, b, *at: a(*at) + b(*at), AluOp.ADD),
    "product": (lambda a, b, *at: a(*at) * b(*at), AluOp.MUL),
    "greater": (lambda a, b, *at: te.maximum(a(*at), b(*at)), AluOp.MAX),
    "lesser": (lambda a, b, *at: te.minimum(a(*at), b(*at)), AluOp.MIN),
    "shift": (lambda a, b, *at: te.call("shr", a(*at), b(*at)), AluOp.SHR),
    "rounding product": (lambda a, b, *at: te.call("rdhm", a(*at), b(*at)), AluOp.RDHM),
    "rounding shift": (lambda a, b, *at: te.call("rsr", a(*at), b(*at)), AluOp.RSR),
}


@pytest.mark.parametrize("name", TENSORS)
def test_operations_on_two_accumulators(name: str, rng: np.random.Generator) -> None:
    element, op = TENSORS[name]
    before, after = alu_of(element, "a", "b")
    assert steps(after) == [(ALU, {"op": int(op)})]
    check_same(before, after, rng)


def test_an_operand_that_cannot_be_overwritten_is_copied(rng: np.random.Generator) -> None:
    before, after = alu_of(lambda a, i, *at: a(i, *at) * a(5 - i, *at))
    assert steps(after) == [(RESET, {}), (ALU, {"op": 2}), (ALU, {"op": 4})]
    check_same(before, after, rng)


# -- refusals --------------------------------------------------------------------------------------


def test_scalar_code_outside_acc() -> None:
    x = te.placeholder((4, 1, 4), "int8", "x")
    y = te.compute(x.shape, lambda *at: x(*at), "y")
    z = te.compute(x.shape, lambda *at: y(*at), "z")
    s = te.Schedule(z)
    s[y].set_scope("inp")
    with refused(
        "stage 'y' is scalar code on 'inp', which no VTA unit executes; tensorize it or keep the "
        "operator on the host"
    ):
        inject_alu(lower_schedule(s, (x, z), "f"), TINY)


@pytest.mark.parametrize("number", [32768, -32769, 1 << 20])
def test_immediates_have_16_bits(number: int) -> None:
    with refused(
        f"ALU stage 'stage': ADD with {number}, which does not fit the 16-bit immediate; pass it "
        f"as a tensor in 'acc'"
    ):
        alu_of(lambda a, *at: a(*at) + number)
    with refused(f"ALU stage 'stage': constant {number} does not fit the 16-bit immediate"):
        alu_of(lambda a, *at: te.Const(number))


def test_a_subtracted_immediate_is_negated() -> None:
    with refused(
        "ALU stage 'stage': ADD with 32768, which does not fit the 16-bit immediate; pass it as a "
        "tensor in 'acc'"
    ):
        alu_of(lambda a, *at: a(*at) - -32768)


DIFFERENCES: dict[str, Callable[..., te.Expr]] = {
    "two tensors": lambda a, b, *at: a(*at) - b(*at),
    "from a constant": lambda a, b, *at: te.Const(7) - a(*at) + b(*at),
    "of a compound": lambda a, b, *at: a(*at) * 3 - b(*at),
    "twice": lambda a, b, *at: a(*at) - b(*at) - b(*at),
    "an operand with itself": lambda a, b, *at: a(*at) + a(*at) - b(*at),
    "a compound with its operand": lambda a, b, *at: (a(*at) + 1) * a(*at) + b(*at),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_and_repeated_operands(name: str, rng: np.random.Generator) -> None:
    before, after = alu_of(DIFFERENCES[name], "a", "b")
    check_same(before, after, rng)


REFUSED: dict[str, tuple[Callable[..., te.Expr], str]] = {
    "left shift": (
        lambda a, b, *at: a(*at) << 2,
        "no ALU operation computes a.acc[i0, 0, i2] << 2",
    ),
    "two compound operands": (
        lambda a, b, *at: (a(*at) + 1) + (b(*at) + 1),
        "ADD of b.acc[i0, 0, i2] + 1 and a.acc[i0, 0, i2] + 1 needs a stage of its own for one "
        "of them",
    ),
    "compound shift": (
        lambda a, b, *at: te.call("shr", a(*at), b(*at) + 1),
        "the second operand of SHR must be a constant or another accumulator, not "
        "b.acc[i0, 0, i2] + 1",
    ),
    "other lane": (
        lambda a, b, i, n, o: a(i, n, o) + b(i, n, 3 - o),
        "operand b.acc[i0, 0, 0 - i2 + 3] must be read in the lane that is written",
    ),
    "lane as an element": (
        lambda a, b, i, n, o: a(i, n, o) + b(o, n, o),
        "element index i2 uses a lane",
    ),
    "parameter of REQ": (
        lambda a, b, *at: te.call("req", a(*at), b(*at), te.Const(3), b(*at), imm=0),
        "REQ parameter 3 must be a tensor",
    ),
    "parameters apart": (
        lambda a, b, i, n, o: te.call("req", a(i, n, o), b(0, n, o), b(2, n, o), b(1, n, o), imm=0),
        "the parameters of REQ must be consecutive elements of one tensor, not "
        "b.acc[0, 0, i2], b.acc[2, 0, i2], b.acc[1, 0, i2]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_alu_cannot_do(name: str) -> None:
    element, text = REFUSED[name]
    with pytest.raises(LoweringError, match="^" + re.escape("ALU stage 'stage'")) as caught:
        alu_of(element, "a", "b")
    assert text in str(caught.value)


def test_an_operand_that_the_nest_overwrites() -> None:
    """Loop IR may say so; the ALU would read some elements before, some after they are written."""
    acc = Buffer("acc", (6, 1, 4), "int32", "acc")
    i, o = Var("i"), Var("o")
    zero = Const(0)
    value = Read(acc, (i, zero, o)) + Read(acc, (5 - i, zero, o))
    body = For(i, 6, For(o, 4, Store(acc, (i, zero, o), value, loc="stage")))
    with refused(
        "ALU stage 'stage': operand acc[5 - i, 0, o] is another element of the accumulator that "
        "it writes; compute it in a stage of its own"
    ):
        inject_alu(Func("f", (acc,), body), TINY)


def test_operands_are_in_acc() -> None:
    x = te.placeholder((6, *ELEMENT), "int32", "x")
    a = te.compute(x.shape, lambda *at: x(*at), "a")
    y = te.compute(x.shape, lambda *at: a(*at) + 1, "y")
    out = te.compute(x.shape, lambda *at: y(*at).astype("int8"), "out")
    s = te.Schedule(out)
    s[a].set_scope("inp")
    s[y].set_scope("acc")
    func = inject_dma(lower_schedule(s, (x, out), "f"))
    with refused("ALU stage 'y' reads 'a' in 'inp'; cache it in 'acc'"):
        inject_alu(func, TINY)


def test_steps_take_whole_elements() -> None:
    acc = Buffer("acc", (6, 1, 4), "int32", "acc")
    i, o = Var("i"), Var("o")
    body = For(i, 6, For(o, 3, Store(acc, (i, Const(0), o), Const(0), loc="stage")))
    with refused("ALU stage 'stage': lane index o must run over a whole ACC element (4 lanes)"):
        inject_alu(Func("f", (acc,), body), TINY)
