"""Max and average pooling of int8 images on the accumulator (ACC_8BIT loads, ALU).

Average: either LiteRT's rounding, RSR(MUL(sum, ceil(2^23 / n)), 23) for windows of n elements, or
the sum requantised by REQ. Padding does not count unless asked, so each border class has parameters
of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler import te
from compiler.errors import CapacityError
from compiler.topi.borders import NO_BORDERS, Borders, borders, inside_image
from compiler.topi.kernel import KernelTemplate, Packed
from compiler.topi.requant import PARAMS, Requant
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Rounding
from vta_hw.spec.semantics import req_imm

AVERAGE_SHIFT = 23
AVERAGE_MAX_WINDOW = 202
"""Largest window for which the multiplier's rounding is exact (design, section 3)."""


@dataclass(frozen=True)
class Rescaled:
    """An average given in another quantisation: (sum - n * zero_point_in) * scale / n + zero point.

    Scaled as float32, rounded to nearest even (`Rounding.FLOAT`).
    """

    zero_point_in: int
    zero_point_out: int
    scale: float


@dataclass(frozen=True)
class Pool:
    """A pooling operator. pads = (top, left, bottom, right); `is_max` chooses the kind.

    An average keeps its input's quantisation unless `rescale` says otherwise.
    """

    data: Packed
    out: Packed
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    is_max: bool
    count_include_pad: bool = False
    clamp_min: int = -128
    clamp_max: int = 127
    rescale: Rescaled | None = None


def check_supported(pool: Pool, config: VtaConfig) -> str | None:
    """Why VTA cannot run a pooling operator in `config`, or None if it can."""
    (kh, kw), (top, left, bottom, right) = pool.kernel, pool.pads
    if max(top, bottom) >= kh or max(left, right) >= kw:
        return f"padding {pool.pads} is not smaller than the window {kh}x{kw}"
    if pool.is_max and any(pool.pads) and not config.has("pad_min"):
        return "padded max pooling needs the extension 'pad_min'"
    if not pool.is_max and not config.has("requant"):
        return "average pooling needs the extension 'requant'"
    if not pool.is_max and pool.rescale is None and kh * kw > AVERAGE_MAX_WINDOW:
        return f"a window of {kh * kw} elements is larger than {AVERAGE_MAX_WINDOW}"
    if _tile(pool, config) is None:
        return f"one row of windows of {pool.data.w} columns does not fit the ACC memory"
    return None


def pool2d(name: str, pool: Pool, config: VtaConfig) -> KernelTemplate:
    """The operator's tensor expression, scheduled by rows and channel blocks."""
    data = te.placeholder(pool.data.shape(config), "int8", pool.data.name)
    image = _image(data, pool, name)
    window = _window(image, pool, config, name)
    params = None
    if pool.is_max:
        result = window
    else:
        rows, columns = _classes(pool)
        values = _parameters(pool, rows, columns, config)
        params = te.placeholder(values.shape, "int32", f"{name}.params")
        result = _mean(window, params, rows, columns, name, pool.rescale)
    if pool.rescale is None and (pool.clamp_min, pool.clamp_max) != (-128, 127):
        result = _clamped(result, pool, name)
    final = result
    out = te.compute(pool.out.shape(config), lambda *at: final(*at).astype("int8"), pool.out.name)
    schedule, knobs = _schedule(out, image, params, pool, config)
    constants = {} if params is None else {params.name: values}
    order = (data, out) if params is None else (data, params, out)
    return KernelTemplate(name, schedule, order, constants, 0, knobs)


def _image(data: te.Tensor, pool: Pool, name: str) -> te.Tensor:
    """The padded input, sign-extended to int32."""
    top, left, bottom, right = pool.pads
    n, c, height, width, batch, block = data.shape
    shape = (n, c, height + top + bottom, width + left + right, batch, block)
    fill = te.Const(-128 if pool.is_max else 0, "int32")

    def element(n: te.Var, c: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        inside = inside_image(h, w, height, width, pool.pads)
        return te.select(inside, data(n, c, h - top, w - left, b, o).astype("int32"), fill)

    return te.compute(shape, element, f"{name}.image")


def _window(image: te.Tensor, pool: Pool, config: VtaConfig, name: str) -> te.Tensor:
    (kh, kw), (sh, sw) = pool.kernel, pool.strides
    dy, dx = te.reduce_axis(kh, "dy"), te.reduce_axis(kw, "dx")

    def element(n: te.Var, c: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        value = image(n, c, h * sh + dy.var, w * sw + dx.var, b, o)
        return te.max(value, [dy, dx], init=-128) if pool.is_max else te.sum(value, [dy, dx])

    return te.compute(pool.out.shape(config), element, f"{name}.window")


def _classes(pool: Pool) -> tuple[Borders, Borders]:
    if not any(pool.pads) or pool.count_include_pad:
        return NO_BORDERS, NO_BORDERS
    (kh, kw), (sh, sw), (top, left, _, _) = pool.kernel, pool.strides, pool.pads
    return (
        borders(pool.data.h, pool.out.h, kh, sh, top),
        borders(pool.data.w, pool.out.w, kw, sw, left),
    )


def _parameters(pool: Pool, rows: Borders, columns: Borders, config: VtaConfig) -> np.ndarray:
    """int32 [row class, column class, vectors, batch, block]: ceil(2^23 / n), or what REQ takes."""
    counts = np.full((len(rows), len(columns)), pool.kernel[0] * pool.kernel[1])
    if rows is not NO_BORDERS:
        counts = np.outer([len(t) for t in rows.taps], [len(t) for t in columns.taps])
    lanes = (config.batch, config.block_out)
    if pool.rescale is None:
        values = -(-(1 << AVERAGE_SHIFT) // counts)[:, :, None]
    else:
        values = np.empty((*counts.shape, PARAMS), np.int64)
        for at, count in np.ndenumerate(counts):
            requant = _requant(pool, pool.rescale, int(count))
            bias = np.array([-int(count) * pool.rescale.zero_point_in])
            values[at] = requant.parameters(bias, config)[0, :, 0, 0]
    return np.broadcast_to(values[..., None, None], (*values.shape, *lanes)).astype(np.int32)


def _requant(pool: Pool, rescale: Rescaled, count: int) -> Requant:
    zero = np.zeros(1, np.int64)
    scale = np.array([rescale.scale / count], np.float32)
    return Requant(
        Rounding.FLOAT, scale, zero, zero, rescale.zero_point_out, pool.clamp_min, pool.clamp_max
    )


def _mean(
    window: te.Tensor,
    params: te.Tensor,
    rows: Borders,
    columns: Borders,
    name: str,
    rescale: Rescaled | None,
) -> te.Tensor:
    def element(n: te.Var, c: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        y, x, total = rows.index(h), columns.index(w), window(n, c, h, w, b, o)
        if rescale is None:
            return te.call("rsr", total * params(y, x, 0, b, o), te.Const(AVERAGE_SHIFT))
        imm = req_imm(rescale.zero_point_out, Rounding.FLOAT)
        return te.call("req", total, *(params(y, x, v, b, o) for v in range(PARAMS)), imm=imm)

    return te.compute(window.shape, element, f"{name}.mean")


def _clamped(value: te.Tensor, pool: Pool, name: str) -> te.Tensor:
    return te.compute(
        value.shape,
        lambda *at: te.minimum(te.maximum(value(*at), pool.clamp_min), pool.clamp_max),
        f"{name}.clamped",
    )


def _tile(pool: Pool, config: VtaConfig) -> tuple[int, int, int] | None:
    """(channel blocks, rows, threads) of the largest tile that fits the ACC memory."""
    _, blocks, height, width, _, _ = pool.out.shape(config)
    vectors = 1 if pool.rescale is None else PARAMS
    classes = 0 if pool.is_max else vectors * len(_classes(pool)[0]) * len(_classes(pool)[1])
    columns = pool.data.w + pool.pads[1] + pool.pads[3]
    best: tuple[int, tuple[int, int, int]] | None = None
    for threads in (2, 1):
        for c in _divisors(blocks):
            for h in _divisors(height):
                if (blocks // c) % threads:
                    continue
                rows = (h - 1) * pool.strides[0] + pool.kernel[0]
                need = threads * c * (rows * columns + h * width) + classes
                if need > config.depth(MemType.ACC) or pool.kernel[0] * pool.kernel[1] * c > (
                    config.depth(MemType.UOP)
                ):
                    continue
                if best is None or c * h * threads > best[0]:
                    best = (c * h * threads, (c, h, threads))
    return best[1] if best else None


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _schedule(
    out: te.Tensor, image: te.Tensor, params: te.Tensor | None, pool: Pool, config: VtaConfig
) -> tuple[te.Schedule, dict[str, int]]:
    tile = _tile(pool, config)
    if tile is None:
        raise CapacityError(str(check_supported(pool, config)))
    blocks, rows, threads = tile
    s = te.Schedule(out)
    n, c, h, w, b, o = s[out].axes
    c_o, c_i = s[out].split(c, blocks)
    h_o, h_i = s[out].split(h, rows)
    thread, c_o = s[out].split(c_o, nparts=threads)
    s[out].reorder(thread, n, c_o, h_o, c_i, h_i, w, b, o)
    s[out].vthread(thread)
    for stage in s.stages:
        if stage.tensor is not out:
            stage.set_scope("acc")
            stage.compute_at(s[out], h_o)
            if stage.reduce_axes:
                n, c, h, w, b, o = stage.axes
                dy, dx = stage.reduce_axes
                stage.reorder(dy, dx, n, c, h, w, b, o)
    if params is not None:
        readers = [st.tensor for st in s.stages if st.tensor.name.endswith(".mean")]
        s.cache_read(params, "acc", readers)
    return s, {"tile_c": blocks, "tile_h": rows, "threads": threads}
