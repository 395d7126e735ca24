"""Scales that are powers of two are exact without extensions: ties up, or to even as `ort` has it.

With numerics `ties-up` a sum takes a bias, a shift and bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.kernels import quant_of
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.reference import evaluate
from tests.compiler.topi.checking import check, examples, random_inputs
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Alu
from vta_hw.spec.program import Program

PYNQ, DEFAULT = VtaConfig.load("pynq"), VtaConfig.load("default")
SIZE, CHANNELS = 6, 20
Values = dict[str, np.ndarray[Any, Any]]
Rounding = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


@st.composite
def quants(draw: st.DrawFn, least: int, greatest: int, zero: st.SearchStrategy[int]) -> Quant:
    """A power of two and a zero point."""
    return Quant.per_tensor(2.0 ** draw(st.integers(least, greatest)), draw(zero))


ZERO = st.sampled_from([0, 0, -128]) | st.integers(-128, 127)
ACTIVATIONS = st.sampled_from(["none", "relu"])


def _block(rng: np.random.Generator, x: Quant, other: Quant, mid: Quant, out: Quant) -> Graph:
    """A convolution with a scale per channel, an addition with an input of the network, a relu."""
    shape = (1, SIZE, SIZE, CHANNELS)
    weights = rng.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
    bias = rng.integers(-5000, 5000, CHANNELS).astype(np.int32)
    scales = np.exp2(rng.integers(-9, -6, CHANNELS)).astype(np.float32)
    per_channel = Quant(scales, np.zeros(CHANNELS, np.int32), 0)
    tensors = [
        Tensor("x", TensorType(shape, "int8", x, "NHWC")),
        Tensor("other", TensorType(shape, "int8", other, "NHWC")),
        Tensor("w", TensorType(weights.shape, "int8", per_channel, "OIHW"), weights),
        Tensor("b", TensorType(bias.shape, "int32"), bias),
        Tensor("mid", TensorType(shape, "int8", mid, "NHWC")),
        Tensor("sum", TensorType(shape, "int8", out, "NHWC")),
        Tensor("y", TensorType(shape, "int8", out, "NHWC")),
    ]
    attrs = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    nodes = (
        Node("conv", "qnn.conv2d", ("x", "w", "b"), ("mid",), {**attrs, "layout": "NHWC"}),
        Node("add", "qnn.add", ("mid", "other"), ("sum",), {}),
        Node("relu", "qnn.clip", ("sum",), ("y",), {"activation": "relu"}),
    )
    return Graph("block", ("x", "other"), ("y",), {t.name: t for t in tensors}, nodes)


def _ties_up(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The nearest integer: all here are sums of few powers of two, exact in float64."""
    return np.floor(x + 0.5)


ROUNDINGS: dict[str, Rounding] = {"ties-up": _ties_up, "ort": np.rint}


def _quantised(real: np.ndarray[Any, Any], quant: Quant, rounded: Rounding) -> np.ndarray[Any, Any]:
    zero, scale = int(quant.zero_point[0]), float(quant.scale[0])
    return np.clip(rounded(real / scale) + zero, -128, 127)


def _real(value: np.ndarray[Any, Any], quant: Quant) -> np.ndarray[Any, Any]:
    return (value.astype(np.float64) - int(quant.zero_point[0])) * float(quant.scale[0])


def _expected(graph: Graph, values: Values, rounded: Rounding) -> Values:
    """In real numbers, from the definition of the quantisation."""
    quant = {name: quant_of(graph.type_of(name)) for name in graph.tensors if name != "b"}
    x, weights, bias = values["x"], graph.tensors["w"].data, graph.tensors["b"].data
    assert weights is not None and bias is not None
    scales = quant["w"].scale.astype(np.float64)
    real = np.pad(_real(x, quant["x"])[0], ((1, 1), (1, 1), (0, 0)))
    acc = np.zeros((SIZE, SIZE, CHANNELS))
    for dy in range(3):
        for dx in range(3):
            taps = weights[:, :, dy, dx].astype(np.float64) * scales[:, None]
            acc += real[dy : dy + SIZE, dx : dx + SIZE] @ taps.T
    acc += bias * scales * float(quant["x"].scale[0])
    mid = _quantised(acc[None], quant["mid"], rounded)
    total = _real(mid, quant["mid"]) + _real(values["other"], quant["other"])
    result = _quantised(total, quant["sum"], rounded)
    return {"mid": mid, "sum": result, "y": np.maximum(result, int(quant["y"].zero_point[0]))}


@examples(12)
@given(
    quants(-6, -4, ZERO), quants(-5, 0, ZERO), quants(-4, -1, ZERO), quants(-4, 0, ZERO), st.data()
)
@pytest.mark.parametrize("config", [PYNQ, DEFAULT], ids=["pynq", "default"])
@pytest.mark.parametrize("numerics", ROUNDINGS)
def test_a_residual_block(
    numerics: str,
    config: VtaConfig,
    x: Quant,
    other: Quant,
    mid: Quant,
    out: Quant,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    graph = _block(rng, x, other, mid, out)
    core = lower_qnn(graph, numerics)
    values = random_inputs(graph, rng)
    found = evaluate(core, values)
    for name, expected in _expected(graph, values, ROUNDINGS[numerics]).items():
        np.testing.assert_array_equal(found[name], expected, name)
    package = check(core, config, rng, runs=1, repeats=1).package
    assert not package.notes
    assert sum(row.where == "vta" for row in package.layers) == 1


def test_a_shift_is_all_that_a_sum_takes() -> None:
    """Bias, shift, two bounds; operand, bias, shift, two bounds, of which the relu is one."""
    rng, one, half = np.random.default_rng(0), *(Quant.per_tensor(2.0**k, 0) for k in (-4, -5))
    graph = _block(rng, one, one, one, Quant.per_tensor(2.0**-3, 0))
    (program,) = check(lower_qnn(graph, "ties-up"), PYNQ, rng, runs=1, repeats=1).package.programs
    assert _operations(program) == 4 + 5
    graph = _block(rng, one, half, one, one)
    (program,) = check(lower_qnn(graph, "ties-up"), PYNQ, rng, runs=1, repeats=1).package.programs
    assert _operations(program) == 4 + 6, "one operand is raised"
    graph = _block(rng, one, one, one, one)
    (program,) = check(lower_qnn(graph, "ties-up"), PYNQ, rng, runs=1, repeats=1).package.programs
    assert _operations(program) == 4 + 3, "nothing to round"


def _operations(program: Program) -> float:
    """ALU operations per result."""
    alu = [i for i in program.instructions if isinstance(i, Alu)]
    work = sum((i.uop_end - i.uop_bgn) * i.iter_out * i.iter_in for i in alu)
    return work / (SIZE * SIZE * -(-CHANNELS // PYNQ.block_out))
