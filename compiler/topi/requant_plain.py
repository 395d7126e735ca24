"""Requantisation without the extension `requant`: MUL, SHR, ADD, MIN and MAX.

Scales that are powers of two are exact in every rounding mode. Any other factor becomes a 12-bit
multiplier and a shift; the result then differs from the exact one by at most one unit::

    x = clamp(acc + bias, +-2^(9 + k))        k = bits of 1 / factor; beyond, the result saturates
    y = ((x >> pre) * m + half) >> post       error: 2^-13 relative, 2^-10 from `pre`, 1/2 rounding

Powers of two do without the clamp where no sum can overflow, and if ties go up that leaves a bias,
a shift and the bounds of the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from compiler import te
from compiler.topi.requant import Parameters, Requant, Requantiser, lanes
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Rounding

_MULTIPLIER_BITS = 12
_RESULT_BITS = 9
# Shifts for which the exact forms hold. Beyond 21, sums that do not saturate the result leave no
# room for the rounding's half; beyond 16, a float32 sum above 2^24 has lost low bits that matter;
# below 2, the second of two roundings does not exist.
_EXACT_RANGE = {Rounding.SINGLE: (1, 21), Rounding.FLOAT: (1, 16), Rounding.DOUBLE: (2, 21)}


def requantiser(out: Requant, config: VtaConfig) -> Requantiser:
    """The requantisation as the config can do it."""
    return out if config.has("requant") else PlainRequant(out)


@dataclass(frozen=True)
class PlainRequant:
    """The operations of `out` on a config without `requant`."""

    out: Requant
    reach: int = 1 << 31

    def within(self, reach: int) -> PlainRequant:
        """One for sums, biases and sums with bias that are all from -reach to reach."""
        return replace(self, reach=reach)

    @property
    def clamp_min(self) -> int:
        """The least result."""
        return self.out.clamp_min

    @property
    def clamp_max(self) -> int:
        """The greatest result."""
        return self.out.clamp_max

    def clipped(self, low: int, high: int) -> PlainRequant:
        """One whose results are clipped as well; some result must be left."""
        return replace(self, out=self.out.clipped(low, high))

    @property
    def is_exact(self) -> bool:
        """Whether the results equal those of `Requant`."""
        return self._powers() is not None

    # A bias added first would cost a step more: here the bias is a step of its own anyway.
    is_uniform = False

    @property
    def buffers(self) -> int:
        """ACC tiles in use at once: rounding that depends on the value needs a copy of it."""
        return 2 if self.is_exact and self.out.mode is not Rounding.SINGLE else 1

    def parameters(self, bias: np.ndarray, config: VtaConfig) -> np.ndarray:
        """int32 [channel blocks, ..., vectors, batch, block] from `bias` [channels, ...]."""
        rows = self._exact_rows() if self.is_exact else self._rounded_rows()
        if self._is_shift:
            offset = self._offset()
            bias = bias + offset.reshape(-1, *[1] * (bias.ndim - 1))
        return lanes([bias, *rows], bias.shape, config)

    def stages(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        """int8-valued int32 results from accumulators."""
        if not self.is_exact:
            return self._rounded(acc, params)
        if self._is_shift:
            return self._shifted(acc, params)
        if self.out.mode is Rounding.SINGLE:
            return self._ties_up(acc, params)
        return self._two_steps(acc, params)

    def _factors(self) -> np.ndarray:
        """The real factor of each channel."""
        multiplier = self.out.multiplier.astype(np.float64)
        if self.out.mode is Rounding.FLOAT:
            return multiplier
        shift = self.out.left.astype(np.float64) - self.out.right.astype(np.float64)
        return multiplier / (1 << 31) * np.exp2(shift)

    def _powers(self) -> np.ndarray | None:
        """k of each channel if all factors are 2^-k with k in the mode's range, else None."""
        mantissa, exponent = np.frexp(self._factors())
        k = 1 - exponent.astype(np.int64)
        least, greatest = _EXACT_RANGE[self.out.mode]
        if (mantissa != 0.5).any() or (k < least).any() or (k > greatest).any():
            return None
        return k

    def _offset(self) -> np.ndarray:
        """What ties that go up and the zero point add before the shift, per channel."""
        k = self._powers()
        assert k is not None
        return (1 << (k - 1)) + (np.int64(self.out.zero_point) << k)

    @property
    def _is_shift(self) -> bool:
        """Whether a bias, a shift and the bounds of the result are all that there is to do."""
        if self.out.mode is not Rounding.SINGLE or not self.is_exact:
            return False
        return self.reach + int(np.abs(self._offset()).max()) < 1 << 31

    def _shifts(self) -> np.ndarray:
        """The shift of each channel, or of all."""
        k = self._powers()
        assert k is not None
        return np.unique(k) if len(np.unique(k)) == 1 else k

    def _finish(self, value: te.Expr) -> te.Expr:
        moved = value + self.out.zero_point if self.out.zero_point else value
        return te.minimum(te.maximum(moved, self.out.clamp_min), self.out.clamp_max)

    # -- powers of two ----------------------------------------------------------------------------

    def _exact_rows(self) -> list[np.ndarray]:
        """What follows the bias: see the stages that read them."""
        k = self._powers()
        assert k is not None
        if self._is_shift:
            return [] if len(self._shifts()) == 1 else [self._shifts()]
        half = 1 << (k - 1)
        limit = 1 << (_RESULT_BITS + k)  # beyond, the result saturates: half can be added safely
        match self.out.mode:
            case Rounding.SINGLE:
                return [-limit, limit, half, k]
            case Rounding.FLOAT:
                return [-limit, limit, k - 31, half - 1, k]
            case Rounding.DOUBLE:
                # Halved with ties up first, then the rest with ties away from zero.
                return [-limit, limit, half >> 1, k - 1]
        raise AssertionError(self.out.mode)

    def _shifted(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        shifts = self._shifts()

        def element(*at: te.Var) -> te.Expr:
            shift = te.Const(int(shifts[0])) if len(shifts) == 1 else params(1, *at)
            value = te.call("shr", acc(*at) + params(0, *at), shift)
            return te.minimum(te.maximum(value, self.out.clamp_min), self.out.clamp_max)

        return te.compute(acc.shape, element, f"{acc.name}.req")

    def _ties_up(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        def element(*at: te.Var) -> te.Expr:
            value = _bounded(acc(*at), params, *at) + params(3, *at)
            return self._finish(te.call("shr", value, params(4, *at)))

        return te.compute(acc.shape, element, f"{acc.name}.req")

    def _two_steps(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        """A correction of 0 or 1 per value, taken from a copy of it, then half up and shift."""
        is_float = self.out.mode is Rounding.FLOAT

        def prepared(*at: te.Var) -> te.Expr:
            value = _bounded(acc(*at), params, *at)
            return value if is_float else te.call("shr", value + 1, te.Const(1))

        x = te.compute(acc.shape, prepared, f"{acc.name}.x")

        def correction(*at: te.Var) -> te.Expr:
            if not is_float:  # -1 for negative values: ties go away from zero
                return te.call("shr", x(*at), te.Const(31))
            # 1 where the result's last bit is odd: ties go to even
            lowest = te.call("shr", te.call("shr", x(*at), params(3, *at)), te.Const(31))
            return lowest * -1

        fix = te.compute(acc.shape, correction, f"{acc.name}.fix")
        half, shift = (4, 5) if is_float else (3, 4)

        def rounded(*at: te.Var) -> te.Expr:
            value = fix(*at) + x(*at) + params(half, *at)
            return self._finish(te.call("shr", value, params(shift, *at)))

        return te.compute(acc.shape, rounded, f"{acc.name}.req")

    # -- other factors ----------------------------------------------------------------------------

    def _rounded_rows(self) -> list[np.ndarray]:
        factors = self._factors()
        span = np.array([_RESULT_BITS + max(0, math.ceil(-math.log2(f))) for f in factors])
        limit = np.minimum(np.int64(1) << np.minimum(span, 31), (1 << 31) - 1)
        pre = np.maximum(0, np.minimum(span, 31) + _MULTIPLIER_BITS - 30)
        mantissa, exponent = np.frexp(factors * np.exp2(pre))
        multiplier = np.rint(mantissa * (1 << _MULTIPLIER_BITS)).astype(np.int64)
        post = _MULTIPLIER_BITS - exponent
        half = np.where(post > 0, np.int64(1) << np.maximum(post - 1, 0), 0)
        return [-limit, limit, pre, multiplier, half, post]

    def _rounded(self, acc: te.Tensor, params: Parameters) -> te.Tensor:
        def element(*at: te.Var) -> te.Expr:
            value = _bounded(acc(*at), params, *at)
            value = te.call("shr", value, params(3, *at)) * params(4, *at) + params(5, *at)
            return self._finish(te.call("shr", value, params(6, *at)))

        return te.compute(acc.shape, element, f"{acc.name}.req")


def _bounded(acc: te.Expr, params: Parameters, *at: te.Var) -> te.Expr:
    """The sum with its bias (vector 0) between vectors 1 and 2."""
    value = acc + params(0, *at)
    return te.minimum(te.maximum(value, params(1, *at)), params(2, *at))
