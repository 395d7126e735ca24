"""Box copies with known positions -> LOAD and STORE instructions.

A LOAD writes rows contiguously into its scratchpad, a STORE reads them so; DRAM rows lie x_stride
apart. Axes that are contiguous on both sides are merged first; what is left beyond two axes becomes
several instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from compiler.errors import LoweringError
from compiler.loop.nodes import Buffer, Copy
from compiler.loop.scopes import Place, element_shape
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import PAD_MAX, SIZE_MAX, Instruction, Load, Store


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


def lower_copy(
    copy: Copy,
    dst_begin: Sequence[int],
    src_begin: Sequence[int],
    place: Place,
    config: VtaConfig,
) -> tuple[list[Instruction], Buffer]:
    """The instructions of a copy whose begins are known, and the DRAM buffer that they address.

    `place` is that of the scratchpad buffer. dram_base of the instructions counts
    elements from the start of the DRAM buffer.
    """
    is_load = copy.src.buffer.scope == "dram"
    sram, dram = (copy.dst, copy.src) if is_load else (copy.src, copy.dst)
    sram_begin, dram_begin = (dst_begin, src_begin) if is_load else (src_begin, dst_begin)
    memory = _memory(copy, is_load, config)
    dram_axis = _dram_axes(copy, is_load)
    sram_steps, dram_steps = place.steps(sram.buffer), Place(0).steps(dram.buffer)
    offset = sum(b * s for b, s in zip(dram_begin, dram_steps, strict=False))
    axes = []
    for position, step in enumerate(sram_steps):
        source = dram_axis.get(position)
        low = high = 0
        dram_step = 0
        if source is not None:
            dram_step = dram_steps[source]
            begin, size = dram_begin[source], dram.buffer.shape[source]
            whole = sram.extent[position]
            low = min(whole, max(0, -begin))
            high = min(whole - low, max(0, begin + whole - size))
            offset += low * dram_step
        extent = sram.extent[position] - low - high
        axes.append(_Axis(extent, step, dram_step, low, high))
    if not is_load and any(a.padded for a in axes):
        raise LoweringError(
            f"DMA of {copy.loc!r}: a store would write outside {dram.buffer.name!r} of shape "
            f"{list(dram.buffer.shape)}"
        )
    base = place.first + sum(b * s for b, s in zip(sram_begin, sram_steps, strict=False))
    pad_min = _pad_min(copy, memory, any(a.padded for a in axes), config)
    rows = _Rows(copy.loc, memory, pad_min, is_load)
    return list(rows.emit(_merge(axes), base, offset)), dram.buffer


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


@dataclass(frozen=True)
class _Rows:
    """Emits the instructions of one transfer."""

    loc: str
    memory: MemType
    pad_min: bool
    is_load: bool

    def emit(self, axes: list[_Axis], base: int, offset: int) -> Iterator[Instruction]:
        x = _Axis(1, 1, 1)
        if axes and axes[-1].sram_step == 1 and axes[-1].dram_step == 1:
            x = axes.pop()
        y = _Axis(1, x.total, 0)
        if axes and axes[-1].sram_step == x.total and axes[-1].dram_step <= SIZE_MAX:
            y = axes.pop()
        for axis in axes:
            if axis.padded:
                raise LoweringError(
                    f"DMA of {self.loc!r} pads more than the two innermost axes of the transfer"
                )
        for where in product(*(range(axis.extent) for axis in axes)):
            sram = base + sum(w * a.sram_step for w, a in zip(where, axes, strict=True))
            dram = offset + sum(w * a.dram_step for w, a in zip(where, axes, strict=True))
            yield self._one(x, y, sram, dram)

    def _one(self, x: _Axis, y: _Axis, sram: int, dram: int) -> Instruction:
        if max(x.low, x.high, y.low, y.high) > PAD_MAX:
            raise LoweringError(
                f"DMA of {self.loc!r} pads {max(x.low, x.high, y.low, y.high)} elements at one "
                f"end, more than the {PAD_MAX} of an instruction; use another tile size"
            )
        if x.extent == 0:
            raise LoweringError(f"DMA of {self.loc!r}: a transfer of padding columns only")
        fields: dict[str, Any] = {
            "memory_type": int(self.memory),
            "sram_base": sram,
            "dram_base": dram if y.extent else 0,
            "y_size": y.extent,
            "x_size": x.extent,
            "x_stride": y.dram_step if y.extent > 1 else x.extent,
        }
        if not self.is_load:
            return Store(**fields)
        pads: dict[str, Any] = {
            "y_pad_0": y.low,
            "y_pad_1": y.high,
            "x_pad_0": x.low,
            "x_pad_1": x.high,
        }
        return Load(**fields, **pads, pad_min=self.pad_min)
