"""The softmaxes as tensor expressions for the host: fixed point, table and float32.

They equal the references of `compiler.graph.softmax`.
"""

from __future__ import annotations

import numpy as np

from compiler.errors import LoweringError
from compiler.graph import softmax as reference
from compiler.loop.expr import Const, Expr, call, compare, select
from compiler.te import tensor as te
from compiler.topi.host_kernel import HostKernel, build_kernel, constant, int32, saturate

Shape = tuple[int, ...]

# Formats of LiteRT's kernel: exponentials Q0.31, their sums Q12.19, reciprocals Q2.29.
_SUM_INTEGER_BITS = 12
_SUM_ONE = 1 << (31 - _SUM_INTEGER_BITS)
_ONE = (1 << 31) - 1
_NEWTON_ONE = 1 << 29
_NEWTON_START = round(48 / 17 * _NEWTON_ONE)
_NEWTON_SLOPE = -round(32 / 17 * _NEWTON_ONE)
_NEWTON_STEPS = 3
_OUTPUT_BITS = 8


def softmax(shape: Shape, table: np.ndarray, name: str) -> HostKernel:
    """LiteRT's fixed-point int8 softmax along the last axis.

    `table[d]` is exp(-scale * beta * d) in Q0.31 for a difference d to the row's maximum. The
    result has scale 1/256 and zero point -128.
    """
    rows, length = shape[:-1], shape[-1]
    if length * _SUM_ONE > _ONE:
        raise LoweringError(
            f"softmax over {length} values can leave its Q12.19 sum; use at most "
            f"{_ONE // _SUM_ONE} values"
        )
    x = te.placeholder(shape, "int8", "x")
    exp, array = constant(table, "table")
    k = te.reduce_axis(length, "k")
    greatest = te.compute((*rows, 1), lambda *r: te.max(x(*r[:-1], k.var), [k], -128), "greatest")

    def exponential(*at: Expr) -> Expr:
        return exp(int32(greatest(*at[:-1], 0)) - int32(x(*at)))

    exps = te.compute(shape, exponential, "exps")
    k_sum = te.reduce_axis(length, "k")

    def summed(*r: Expr) -> Expr:
        return te.sum(call("rsr", exps(*r[:-1], k_sum.var), Const(_SUM_INTEGER_BITS)), [k_sum])

    total = te.compute((*rows, 1), summed, "total")
    bit = te.reduce_axis(31, "bit")

    def counted(*r: Expr) -> Expr:
        reached = compare(">=", total(*r), Const(1) << bit.var)
        return te.sum(select(reached, Const(1), Const(0)), [bit])

    bits = te.compute((*rows, 1), counted, "bits")
    half = te.compute((*rows, 1), lambda *r: _half_of(total(*r), bits(*r)), "half")
    estimate = te.compute(
        (*rows, 1), lambda *r: call("rdhm", half(*r), Const(_NEWTON_SLOPE)) + _NEWTON_START, "x0"
    )
    for step in range(_NEWTON_STEPS):
        estimate = _newton(half, estimate, (*rows, 1), f"x{step + 1}")

    def element(*at: Expr) -> Expr:
        r = (*at[:-1], Const(0))
        inverse = estimate(*r)
        fraction = select(compare(">=", inverse, 1 << 30), Const(_ONE), inverse << 1)
        amount = bits(*r) + (_SUM_INTEGER_BITS + 31 - _OUTPUT_BITS - 32)
        return saturate(call("rsr", call("rdhm", exps(*at), fraction), amount) - 128)

    return build_kernel(name, [x], te.compute(shape, element, "y"), [(exp, array)])


def _half_of(total: Expr, bits: Expr) -> Expr:
    """Half of the sum scaled into [1, 2), in Q0.31; `bits` is its length."""
    fraction = (total << (Const(32) - bits)) & _ONE
    return (fraction >> 1) + (1 << 30)


def _newton(half: te.Tensor, estimate: te.Tensor, shape: Shape, name: str) -> te.Tensor:
    """One step towards 1 / (2 * half)."""

    def step(*at: Expr) -> Expr:
        x = estimate(*at)
        error = Const(_NEWTON_ONE) - call("rdhm", half(*at), x)
        return x + (call("rdhm", x, error) << 2)

    return te.compute(shape, step, name)


def softmax_table(shape: Shape, table: np.ndarray, name: str) -> HostKernel:
    """LiteRT's float32 softmax of int8 along the last axis.

    `table[d]` is exp(-scale * beta * d) for a difference d to the row's maximum. The result has
    scale 1/256 and zero point -128.
    """
    rows, length = shape[:-1], shape[-1]
    x = te.placeholder(shape, "int8", "x")
    exp, array = constant(table, "table")
    k = te.reduce_axis(length, "k")
    greatest = te.compute((*rows, 1), lambda *r: te.max(x(*r[:-1], k.var), [k], -128), "greatest")

    def exponential(*at: Expr) -> Expr:
        return exp(int32(greatest(*at[:-1], 0)) - int32(x(*at)))

    exps = te.compute(shape, exponential, "exps")
    total = _row_sum(exps, shape)

    def element(*at: Expr) -> Expr:
        scaled = total(*at[:-1], 0) * Const(1 / 256, "float32")
        share = exps(*at) * (Const(1.0, "float32") / scaled)
        return saturate(int32(share + Const(0.5, "float32")) - 128)

    return build_kernel(name, [x], te.compute(shape, element, "y"), [(exp, array)])


def softmax_float(shape: Shape, name: str) -> HostKernel:
    """softmax of float32 along the last axis, as `compiler.graph.softmax.softmax_real` does it."""
    rows, length = shape[:-1], shape[-1]
    x = te.placeholder(shape, "float32", "x")
    powers_of_two, array = constant(reference.POWERS_OF_TWO, "powers")
    k = te.reduce_axis(length, "k")
    least = int(np.finfo(np.float32).min)
    greatest = te.compute((*rows, 1), lambda *r: te.max(x(*r[:-1], k.var), [k], least), "greatest")
    limit = Const(float(np.float32(reference.LEAST_POWER) * reference.LN2_HIGH), "float32")

    def bounded(*at: Expr) -> Expr:
        difference = greatest(*at[:-1], 0) - x(*at)
        # A comparison with NaN is false: it counts as the limit.
        return select(compare("<=", difference, limit), difference, limit)

    below = te.compute(shape, bounded, "below")

    def whole(*at: Expr) -> Expr:
        return call("round_even", below(*at) * _float(reference.LOG2_E), dtype="float32")

    powers = te.compute(shape, whole, "whole")

    def exponential(*at: Expr) -> Expr:
        power = powers(*at)
        rest = power * _float(reference.LN2_HIGH) - below(*at) + power * _float(reference.LN2_LOW)
        value: Expr = _float(reference.EXP_COEFFICIENTS[0])
        for coefficient in reference.EXP_COEFFICIENTS[1:]:
            value = value * rest + _float(coefficient)
        return value * powers_of_two(int32(power))

    exps = te.compute(shape, exponential, "exps")
    total = _row_sum(exps, shape)
    output = te.compute(shape, lambda *at: exps(*at) / total(*at[:-1], 0), "y")
    return build_kernel(name, [x], output, [(powers_of_two, array)])


def _float(value: np.float32) -> Const:
    return Const(float(value), "float32")


def _row_sum(values: te.Tensor, shape: Shape) -> te.Tensor:
    """Sums along the last axis, one value after the other."""
    k = te.reduce_axis(shape[-1], "k")
    return te.compute((*shape[:-1], 1), lambda *r: te.sum(values(*r[:-1], k.var), [k]), "total")
