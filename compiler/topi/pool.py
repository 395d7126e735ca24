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
from compiler.loop.expr import reads
from compiler.topi.borders import NO_BORDERS, Borders, borders, inside_image
from compiler.topi.kernel import KernelTemplate, Packed, divisors
from compiler.topi.pool_beside import PoolTiling, Windows
from compiler.topi.requant import Requant, Requantiser, lanes
from compiler.topi.requant_plain import requantiser
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Rounding

AVERAGE_SHIFT = 23
AVERAGE_MAX_WINDOW = 202
"""Up to here RSR(sum * ceil(2^23 / n), 23) is the rounded quotient sum / n, for all int8 values.

The multiplier is too large by less than one, which moves a quotient away from zero, by at most
|sum| / 2^23. Up to n = 181 that is less than 1 / 2n, the distance of a quotient to the next tie (a
tie itself goes away from zero anyway); up to 202 every sum was tried. For n = 203 some sums fail.
"""


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

    @property
    def windows(self) -> Windows | None:
        """What can run beside a convolution: the windows of a maximum."""
        if not self.is_max:
            return None
        return Windows(self.out.h, self.out.w, self.kernel, self.strides)


@dataclass(frozen=True, eq=False)
class PoolBuild:
    """Builds the template of one pooling operator."""

    name: str
    pool: Pool
    config: VtaConfig

    def __call__(self, tiling: PoolTiling | None = None) -> KernelTemplate:
        """The template, with rounds to run beside a convolution if there is a tiling for them."""
        return pool2d(self.name, self.pool, self.config, tiling)


def check_supported(pool: Pool, config: VtaConfig) -> str | None:
    """Why VTA cannot run a pooling operator in `config`, or None if it can."""
    (kh, kw), (top, left, bottom, right) = pool.kernel, pool.pads
    if max(top, bottom) >= kh or max(left, right) >= kw:
        return f"padding {pool.pads} is not smaller than the window {kh}x{kw}"
    if pool.is_max and any(pool.pads) and not config.has("pad_min"):
        return "padded max pooling needs the extension 'pad_min'"
    if pool.rescale is not None and not config.has("requant") and len(_counts(pool)) > 1:
        return "an average over windows of several sizes needs the extension 'requant' to rescale"
    if not pool.is_max and pool.rescale is None and kh * kw > AVERAGE_MAX_WINDOW:
        return f"a window of {kh * kw} elements is larger than {AVERAGE_MAX_WINDOW}"
    if _tile(pool, config) is None:
        return f"one row of windows of {pool.data.w} columns does not fit the ACC memory"
    return None


def pool2d(
    name: str, pool: Pool, config: VtaConfig, tiling: PoolTiling | None = None
) -> KernelTemplate:
    """The operator's tensor expression, scheduled by rows and channel blocks.

    A `tiling` is of a maximum, and makes rounds that can run beside the convolution before it.
    """
    data = te.placeholder(pool.data.shape(config), "int8", pool.data.name)
    image = _image(data, pool, name)
    window = _window(image, pool, config, name)
    params, constants, exact = None, {}, True
    if pool.is_max:
        result = window
    else:
        values = _parameters(pool, config)
        params = te.placeholder(values.shape, "int32", f"{name}.params")
        constants = {params.name: values}
        result = _mean(window, params, pool, config)
        exact = pool.rescale is None or _requant(pool, 1, config).is_exact
    if pool.rescale is None and (pool.clamp_min, pool.clamp_max) != (-128, 127):
        result = _clamped(result, pool, name)
    final = result
    out = te.compute(pool.out.shape(config), lambda *at: final(*at).astype("int8"), pool.out.name)
    if tiling is None:
        schedule, knobs = _schedule(out, image, params, pool, config)
    else:
        schedule, knobs = _rounds(out, tiling), tiling.knobs()
    order = (data, out) if params is None else (data, params, out)
    return KernelTemplate(name, schedule, order, constants, 0, knobs, exact)


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


def _counts(pool: Pool) -> np.ndarray:
    """Elements that count in a window, per border class [row class, column class]."""
    rows, columns = _classes(pool)
    if rows is NO_BORDERS:
        return np.full((1, 1), pool.kernel[0] * pool.kernel[1])
    return np.outer([len(t) for t in rows.taps], [len(t) for t in columns.taps])


def _parameters(pool: Pool, config: VtaConfig) -> np.ndarray:
    """int32 [row class, column class, vectors, batch, block]; see `_mean` for their meaning."""
    classes = []
    for count in _counts(pool).ravel():
        if pool.rescale is None:
            rows = [-(-(1 << AVERAGE_SHIFT) // count), 1 << (AVERAGE_SHIFT - 1)]
            classes.append(lanes(rows, (config.block_out,), config)[0])
        else:
            bias = np.full(config.block_out, -count * pool.rescale.zero_point_in)
            classes.append(_requant(pool, int(count), config).parameters(bias, config)[0])
    stacked = np.stack(classes)
    return stacked.reshape(*_counts(pool).shape, *stacked.shape[1:])


def _requant(pool: Pool, count: int, config: VtaConfig) -> Requantiser:
    assert pool.rescale is not None
    zero = np.zeros(1, np.int64)
    scale = np.array([pool.rescale.scale / count], np.float32)
    zero_point = pool.rescale.zero_point_out
    out = Requant(Rounding.FLOAT, scale, zero, zero, zero_point, pool.clamp_min, pool.clamp_max)
    return requantiser(out, config)


def _mean(window: te.Tensor, params: te.Tensor, pool: Pool, config: VtaConfig) -> te.Tensor:
    """The sum over a window -> its mean; LiteRT's needs the vectors multiplier and half."""
    rows, columns = _classes(pool)

    def parameter(
        part: int, n: te.Var, c: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var
    ) -> te.Expr:
        return params(rows.index(h), columns.index(w), part, b, o)

    if pool.rescale is not None:
        return _requant(pool, int(_counts(pool)[0, 0]), config).stages(window, parameter)
    if config.has("requant"):

        def element(*at: te.Var) -> te.Expr:
            return te.call("rsr", window(*at) * parameter(0, *at), te.Const(AVERAGE_SHIFT))

        return te.compute(window.shape, element, f"{window.name}.mean")
    # Half is added to the magnitude: to a negative product one less, by its sign.
    scaled = te.compute(
        window.shape, lambda *at: window(*at) * parameter(0, *at), f"{window.name}.scaled"
    )
    sign = te.compute(
        window.shape, lambda *at: te.call("shr", scaled(*at), te.Const(31)), f"{window.name}.sign"
    )

    def rounded(*at: te.Var) -> te.Expr:
        value = sign(*at) + scaled(*at) + parameter(1, *at)
        return te.call("shr", value, te.Const(AVERAGE_SHIFT))

    return te.compute(window.shape, rounded, f"{window.name}.mean")


def _clamped(value: te.Tensor, pool: Pool, name: str) -> te.Tensor:
    return te.compute(
        value.shape,
        lambda *at: te.minimum(te.maximum(value(*at), pool.clamp_min), pool.clamp_max),
        f"{name}.clamped",
    )


def _tile(pool: Pool, config: VtaConfig) -> tuple[int, int, int] | None:
    """(channel blocks, rows, threads) of the largest tile that fits the ACC memory."""
    _, blocks, height, width, _, _ = pool.out.shape(config)
    vectors, buffers = 0, 1
    if not pool.is_max:
        parameters = _parameters(pool, config)
        vectors = parameters.size // parameters[0, 0, 0].size
        buffers = 1 if config.has("requant") else 2
    columns = pool.data.w + pool.pads[1] + pool.pads[3]
    best: tuple[int, tuple[int, int, int]] | None = None
    for threads in (2, 1):
        for c in divisors(blocks):
            for h in divisors(height):
                if (blocks // c) % threads:
                    continue
                rows = (h - 1) * pool.strides[0] + pool.kernel[0]
                need = threads * c * (rows * columns + buffers * h * width) + vectors
                if need > config.depth(MemType.ACC) or pool.kernel[0] * pool.kernel[1] * c > (
                    config.depth(MemType.UOP)
                ):
                    continue
                if best is None or c * h * threads > best[0]:
                    best = (c * h * threads, (c, h, threads))
    return best[1] if best else None


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
    _place_stages(s, out, h_o)
    if params is not None:
        readers = [t.tensor for t in s.stages if any(r.source is params for r in reads(t.body))]
        s.cache_read(params, "acc", readers)
    return s, {"tile_c": blocks, "tile_h": rows, "threads": threads}


def _place_stages(s: te.Schedule, out: te.Tensor, loop: te.Axis) -> None:
    """All stages before `out` in ACC, computed in one of its loops; taps outermost."""
    for stage in s.stages:
        if stage.tensor is not out:
            stage.set_scope("acc")
            stage.compute_at(s[out], loop)
            if stage.reduce_axes:
                n, c, h, w, b, o = stage.axes
                dy, dx = stage.reduce_axes
                stage.reorder(dy, dx, n, c, h, w, b, o)


def _rounds(out: te.Tensor, tiling: PoolTiling) -> te.Schedule:
    """Rounds in the order of the convolution's tiles, in the halves of ACC by turns."""
    s = te.Schedule(out)
    n, c, h, w, b, o = s[out].axes
    c_o, c_i = s[out].split(c, tiling.blocks)
    h_o, h_i = s[out].split(h, tiling.h)
    w_o, w_i = s[out].split(w, tiling.w)
    outer = (h_o, w_o, c_o) if tiling.is_place_first else (c_o, h_o, w_o)
    s[out].reorder(n, *outer, c_i, h_i, w_i, b, o)
    _place_stages(s, out, c_i)
    for stage in s.stages:
        if stage.tensor is not out:
            stage.double_buffer()
    return s
