"""Tensor expressions and schedules."""

from compiler.loop.expr import call, maximum, minimum, select
from compiler.te.intrin import TensorIntrin
from compiler.te.schedule import Schedule
from compiler.te.tensor import Tensor, compute, max, min, placeholder, reduce_axis, sum

__all__ = [
    "Schedule",
    "Tensor",
    "TensorIntrin",
    "call",
    "compute",
    "max",
    "maximum",
    "min",
    "minimum",
    "placeholder",
    "reduce_axis",
    "select",
    "sum",
]
