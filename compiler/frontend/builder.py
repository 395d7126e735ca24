"""What the importers share: a graph under construction, and the list of what is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler.errors import FrontendError, GraphError
from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.graph.ops import OPS

Array = np.ndarray[Any, Any]

UINT8_SHIFT = 128
MAX_TENSOR_BYTES = 1 << 31
_BIAS_SCALE_ERROR = 1e-2


class Unsupported(FrontendError):
    """Why one operator of a model cannot be imported; collected, then reported with all others."""


class GraphBuilder:
    """Collects a graph. `file` is the model's path as the user gave it, for messages."""

    def __init__(self, file: str, source_format: str) -> None:
        self.file = file
        self.source_format = source_format
        self._tensors: dict[str, Tensor] = {}
        self._nodes: list[Node] = []
        self._unsupported: list[str] = []

    def error(self, text: str) -> FrontendError:
        """An error about the file as a whole, on one line whatever names the file has."""
        return FrontendError(f"model {self.file!r}: {' '.join(text.split())}")

    def miss(self, operator: str, reason: str) -> None:
        """Note an operator that cannot be imported; `finish` reports all of them."""
        self._unsupported.append(f"{operator}: {reason}")

    def declare(self, name: str, type_: TensorType) -> str:
        """Make a tensor known. Declaring it again with the same type changes nothing."""
        known = self._tensors.get(name)
        if known is None:
            if math.prod(type_.shape) * np.dtype(type_.dtype).itemsize > MAX_TENSOR_BYTES:
                raise Unsupported(
                    f"tensor {name!r} of shape {type_.shape} is above {MAX_TENSOR_BYTES} bytes"
                )
            self._tensors[name] = Tensor(name, type_)
        return name

    def type_of(self, name: str) -> TensorType:
        """Type of a declared tensor."""
        return self._tensors[name].type

    def data_of(self, name: str) -> Array:
        """The value of a constant."""
        data = self._tensors[name].data
        assert data is not None, f"{name!r} is a constant"
        return data

    def set_quant(self, name: str, quant: Quant) -> None:
        """Complete the type of a tensor that was declared without quantisation."""
        tensor = self._tensors[name]
        self._tensors[name] = replace(tensor, type=replace(tensor.type, quant=quant))

    def share_quant(self, ops: Collection[str]) -> None:
        """Give operand and result of these operators, which keep values, what only one has."""
        for nodes in (self._nodes[::-1], self._nodes):
            for node in nodes:
                if node.op in ops:
                    self._share(node.inputs[0], node.outputs[0])

    def _share(self, a: str, b: str) -> None:
        for known, other in ((a, b), (b, a)):
            quant, bare = self.type_of(known).quant, self.type_of(other)
            if quant is not None and bare.quant is None and bare.dtype == "int8":
                self.set_quant(other, quant)

    def refuse_unquantised(self, ops: Collection[str]) -> None:
        """Note these operators as missing where their int8 operand is not quantised."""
        imported = []
        for node in self._nodes:
            type_ = self.type_of(node.inputs[0])
            if node.op in ops and type_.dtype == "int8" and type_.quant is None:
                self.miss(
                    node.source,
                    f"its operand {node.inputs[0]!r} is not quantised; quantise the model in full",
                )
            else:
                imported.append(node)
        self._nodes = imported

    def infer_shape(
        self, op: str, inputs: Sequence[str], attrs: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """Shape of an operator's result, by its rule."""
        try:
            return OPS[op].infer([self.type_of(name) for name in inputs], attrs)[0]
        except GraphError as error:
            raise Unsupported(str(error)) from None

    def constant(self, name: str, data: Array, quant: Quant | None = None, layout: str = "") -> str:
        """Add a constant; a name that holds something else already gets a suffix."""
        data = np.array(data, data.dtype.newbyteorder("="), order="C")
        type_ = TensorType(data.shape, data.dtype.name, quant, layout)
        unique, serial = name, 0
        while unique in self._tensors:
            known = self._tensors[unique].data
            if known is not None and np.array_equal(known, data):
                return unique
            serial += 1
            unique = f"{name}:{serial}"
        self._tensors[unique] = Tensor(unique, type_, data)
        return unique

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        output: str,
        attrs: Mapping[str, Any] | None = None,
        source: str = "",
    ) -> None:
        """Add a node that writes the declared tensor `output`, whose type must follow the rule."""
        attrs = attrs or {}
        try:
            shape, dtype = OPS[op].infer([self.type_of(name) for name in inputs], attrs)
        except GraphError as error:
            raise Unsupported(str(error)) from None
        declared = self.type_of(output)
        if (declared.shape, declared.dtype) != (shape, dtype):
            raise Unsupported(
                f"it gives {dtype} of shape {shape}, but the file declares {declared.dtype} of "
                f"shape {declared.shape} for {output!r}"
            )
        self._nodes.append(Node(output, op, tuple(inputs), (output,), attrs, source))

    def finish(self, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        """The graph, or one FrontendError that lists every operator without support."""
        if self._unsupported:
            count = len(self._unsupported)
            raise self.error(
                f"{count} operator{'s' if count > 1 else ''} cannot be imported - "
                f"{'; '.join(self._unsupported)} - change the network or how it is exported"
                f"{self._rest()}"
            )
        try:
            graph = Graph(
                Path(self.file).stem,
                tuple(inputs),
                tuple(outputs),
                dict(self._tensors),
                tuple(self._nodes),
                self.source_format,
            )
        except GraphError as error:
            raise self.error(f"{error}; export the file again") from None
        return graph.with_nodes(graph.nodes)

    def _rest(self) -> str:
        """Where the operators that could be imported would run, as the end of a sentence."""
        # Loaded only for this: importing a model needs no code generator.
        from compiler.topi.select import VTA_OPS

        counts = Counter(node.op.removeprefix("qnn.") for node in self._nodes)
        counts["avg_pool2d"] += counts.pop("mean", 0)
        places = {"VTA": "", "the host": ""}
        for op, count in sorted((+counts).items()):
            place = "VTA" if op in VTA_OPS else "the host"
            places[place] += f"{', ' if places[place] else ''}{count} {op}"
        told = [f"{ops} on {place}" for place, ops in places.items() if ops]
        return f"; what could be imported would run as {' and '.join(told)}" if told else ""


def image_layout(shape: Sequence[int], image: str) -> str:
    """Names of the axes: `image` for four, "NC" for two, else none."""
    return {4: image, 2: "NC"}.get(len(shape), "")


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Padding before and after that gives ceil(size / stride) outputs, the odd one after."""
    if min(size, kernel, stride, dilation) < 1:
        raise Unsupported(
            f"size, kernel, stride and dilation must be positive, not {size}, {kernel}, {stride} "
            f"and {dilation}"
        )
    span = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def check_bias_scale(bias: Quant | None, x: Quant, weights: Quant) -> None:
    """Refuse a bias whose scale is not input scale times weight scale: its integers would lie."""
    if bias is None:
        return
    expected = x.scale[0].astype(np.float64) * weights.scale.astype(np.float64)
    if bias.scale.size not in (1, expected.size):
        raise Unsupported(f"its bias has {bias.scale.size} scales for {expected.size} channels")
    error = np.abs(bias.scale / expected - 1)
    if error.max() > _BIAS_SCALE_ERROR:
        worst = int(error.argmax())
        have = bias.scale[worst if bias.scale.size > 1 else 0]
        raise Unsupported(
            f"its bias scale {float(have):.6g} of channel {worst} is not input scale x weight "
            f"scale, {float(expected[worst]):.6g}; quantise the model again"
        )
    if np.any(bias.zero_point):
        raise Unsupported(
            f"its bias zero points must be 0, not up to {int(np.abs(bias.zero_point).max())}"
        )


def check_same_quant(x: Quant | None, out: Quant | None, what: str) -> None:
    """Refuse a change of quantisation across an operator that only moves values."""
    if x is None and out is None:
        return
    if x is None or out is None or str(x) != str(out):
        raise Unsupported(f"{what} must keep the quantisation {x}, not change it to {out}")
