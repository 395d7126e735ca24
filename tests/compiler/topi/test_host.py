"""Host operators, compiled, against the numpy references of the graph."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from compiler.emit.host import host_function
from compiler.errors import LoweringError
from compiler.graph import kernels
from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.ops import OPS
from compiler.graph.softmax import exp_table
from compiler.loop import interp
from compiler.topi import host
from compiler.topi.host_kernel import HostKernel
from runtime.buffers import pack, unpack
from runtime.package import TensorInfo

QUANT = Quant.per_tensor(0.1, 5)


def _run(kernel: HostKernel, *inputs: np.ndarray) -> np.ndarray:
    out = kernel.func.params[-1]
    result = np.zeros(out.shape, out.dtype)
    host_function(kernel.func)(*inputs, *kernel.constants.values(), result)
    return result


def _interpret(kernel: HostKernel, *inputs: np.ndarray) -> np.ndarray:
    out = kernel.func.params[-1]
    result = np.zeros(out.shape, out.dtype)
    arrays = [*inputs, *kernel.constants.values(), result]
    interp.run(kernel.func, {p.name: a for p, a in zip(kernel.func.params, arrays, strict=True)})
    return result


def _int8(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-128, 128, shape).astype(np.int8)


def _check(
    op: str,
    inputs: list[np.ndarray],
    constants: list[np.ndarray],
    attrs: Mapping[str, Any],
    layout: str = "",
    out_quant: Quant | None = QUANT,
) -> HostKernel:
    """One node, compiled, against its reference."""
    quant = {"int8": QUANT}
    types = [TensorType(x.shape, str(x.dtype), quant.get(str(x.dtype)), layout) for x in inputs]
    fixed = [TensorType(c.shape, str(c.dtype)) for c in constants]
    shape, dtype = OPS[op].infer([*types, *fixed], attrs)
    out = TensorType(shape, dtype, out_quant if dtype == "int8" else None, layout)
    names = [f"t{i}" for i in range(len(types) + len(fixed))]
    tensors = {
        n: Tensor(n, t, d)
        for n, t, d in zip(names, [*types, *fixed], [*[None] * len(types), *constants], strict=True)
    }
    tensors["y"] = Tensor("y", out)
    node = Node("node", op, tuple(names), ("y",), attrs)
    graph = Graph("g", tuple(names[: len(types)]), ("y",), tensors, (node,))
    kernel = host.lower_host_node(graph, node, f"f_{op}")
    reference = OPS[op].reference
    assert reference is not None
    expected = reference([*inputs, *constants], [*types, *fixed], out, attrs)
    result = _run(kernel, *inputs)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    return kernel


# -- layout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "block"), [(1, 16), (4, 8)])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [((1, 5, 6, 3), "NHWC"), ((3, 20, 2, 2), "NCHW"), ((2, 17), "NC"), ((1, 64), "")],
)
def test_pack_and_unpack(
    shape: tuple[int, ...], layout: str, batch: int, block: int, rng: np.random.Generator
) -> None:
    type_ = TensorType(shape, "int8", layout=layout)
    info = TensorInfo(
        name="x",
        dtype="int8",
        shape=shape,
        layout=layout,
        storage="device",
        batch=batch,
        block=block,
    )
    x = _int8(rng, shape)
    kernel = host.pack(type_, batch, block, "f")
    packed = _run(kernel, x)
    np.testing.assert_array_equal(packed, pack(x, info))
    np.testing.assert_array_equal(_interpret(kernel, x), packed)
    restore = host.unpack(type_, batch, block, "g")
    noisy = np.where(pack(np.ones_like(x), info) == 1, packed, np.int8(77))
    np.testing.assert_array_equal(_run(restore, noisy), x)
    np.testing.assert_array_equal(unpack(noisy, info), x)


def test_uint8_is_shifted_on_the_way(rng: np.random.Generator) -> None:
    type_ = TensorType((1, 3, 2, 5), "uint8", layout="NHWC")
    x = np.arange(256, dtype=np.uint8)[rng.permutation(256)][:30].reshape(type_.shape)
    packed = _run(host.pack(type_, 1, 16, "f"), x)
    np.testing.assert_array_equal(packed[0, 0, :, :, 0, :5], x[0].astype(np.int16) - 128)
    assert not packed[..., 5:].any()
    np.testing.assert_array_equal(_run(host.unpack(type_, 1, 16, "g"), packed), x)


def test_what_cannot_be_packed() -> None:
    with pytest.raises(LoweringError, match="layout must name the axes N and C"):
        host.pack(TensorType((1, 2, 3), "int8"), 1, 16, "f")


def test_reshape(rng: np.random.Generator) -> None:
    x = _int8(rng, (2, 3, 4, 5))
    for shape in [(6, 20), (120,), (5, 2, 3, 4), (2, 3, 4, 5)]:
        kernel = host.reshape(x.shape, shape, "int8", "f")
        np.testing.assert_array_equal(_run(kernel, x), x.reshape(shape))
    f = rng.standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(_run(host.reshape((4, 6), (24,), "float32", "f"), f), f.ravel())


# -- quantisation and softmax ---------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ["even", "away"])
@pytest.mark.parametrize(("scale", "zero_point"), [(0.37, -5), (1.0, -128), (0.0039, 127), (9, 0)])
def test_quantize(scale: float, zero_point: int, rounding: str, rng: np.random.Generator) -> None:
    out = TensorType((3011,), "int8", Quant.per_tensor(scale, zero_point))
    ties = (rng.integers(-300, 300, 1000) + 0.5) * np.float32(scale)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, 1e-45, 1 << 24, -(1 << 31), 1e10]
    x = np.concatenate([rng.normal(0, 100 * scale, 2000), ties, special]).astype(np.float32)
    kernel = host.quantize(out, rounding, "f")
    with np.errstate(over="ignore"):
        expected = kernels.quantize([x], [], out, {"rounding": rounding})
    np.testing.assert_array_equal(_run(kernel, x), expected)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(_interpret(kernel, x), expected)


def test_quantize_refusals() -> None:
    per_channel = TensorType(
        (2, 2), "int8", Quant(np.ones(2, np.float32), np.zeros(2, np.int64), 0)
    )
    with pytest.raises(LoweringError, match="must be quantised as a whole"):
        host.quantize(per_channel, "even", "f")
    plain = TensorType((2,), "int8", QUANT)
    words = "^quantize rounding must be even, away or reciprocal, not 'up'"
    with pytest.raises(LoweringError, match=words):
        host.quantize(plain, "up", "f")


def test_dequantize() -> None:
    source = TensorType((256,), "int8", Quant.per_tensor(0.0173, -77))
    x = np.arange(-128, 128).astype(np.int8)
    result = _run(host.dequantize(source, "f"), x)
    np.testing.assert_array_equal(result, kernels.dequantize([x], [source], source, {}))


@pytest.mark.parametrize("shape", [(1, 10), (3, 7, 5), (4,), (200, 12), (1, 1000), (6, 1)])
@pytest.mark.parametrize("scale", [0.001, 0.05, 0.4, 3.0])
def test_softmax(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> None:
    table = exp_table(np.float32(scale), 1.0)
    attrs = {"mode": "litert", "table": table, "beta": 1.0}
    x = _int8(rng, shape)
    x.reshape(-1)[:: max(1, x.size // 7)] = 127
    out = Quant.per_tensor(1 / 256, -128)
    kernel = _check("softmax", [x], [], attrs, out_quant=out)
    if x.size < 100:
        np.testing.assert_array_equal(_interpret(kernel, x), _run(kernel, x))


def test_softmax_refuses_what_overflows() -> None:
    with pytest.raises(LoweringError, match="softmax over 4096 values can leave its Q12.19 sum"):
        host.softmax((1, 4096), np.zeros(256, np.int32), "f")


# -- arithmetic -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize(
    ("groups", "kernel", "strides", "pads", "dilation"),
    [
        (1, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        (6, (3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
        (2, (1, 3), (1, 2), (0, 2, 0, 1), (1, 2)),
        (3, (2, 2), (3, 1), (0, 0, 0, 0), (2, 1)),
    ],
)
def test_conv2d(
    layout: str,
    groups: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, ...],
    dilation: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    shape = (2, 7, 8, 6) if layout == "NHWC" else (2, 6, 7, 8)
    w = _int8(rng, (12, 6 // groups, *kernel))
    bias = rng.integers(-(1 << 31), 1 << 31, 12).astype(np.int32)
    attrs = {
        "strides": strides,
        "pads": pads,
        "dilation": dilation,
        "groups": groups,
        "layout": layout,
    }
    made = _check("conv2d", [_int8(rng, shape)], [w, bias], attrs, layout)
    positions = int(np.prod(made.func.params[-1].shape))
    assert made.macs == positions * w[0].size


def test_dense(rng: np.random.Generator) -> None:
    w, bias = _int8(rng, (9, 33)), rng.integers(-(1 << 20), 1 << 20, 9).astype(np.int32)
    made = _check("dense", [_int8(rng, (3, 33))], [w, bias], {})
    assert made.macs == 3 * 9 * 33


@pytest.mark.parametrize("mode", ["double", "single", "float"])
@pytest.mark.parametrize("channels", [1, 5])
def test_requantize(mode: str, channels: int, rng: np.random.Generator) -> None:
    acc = rng.integers(-(1 << 31), 1 << 31, (2, 40, 5)).astype(np.int32)
    acc.reshape(-1)[:4] = [-(1 << 31), (1 << 31) - 1, 0, -1]
    acc[1] >>= rng.integers(0, 25, acc[1].shape)
    zero = np.zeros(channels, np.int32)
    multiplier: np.ndarray = rng.integers(1 << 30, 1 << 31, channels).astype(np.int32)
    if mode == "float":
        multiplier = (rng.random(channels) * 1e-3).astype(np.float32)
    attrs = {
        "mode": mode,
        "multiplier": multiplier,
        "left": zero if mode == "float" else rng.integers(0, 3, channels).astype(np.int32),
        "right": zero if mode == "float" else rng.integers(0, 31, channels).astype(np.int32),
        "zero_point": -3,
        "clamp_min": -100,
        "clamp_max": 120,
    }
    _check("requantize", [acc], [], attrs)


def test_add(rng: np.random.Generator) -> None:
    attrs = {
        "mode": "double",
        "left_shift": 20,
        "lhs": (1717986918, 0, 1),
        "rhs": (1073741824, 0, 0),
        "out": (1288490189, 0, 17),
        "clamp_min": -128,
        "clamp_max": 100,
    }
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    _check("add", [a.astype(np.int8), b.astype(np.int8)], [], attrs)


@pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("include", [False, True])
def test_pools(op: str, layout: str, include: bool, rng: np.random.Generator) -> None:
    shape = (2, 7, 8, 3) if layout == "NHWC" else (2, 3, 7, 8)
    attrs = {
        "kernel": (3, 2),
        "strides": (2, 2),
        "pads": (1, 0, 2, 1),
        "layout": layout,
        "mode": "litert",
        "count_include_pad": include,
        "clamp_min": -90,
        "clamp_max": 110,
    }
    _check(op, [_int8(rng, shape)], [], attrs, layout)


def test_clip(rng: np.random.Generator) -> None:
    _check("clip", [_int8(rng, (4, 50))], [], {"min": -7, "max": 60})


def test_operators_that_the_host_lacks_are_named() -> None:
    type_ = TensorType((1,), "int8", QUANT)
    tensors = {n: Tensor(n, type_) for n in "xy"}
    node = Node("strange", "fft", ("x",), ("y",))
    graph = Graph("g", ("x",), ("y",), tensors, (node,))
    with pytest.raises(LoweringError, match="node 'strange': the host has no operator 'fft'"):
        host.lower_host_node(graph, node, "f")
    wrong = Node("soft", "softmax", ("x",), ("y",), {"mode": "float"})
    with pytest.raises(LoweringError, match="no softmax of mode 'float'"):
        host.lower_host_node(graph, wrong, "f")
