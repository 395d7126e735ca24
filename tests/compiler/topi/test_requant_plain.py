"""Requantisation in plain ALU operations against REQ, on sums at every extreme."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler import te
from compiler.loop import interp
from compiler.passes.lower_schedule import lower_schedule
from compiler.topi.requant import Requant
from compiler.topi.requant_plain import PlainRequant, requantiser
from vta_hw.spec import semantics
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Rounding

PYNQ = VtaConfig.load("pynq")
LANES = PYNQ.block_out
EDGES = [0, 1, -1, 2**31 - 1, -(2**31), 2**31 - 2**20, -(2**31) + 2**20, 2**24 + 1, -(2**24) - 1]


def _sums(k: int, rng: np.random.Generator) -> np.ndarray:
    """int32 [rows, 1, lanes]: extremes, ties and their neighbours, values around saturation."""
    ties = (np.arange(-300, 300) << k) + (1 << k >> 1)
    near = (ties[:, None] + np.array([-1, 0, 1])).ravel()
    wide = rng.integers(-(2**31), 2**31, 2000)
    values = np.concatenate([EDGES, near[np.abs(near) < 2**31], wide])
    values = values[: len(values) // LANES * LANES]
    return values.astype(np.int32).reshape(-1, 1, LANES)


def _requant(mode: Rounding, k: int) -> Requant:
    """A factor of 2^-k in each mode's own form."""
    zero, shift = np.zeros(1, np.int64), np.array([k - 1])
    if mode is Rounding.FLOAT:
        return Requant(mode, np.array([2.0**-k], np.float32), zero, zero, 5)
    return Requant(mode, np.array([1 << 30]), zero, shift, 5)


def _plain(out: PlainRequant, sums: np.ndarray, bias: int) -> np.ndarray:
    vectors = out.parameters(np.full(LANES, bias, np.int64), PYNQ)[0]
    acc = te.placeholder(sums.shape, "int32", "acc")
    params = te.placeholder(vectors.shape, "int32", "params")
    result = out.stages(acc, lambda v, e, b, o: params(v, b, o))
    func = lower_schedule(te.Schedule(result), [acc, params, result], "f")
    arrays = {"acc": sums, "params": vectors, result.name: np.zeros(sums.shape, np.int32)}
    interp.run(func, arrays)
    return arrays[result.name]


def _req(out: Requant, sums: np.ndarray, bias: int) -> np.ndarray:
    row = out.parameters(np.full(LANES, bias, np.int64), PYNQ)[0]
    return semantics.req(sums, row[0], row[1], row[2], out.imm)


@pytest.mark.parametrize("bias", [0, 2**31 - 1, -12345])
@pytest.mark.parametrize("k", [2, 7, 16])
@pytest.mark.parametrize("mode", Rounding)
def test_powers_of_two_are_exact_for_every_sum(
    mode: Rounding, k: int, bias: int, rng: np.random.Generator
) -> None:
    out = _requant(mode, k)
    plain = PlainRequant(out)
    sums = _sums(k, rng)
    assert plain.is_exact
    np.testing.assert_array_equal(_plain(plain, sums, bias), _req(out, sums, bias))


@pytest.mark.parametrize("zero_point", [-128, 0, 127])
@pytest.mark.parametrize("k", [2, 7, 16])
def test_sums_that_cannot_overflow_take_a_bias_and_a_shift(
    k: int, zero_point: int, rng: np.random.Generator
) -> None:
    out = replace(_requant(Rounding.SINGLE, k), zero_point=zero_point)
    reach = 1 << 30
    plain = PlainRequant(out).within(reach)
    sums = _sums(k, rng)
    sums = np.where(np.abs(sums.astype(np.int64)) < reach // 2, sums, sums // 2)
    assert plain.parameters(np.zeros(LANES, np.int64), PYNQ).shape[1] == 1
    for bias in (0, 12345, -reach // 2):
        np.testing.assert_array_equal(_plain(plain, sums, bias), _req(out, sums, bias))


def test_channels_may_be_shifted_by_different_amounts(rng: np.random.Generator) -> None:
    zero = np.zeros(LANES, np.int64)
    shifts = rng.integers(1, 20, LANES)
    out = Requant(Rounding.SINGLE, np.full(LANES, 1 << 30), zero, shifts, 5, -100, 90)
    plain = PlainRequant(out).within(1 << 30)
    sums = _sums(9, rng) // 4
    assert plain.parameters(zero, PYNQ).shape[1] == 2
    np.testing.assert_array_equal(_plain(plain, sums, -777), _req(out, sums, -777))


@pytest.mark.parametrize("factor", [0.7, 0.011, 3.1e-5])
def test_other_factors_are_within_one_unit(factor: float, rng: np.random.Generator) -> None:
    zero = np.zeros(1, np.int64)
    out = Requant(Rounding.FLOAT, np.array([factor], np.float32), zero, zero, -3)
    plain = PlainRequant(out)
    sums = rng.integers(-(2**31), 2**31, (150, 1, LANES)).astype(np.int32)
    sums[: len(sums) // 2] = rng.normal(0, 60 / factor, sums[: len(sums) // 2].shape)
    assert not plain.is_exact
    apart = np.abs(_plain(plain, sums, 17).astype(np.int64) - _req(out, sums, 17))
    assert apart.max() == 1


def test_the_extension_decides_which_form_is_used() -> None:
    out = _requant(Rounding.SINGLE, 4)
    assert requantiser(out, VtaConfig.load("default")) is out
    assert requantiser(out, PYNQ) == PlainRequant(out)
