"""Box copies with known positions -> LOAD and STORE instructions.

A LOAD writes rows contiguously into its scratchpad, a STORE reads them so; DRAM rows lie x_stride
apart. Axes that are contiguous on both sides are merged first; what is left beyond two axes becomes
several instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from compiler.errors import LoweringError
from compiler.loop.nodes import Copy
from compiler.loop.scopes import Place, element_shape
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import PAD_MAX, SIZE_MAX, Instruction, Load, Store, altered


@dataclass(frozen=True)
class _Axis:
    """One axis of a transfer, in elements: steps on both sides, padding at both ends."""

    extent: int
    sram_step: int
    dram_step: int
    low: int = 0
    high: int = 0

    @property
    def total(self) -> int:
        return self.low + self.extent + self.high

    @property
    def padded(self) -> bool:
        return self.low > 0 or self.high > 0


class Transfer:
    """A copy of a box that can begin anywhere; `place` is that of the scratchpad buffer.

    `operand` is the DRAM buffer that its instructions address.
    """

    def __init__(self, copy: Copy, place: Place, config: VtaConfig) -> None:
        self._copy, self._config, self._first = copy, config, place.first
        self._is_load = copy.src.buffer.scope == "dram"
        sram, dram = (copy.dst, copy.src) if self._is_load else (copy.src, copy.dst)
        self.operand = dram.buffer
        self._memory = _memory(copy, self._is_load, config)
        self._sram_steps = place.steps(sram.buffer)
        self._dram_steps = Place(0).steps(dram.buffer)
        dram_axis = _dram_axes(copy, self._is_load)
        count = len(self._sram_steps)
        self._extents = sram.extent[:count]
        self._sources = [dram_axis.get(position) for position in range(count)]
        self._shapes: dict[tuple[tuple[int, int], ...], _Rows] = {}

    def instructions(self, dst_begin: Sequence[int], src_begin: Sequence[int]) -> list[Instruction]:
        """Its instructions from known begins; their dram_base counts elements of `operand`."""
        sram_begin, dram_begin = dst_begin, src_begin
        if not self._is_load:
            sram_begin, dram_begin = src_begin, dst_begin
        base, offset = self._first, 0
        for begin, step in zip(sram_begin, self._sram_steps, strict=False):
            base += begin * step
        for begin, step in zip(dram_begin, self._dram_steps, strict=False):
            offset += begin * step
        pads = []
        for whole, source in zip(self._extents, self._sources, strict=True):
            low = high = 0
            if source is not None:
                begin, size = dram_begin[source], self.operand.shape[source]
                if begin < 0:
                    low = min(whole, -begin)
                    offset += low * self._dram_steps[source]
                if begin + whole > size:
                    high = min(whole - low, begin + whole - size)
            pads.append((low, high))
        rows = self._shapes.get(tuple(pads))
        if rows is None:
            rows = self._shapes[tuple(pads)] = self._rows(pads)
        return rows.at(base, offset)

    def _rows(self, pads: Sequence[tuple[int, int]]) -> _Rows:
        """What it does with that much padding at both ends of each axis."""
        axes = [
            _Axis(whole - low - high, step, self._dram_steps[source], low, high)
            if source is not None
            else _Axis(whole, step, 0)
            for whole, step, source, (low, high) in zip(
                self._extents, self._sram_steps, self._sources, pads, strict=True
            )
        ]
        padded = any(axis.padded for axis in axes)
        if not self._is_load and padded:
            raise LoweringError(
                f"DMA of {self._copy.loc!r}: a store would write outside {self.operand.name!r} of "
                f"shape {list(self.operand.shape)}"
            )
        pad_min = _pad_min(self._copy, self._memory, padded, self._config)
        return _Rows(self._copy.loc, self._memory, pad_min, self._is_load, _merge(axes))


def _memory(copy: Copy, is_load: bool, config: VtaConfig) -> MemType:
    """The memory type of a transfer; checks the element axes on the DRAM side."""
    sram, dram = (copy.dst, copy.src) if is_load else (copy.src, copy.dst)
    element = element_shape(sram.buffer.scope, config)
    if dram.buffer.shape[-2:] != element or dram.extent[-2:] != element:
        raise LoweringError(
            f"DMA of {copy.loc!r}: {dram.buffer.name!r} of shape {list(dram.buffer.shape)} must "
            f"end in whole elements {list(element)} of {sram.buffer.scope!r}"
        )
    kinds = {
        ("inp", "int8", True): MemType.INP,
        ("wgt", "int8", True): MemType.WGT,
        ("acc", "int32", True): MemType.ACC,
        ("acc", "int8", True): MemType.ACC_8BIT,
        ("acc", "int8", False): MemType.OUT,
    }
    key = (sram.buffer.scope, dram.buffer.dtype, is_load)
    if key not in kinds:
        verb = "loaded into" if is_load else "stored from"
        raise LoweringError(
            f"DMA of {copy.loc!r}: {dram.buffer.dtype} cannot be {verb} {sram.buffer.scope!r}"
        )
    return kinds[key]


def _dram_axes(copy: Copy, is_load: bool) -> dict[int, int]:
    """SRAM axis -> the DRAM axis that moves along with it."""
    pairs = [(s, d) for s, d in enumerate(copy.axes) if d is not None]
    return {d: s for s, d in pairs} if is_load else dict(pairs)


def _pad_min(copy: Copy, memory: MemType, padded: bool, config: VtaConfig) -> bool:
    if not padded:
        return False
    if copy.pad == 0:
        return False
    least = -(1 << 31) if memory is MemType.ACC else -128
    if copy.pad == least and config.has("pad_min"):
        return True
    raise LoweringError(
        f"DMA of {copy.loc!r} pads with {copy.pad}; config {config.name!r} can pad with 0"
        + (f" or {least}" if config.has("pad_min") else "")
    )


def _merge(axes: Sequence[_Axis]) -> list[_Axis]:
    """Drop axes of one position; merge neighbours that are contiguous on both sides."""
    out: list[_Axis] = []
    for axis in reversed(axes):
        if axis.extent == 1 and not axis.padded:
            continue
        if out:
            inner = out[-1]
            fits = (
                not axis.padded
                and not inner.padded
                and axis.sram_step == inner.extent * inner.sram_step
                and axis.dram_step == inner.extent * inner.dram_step
                and axis.extent * inner.extent <= SIZE_MAX
            )
            if fits:
                out[-1] = replace(inner, extent=axis.extent * inner.extent)
                continue
        out.append(axis)
    return out[::-1]


class _Rows:
    """The instructions of a transfer, wherever it begins: they differ in their bases alone."""

    def __init__(
        self, loc: str, memory: MemType, pad_min: bool, is_load: bool, axes: Sequence[_Axis]
    ) -> None:
        self._loc = loc
        outer = list(axes)
        x = _Axis(1, 1, 1)
        if outer and outer[-1].sram_step == 1 and outer[-1].dram_step == 1:
            x = outer.pop()
        y = _Axis(1, x.total, 0)
        if outer and outer[-1].sram_step == x.total and outer[-1].dram_step <= SIZE_MAX:
            y = outer.pop()
        self._check(x, y, outer)
        self._steps = [
            (
                sum(w * a.sram_step for w, a in zip(where, outer, strict=True)),
                sum(w * a.dram_step for w, a in zip(where, outer, strict=True)),
            )
            for where in product(*(range(axis.extent) for axis in outer))
        ]
        form: dict[str, Any] = {
            "memory_type": int(memory),
            "y_size": y.extent,
            "x_size": x.extent,
            "x_stride": y.dram_step if y.extent > 1 else x.extent,
        }
        pads: dict[str, Any] = {
            "y_pad_0": y.low,
            "y_pad_1": y.high,
            "x_pad_0": x.low,
            "x_pad_1": x.high,
        }
        self._one = Load(**form, **pads, pad_min=pad_min) if is_load else Store(**form)
        self._made: dict[tuple[int, int], list[Instruction]] = {}

    def at(self, base: int, offset: int) -> list[Instruction]:
        """The instructions from element `base` of the scratchpad and `offset` of the DRAM buffer.

        Rounds of loops repeat them, in the same places. Rows of padding alone need no address in
        DRAM.
        """
        made = self._made.get((base, offset))
        if made is None:
            made = self._made[base, offset] = [
                altered(
                    self._one,
                    sram_base=base + sram,
                    dram_base=offset + dram if self._one.y_size else 0,
                )
                for sram, dram in self._steps
            ]
        return made

    def _check(self, x: _Axis, y: _Axis, outer: Sequence[_Axis]) -> None:
        if any(axis.padded for axis in outer):
            raise LoweringError(
                f"DMA of {self._loc!r} pads more than the two innermost axes of the transfer"
            )
        most = max(x.low, x.high, y.low, y.high)
        if most > PAD_MAX:
            raise LoweringError(
                f"DMA of {self._loc!r} pads {most} elements at one end, more than the {PAD_MAX} "
                f"of an instruction; use another tile size"
            )
        if x.extent == 0:
            raise LoweringError(f"DMA of {self._loc!r}: a transfer of padding columns only")
