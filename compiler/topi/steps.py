"""Element-wise steps on ACC: addition, clipping, change of scale; alone or behind a convolution.

Operands are loaded sign-extended (ACC_8BIT) and computed in int32 in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler import te
from compiler.topi.requant import Requant, Requantiser
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import IMM_BITS


@dataclass(frozen=True)
class Scale:
    """A real factor as Q31 multiplier and shifts: multiplier / 2^31 * 2^(left - right)."""

    multiplier: int
    left: int
    right: int


@dataclass(frozen=True)
class Add:
    """out = clamp((lhs - z_l) * lhs_scale + (rhs - z_r) * rhs_scale), requantised.

    Operands are raised by `left_shift` bits first; every scaling rounds twice (`Rounding.DOUBLE`).
    An operand is the name of a tensor, or the number of an earlier step of the kernel.
    """

    lhs: str | int
    rhs: str | int
    zero_points: tuple[int, int]
    left_shift: int
    scales: tuple[Scale, Scale]
    out: Requant


@dataclass(frozen=True)
class LinearAdd:
    """out = clamp(((lhs * multipliers[0] + rhs * multipliers[1] + bias) >> shift) + zero_point).

    Needs no extension. Operands are raw int8 values; the sums must fit in int32.
    """

    lhs: str | int
    rhs: str | int
    multipliers: tuple[int, int]
    bias: int
    shift: int
    zero_point: int
    clamp_min: int
    clamp_max: int
    is_exact: bool = True


@dataclass(frozen=True)
class ScaledAdd:
    """out = lhs * multipliers[0] + rhs * multipliers[1] + bias, requantised."""

    lhs: str | int
    rhs: str | int
    multipliers: tuple[int, int]
    bias: int
    out: Requantiser


@dataclass(frozen=True)
class Clip:
    """out = min(max(x, least), greatest)"""

    operand: str | int
    least: int
    greatest: int


@dataclass(frozen=True)
class Rescale:
    """out = requantised x - zero_point: another scale and zero point for the same values."""

    operand: str | int
    zero_point: int
    out: Requantiser


Step = Add | LinearAdd | ScaledAdd | Clip | Rescale
Element = Callable[..., te.Expr]
"""The element of a tensor at an index."""


def clipped(step: Step, clip: Step) -> Step | None:
    """A step whose results go through a clip next as one step; None where it takes two."""
    if not isinstance(clip, Clip):
        return None
    low, high = clip.least, clip.greatest
    match step:
        case Clip(least=least, greatest=greatest):
            least, greatest = max(least, low), min(greatest, high)
            return replace(step, least=least, greatest=greatest) if least <= greatest else None
        case LinearAdd(clamp_min=least, clamp_max=greatest):
            least, greatest = max(least, low), min(greatest, high)
            if least > greatest:
                return None
            return replace(step, clamp_min=least, clamp_max=greatest)
        case Add(out=out) | ScaledAdd(out=out) | Rescale(out=out):
            if max(out.clamp_min, low) > min(out.clamp_max, high):
                return None
            return replace(step, out=out.clipped(low, high))  # type: ignore[arg-type]


_LINEAR_BITS = 21


def linear_approximation(add: Add) -> LinearAdd:
    """`add` within one unit, without the extension `requant`."""

    def factor(scale: Scale) -> float:
        return scale.multiplier / (1 << 31) * 2.0 ** (scale.left - scale.right)

    out = Scale(*(int(v[0]) for v in (add.out.multiplier, add.out.left, add.out.right)))
    factors = [factor(x) * factor(out) * (1 << add.left_shift) for x in add.scales]
    shift = min(30, _LINEAR_BITS - math.frexp(max(factors))[1])
    first, second = (round(f * 2**shift) for f in factors)
    bias = (1 << shift >> 1) - first * add.zero_points[0] - second * add.zero_points[1]
    return LinearAdd(
        add.lhs,
        add.rhs,
        (first, second),
        bias,
        shift,
        add.out.zero_point,
        add.out.clamp_min,
        add.out.clamp_max,
        is_exact=False,
    )


def needs(steps: Sequence[Step], config: VtaConfig) -> tuple[int, int]:
    """What a chain takes of ACC: tiles beside that of its first operand, and parameter vectors.

    A tile holds one element per result. An operand from outside takes one of its own.
    """
    loads = sum(isinstance(operand, str) for step in steps for operand in _operands(step))
    extra = max((_buffers(step) for step in steps), default=1) - 1
    return loads + extra, sum(len(_vectors(step, config)) for step in steps)


def _buffers(step: Step) -> int:
    """ACC tiles that the requantisation of a step has in use at once."""
    return step.out.buffers if isinstance(step, ScaledAdd | Rescale) else 1


def _operands(step: Step) -> tuple[str | int, ...]:
    if isinstance(step, Add | LinearAdd | ScaledAdd):
        return step.lhs, step.rhs
    return (step.operand,)


def _vectors(step: Step, config: VtaConfig) -> np.ndarray:
    """Parameter vectors of a step, int32 [count, batch, block], in the order it uses them."""

    def same(value: int) -> np.ndarray:
        return np.full((1, config.batch, config.block_out), value, np.int32)

    def requant(out: Requantiser, bias: int) -> np.ndarray:
        return out.parameters(np.full(config.block_out, bias, np.int64), config)[0]

    none = np.zeros((0, config.batch, config.block_out), np.int32)
    match step:
        case Add(scales=scales, out=out):
            return np.concatenate([*(same(x.multiplier) for x in scales), requant(out, 0)])
        case LinearAdd(multipliers=multipliers):
            long = [*filter(_is_long_factor, multipliers), *filter(_is_long, [_offset(step)[0]])]
            return np.concatenate([none, *map(same, long)])
        case ScaledAdd(multipliers=multipliers, bias=bias, out=out):
            return np.concatenate(
                [*map(same, filter(_is_long_factor, multipliers)), requant(out, bias)]
            )
        case Rescale(zero_point=zero_point, out=out):
            return requant(out, -zero_point)
        case Clip():
            return none


def _is_long(value: int) -> bool:
    """Whether a constant does not fit in an immediate, so that it takes a parameter vector."""
    return not -(1 << (IMM_BITS - 1)) <= value < 1 << (IMM_BITS - 1)


def _is_long_factor(value: int) -> bool:
    """The same of a factor: powers of two are shifts."""
    return _is_long(value) and not _is_power(value)


def _is_power(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _offset(step: LinearAdd) -> tuple[int, int]:
    """What is added before the shift, and after it: nothing where that can come first as well."""
    bias = step.bias + (step.zero_point << step.shift)
    if 128 * sum(map(abs, step.multipliers)) + abs(bias) < 1 << 31:
        return bias, 0
    return step.bias, step.zero_point


def _is_exact(step: Step) -> bool:
    match step:
        case LinearAdd(is_exact=exact):
            return exact
        case ScaledAdd(out=out) | Rescale(out=out):
            return out.is_exact
    return True


class StepChain:
    """The tensors of a chain of steps over results of `shape`; `last` has the chain's result.

    `inputs` has the operands from outside by name, `start` the results that the steps find: operand
    0 is the first of them. Parameter vectors, if any, are read from the placeholder `params`.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        steps: Sequence[Step],
        inputs: Mapping[str, te.Tensor],
        config: VtaConfig,
        start: Sequence[te.Tensor] = (),
    ) -> None:
        self.name, self.shape, self.config = name, shape, config
        self.inputs = inputs
        self.loads: list[te.Tensor] = []
        self.results = list(start)
        self.stages: list[te.Tensor] = []
        self.vectors = np.concatenate([_vectors(step, config) for step in steps])
        self.params = te.placeholder(self.vectors.shape, "int32", f"{name}.params")
        self.used = 0
        self.is_exact = all(_is_exact(step) for step in steps)
        for step in steps:
            self._append(step)

    @property
    def last(self) -> te.Tensor:
        """The result of the last step: int8 values in int32."""
        return self.results[-1]

    def _append(self, step: Step) -> None:
        match step:
            case Add():
                self._add(step)
            case LinearAdd():
                self._linear_add(step)
            case ScaledAdd():
                self._requantised(self._stage(self._weighted(step), "sum"), step.out)
            case Clip(operand, least, greatest):
                x = self._operand(operand)
                self._stage(lambda *at: _clamp(x(*at), least, greatest), "clip")
            case Rescale(operand, _, out):
                self._requantised(self._operand(operand), out)
        self.results.append(self.stages[-1])

    def _take(self, count: int) -> list[int]:
        """The next parameter vectors, in the order of `_vectors`."""
        self.used += count
        return list(range(self.used - count, self.used))

    def _add(self, step: Add) -> None:
        first, second = self._take(2)
        lhs = self._scaled(step, 0, step.lhs, first)
        rhs = self._scaled(step, 1, step.rhs, second)
        total = self._stage(lambda *at: lhs(*at) + rhs(*at), "sum")
        self._requantised(total, step.out)

    def _linear_add(self, step: LinearAdd) -> None:
        before, after = _offset(step)
        weighted, bias = self._weighted(step), self._number(before)

        def total(*at: te.Var) -> te.Expr:
            value = weighted(*at) + bias(*at) if before else weighted(*at)
            value = te.call("shr", value, te.Const(step.shift)) if step.shift else value
            return _clamp(value + after if after else value, step.clamp_min, step.clamp_max)

        self._stage(total, "sum")

    def _weighted(self, step: LinearAdd | ScaledAdd) -> Element:
        """The operands times their multipliers, added."""
        first, second = step.multipliers
        lhs = self._times(self._operand(step.lhs), first)
        rhs = self._times(self._operand(step.rhs), second)
        scaled = rhs if second == 1 else self._stage(rhs, "scaled")
        return lambda *at: lhs(*at) + scaled(*at)

    def _times(self, x: te.Tensor, factor: int) -> Element:
        if factor == 1:
            return x
        if _is_power(factor):
            shift = te.Const(1 - factor.bit_length())
            return lambda *at: te.call("shr", x(*at), shift)
        number = self._number(factor)
        return lambda *at: x(*at) * number(*at)

    def _number(self, value: int) -> Element:
        """A constant: an immediate, or the next parameter vector."""
        if not _is_long(value):
            return lambda *at: te.Const(value)
        (vector,) = self._take(1)
        return lambda *at: self.params(vector, *at[-2:])

    def _requantised(self, x: te.Tensor, out: Requantiser) -> None:
        no_bias = np.zeros(self.config.block_out, np.int64)
        vectors = self._take(out.parameters(no_bias, self.config).shape[1])
        params = self.params
        self.stages.append(out.stages(x, lambda v, *at: params(vectors[v], *at[-2:])))

    def _operand(self, operand: str | int) -> te.Tensor:
        if isinstance(operand, int):
            return self.results[operand]
        source = self.inputs[operand]
        load = te.compute(
            self.shape,
            lambda *at: source(*at).astype("int32"),
            f"{self.name}.in{len(self.loads)}",
        )
        self.loads.append(load)
        return load

    def _scaled(self, step: Add, side: int, operand: str | int, vector: int) -> te.Tensor:
        x, scale, zero = self._operand(operand), step.scales[side], step.zero_points[side]
        params = self.params
        raised = step.left_shift + scale.left

        def element(*at: te.Var) -> te.Expr:
            value = te.call("shr", x(*at) - zero, te.Const(-raised))
            value = te.call("rdhm", value, params(vector, *at[-2:]))
            return te.call("rsr", value, te.Const(scale.right)) if scale.right else value

        return self._stage(element, f"scaled{side}")

    def _stage(self, element: Element, suffix: str) -> te.Tensor:
        name = f"{self.name}.{len(self.stages)}.{suffix}"
        self.stages.append(te.compute(self.shape, element, name))
        return self.stages[-1]


def _clamp(value: te.Expr, least: int, greatest: int) -> te.Expr:
    return te.minimum(te.maximum(value, least), greatest)
