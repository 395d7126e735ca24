"""Random applications of every operator that the host can do, and three ways to compute them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.kernels import ROUNDINGS
from compiler.graph.numerics import quantize_multiplier
from compiler.graph.ops import OPS
from compiler.graph.softmax import exp_table, float_exp_table
from compiler.topi.host import lower_host_node
from compiler.topi.host_kernel import HostKernel, describe_attrs
from runtime.host_numpy import HostNumpy
from runtime.package import HostCall, TensorInfo

Array = np.ndarray[Any, Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One node `y = op(inputs, constants)`; `kernel` is its compiled form's loop IR."""

    graph: Graph
    node: Node
    inputs: tuple[Array, ...]
    kernel: HostKernel

    def __str__(self) -> str:
        return str(self.graph)

    @property
    def out(self) -> TensorType:
        """The result's type."""
        return self.graph.type_of("y")

    def reference(self) -> Array:
        """What the graph's reference gives."""
        reference = OPS[self.node.op].reference
        assert reference is not None
        values = [*self.inputs, *self.constants()]
        types = [self.graph.type_of(name) for name in self.node.inputs]
        with np.errstate(all="ignore"):
            return reference(values, types, self.out, self.node.attrs)

    def constants(self) -> list[Array]:
        """Constant operands of the node."""
        tensors = (self.graph.tensors[name] for name in self.node.inputs)
        return [tensor.data for tensor in tensors if tensor.data is not None]

    def in_numpy(self) -> Array:
        """What the runtime's numpy form gives, described as it is in a package."""
        call = HostCall(
            self.kernel.func.name,
            (*self.graph.inputs, *self.kernel.constants),
            ("y",),
            self.node.op,
            describe_attrs(self.node.attrs),
        )
        names = [*self.graph.inputs, "y"]
        tensors = {name: tensor_info(name, self.graph.type_of(name)) for name in names}
        made = np.zeros(self.out.shape, self.out.dtype)
        host = HostNumpy([call], tensors)
        host.call(call, [*self.inputs, *self.kernel.constants.values(), made])
        return made


def tensor_info(name: str, type_: TensorType) -> TensorInfo:
    """A tensor of the host as a package describes it."""
    quant = type_.quant
    return TensorInfo(
        name=name,
        dtype=type_.dtype,
        shape=type_.shape,
        scale=tuple(map(float, quant.scale)) if quant else (),
        zero_point=tuple(map(int, quant.zero_point)) if quant else (),
        layout=type_.layout,
    )


def random_case(op: str, rng: Rng, name: str = "f") -> Case:
    """A small random application of `op`; its function is called `name`."""
    return _CASES[op](op, rng, name)


def _case(
    op: str,
    name: str,
    inputs: Sequence[tuple[Array, Quant | None]],
    constants: Sequence[Array],
    attrs: Mapping[str, Any],
    out_quant: Quant | None = None,
    layout: str = "",
) -> Case:
    types = [TensorType(x.shape, str(x.dtype), quant, layout) for x, quant in inputs]
    fixed = [TensorType(c.shape, str(c.dtype)) for c in constants]
    shape, dtype = OPS[op].infer([*types, *fixed], attrs)
    names = [f"t{i}" for i in range(len(types) + len(fixed))]
    data = [*[None] * len(types), *constants]
    tensors = {
        n: Tensor(n, t, d) for n, t, d in zip(names, [*types, *fixed], data, strict=True)
    }  # fmt: skip
    tensors["y"] = Tensor("y", TensorType(shape, dtype, out_quant, layout))
    node = Node("node", op, tuple(names), ("y",), attrs)
    graph = Graph("g", tuple(names[: len(types)]), ("y",), tensors, (node,))
    arrays = tuple(x for x, _ in inputs)
    return Case(graph, node, arrays, lower_host_node(graph, node, name))


def _int8(rng: Rng, shape: Sequence[int]) -> Array:
    edge = rng.choice(np.array([-128, 127], np.int8), shape)
    return np.where(rng.random(shape) < 0.1, edge, rng.integers(-128, 128, shape, np.int8))


def _int32(rng: Rng, shape: Sequence[int]) -> Array:
    values = rng.integers(-(1 << 31), 1 << 31, shape) >> rng.integers(0, 31, shape)
    return values.astype(np.int32)


def _quant(rng: Rng) -> Quant:
    zero_point = int(rng.choice([-128, 127, 0, int(rng.integers(-128, 128))]))
    return Quant.per_tensor(float(2.0 ** rng.uniform(-12, 3)), zero_point)


def _shape(rng: Rng, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return tuple(int(v) for v in rng.integers(1, 7, rng.integers(least, most + 1)))


def _clamps(rng: Rng) -> dict[str, int]:
    low, high = sorted(int(v) for v in rng.integers(-128, 128, 2))
    return {"clamp_min": low, "clamp_max": high}


def _image(rng: Rng, channels: int) -> tuple[Array, str, tuple[int, int]]:
    n, h, w = (int(v) for v in rng.integers(1, 9, 3))
    layout = str(rng.choice(["NHWC", "NCHW"]))
    shape = (n, h, w, channels) if layout == "NHWC" else (n, channels, h, w)
    return _int8(rng, shape), layout, (h, w)


def _window(rng: Rng, size: tuple[int, int], dilate: bool) -> dict[str, Any]:
    kernel, pads, strides, dilation = [0, 0], [0] * 4, [0, 0], [1, 1]
    for axis, extent in enumerate(size):
        pads[axis], pads[axis + 2] = (int(v) for v in rng.integers(0, 3, 2))
        room = extent + pads[axis] + pads[axis + 2]
        dilation[axis] = int(rng.integers(1, 3)) if dilate else 1
        kernel[axis] = int(rng.integers(1, min(4, (room - 1) // dilation[axis] + 1) + 1))
        strides[axis] = int(rng.integers(1, 4))
        if not dilate:
            # A window that sees padding alone has no mean.
            for at in (axis, axis + 2):
                pads[at] = min(pads[at], kernel[axis] - 1)
    return {
        "kernel": tuple(kernel),
        "pads": tuple(pads),
        "strides": tuple(strides),
        "dilation": tuple(dilation),
    }


def _quantize(op: str, rng: Rng, name: str) -> Case:
    quant, shape = _quant(rng), _shape(rng)
    scale = float(quant.scale[0])
    ties = (rng.integers(-300, 300, shape) + 0.5) * scale
    special = rng.choice([np.nan, np.inf, -np.inf, -0.0, 3e38, 1e-45, -(2.0**31)], shape)
    x = np.where(rng.random(shape) < 0.3, ties, rng.normal(0, 100 * scale, shape))
    x = np.where(rng.random(shape) < 0.1, special, x).astype(np.float32)
    attrs = {"rounding": str(rng.choice(ROUNDINGS))}
    return _case(op, name, [(x, None)], [], attrs, quant)


def _dequantize(op: str, rng: Rng, name: str) -> Case:
    return _case(op, name, [(_int8(rng, _shape(rng)), _quant(rng))], [], {})


def _reshape(op: str, rng: Rng, name: str) -> Case:
    x, quant = _int8(rng, _shape(rng)), _quant(rng)
    last = int(rng.choice([n for n in range(1, x.size + 1) if x.size % n == 0]))
    return _case(op, name, [(x, quant)], [], {"shape": (x.size // last, last)}, quant)


def _softmax(op: str, rng: Rng, name: str) -> Case:
    scale = float(rng.choice([0.001, 0.05, 0.3, 2.0]))
    x = _int8(rng, (*_shape(rng, 0, 2), int(rng.integers(1, 40))))
    mode, make = [("litert", exp_table), ("table", float_exp_table)][rng.integers(2)]
    attrs = {"mode": mode, "beta": 1.0, "table": make(np.float32(scale), 1.0)}
    quants = Quant.per_tensor(scale, 3), Quant.per_tensor(1 / 256, -128)
    return _case(op, name, [(x, quants[0])], [], attrs, quants[1])


def _softmax_float(op: str, rng: Rng, name: str) -> Case:
    shape = (*_shape(rng, 0, 2), int(rng.integers(1, 40)))
    x = rng.normal(0, 10.0 ** rng.uniform(-2, 3), shape).astype(np.float32)
    return _case(op, name, [(x, None)], [], {})


def _conv2d(op: str, rng: Rng, name: str) -> Case:
    groups, deep, wide = (int(v) for v in rng.integers(1, 4, 3))
    x, layout, size = _image(rng, groups * deep)
    attrs = _window(rng, size, dilate=True)
    w = _int8(rng, (groups * wide, deep, *attrs.pop("kernel")))
    attrs |= {"groups": groups, "layout": layout}
    constants = [w, _int32(rng, (groups * wide,))]
    return _case(op, name, [(x, _quant(rng))], constants, attrs, None, layout)


def _dense(op: str, rng: Rng, name: str) -> Case:
    n, k, o = (int(v) for v in rng.integers(1, 20, 3))
    constants = [_int8(rng, (o, k)), _int32(rng, (o,))]
    return _case(op, name, [(_int8(rng, (n, k)), _quant(rng))], constants, {})


def _requantize(op: str, rng: Rng, name: str) -> Case:
    layout = str(rng.choice(["NHWC", "NCHW", "NC"]))
    x = _int32(rng, tuple(int(v) for v in rng.integers(1, 6, len(layout))))
    count = x.shape[layout.index("C")] if rng.random() < 0.6 else 1
    return _case(op, name, [(x, None)], [], _scaling(rng, count), _quant(rng), layout)


def _rescale(op: str, rng: Rng, name: str) -> Case:
    quants = _quant(rng), _quant(rng)
    attrs = {**_scaling(rng, 1), "in_zero_point": int(quants[0].zero_point[0])}
    return _case(op, name, [(_int8(rng, _shape(rng)), quants[0])], [], attrs, quants[1])


def _scaling(rng: Rng, count: int) -> dict[str, Any]:
    """The attributes of a requantisation with so many parameters."""
    mode = str(rng.choice(["double", "single", "float"]))
    multiplier = rng.integers(1 << 30, 1 << 31, count).astype(np.int32)
    attrs = {
        "mode": mode,
        "multiplier": multiplier,
        "left": rng.integers(0, 8, count).astype(np.int32),
        "right": rng.integers(0, 32, count).astype(np.int32),
        "zero_point": int(rng.integers(-128, 128)),
        **_clamps(rng),
    }
    if mode == "float":
        zero = np.zeros(count, np.int32)
        scale = (2.0 ** rng.uniform(-25, 2, count)).astype(np.float32)
        attrs |= {"multiplier": scale, "left": zero, "right": zero}
    return attrs


def _add(op: str, rng: Rng, name: str) -> Case:
    shape = _shape(rng)
    attrs = {
        "mode": "double",
        "left_shift": 20,
        "lhs": quantize_multiplier(float(rng.uniform(0.01, 1))),
        "rhs": quantize_multiplier(float(rng.uniform(0.01, 1))),
        "out": quantize_multiplier(float(2.0 ** rng.uniform(-22, -15))),
        **_clamps(rng),
    }
    if rng.random() < 0.5:
        low, high = (int(v) for v in rng.integers(1 << 10, 1 << 21, 2))
        attrs = {
            "mode": "linear",
            "lhs_multiplier": low,
            "rhs_multiplier": high,
            "bias": int(rng.integers(-(1 << 29), 1 << 29)),
            "shift": int(rng.choice([0, 1, *range(13, 26)])),
            "zero_point": int(rng.integers(-128, 128)),
            **_clamps(rng),
        }
    operands = [(_int8(rng, shape), _quant(rng)) for _ in range(2)]
    return _case(op, name, operands, [], attrs, _quant(rng))


def _clip(op: str, rng: Rng, name: str) -> Case:
    low, high = sorted(int(v) for v in rng.integers(-128, 128, 2))
    quant = _quant(rng)
    return _case(op, name, [(_int8(rng, _shape(rng)), quant)], [], {"min": low, "max": high}, quant)


def _pool(op: str, rng: Rng, name: str) -> Case:
    x, layout, size = _image(rng, int(rng.integers(1, 5)))
    attrs = _window(rng, size, dilate=False)
    attrs.pop("dilation")
    include = bool(rng.integers(2))
    attrs |= {"layout": layout, "mode": "litert", "count_include_pad": include, **_clamps(rng)}
    quant = _quant(rng)
    if op == "avg_pool2d":
        attrs |= _averaging(rng, int(quant.zero_point[0]))
    return _case(op, name, [(x, quant)], [], attrs, quant, layout)


def _averaging(rng: Rng, zero_point: int) -> dict[str, Any]:
    """One of the ways to round an average."""
    attrs = {"in_zero_point": zero_point, "out_zero_point": int(rng.integers(-128, 128))}
    scale = float(rng.uniform(0.1, 3))
    match rng.integers(4):
        case 0:
            return {"mode": "litert"}
        case 1:
            return {"mode": "requant", "scale": scale, **attrs}
        case 2:
            parts = zip(
                ("multiplier", "left", "right"), quantize_multiplier(scale / 9), strict=True
            )
            return {"mode": "double", **{k: np.array([v], np.int32) for k, v in parts}, **attrs}
    offset = np.float32(rng.normal(0, 30))
    return {"mode": "linear", "scale": np.float32(scale / 9), "offset": offset}


def _pad(op: str, rng: Rng, name: str) -> Case:
    x, layout, _ = _image(rng, int(rng.integers(1, 5)))
    pads = tuple(int(v) for v in rng.integers(0, 4, 4))
    attrs = {"pads": pads, "value": int(rng.integers(-128, 128)), "layout": layout}
    quant = _quant(rng)
    return _case(op, name, [(x, quant)], [], attrs, quant, layout)


def _unfold(op: str, rng: Rng, name: str) -> Case:
    x, layout, _ = _image(rng, int(rng.integers(1, 5)))
    kernel, strides, size = (tuple(int(v) for v in rng.integers(1, 5, 2)) for _ in range(3))
    before = tuple(int(v) for v in rng.integers(0, 3, 2))
    shape = {"kernel": kernel, "strides": strides, "before": before, "size": size}
    attrs = {**shape, "value": int(rng.integers(-128, 128)), "layout": layout}
    quant = _quant(rng)
    return _case(op, name, [(x, quant)], [], attrs, quant, layout)


def _concat(op: str, rng: Rng, name: str) -> Case:
    shape, quant = list(_shape(rng)), _quant(rng)
    axis = int(rng.integers(len(shape)))
    parts = []
    for _ in range(rng.integers(1, 5)):
        shape[axis] = int(rng.integers(1, 6))
        parts.append((_int8(rng, shape), quant))
    return _case(op, name, parts, [], {"axis": axis}, quant)


_CASES: Mapping[str, Callable[[str, Rng, str], Case]] = {
    "quantize": _quantize,
    "dequantize": _dequantize,
    "reshape": _reshape,
    "softmax": _softmax,
    "softmax_float": _softmax_float,
    "rescale": _rescale,
    "pad": _pad,
    "unfold": _unfold,
    "concat": _concat,
    "conv2d": _conv2d,
    "dense": _dense,
    "requantize": _requantize,
    "add": _add,
    "clip": _clip,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
}
CASE_OPS = tuple(_CASES)
"""Operators that `random_case` knows."""
