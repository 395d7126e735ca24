"""Tensor expressions and schedules."""

from compiler.loop.expr import Const, Expr, Var, call, maximum, minimum, select
from compiler.te.intrin import TensorIntrin
from compiler.te.schedule import Schedule
from compiler.te.tensor import Axis, Tensor, compute, max, min, placeholder, reduce_axis, sum
from compiler.te.units import check_intrin, declare_unit

__all__ = [
    "Axis",
    "Const",
    "Expr",
    "Schedule",
    "Tensor",
    "TensorIntrin",
    "Var",
    "call",
    "check_intrin",
    "compute",
    "declare_unit",
    "max",
    "maximum",
    "min",
    "minimum",
    "placeholder",
    "reduce_axis",
    "select",
    "sum",
]
