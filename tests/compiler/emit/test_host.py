"""Compiled loop IR against the interpreter, the definition of what loop IR means."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from compiler.emit.host import build_module, compile_host, host_function
from compiler.errors import LoweringError
from compiler.loop import interp
from compiler.loop.expr import (
    FUNCTIONS,
    Binary,
    Both,
    Call,
    Compare,
    Const,
    Expr,
    Read,
    Reduce,
    Select,
    Var,
    call,
    cast,
)
from compiler.loop.nodes import (
    Access,
    Alloc,
    Apply,
    Buffer,
    For,
    Func,
    If,
    Seq,
    Stmt,
    Store,
)
from runtime.host_code import HostCode
from vta_hw.spec import arith
from vta_hw.spec.isa import Rounding

INTS = ("int8", "uint8", "int16", "int32", "int64")


def _elementwise(count: int, sources: Sequence[Buffer], make: object, dtype: str) -> Func:
    """out[i] = make(a[i], b[i], ...)"""
    assert callable(make)
    i, out = Var("i"), Buffer("out", (count,), dtype)
    value = make(*(Read(s, (i,)) for s in sources))
    return Func("f", (*sources, out), For(i, count, Store(out, (i,), value)))


def _both_ways(func: Func, *inputs: np.ndarray) -> np.ndarray:
    """The last parameter's value, which the compiled code and the interpreter agree on."""
    out = func.params[-1]
    compiled, interpreted = np.zeros(out.shape, out.dtype), np.zeros(out.shape, out.dtype)
    copies = [x.copy() for x in inputs]
    host_function(func)(*inputs, compiled)
    arrays = {p.name: a for p, a in zip(func.params, (*copies, interpreted), strict=True)}
    interp.run(func, arrays)
    np.testing.assert_array_equal(compiled, interpreted)
    for x, y in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(x, y)
    return compiled


def _full_range(rng: np.random.Generator, dtype: str, count: int) -> np.ndarray:
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, count, dtype, endpoint=True)
    special = np.array([0, 1, 2, 7, info.min, info.max, info.max - 1]).astype(dtype)
    values[rng.integers(0, count, count // 3)] = rng.choice(special, count // 3)
    if info.min < 0:
        values[rng.integers(0, count, count // 10)] = -1
    return values


# -- operators ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("op", ["+", "-", "*", "min", "max", "&"])
def test_integer_operators_wrap(op: str, dtype: str, rng: np.random.Generator) -> None:
    a, b = (Buffer(n, (400,), dtype) for n in "ab")
    func = _elementwise(400, [a, b], lambda x, y: Binary(op, x, y), dtype)
    x, y = (_full_range(rng, dtype, 400) for _ in range(2))
    result = _both_ways(func, x, y)
    with np.errstate(over="ignore"):
        plain = {"+": x + y, "-": x - y, "*": x * y, "&": x & y}
    expected = plain.get(op, np.minimum(x, y) if op == "min" else np.maximum(x, y))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("op", ["//", "%"])
def test_division_rounds_down(op: str, dtype: str, rng: np.random.Generator) -> None:
    a, b = (Buffer(n, (400,), dtype) for n in "ab")
    func = _elementwise(400, [a, b], lambda x, y: Binary(op, x, y), dtype)
    x, y = (_full_range(rng, dtype, 400) for _ in range(2))
    y[y == 0] = 3
    _both_ways(func, x, y)
    for divisor in (1, 3, 16, 100):
        by_constant = _elementwise(
            400, [a], lambda x, d=divisor: Binary(op, x, Const(d, dtype)), dtype
        )
        _both_ways(by_constant, x)


@pytest.mark.parametrize("op", ["//", "%"])
def test_division_never_traps(op: str) -> None:
    a, b = (Buffer(n, (4,), "int32") for n in "ab")
    func = _elementwise(4, [a, b], lambda x, y: Binary(op, x, y), "int32")
    x = np.array([-(1 << 31), -(1 << 31), 5, -7], np.int32)
    y = np.array([-1, 0, 0, -1], np.int32)
    out = np.ones(4, np.int32)
    host_function(func)(x, y, out)
    assert out.tolist() == ([-(1 << 31), 0, 0, 7] if op == "//" else [0, 0, 0, 0])


@pytest.mark.parametrize("dtype", INTS)
@pytest.mark.parametrize("op", [">>", "<<"])
def test_shifts_by_any_amount(op: str, dtype: str, rng: np.random.Generator) -> None:
    a, b = (Buffer(n, (500,), dtype) for n in "ab")
    func = _elementwise(500, [a, b], lambda x, y: Binary(op, x, y), dtype)
    _both_ways(func, _full_range(rng, dtype, 500), rng.integers(0, 80, 500).astype(dtype))


@pytest.mark.parametrize("dtype", [*INTS, "float32"])
@pytest.mark.parametrize("op", ["<", ">=", "=="])
def test_comparisons(op: str, dtype: str, rng: np.random.Generator) -> None:
    a, b = (Buffer(n, (200,), dtype) for n in "ab")
    func = _elementwise(
        200,
        [a, b],
        lambda x, y: Select(Both(Compare(op, x, y), Compare("<", x, Const(9, dtype))),
                            Const(1), Const(2)),
        "int32",
    )  # fmt: skip
    if dtype == "float32":
        x, y = (rng.standard_normal(200).astype(np.float32) for _ in range(2))
        x[:4] = np.nan
    else:
        x, y = (_full_range(rng, dtype, 200) for _ in range(2))
    y[::3] = x[::3]
    _both_ways(func, x, y)


@pytest.mark.parametrize("op", ["+", "-", "*", "/", "min", "max"])
def test_float_operators_round_once_per_step(op: str, rng: np.random.Generator) -> None:
    a, b = (Buffer(n, (1000,), "float32") for n in "ab")
    # a * b + a: a contracted multiply-add would give other bits.
    func = _elementwise(1000, [a, b], lambda x, y: Binary(op, x, y) * x + x, "float32")
    x, y = (rng.standard_normal(1000).astype(np.float32) for _ in range(2))
    x[:2], y[1:3] = np.nan, np.nan
    _both_ways(func, x, y)


@pytest.mark.parametrize("target", [*INTS, "float32"])
@pytest.mark.parametrize("source", [*INTS, "float32"])
def test_conversions(source: str, target: str, rng: np.random.Generator) -> None:
    a = Buffer("a", (300,), source)
    func = _elementwise(300, [a], lambda x: cast(target, x), target)
    if source == "float32":
        x = (rng.standard_normal(300) * 10.0 ** rng.integers(0, 9, 300)).astype(np.float32)
    else:
        x = _full_range(rng, source, 300)
    _both_ways(func, x)


def test_large_floats_convert_without_surprise() -> None:
    a = Buffer("a", (4,), "float32")
    func = _elementwise(4, [a], lambda x: cast("int64", x), "int64")
    out = np.zeros(4, np.int64)
    host_function(func)(np.array([np.nan, np.inf, -np.inf, -1e30], np.float32), out)
    info = np.iinfo(np.int64)
    assert out.tolist() == [0, info.max, info.min, info.min]


# -- scalar functions -----------------------------------------------------------------------------


def test_every_scalar_function_has_a_builder() -> None:
    from compiler.emit.host_calls import CALLS

    assert CALLS.keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("name", ["rdhm", "rsr", "shr"])
def test_two_operand_functions(name: str, rng: np.random.Generator) -> None:
    count = 3000
    a, b = (Buffer(n, (count,), "int32") for n in "ab")
    func = _elementwise(count, [a, b], lambda x, y: call(name, x, y), "int32")
    x, y = (_full_range(rng, "int32", count) for _ in range(2))
    if name != "rdhm":
        y[: count // 2] = rng.integers(-40, 40, count // 2)
    x[0] = y[0] = -(1 << 31)
    result = np.zeros(count, np.int32)
    host_function(func)(x, y, result)
    np.testing.assert_array_equal(result, getattr(arith, name)(x, y))


@pytest.mark.parametrize("rounding", list(Rounding))
def test_requantise(rounding: Rounding, rng: np.random.Generator) -> None:
    count = 4000
    buffers = [Buffer(n, (count,), "int32") for n in "xbmp"]
    imm = arith.req_imm(-13, rounding)
    func = _elementwise(count, buffers, lambda *args: call("req", *args, imm=imm), "int32")
    x = _full_range(rng, "int32", count) >> rng.integers(0, 32, count).astype(np.int32)
    bias = _full_range(rng, "int32", count) >> rng.integers(0, 32, count).astype(np.int32)
    multiplier = _full_range(rng, "int32", count)
    if rounding is Rounding.FLOAT:
        scale = 10.0 ** rng.uniform(-9, 3, count) * rng.choice([-1, 1], count)
        scale[:3] = [np.nan, np.inf, 0.0]
        multiplier = scale.astype(np.float32).view(np.int32)
    packed = arith.pack_req_shift(
        rng.integers(0, 64, count),
        rng.integers(0, 32, count),
        rng.integers(-128, 128, count),
        rng.integers(-128, 128, count),
    )
    result = np.zeros(count, np.int32)
    host_function(func)(x, bias, multiplier, packed, result)
    np.testing.assert_array_equal(result, arith.req(x, bias, multiplier, packed, imm))


def test_reserved_rounding_is_refused() -> None:
    func = _elementwise(1, [], lambda: call("req", *[Const(0)] * 4, imm=3 << 8), "int32")
    with pytest.raises(LoweringError, match="^req must have rounding mode 0, 1 or 2"):
        host_function(func)


def test_float_functions(rng: np.random.Generator) -> None:
    a = Buffer("a", (2000,), "float32")
    x = (rng.standard_normal(2000) * 10.0 ** rng.integers(-3, 12, 2000)).astype(np.float32)
    x[:1000] = rng.integers(-600, 600, 1000) / 2
    x[-6:] = [1 << 23, (1 << 24) + 2, -0.5, 0.49999997, 8388607.5, -0.0]
    rounding = _elementwise(2000, [a], lambda v: call("round_even", v, dtype="float32"), "float32")
    result = _both_ways(rounding, x)
    np.testing.assert_array_equal(np.signbit(result), np.signbit(np.rint(x)))
    root = _elementwise(2000, [a], lambda v: call("sqrt", v, dtype="float32"), "float32")
    _both_ways(root, np.abs(x))


# -- statements -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["serial", "unroll", "vectorize", "parallel"])
@pytest.mark.parametrize("extent", [0, 1, 2, 37])
def test_loops(kind: str, extent: int) -> None:
    i, j, out = Var("i"), Var("j"), Buffer("out", (40, 3), "int32")
    inner = For(j, 3, Store(out, (i + 1, j), i * 10 + j), kind)
    _both_ways(Func("f", (out,), For(i, extent, inner, kind)))


def test_guards_keep_reads_inside(rng: np.random.Generator) -> None:
    a, out = Buffer("a", (10,), "int32"), Buffer("out", (14,), "int32")
    i = Var("i")
    index = i - 2
    inside = Both(Compare(">=", index, Const(0)), Compare("<", index, Const(10)))
    positive = Both(inside, Compare("<", Const(0), Read(a, (index,))))
    body = Seq((
        Store(out, (i,), Select(inside, Read(a, (index,)), Const(-5))),
        If(positive, Store(out, (i,), Const(99))),
    ))  # fmt: skip
    x = rng.integers(-5, 6, 10).astype(np.int32)
    result = _both_ways(Func("f", (a, out), For(i, 14, body)), x)
    assert (result[[0, 1, 12, 13]] == -5).all()


@pytest.mark.parametrize("count", [8, 5000, 200_000])
def test_temporaries(count: int) -> None:
    """On the stack or, large, on the heap; entered often, taken once."""
    out = Buffer("out", (4,), "int64")
    small, large = Buffer("s", (3,), "bool", "host"), Buffer("l", (count,), "int32", "host")
    i, j = Var("i"), Var("j")
    last = Read(large, (Const(count - 1),))
    body = Alloc(large, Alloc(small, Seq((
        For(j, count, Store(large, (j,), j + i)),
        Store(small, (Const(2),), Compare("<", i, Const(2))),
        Store(out, (i,), cast("int64", Select(Read(small, (Const(2),)), last, Const(-1)))),
    ))))  # fmt: skip
    func = Func("f", (out,), For(i, 4, body))
    result = np.zeros(4, np.int64)
    call_it = host_function(func)
    for _ in range(3):
        call_it(result)
        assert result.tolist() == [count - 1, count, -1, -1]
    if count < 10_000:
        _both_ways(func)


def test_random_expressions(rng: np.random.Generator) -> None:
    """Trees of all operators over two int32 inputs and the index."""
    count = 60
    a, b = (Buffer(n, (count,), "int32") for n in "ab")
    for _ in range(25):
        i, out = Var("i"), Buffer("out", (count,), "int32")
        leaves = [Read(a, (i,)), Read(b, (i,)), i]
        func = Func("f", (a, b, out), For(i, count, Store(out, (i,), _tree(rng, leaves, depth=5))))
        x, y = (_full_range(rng, "int32", count) for _ in range(2))
        _both_ways(func, x, y)


def _tree(rng: np.random.Generator, leaves: list[Expr], depth: int) -> Expr:
    if depth == 0 or rng.random() < 0.1:
        constant = Const(int(rng.integers(-100, 100)))
        return constant if rng.random() < 0.2 else leaves[rng.integers(len(leaves))]
    x, y = (_tree(rng, leaves, depth - 1) for _ in range(2))
    match int(rng.integers(9)):
        case 0 | 1 | 2:
            return Binary(str(rng.choice(["+", "-", "*", "min", "max", "&"])), x, y)
        case 3:
            return Binary(str(rng.choice(["//", "%"])), x, Const(int(rng.integers(1, 50))))
        case 4:
            return Binary(str(rng.choice([">>", "<<"])), x, Binary("&", y, Const(31)))
        case 5:
            return Select(Compare(str(rng.choice(["<", ">=", "=="])), x, y), x, y)
        case 6:
            return cast("int32", cast(str(rng.choice(INTS)), x))
        case 7:
            return Call(str(rng.choice(["rdhm", "rsr", "shr"])), (x, y))
        case _:
            small = Binary("&", x, Const(0xFFFF))
            return cast("int32", call("round_even", cast("float32", small), dtype="float32"))


# -- object code ----------------------------------------------------------------------------------


def _sample(name: str = "f") -> Func:
    a, out = Buffer("a", (64,), "int8"), Buffer("out", (64,), "int32")
    i = Var("i")
    value = call("rsr", cast("int32", Read(a, (i,))) * 1000 + i, Const(3))
    return Func(name, (a, out), For(i, 64, Store(out, (i,), value)))


def test_object_code_is_the_same_function(rng: np.random.Generator) -> None:
    other = _elementwise(64, [Buffer("a", (64,), "int8")], lambda x: x + Const(1, "int8"), "int8")
    code, triple = compile_host([_sample(), Func("g", other.params, other.body)])
    module = HostCode(code, triple)
    x = rng.integers(-128, 128, 64).astype(np.int8)
    loaded, jitted = np.zeros(64, np.int32), np.zeros(64, np.int32)
    module.call("f", [x, loaded])
    host_function(_sample())(x, jitted)
    np.testing.assert_array_equal(loaded, jitted)
    plus = np.zeros(64, np.int8)
    module.call("g", [x, plus])
    np.testing.assert_array_equal(plus, x + np.int8(1))


def test_object_code_is_reproducible() -> None:
    script = (
        "import hashlib; from tests.compiler.emit.test_host import _sample;"
        "from compiler.emit.host import compile_host;"
        "print(hashlib.sha256(compile_host([_sample()])[0]).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


def test_loops_are_vectorised() -> None:
    a, out = Buffer("a", (4096,), "int32"), Buffer("out", (64, 64), "int32")
    i, j = Var("i"), Var("j")
    flat = Read(a, (i * 64 + j,))
    func = Func("f", (a, out), For(i, 64, For(j, 64, Store(out, (i, j), flat + 3))))
    import llvmlite.binding as llvm

    from compiler.emit import host

    target = host._target(None)
    machine = target.create_target_machine(opt=3)
    optimised = str(host._optimised(build_module([func], target.triple), machine))
    assert "x i32>" in optimised, llvm.get_process_triple()


# -- refusals -------------------------------------------------------------------------------------


def _message(body: Stmt, *params: Buffer, name: str = "f") -> str:
    with pytest.raises(LoweringError) as caught:
        compile_host([Func(name, params, body)])
    return str(caught.value)


def test_refusals() -> None:
    out = Buffer("out", (4,), "int32")
    i = Var("i")
    zero = (Const(0),)
    assert "belongs to no enclosing loop" in _message(Store(out, zero, i), out)
    assert "neither a parameter nor allocated" in _message(Store(out, zero, Const(1)))
    assert "has 1 axes, 2 indices given" in _message(Store(out, (i, i), Const(1)), out)
    assert "a value of int8 cannot be stored" in _message(Store(out, zero, Const(1, "int8")), out)
    assert "virtual-thread loop 'i'" in _message(For(i, 2, Store(out, (i,), i), "vthread"), out)
    acc = Buffer("acc", (4,), "int32", "acc")
    assert "in scope 'acc'; its scope must be one of dram, host" in _message(Seq(()), acc)
    assert "no statement Apply" in _message(Apply("reset", Access(acc, zero)), out)
    half = Buffer("half", (4,), "float16")
    assert "no element type 'float16'" in _message(Store(half, zero, Const(1.0, "float16")), half)
    reduce = Reduce("sum", Const(1), (), Const(0))
    assert "(Reduce)" in _message(Store(out, zero, reduce), out)
    with pytest.raises(LoweringError, match="two host functions are called 'f'"):
        compile_host([_sample(), _sample()])


def test_array_checks() -> None:
    function = host_function(_sample())
    good, out = np.zeros(64, np.int8), np.zeros(64, np.int32)
    with pytest.raises(LoweringError, match="takes 2 arrays, not 1"):
        function(good)
    for bad in (good.astype(np.int16), good[:32], np.zeros(128, np.int8)[::2]):
        with pytest.raises(LoweringError, match="^parameter 'a' of 'f' must be a C-contiguous"):
            function(bad, out)
