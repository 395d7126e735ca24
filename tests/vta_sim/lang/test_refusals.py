"""What is not of the language is refused, with the function and the line."""

# Most of what follows is wrong on purpose.
# mypy: ignore-errors
# ruff: noqa: F821, F841

from __future__ import annotations

import inspect

import pytest

from tests.vta_sim.lang.compiled import refusal
from vta_hw.spec.errors import VtaKitError
from vta_sim.lang.kinds import (
    Array,
    KernelError,
    NotInCompiledCodeError,
    f32,
    i32,
    i64,
    inline,
    kernel,
    parameter,
    struct,
    u8,
)
from vta_sim.lang.ops import convert, load, select, several, store, unroll

MISSING = parameter("MISSING")


@struct
class Pair:
    """Two numbers."""

    a: i64
    b: i64


def refused(part, where=None):
    """Mark a function that must be refused: `part` of the reason, and which one is named for it."""

    def marked(function):
        CASES.append(pytest.param(kernel(function), part, where or function, id=function.__name__))
        return function

    return marked


CASES: list = []


@refused("the name 'nowhere' is not known")
def unknown_name(n: i64) -> i64:
    n += 1
    return nowhere + n


@refused("n of missing_type needs a type")
def missing_type(n) -> i64:
    return n


@refused("p of other_type has the type <class 'list'>")
def other_type(p: list) -> i64:
    return p[0]


@inline
def returns_early(n):
    if n:
        return 1
    return 2


@inline
def returns_in_branches(n):
    if n:
        return 1
    else:
        return 2


@inline
def grows(n, rounds):
    for _ in range(rounds):
        n += 1
    return n


@refused("returns at its end or not at all", returns_early)
def calls_early_return(n: i64) -> i64:
    return returns_early(n)


@refused("returns at its end or not at all", returns_in_branches)
def calls_return_in_branches(n: i64) -> i64:
    return returns_in_branches(n)


@refused("a constant is assigned to", grows)
def gives_a_constant_to_change(n: i64) -> i64:
    return grows(0, n)


@refused("only a constant number of rounds can be unrolled")
def unrolls_a_number(n: i64) -> i64:
    for i in unroll(n):
        n += i
    return n


@refused("a loop that is written out has no break")
def breaks_what_is_written_out(n: i64) -> i64:
    for _ in range(n):
        for i in unroll(3):
            if n > i:
                break
    return n


@refused("a constant is assigned to")
def assigns_to_a_constant(n: i64) -> i64:
    for i in unroll(3):
        i = n
    return i


@refused("pointers are not compared")
def compares_pointers(a: Array[i64], b: Array[i64]) -> bool:
    return a == b


@refused("a Array[i64] is used where a number belongs")
def compares_with_a_pointer(n: i64, b: Array[i64]) -> bool:
    return n == b


@refused("a Array[i64] is used where a number belongs")
def adds_a_pointer(a: Array[i64]) -> i64:
    return a + 1


@refused("no operator Pow")
def powers(n: i64) -> i64:
    return n**2


@refused("no operator Div")
def divides_truly(n: i64) -> i64:
    return n / 2


@refused("no operator Pow")
def powers_of_constants() -> i64:
    return 2**3


@refused("floats have no operator FloorDiv")
def divides_floats(x: f32) -> f32:
    return x // 2.0


@refused("floats have no operator BitAnd")
def bits_of_floats(x: f32) -> f32:
    return x & x


@refused("cannot be divided by 0")
def divides_by_zero() -> i64:
    return 5 // 0


@refused("no comparison In")
def looks_into(n: i64) -> bool:
    return n in n


@refused("no (1, n)")
def makes_a_tuple(n: i64) -> i64:
    pair = (1, n)
    return n


@refused("no With")
def has_other_statements(n: i64) -> i64:
    with n:
        pass
    return n


@refused("no f'{n}'")
def has_other_expressions(n: i64) -> i64:
    return f"{n}"


@refused("no While")
def has_an_else(n: i64) -> i64:
    while n:
        n -= 1
    else:
        n = 5
    return n


@refused("is no function of the language")
def calls_python(n: i64) -> i64:
    return parameter(n)


@refused("takes 2 arguments")
def calls_with_too_few(n: i64) -> i64:
    return compares_with_a_pointer(n)


@refused("a i64 is given where a Array[i64] belongs")
def calls_with_a_number(n: i64) -> i64:
    return adds_a_pointer(n)


@refused("grows takes 2 arguments")
def writes_out_with_too_few(n: i64) -> i64:
    return grows(n)


@refused("structure Pair has no field 'c'")
def unknown_field(p: Pair) -> i64:
    return p.c


@refused("structure Pair has no field 'c'")
def sets_an_unknown_field(p: Pair) -> None:
    p.c = 1


@refused("'a' is asked of something that is no structure")
def field_of_a_number(n: i64) -> i64:
    return n.a


@refused("structures are not assigned")
def assigns_a_structure(p: Array[Pair]) -> None:
    p[0] = p[1]


@refused("n is no array")
def element_of_a_number(n: i64) -> i64:
    return n[0]


@refused("a Pair is neither true nor false")
def truth_of_a_structure(p: Pair) -> i64:
    return 1 if p else 0


@refused("a 4 x bool is neither true nor false")
def truth_of_a_vector(a: Array[i32]) -> i64:
    if load(a, 0, 4) > 0:
        return 1
    return 0


@refused("vectors 4 x i32 and 8 x i32 do not go together")
def vectors_of_other_lengths(a: Array[i32]) -> None:
    store(a, 0, load(a, 0, 4) + load(a, 0, 8))


@refused("a vector 4 x i32 does not go together with a float")
def floats_beside_integers(a: Array[i32]) -> None:
    store(a, 0, load(a, 0, 4) * 0.5)


@refused("min and max are for integers")
def least_of_floats(x: f32) -> f32:
    return min(x, 1.0)


@refused("abs is for signed integers")
def size_of_floats(x: f32) -> f32:
    return abs(x)


@refused("the constant 300 does not fit into u8")
def too_large_a_constant(a: Array[u8]) -> None:
    a[0] = 300


@refused("the library's constants lack MISSING")
def lacks_a_constant(n: i64) -> i64:
    return n + MISSING


@refused("the step of a range must be a constant other than 0")
def steps_by_a_number(n: i64) -> i64:
    for i in range(0, 10, n):
        n += i
    return n


@refused("the step of a range must be a constant other than 0")
def steps_by_zero(n: i64) -> i64:
    for i in range(0, n, 0):
        n += i
    return n


@refused("several locals are told apart by constants only")
def several_by_number(n: i64) -> i64:
    parts = several(2)
    parts[n] = n
    return n


@refused("local 1 is read before anything is assigned to it")
def several_unset(n: i64) -> i64:
    parts = several(2)
    parts[0] = n
    return parts[1]


@refused("the first value of a local of several must not be a constant")
def several_of_constants(n: i64) -> i64:
    parts = several(2)
    parts[0] = 1
    return n


@refused("a 4 x i32 cannot become a i32")
def returns_lanes_for_a_number(a: Array[i32], n: i64) -> None:
    wide = load(a, 0, 4)
    wide = n
    b = convert(i32, wide)
    a[0] = b


@pytest.mark.parametrize(("function", "reason", "where"), CASES)
def test_it_is_refused_with_function_and_line(function, reason, where):
    message = refusal(function)
    assert reason in message
    assert where.__name__ in message
    if "needs a type" in reason or "has the type" in reason:
        return  # found in the signature
    assert f"{__name__}.{where.__name__}, line " in message
    line = int(message.partition(", line ")[2].partition(":")[0])
    source, first = inspect.getsourcelines(where)
    assert first < line < first + len(source)


@pytest.mark.parametrize(
    "call",
    [
        lambda: load(None, 0, 4),
        lambda: select(1, 2, 3),
        lambda: Array()[0],
        lambda: several(3),
        lambda: list(unroll(2)),
    ],
)
def test_operations_of_compiled_functions_do_not_run_in_python(call):
    with pytest.raises(NotInCompiledCodeError):
        call()


def test_refusals_are_errors_of_the_kit():
    assert issubclass(KernelError, VtaKitError)
