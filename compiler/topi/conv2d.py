"""2-D convolution with requantisation; dense is a 1x1 one on a 1x1 image.

Compute: accumulate int8 products in int32, then REQ. The input's zero point z is folded into the
bias: sum w*(x - z) = sum w*x - z * sum w. Padding must read as z: z = 0 and, with `pad_min`,
z = -128 are padded by the load itself; for any other z the load pads with 0 and each border class
gets a bias that counts only the taps inside the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from compiler import te
from compiler.errors import CapacityError
from compiler.loop.expr import reads
from compiler.topi.borders import NO_BORDERS, Borders, borders, inside_image
from compiler.topi.conv2d_choice import choose_tiling
from compiler.topi.conv2d_space import check_any, check_tiling
from compiler.topi.conv2d_tiling import INPUTS, WEIGHTS, ConvShape, ConvTiling
from compiler.topi.gemm_intrin import gemm_intrin
from compiler.topi.grouped_weights import GroupedWeights, group_weights
from compiler.topi.kernel import KernelTemplate, Packed
from compiler.topi.pool_beside import PoolTiling, Windows, pool_tiling, tiling_beside
from compiler.topi.requant import Requantiser
from compiler.topi.steps import Step, StepChain, needs
from compiler.topi.tail_work import tail_work
from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class Conv2d:
    """A convolution: weights [O, I/groups, KH, KW] int8, bias [O] int32, two activations.

    pads = (top, left, bottom, right). `terms` is the number of products per result in the model,
    where the weights have more (zeros). `steps` follow the requantisation while its results are in
    ACC: operand 0 is those results, `others` names the operands from outside.
    """

    data: Packed
    out: Packed
    weights: np.ndarray
    bias: np.ndarray
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    zero_point: int
    requant: Requantiser
    groups: int = 1
    terms: int | None = None
    steps: tuple[Step, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def kernel(self) -> tuple[int, int]:
        """Window height and width."""
        return int(self.weights.shape[2]), int(self.weights.shape[3])

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the layer as the model defines it (no padding to blocks)."""
        terms = self.weights[0].size if self.terms is None else self.terms
        return self.out.n * self.out.h * self.out.w * len(self.weights) * terms


def reach(weights: np.ndarray, bias: np.ndarray) -> int:
    """Bound of the sums of int8 products, of their biases, and of both together.

    Inputs less their zero point are from -255 to 255.
    """
    sums = np.abs(weights.astype(np.int64)).sum(axis=tuple(range(1, weights.ndim)))
    return int((255 * sums + np.abs(bias.astype(np.int64))).max())


def conv2d(
    name: str, conv: Conv2d, config: VtaConfig, tiling: ConvTiling | None = None
) -> KernelTemplate:
    """The convolution's tensor expression, scheduled with `tiling` (default: by the cost model).

    A tiling that does not fit is refused with the memory and the sum.
    """
    conv = _without_skipped_rows(conv)
    pad_value, rows, columns = _padding(conv, config)
    blocks = group_weights(conv.weights, conv.groups, config)
    weights = blocks.packed
    parameters = _parameters(conv, rows, columns, config)
    data = te.placeholder(conv.data.shape(config), "int8", conv.data.name)
    wgt = te.placeholder(weights.shape, "int8", f"{name}.weights")
    params = te.placeholder(parameters.blocks.shape, "int32", f"{name}.params")
    padded = _padded(data, conv.pads, pad_value)
    acc = _accumulate(padded, wgt, conv, blocks, config)

    def parameter(
        part: int, n: te.Var, co: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var
    ) -> te.Expr:
        return params(co, rows.index(h), columns.index(w), part, b, o)

    operands, constants = [data, wgt, params], {wgt.name: weights, params.name: parameters.blocks}
    exact, fixed = conv.requant.is_exact, list[te.Tensor]()
    if parameters.shared is None:
        last = req = conv.requant.stages(acc, parameter)
    else:
        shared = te.placeholder(parameters.shared.shape, "int32", f"{name}.scale")
        biased = te.compute(
            acc.shape, lambda *at: acc(*at) + parameter(0, *at), f"{acc.name}.biased"
        )
        last = req = conv.requant.stages(biased, lambda part, *at: shared(part, *at[-2:]))
        fixed.append(shared)
        constants[shared.name] = parameters.shared
    if conv.steps:
        shape = conv.out.shape(config)
        others = {n: te.placeholder(shape, "int8", n) for n in conv.others if n != data.name}
        inputs = {data.name: data, **others}
        chain = StepChain(f"{name}.tail", shape, conv.steps, inputs, config, (req,))
        last, exact = chain.last, exact and chain.is_exact
        operands += others.values()
        if len(chain.vectors):
            fixed.append(chain.params)
            constants[chain.params.name] = chain.vectors
    out = te.compute(
        conv.out.shape(config),
        lambda n, co, h, w, b, o: last(n, co, h, w, b, o).astype("int8"),
        conv.out.name,
    )
    layer = tiling_shape(conv, config)
    if tiling is None:
        tiling = choose_tiling(layer, config)
    check_tiling(tiling, layer, config)
    roles = _Roles(out, acc, padded, wgt, params, tuple(fixed))
    schedule = _schedule(roles, tiling, blocks, config)
    return KernelTemplate(
        name, schedule, (*operands, *fixed, out), constants, conv.macs, tiling.knobs(), exact
    )


def _without_skipped_rows(conv: Conv2d) -> Conv2d:
    """The same convolution over an image whose rows hold the rows that it skips, where it can be.

    A window of one row that moves on by two reads every second row. With two rows seen as one of
    twice the width, of which the windows read the first half, the others need not be loaded.
    """
    step, image = conv.strides[0], conv.data
    if step == 1 or conv.kernel[0] > 1 or any(conv.pads) or image.h % step:
        return conv
    rows = replace(image, h=image.h // step, w=image.w * step)
    return replace(conv, data=rows, strides=(1, conv.strides[1]))


@dataclass(frozen=True)
class _Parameters:
    """Parameter vectors of the requantisation: those of each output block, and common ones."""

    blocks: np.ndarray
    shared: np.ndarray | None


def _parameters(conv: Conv2d, rows: Borders, columns: Borders, config: VtaConfig) -> _Parameters:
    """All vectors per output block; where an image is one pixel and all channels are scaled alike,
    only the biases, to be added first: loading the rest would take as long as the products."""
    full = conv.requant.parameters(_biases(conv, rows, columns), config)
    if conv.out.h * conv.out.w > 1 or not conv.requant.is_uniform:
        return _Parameters(full, None)
    shared = np.broadcast_to(full[0, 0, 0, :, :1, :1], full.shape[3:]).copy()
    shared[0] = 0
    return _Parameters(np.ascontiguousarray(full[:, :, :, :1]), shared)


def _padding(conv: Conv2d, config: VtaConfig) -> tuple[int, Borders, Borders]:
    """(value the load pads with, row classes, column classes)"""
    if not any(conv.pads) or conv.zero_point == 0:
        return 0, NO_BORDERS, NO_BORDERS
    if conv.zero_point == -128 and config.has("pad_min"):
        return -128, NO_BORDERS, NO_BORDERS
    top, left, _, _ = conv.pads
    (kh, kw), (sh, sw) = conv.kernel, conv.strides
    rows = borders(conv.data.h, conv.out.h, kh, sh, top)
    columns = borders(conv.data.w, conv.out.w, kw, sw, left)
    return 0, rows, columns


def _biases(conv: Conv2d, rows: Borders, columns: Borders) -> np.ndarray:
    """Bias per output channel and border class, the zero point folded in; int32, wrapping."""
    weights = conv.weights.astype(np.int64)
    out = np.zeros((weights.shape[0], len(rows), len(columns)), np.int64)
    kh, kw = conv.kernel
    for y, taps_y in enumerate(rows.taps):
        for x, taps_x in enumerate(columns.taps):
            window = weights[
                :,
                :,
                slice(0, kh) if rows is NO_BORDERS else slice(taps_y.start, taps_y.stop),
                slice(0, kw) if columns is NO_BORDERS else slice(taps_x.start, taps_x.stop),
            ]
            out[:, y, x] = conv.bias - conv.zero_point * window.sum(axis=(1, 2, 3))
    return out.astype(np.int32)


def _padded(data: te.Tensor, pads: tuple[int, int, int, int], value: int) -> te.Tensor:
    top, left, bottom, right = pads
    n, c, height, width, batch, block = data.shape
    shape = (n, c, height + top + bottom, width + left + right, batch, block)

    def element(n: te.Var, c: te.Var, h: te.Var, w: te.Var, b: te.Var, i: te.Var) -> te.Expr:
        inside = inside_image(h, w, height, width, pads)
        return te.select(inside, data(n, c, h - top, w - left, b, i), te.Const(value, "int8"))

    return te.compute(shape, element, f"{data.name}.inp")


def _accumulate(
    padded: te.Tensor, wgt: te.Tensor, conv: Conv2d, blocks: GroupedWeights, config: VtaConfig
) -> te.Tensor:
    _, ci, kh, kw, _, block = wgt.shape
    sh, sw = conv.strides
    k, dy, dx = te.reduce_axis(ci, "k"), te.reduce_axis(kh, "dy"), te.reduce_axis(kw, "dx")
    c = te.reduce_axis(block, "c")

    def element(n: te.Var, co: te.Var, h: te.Var, w: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        x = padded(n, blocks.input_block(co, k.var), h * sh + dy.var, w * sw + dx.var, b, c.var)
        weight = wgt(co, k.var, dy.var, dx.var, o, c.var)
        return te.sum(x.astype("int32") * weight.astype("int32"), [k, dy, dx, c])

    return te.compute(conv.out.shape(config), element, f"{conv.out.name}.acc")


@dataclass(frozen=True)
class _Roles:
    """The tensors that the schedule places; `fixed` are parameters that serve all blocks."""

    out: te.Tensor
    acc: te.Tensor
    padded: te.Tensor
    wgt: te.Tensor
    params: te.Tensor
    fixed: tuple[te.Tensor, ...]


def _cached(s: te.Schedule, params: te.Tensor) -> te.Tensor:
    """Parameters in ACC, for all that reads them."""
    readers = [stage.tensor for stage in s.stages if _reads(stage.body, params)]
    return s.cache_read(params, "acc", readers)


def _reads(body: te.Expr | None, tensor: te.Tensor) -> bool:
    return body is not None and any(read.source is tensor for read in reads(body))


def _schedule(
    roles: _Roles, tiling: ConvTiling, blocks: GroupedWeights, config: VtaConfig
) -> te.Schedule:
    out, acc, padded, wgt = roles.out, roles.acc, roles.padded, roles.wgt
    s = te.Schedule(out)
    tail = [stage for stage in s.stages if stage.tensor not in (out, acc, padded)]
    wgt_cache = s.cache_read(wgt, "wgt", [acc])
    param_cache = _cached(s, roles.params)
    for params in roles.fixed:
        _cached(s, params)
    s[acc].set_scope("acc")
    s[padded].set_scope("inp")

    n, co, h, w, b, o = s[out].axes
    group, co = s[out].split(co, blocks.out_blocks)
    co_o, co_i = s[out].split(co, tiling.co)
    h_o, h_i = s[out].split(h, tiling.h)
    w_o, w_i = s[out].split(w, tiling.w)
    thread, co_o = s[out].split(co_o, nparts=tiling.co_threads)
    row_thread, h_o = s[out].split(h_o, nparts=tiling.h_threads)
    outer = (h_o, w_o, co_o) if tiling.kept == INPUTS else (co_o, h_o, w_o)
    s[out].reorder(thread, row_thread, n, group, *outer, co_i, h_i, w_i, b, o)
    s[out].vthread(thread)
    s[out].vthread(row_thread)

    for stage in tail:
        stage.set_scope("acc")
        stage.compute_at(s[out], outer[-1])
    # A tile in one half of ACC has its parameters there too: those in the other half could not be
    # read beside the next tile's products.
    s[param_cache].compute_at(s[out], outer[-1] if tiling.acc_halves > 1 else co_o)
    s[acc].compute_at(s[out], outer[-1])
    n, co, h, w, b, o = s[acc].axes
    k, dy, dx, c = s[acc].reduce_axes
    k_o, k_i = s[acc].split(k, tiling.ci)
    steps = [k_o]
    if tiling.kh is not None:
        dy_o, dy = s[acc].split(dy, tiling.kh)
        steps.append(dy_o)
    s[acc].reorder(n, *steps, k_i, dy, dx, co, h, w, b, o, c)
    s[acc].tensorize(b, gemm_intrin(config))
    s[padded].compute_at(*((s[out], w_o) if tiling.kept == INPUTS else (s[acc], k_o)))
    s[wgt_cache].compute_at(*((s[out], co_o) if tiling.kept == WEIGHTS else (s[acc], steps[-1])))
    # Weights first: inputs may have to wait for the layer before. The steps' own operands last:
    # they are not needed before the sums.
    s.compute_before(wgt_cache, padded)
    early = [stage for stage in tail if s.stages.index(stage) < s.stages.index(s[acc])]
    after = tail[len(early)].tensor
    for stage in reversed(early):
        s.compute_before(stage.tensor, after)
        after = stage.tensor
    halved = [
        *([s[padded]] if tiling.inp_halves > 1 else []),
        *([s[wgt_cache]] if tiling.wgt_halves > 1 else []),
        *([s[acc], s[param_cache], *tail] if tiling.acc_halves > 1 else []),
    ]
    for stage in halved:
        stage.double_buffer()
    return s


@dataclass(frozen=True, eq=False)
class ConvBuild:
    """Builds the template of one convolution, with the tiling that is wanted."""

    name: str
    conv: Conv2d
    config: VtaConfig
    windows: Windows | None = None
    """Of the pooling that is to run beside it, if something is."""

    def __call__(self, tiling: ConvTiling | None = None) -> KernelTemplate:
        """The template; without a tiling it is scheduled with `default`."""
        return conv2d(self.name, self.conv, self.config, tiling or self.default)

    @cached_property
    def default(self) -> ConvTiling:
        """The tiling that a model of the time chooses."""
        beside = None
        if self.windows is not None:
            beside = tiling_beside(self.windows, self.shape, self.config)
        return beside or choose_tiling(self.shape, self.config)

    def beside(self, tiling: ConvTiling | None) -> PoolTiling | None:
        """How the pooling behind it runs beside it, if it can."""
        if self.windows is None:
            return None
        return pool_tiling(self.windows, self.shape, tiling or self.default, self.config)

    @cached_property
    def shape(self) -> ConvShape:
        """What its tilings depend on."""
        return tiling_shape(self.conv, self.config)


def tiling_shape(conv: Conv2d, config: VtaConfig) -> ConvShape:
    """What the tilings of a convolution depend on."""
    conv = _without_skipped_rows(conv)
    _, rows, columns = _padding(conv, config)
    blocks = group_weights(conv.weights, conv.groups, config)
    parameters = _parameters(conv, rows, columns, config)
    n, co, h, w, _, _ = conv.out.shape(config)
    tiles, vectors = needs(conv.steps, config)
    tail = tail_work(conv.requant, conv.steps, config)
    return ConvShape(
        n=n,
        ci=blocks.in_blocks,
        co=co,
        h=h,
        w=w,
        kh=conv.kernel[0],
        kw=conv.kernel[1],
        sh=conv.strides[0],
        sw=conv.strides[1],
        pads=conv.pads,
        params=parameters.blocks[0].size // (config.batch * config.block_out),
        buffers=conv.requant.buffers + tiles,
        fixed=vectors + (0 if parameters.shared is None else len(parameters.shared)),
        operations=tail.operations,
        passes=tail.cycles,
        operands=tail.loads,
        group=blocks.out_blocks,
        is_diagonal=blocks.is_diagonal,
    )


def check_supported(conv: Conv2d, config: VtaConfig) -> str | None:
    """Why VTA cannot run a convolution in `config`, or None if it can."""
    (kh, kw), (top, left, bottom, right) = conv.kernel, conv.pads
    if max(top, bottom) >= kh or max(left, right) >= kw:
        return f"padding {conv.pads} is not smaller than the kernel {kh}x{kw}"
    try:
        check_any(tiling_shape(conv, config), config)
    except CapacityError as error:
        return str(error)
    return None
