"""Random networks of core operators, as `compiler.graph.lower_qnn` produces them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.numerics import quantize_multiplier
from compiler.graph.ops import OPS
from compiler.graph.softmax import exp_table

FULL = (-128, 127)
Clamp = tuple[int, int]


class CoreNet:
    """Collects nodes; data is drawn from `rng`, result types follow from the operators' rules.

    Images have the axes of `layout`; shapes given to `image` are always (N, C, H, W).
    """

    def __init__(self, rng: np.random.Generator, layout: str = "NHWC") -> None:
        self.rng = rng
        self.layout = layout
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    # -- tensors -----------------------------------------------------------------------------------

    def image(self, shape: Sequence[int], zero_point: int = 0, scale: float = 0.05) -> str:
        """An int8 graph input of shape (N, C, H, W)."""
        n, c, h, w = shape
        return self._input(
            (n, h, w, c) if self.layout == "NHWC" else (n, c, h, w), zero_point, scale
        )

    def matrix(self, shape: Sequence[int], zero_point: int = 0, scale: float = 0.05) -> str:
        """An int8 graph input of shape (N, C)."""
        return self._input(tuple(shape), zero_point, scale)

    def extents(self, name: str) -> tuple[int, int, int, int]:
        """(N, C, H, W) of an image, or of a matrix taken as one."""
        type_ = self.tensors[name].type
        sizes = dict(zip(type_.layout, type_.shape, strict=True))
        return sizes["N"], sizes["C"], sizes.get("H", 1), sizes.get("W", 1)

    def _input(self, shape: tuple[int, ...], zero_point: int, scale: float) -> str:
        name = f"in{len(self.inputs)}"
        quant = Quant.per_tensor(scale, zero_point)
        self.tensors[name] = Tensor(name, TensorType(shape, "int8", quant, self._axes(shape)))
        self.inputs.append(name)
        return name

    def _axes(self, shape: tuple[int, ...]) -> str:
        return {4: self.layout, 2: "NC"}.get(len(shape), "")

    def _constant(self, name: str, data: np.ndarray[Any, Any]) -> str:
        self.tensors[name] = Tensor(name, TensorType(data.shape, data.dtype.name), data)
        return name

    def node(
        self, op: str, inputs: Sequence[str], quant: tuple[float, int] | None = None, **attrs: Any
    ) -> str:
        """Append a node; `quant` is (scale, zero point) of its result."""
        name = f"t{len(self.nodes)}_{op}"
        types = [self.tensors[i].type for i in inputs]
        shape, dtype = OPS[op].infer(types, attrs)
        given = None if quant is None else Quant.per_tensor(*quant)
        self.tensors[name] = Tensor(name, TensorType(shape, dtype, given, self._axes(shape)))
        self.nodes.append(Node(name, op, tuple(inputs), (name,), attrs))
        return name

    # -- operators ---------------------------------------------------------------------------------

    def conv(
        self,
        x: str,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        groups: int = 1,
        zero_point: int = 0,
        **requant: Any,
    ) -> str:
        """conv2d with random weights, then `requantize`; pads are (top, left, bottom, right)."""
        depth = self.extents(x)[1]
        weights = self._weights((channels, depth // groups, *kernel))
        attrs: dict[str, Any] = {
            "strides": strides,
            "pads": pads,
            "dilation": (1, 1),
            "groups": groups,
            "layout": self.layout,
        }
        acc = self.node("conv2d", [x, weights, self._bias(channels)], **attrs)
        return self.requantize(acc, channels, depth * kernel[0] * kernel[1], zero_point, **requant)

    def dense(self, x: str, width: int, zero_point: int = 0, **requant: Any) -> str:
        """dense with random weights, then `requantize`."""
        depth = self.tensors[x].type.shape[1]
        weights = self._weights((width, depth))
        acc = self.node("dense", [x, weights, self._bias(width)])
        return self.requantize(acc, width, depth, zero_point, **requant)

    def _weights(self, shape: tuple[int, ...]) -> str:
        kind = self.rng.integers(4)
        if kind == 0:  # extremes: the largest sums there are
            data = self.rng.choice(np.array([-128, 127], np.int8), shape)
        else:
            data = self.rng.integers(-128, 128, shape, np.int8)
        return self._constant(f"w{len(self.nodes)}", data)

    def _bias(self, channels: int) -> str:
        reach = int(self.rng.choice([1, 2_000, 100_000, 1 << 31], p=[0.3, 0.4, 0.25, 0.05]))
        data = self.rng.integers(-reach, reach, channels)
        if reach == 1 << 31:  # sums wrap around
            data = np.where(self.rng.random(channels) < 0.5, np.sign(data) * (reach - 2), data)
        return self._constant(f"b{len(self.nodes)}", data.astype(np.int32))

    def requantize(
        self,
        acc: str,
        channels: int,
        terms: int,
        zero_point: int,
        mode: str = "double",
        per_channel: bool = False,
        shift_left: bool = False,
        power_of_two: bool = False,
        clamp: Clamp = FULL,
    ) -> str:
        """Requantisation whose scale suits sums of `terms` products, or is far too high."""
        count = channels if per_channel else 1
        factors = self.rng.uniform(0.2, 3.0, count) / (40.0 * np.sqrt(terms))
        if shift_left:
            factors *= 2.0 ** self.rng.integers(6, 20, count)
        if power_of_two:
            factors = np.exp2(np.rint(np.log2(factors)))
        parts = [quantize_multiplier(float(f)) for f in factors]
        if mode == "float":
            scales: dict[str, Any] = {
                "multiplier": factors.astype(np.float32),
                "left": np.zeros(count, np.int32),
                "right": np.zeros(count, np.int32),
            }
        else:
            scales = {
                key: np.array([getattr(p, key) for p in parts], np.int32)
                for key in ("multiplier", "left", "right")
            }
        low, high = clamp
        bounds = {"clamp_min": low, "clamp_max": high}
        return self.node(
            "requantize",
            [acc],
            (0.05, zero_point),
            mode=mode,
            **scales,
            zero_point=zero_point,
            **bounds,
        )

    def add(
        self, a: str, b: str, scale: float = 0.05, zero_point: int = 0, clamp: Clamp = FULL
    ) -> str:
        """Quantised addition by LiteRT's rule."""
        quants = [self.tensors[name].type.quant for name in (a, b)]
        lhs, rhs = (float(q.scale[0]) for q in quants if q is not None)
        double = 2.0 * max(lhs, rhs)
        low, high = clamp
        return self.node(
            "add",
            [a, b],
            (scale, zero_point),
            mode="double",
            left_shift=20,
            lhs=quantize_multiplier(lhs / double),
            rhs=quantize_multiplier(rhs / double),
            out=quantize_multiplier(double / ((1 << 20) * scale)),
            clamp_min=low,
            clamp_max=high,
        )

    def clip(self, x: str, low: int, high: int) -> str:
        """clip, of one quantisation on both sides."""
        return self.node("clip", [x], self.quant_of(x), min=low, max=high)

    def pool(
        self,
        x: str,
        op: str,
        kernel: tuple[int, int] = (2, 2),
        strides: tuple[int, int] = (2, 2),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        count_include_pad: bool = False,
        clamp: Clamp = FULL,
    ) -> str:
        """max_pool2d or avg_pool2d."""
        attrs: dict[str, Any] = {"kernel": kernel, "strides": strides, "pads": pads}
        attrs |= {"layout": self.layout, "clamp_min": clamp[0], "clamp_max": clamp[1]}
        if op == "avg_pool2d":
            attrs |= {"mode": "litert", "count_include_pad": count_include_pad}
        return self.node(op, [x], self.quant_of(x), **attrs)

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """The same elements under another shape."""
        return self.node("reshape", [x], self.quant_of(x), shape=shape)

    def softmax(self, x: str) -> str:
        """LiteRT's softmax along the last axis."""
        scale, _ = self.quant_of(x)
        table = exp_table(np.float32(scale), 1.0)
        return self.node("softmax", [x], (1 / 256, -128), mode="litert", beta=1.0, table=table)

    def through_float(self, x: str, scale: float, zero_point: int) -> str:
        """dequantize and quantize again: work for the host in the middle of a network."""
        real = self.node("dequantize", [x])
        return self.node("quantize", [real], (scale, zero_point), rounding="away")

    def quant_of(self, x: str) -> tuple[float, int]:
        """(scale, zero point) of a tensor."""
        quant = self.tensors[x].type.quant
        assert quant is not None
        return float(quant.scale[0]), int(quant.zero_point[0])

    def graph(self, *outputs: str) -> Graph:
        """The network."""
        return Graph("net", tuple(self.inputs), outputs, self.tensors, tuple(self.nodes))
