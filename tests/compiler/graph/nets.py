"""Small graphs in core operators, built by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.numerics import Multiplier
from compiler.graph.ops import OPS

LAYOUTS = {4: "NHWC", 2: "NC"}
BOUNDS: dict[str, Any] = {"clamp_min": -128, "clamp_max": 127}
QUANT = Quant.per_tensor(0.1, 3)


class NetBuilder:
    """Collects nodes; result types follow from the operators' rules."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def input(self, name: str, shape: tuple[int, ...], layout: str = "") -> str:
        """An int8 graph input."""
        layout = layout or LAYOUTS.get(len(shape), "")
        self.tensors[name] = Tensor(name, TensorType(shape, "int8", QUANT, layout))
        self.inputs.append(name)
        return name

    def const(self, name: str, data: np.ndarray[Any, Any], quant: Quant | None = None) -> str:
        """A constant."""
        type_ = TensorType(data.shape, data.dtype.name, quant, LAYOUTS.get(data.ndim, ""))
        self.tensors[name] = Tensor(name, type_, data)
        return name

    def node(self, op: str, inputs: Sequence[str], name: str, **attrs: Any) -> str:
        """A node writing the tensor `name`."""
        types = [self.tensors[i].type for i in inputs]
        shape, dtype = OPS[op].infer(types, attrs)
        layout = types[0].layout if len(shape) == 4 else LAYOUTS.get(len(shape), "")
        quant = QUANT if dtype == "int8" else None
        self.tensors[name] = Tensor(name, TensorType(shape, dtype, quant, layout))
        self.nodes.append(Node(name, op, tuple(inputs), (name,), attrs))
        return name

    def conv(
        self, x: str, name: str, channels: int, kernel: int = 3, strides: tuple[int, int] = (1, 1)
    ) -> str:
        """conv2d with random weights, same padding, and its requantisation."""
        type_ = self.tensors[x].type
        depth = type_.shape[3 if type_.layout == "NHWC" else 1]
        w = self.rng.integers(-127, 128, (channels, depth, kernel, kernel)).astype(np.int8)
        b = self.rng.integers(-9999, 9999, channels).astype(np.int32)
        inputs = [x, self.const(f"{name}_w", w), self.const(f"{name}_b", b)]
        attrs: dict[str, Any] = {
            "strides": strides,
            "pads": (kernel // 2,) * 4,
            "dilation": (1, 1),
            "groups": 1,
        }
        self.node("conv2d", inputs, f"{name}:acc", **attrs)
        return self.requantize(f"{name}:acc", name)

    def dense(self, x: str, name: str, width: int) -> str:
        """dense with random weights and its requantisation."""
        depth = self.tensors[x].type.shape[1]
        w = self.rng.integers(-127, 128, (width, depth)).astype(np.int8)
        b = self.rng.integers(-9999, 9999, width).astype(np.int32)
        inputs = [x, self.const(f"{name}_w", w), self.const(f"{name}_b", b)]
        self.node("dense", inputs, f"{name}:acc")
        return self.requantize(f"{name}:acc", name)

    def requantize(self, acc: str, name: str) -> str:
        """Requantisation to int8."""
        scale: dict[str, Any] = {"multiplier": np.array([2**30 + 12345], np.int32)}
        shifts: dict[str, Any] = {"left": np.zeros(1, np.int32), "right": np.full(1, 8, np.int32)}
        return self.node(
            "requantize", [acc], name, mode="double", **scale, **shifts, zero_point=3, **BOUNDS
        )

    def add(self, a: str, b: str, name: str) -> str:
        """Addition."""
        one = Multiplier(2**30, 0, 0)
        out = Multiplier(2**30, 0, 18)
        return self.node(
            "add", [a, b], name, mode="double", left_shift=20, lhs=one, rhs=one, out=out, **BOUNDS
        )

    def pool(self, x: str, name: str, op: str = "max_pool2d") -> str:
        """2x2 pooling."""
        return self.node(
            op, [x], name, kernel=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0), mode="litert",
            count_include_pad=False, **BOUNDS,
        )  # fmt: skip

    def rescale(self, x: str, name: str) -> str:
        """Another scale."""
        shifts: dict[str, Any] = {"left": np.zeros(1, np.int32), "right": np.zeros(1, np.int32)}
        return self.node(
            "rescale", [x], name, mode="double", multiplier=np.array([2**30], np.int32), **shifts,
            in_zero_point=3, zero_point=3, **BOUNDS,
        )  # fmt: skip

    def pad(self, x: str, name: str, pads: tuple[int, ...], value: int) -> str:
        """A border."""
        layout = self.tensors[x].type.layout
        return self.node("pad", [x], name, pads=pads, value=value, layout=layout)

    def clip(self, x: str, name: str) -> str:
        """Clip to the quantised range 0 .. 100."""
        return self.node("clip", [x], name, min=0, max=100)

    def reshape(self, x: str, name: str, shape: tuple[int, ...]) -> str:
        """Reshape."""
        return self.node("reshape", [x], name, shape=shape)

    def graph(self, *outputs: str) -> Graph:
        """The graph."""
        return Graph("net", tuple(self.inputs), outputs, self.tensors, tuple(self.nodes))
