"""What host operators are made of: the kernel, and shorthands for their expressions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compiler.loop.expr import Expr, cast, maximum, minimum
from compiler.loop.nodes import Func
from compiler.passes.lower_schedule import lower_schedule
from compiler.te import tensor as te
from compiler.te.schedule import Schedule


@dataclass(frozen=True)
class HostKernel:
    """A host function over the operator's inputs, then `constants` (by parameter), then its output.

    `macs` counts multiply-accumulates as the model counts them.
    """

    func: Func
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    macs: int = 0


def build_kernel(
    name: str,
    inputs: Sequence[te.Tensor],
    output: te.Tensor,
    constants: Sequence[tuple[te.Tensor, np.ndarray]] = (),
    macs: int = 0,
) -> HostKernel:
    """Schedule and lower one operator; the stages before `output` get temporaries of the host."""
    schedule = Schedule(output)
    for stage in schedule.stages:
        if stage.tensor is not output:
            stage.set_scope("host")
    params = [*inputs, *(tensor for tensor, _ in constants), output]
    arrays = {tensor.name: np.ascontiguousarray(array) for tensor, array in constants}
    return HostKernel(lower_schedule(schedule, params, name), arrays, macs)


def constant(array: np.ndarray, name: str) -> tuple[te.Tensor, np.ndarray]:
    """A constant operand: its placeholder and its value."""
    return te.placeholder(array.shape, str(array.dtype), name), array


def int32(value: Expr) -> Expr:
    """Shorthand for a conversion to int32."""
    return cast("int32", value)


def saturate(value: Expr, least: int = -128, greatest: int = 127) -> Expr:
    """An int32 clamped and narrowed to int8."""
    return cast("int8", minimum(maximum(value, least), greatest))


def describe_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """An operator's attributes as JSON values; arrays are left out, they travel as constants."""
    return {k: _json_value(v) for k, v in attrs.items() if not isinstance(v, np.ndarray)}


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_json_value(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
