"""The scalar functions of loop IR as LLVM IR: plain arithmetic, no calls into a C library.

The integer ones give what `vta_hw.spec.arith` defines. Each builder takes already built operands
and the call's compile-time attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from llvmlite import ir

from compiler.errors import LoweringError

I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
F32 = ir.FloatType()

_INT32_MAX = (1 << 31) - 1
# Adding and taking away 2^23 leaves a float32 rounded to an integer, ties to even.
_FLOAT_INTEGER = float(1 << 23)
# Beyond it only the clamp bound that is hit matters.
_FLOAT_LIMIT = 1 << 40

Attrs = Mapping[str, int]


def intrinsic(
    builder: ir.IRBuilder, name: str, types: Sequence[ir.Type], args: Sequence[ir.Value]
) -> ir.Value:
    """A call of an LLVM intrinsic; `types` are the overloaded ones, result type first."""
    signature = ir.FunctionType(types[0], [a.type for a in args])
    suffix = "".join("." + t.intrinsic_name for t in types)
    known = builder.module.globals.get(f"llvm.{name}{suffix}")
    function = known or ir.Function(builder.module, signature, f"llvm.{name}{suffix}")
    return builder.call(function, args)


def smin(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The lesser of two signed integers."""
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def smax(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The greater of two signed integers."""
    return builder.select(builder.icmp_signed(">", a, b), a, b)


def _clip(builder: ir.IRBuilder, value: ir.Value, least: int, greatest: int) -> ir.Value:
    raised = smax(builder, value, ir.Constant(value.type, least))
    return smin(builder, raised, ir.Constant(value.type, greatest))


def _wide(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return builder.sext(value, I64)


def _low(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    return builder.trunc(value, I32)


def _by_sign(builder: ir.IRBuilder, amount: ir.Value, right: ir.Value, value: ir.Value) -> ir.Value:
    """`right` for an amount of at least 0, else `value` shifted left by its magnitude; int32."""
    zero = ir.Constant(I64, 0)
    by = _clip(builder, builder.sub(zero, amount), 0, 32)
    left = builder.shl(value, by)
    is_right = builder.icmp_signed(">=", amount, zero)
    return _low(builder, builder.select(is_right, right, left))


def _shr(builder: ir.IRBuilder, args: Sequence[ir.Value], attrs: Attrs) -> ir.Value:
    value, amount = (_wide(builder, a) for a in args)
    right = builder.ashr(value, _clip(builder, amount, 0, 32))
    return _by_sign(builder, amount, right, value)


def _rdhm(builder: ir.IRBuilder, args: Sequence[ir.Value], attrs: Attrs) -> ir.Value:
    a, b = (_wide(builder, arg) for arg in args)
    half = ir.Constant(I64, 1 << 30)
    high = builder.ashr(builder.add(builder.mul(a, b), half), ir.Constant(I64, 31))
    return _low(builder, smin(builder, high, ir.Constant(I64, _INT32_MAX)))


def _rsr(builder: ir.IRBuilder, args: Sequence[ir.Value], attrs: Attrs) -> ir.Value:
    value, amount = (_wide(builder, a) for a in args)
    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    by = _clip(builder, amount, 0, 33)
    half = builder.lshr(builder.shl(one, by), one)
    is_negative = builder.icmp_signed("<", value, zero)
    magnitude = builder.select(is_negative, builder.sub(zero, value), value)
    shifted = builder.lshr(builder.add(magnitude, half), by)
    right = builder.select(is_negative, builder.sub(zero, shifted), shifted)
    return _by_sign(builder, amount, right, value)


def _round_even(builder: ir.IRBuilder, args: Sequence[ir.Value], attrs: Attrs) -> ir.Value:
    value = args[0]
    magic = ir.Constant(F32, _FLOAT_INTEGER)
    magnitude = intrinsic(builder, "fabs", [F32], [value])
    rounded = builder.fsub(builder.fadd(magnitude, magic), magic)
    signed = intrinsic(builder, "copysign", [F32], [rounded, value])
    is_small = builder.fcmp_ordered("<", magnitude, magic)
    return builder.select(is_small, signed, value)


def _sqrt(builder: ir.IRBuilder, args: Sequence[ir.Value], attrs: Attrs) -> ir.Value:
    return intrinsic(builder, "sqrt", [F32], args)


def float_to_int64(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Truncation towards zero; out of range the nearest value, 0 for no number."""
    return intrinsic(builder, "fptosi.sat", [I64, value.type], [value])


def _scale_double(
    builder: ir.IRBuilder, x: ir.Value, multiplier: ir.Value, right: ir.Value
) -> ir.Value:
    high = _rdhm(builder, [x, multiplier], {})
    return _wide(builder, _rsr(builder, [high, right], {}))


def _scale_single(
    builder: ir.IRBuilder, x: ir.Value, multiplier: ir.Value, right: ir.Value
) -> ir.Value:
    # floor((product + half) / 2^total) without a sum that could leave 64 bits.
    product = builder.mul(_wide(builder, x), _wide(builder, multiplier))
    raised = builder.add(_wide(builder, right), ir.Constant(I64, 30))
    short_of_one = builder.ashr(product, smin(builder, raised, ir.Constant(I64, 63)))
    one = ir.Constant(I64, 1)
    return builder.ashr(builder.add(short_of_one, one), one)


def _scale_float(
    builder: ir.IRBuilder, x: ir.Value, multiplier: ir.Value, right: ir.Value
) -> ir.Value:
    product = builder.fmul(builder.sitofp(x, F32), builder.bitcast(multiplier, F32))
    integer = float_to_int64(builder, _round_even(builder, [product], {}))
    return _clip(builder, integer, -_FLOAT_LIMIT, _FLOAT_LIMIT)


_SCALE = (_scale_double, _scale_single, _scale_float)


def _byte(builder: ir.IRBuilder, word: ir.Value, low: int) -> ir.Value:
    shifted = builder.lshr(word, ir.Constant(I32, low))
    return builder.sext(builder.trunc(shifted, I8), I64)


def _req(builder: ir.IRBuilder, args: Sequence[ir.Value], attrs: Attrs) -> ir.Value:
    value, bias, multiplier, packed = args
    imm = attrs["imm"]
    mode, sub_operation = imm >> 8 & 3, imm >> 12 & 0xF
    if mode >= len(_SCALE) or sub_operation:
        raise LoweringError(
            f"req must have rounding mode 0, 1 or 2 and sub-operation 0, not {mode} and "
            f"{sub_operation}; make imm with vta_hw.spec.semantics.req_imm"
        )
    zero_point = ((imm & 0xFF) ^ 0x80) - 0x80
    right = builder.and_(packed, ir.Constant(I32, 0x3F))
    left = builder.and_(builder.lshr(packed, ir.Constant(I32, 8)), ir.Constant(I32, 0x1F))
    x = builder.shl(builder.add(value, bias), left)
    scaled = _SCALE[mode](builder, x, multiplier, right)
    moved = builder.add(scaled, ir.Constant(I64, zero_point))
    raised = smax(builder, moved, _byte(builder, packed, 16))
    return _low(builder, smin(builder, raised, _byte(builder, packed, 24)))


CALLS: Mapping[str, Callable[[ir.IRBuilder, Sequence[ir.Value], Attrs], ir.Value]] = {
    "rdhm": _rdhm,
    "rsr": _rsr,
    "shr": _shr,
    "req": _req,
    "round_even": _round_even,
    "sqrt": _sqrt,
}
"""A builder for every entry of `compiler.loop.expr.FUNCTIONS`."""
