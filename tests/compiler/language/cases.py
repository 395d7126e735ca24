"""Small programs in the language, with random tiles, loop orders and virtual threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler import te
from compiler.build import build
from compiler.errors import CapacityError
from compiler.topi.gemm_intrin import gemm_intrin
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.program import Program
from vta_sim.functional import run

Array = np.ndarray[Any, Any]
Threads = list[tuple[int, int]]
"""(axis, number of virtual threads)"""


@dataclass(frozen=True, eq=False)
class Case:
    """A scheduled computation, its inputs and what it must give; the output comes last."""

    label: str
    schedule: te.Schedule
    params: tuple[te.Tensor, ...]
    inputs: Mapping[str, Array]
    expected: Array

    def build(self, config: VtaConfig) -> Program | None:
        """The program, or None where the drawn tiles need more memory than there is."""
        try:
            return build(self.schedule, self.params, config, self.label)
        except CapacityError:
            return None

    def check(self, program: Program, interleave: np.random.Generator | None = None) -> None:
        """Run the program and compare all of its output."""
        out = self.params[-1]
        arrays = {**self.inputs, out.name: np.full(out.shape, 99, np.int8)}
        after = execute(program, arrays, interleave)[out.name]
        wrong = np.argwhere(after != self.expected)
        assert not len(wrong), f"{self.label}: {len(wrong)} wrong, the first at {wrong[0]}"


def execute(
    program: Program, arrays: Mapping[str, Array], interleave: np.random.Generator | None
) -> dict[str, Array]:
    """All arrays after a run on the functional simulator, stages interleaved at random or not."""
    addresses, dram = {}, bytearray()
    for symbol in program.symbols.values():
        addresses[symbol.name] = len(dram)
        given = arrays.get(symbol.name)
        dram += (symbol.contents or b"") if given is None else given.tobytes()
        dram += bytes(-len(dram) % PAGE_BYTES)
    memory = np.frombuffer(bytes(dram), np.uint8).copy()
    result = run(program.config, program.bound(addresses), memory, interleave=interleave)
    assert result.status.value == "ok", result
    out = {}
    for name, array in arrays.items():
        begin = addresses[name]
        piece = memory[begin : begin + array.nbytes]
        out[name] = piece.view(array.dtype).reshape(array.shape)
    return out


# -- schedules -------------------------------------------------------------------------------------


def _marked(s: te.Schedule, out: te.Tensor, axes: list[te.Axis], threads: Threads) -> list[te.Axis]:
    """Outermost parts of some axes as virtual threads: (axis, number of threads)."""
    loops = []
    for position, count in threads:
        outer, axes[position] = s[out].split(axes[position], nparts=count)
        s[out].vthread(outer)
        loops.append(outer)
    return loops


def _draw_threads(rng: np.random.Generator, axes: int, most: int) -> Threads:
    """Up to two axes with one to `most` threads."""
    count = int(rng.integers(1, min(2, axes) + 1))
    chosen = rng.choice(axes, count, replace=False)
    return [(int(axis), int(rng.integers(1, most + 1))) for axis in chosen]


def _leave_remainders(sizes: list[int], rng: np.random.Generator) -> None:
    """Now and then, sizes that tiles and threads do not divide."""
    for axis, size in enumerate(sizes):
        if rng.random() < 0.4:
            sizes[axis] -= int(rng.integers(min(3, size)))


def vector_add(rng: np.random.Generator, config: VtaConfig, threads: Threads | None = None) -> Case:
    """out = low byte of (x + y) * 3, elements in tiles, ALU alone."""
    threads = threads or _draw_threads(rng, 2, 4)
    tile = int(rng.integers(1, 3))
    sizes = [tile * int(rng.integers(1, 3)), int(rng.integers(1, 5))]
    for axis, count in threads:
        sizes[axis] *= count
    _leave_remainders(sizes, rng)
    shape = (*sizes, config.batch, config.block_out)
    x, y = te.placeholder(shape, "int32", "x"), te.placeholder(shape, "int8", "y")
    wide = te.compute(shape, lambda i, j, b, o: y(i, j, b, o).astype("int32"), "wide")
    total = te.compute(shape, lambda i, j, b, o: (x(i, j, b, o) + wide(i, j, b, o)) * 3, "total")
    out = te.compute(shape, lambda i, j, b, o: total(i, j, b, o).astype("int8"), "out")
    s = te.Schedule(out)
    cached = s.cache_read(x, "acc", [total])
    axes = list(s[out].axes)
    marked = _marked(s, out, axes, threads)
    i_o, i_i = s[out].split(axes[0], tile)
    order = [*marked, i_o]
    s[out].reorder(*(order[int(n)] for n in rng.permutation(len(order))), i_i, *axes[1:])
    at = _last(s, out, order)
    for tensor in (cached, wide, total):
        s[tensor].set_scope("acc")
        s[tensor].compute_at(s[out], at)
    if rng.random() < 0.3:
        s[cached].unroll(s[cached].axes[0])
    if rng.random() < 0.3:
        s[out].vthread(i_i)
    if rng.random() < 0.3:
        s[total].vthread(s[total].axes[int(rng.integers(2))])
    inputs: dict[str, Array] = {
        "x": rng.integers(-(2**31), 2**31, shape).astype(np.int32),
        "y": rng.integers(-128, 128, shape).astype(np.int8),
    }
    expected = ((inputs["x"].astype(np.int64) + inputs["y"]) * 3).astype(np.int8)
    return Case(f"add {shape} threads {threads}", s, (x, y, out), inputs, expected)


def _last(s: te.Schedule, out: te.Tensor, loops: list[te.Axis]) -> te.Axis:
    return next(leaf for leaf in reversed(s[out].leaves) if leaf in loops)


def matmul(rng: np.random.Generator, config: VtaConfig, threads: Threads | None = None) -> Case:
    """y = low byte of x w^T in blocks, threads over rows and columns."""
    threads = threads or _draw_threads(rng, 2, 4)
    tile = [int(rng.integers(1, 3)), int(rng.integers(1, 3))]
    sizes = [tile[n] * int(rng.integers(1, 3)) for n in range(2)]
    for axis, count in threads:
        sizes[axis] *= count
    _leave_remainders(sizes, rng)
    depth, step = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    rows, columns = sizes
    depth *= step
    x = te.placeholder((rows, depth, config.batch, config.block_in), "int8", "x")
    w = te.placeholder((columns, depth, config.block_out, config.block_in), "int8", "w")
    k, c = te.reduce_axis(depth, "k"), te.reduce_axis(config.block_in, "c")

    def element(m: te.Var, n: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        product = x(m, k.var, b, c.var).astype("int32") * w(n, k.var, o, c.var).astype("int32")
        return te.sum(product, [k, c])

    shape = (rows, columns, config.batch, config.block_out)
    acc = te.compute(shape, element, "acc")
    y = te.compute(shape, lambda m, n, b, o: acc(m, n, b, o).astype("int8"), "y")
    s = te.Schedule(y)
    _schedule_gemm(s, y, acc, (x, w), tile, threads, step, rng, config)
    inputs = {t.name: rng.integers(-128, 128, t.shape).astype(np.int8) for t in (x, w)}
    left, right = (inputs[n].astype(np.int64) for n in ("x", "w"))
    expected = np.einsum("mkbc,nkoc->mnbo", left, right).astype(np.int8)
    label = f"matmul {rows}x{depth}x{columns} tile {tile} by {step} threads {threads}"
    return Case(label, s, (x, w, y), inputs, expected)


def conv2d(rng: np.random.Generator, config: VtaConfig, threads: Threads | None = None) -> Case:
    """A convolution without padding, threads over channels, rows and columns."""
    threads = threads or _draw_threads(rng, 3, 4)
    tile = [int(v) for v in rng.integers(1, 3, 3)]
    sizes = list(tile)
    for axis, count in threads:
        sizes[axis] *= count
    _leave_remainders(sizes, rng)
    channels, height, width = sizes
    kh, kw = (int(v) for v in rng.integers(1, 4, 2))
    stride = int(rng.integers(1, 3))
    step = int(rng.integers(1, 3))
    depth = step * int(rng.integers(1, 3))
    high, wide = (height - 1) * stride + kh, (width - 1) * stride + kw
    batch, block_in, block_out = config.batch, config.block_in, config.block_out
    x = te.placeholder((depth, high, wide, batch, block_in), "int8", "x")
    w = te.placeholder((channels, depth, kh, kw, block_out, block_in), "int8", "w")
    k, c = te.reduce_axis(depth, "k"), te.reduce_axis(block_in, "c")
    dy, dx = te.reduce_axis(kh, "dy"), te.reduce_axis(kw, "dx")

    def element(n: te.Var, h: te.Var, v: te.Var, b: te.Var, o: te.Var) -> te.Expr:
        data = x(k.var, h * stride + dy.var, v * stride + dx.var, b, c.var)
        weight = w(n, k.var, dy.var, dx.var, o, c.var)
        return te.sum(data.astype("int32") * weight.astype("int32"), [k, dy, dx, c])

    shape = (channels, height, width, batch, block_out)
    acc = te.compute(shape, element, "acc")
    y = te.compute(shape, lambda n, h, v, b, o: acc(n, h, v, b, o).astype("int8"), "y")
    s = te.Schedule(y)
    _schedule_gemm(s, y, acc, (x, w), tile, threads, step, rng, config)
    inputs = {t.name: rng.integers(-128, 128, t.shape).astype(np.int8) for t in (x, w)}
    image = np.lib.stride_tricks.sliding_window_view(inputs["x"], (kh, kw), axis=(1, 2))
    image = image[:, ::stride, ::stride].astype(np.int64)
    expected = np.einsum("khvbcyx,nkyxoc->nhvbo", image, inputs["w"].astype(np.int64))
    label = f"conv {x.shape} * {w.shape} by {stride} tile {tile} threads {threads}"
    return Case(label, s, (x, w, y), inputs, expected.astype(np.int8))


def _schedule_gemm(
    s: te.Schedule,
    y: te.Tensor,
    acc: te.Tensor,
    operands: tuple[te.Tensor, te.Tensor],
    tile: list[int],
    threads: Threads,
    step: int,
    rng: np.random.Generator,
    config: VtaConfig,
) -> None:
    """Random loop order and places of the caches around a tensorized reduction."""
    data = s.cache_read(operands[0], "inp", [acc])
    weights = s.cache_read(operands[1], "wgt", [acc])
    s[acc].set_scope("acc")
    axes = list(s[y].axes)
    marked = _marked(s, y, axes, threads)
    outer, inner = [], []
    for axis, size in zip(axes, tile, strict=False):
        axis_o, axis_i = s[y].split(axis, size)
        outer.append(axis_o)
        inner.append(axis_i)
    loops = [*marked, *outer]
    s[y].reorder(*(loops[int(n)] for n in rng.permutation(len(loops))), *inner)
    at = _last(s, y, loops)
    s[acc].compute_at(s[y], at)
    k, *window, c = s[acc].reduce_axes
    k_o, k_i = s[acc].split(k, step)
    *plain, b, o = s[acc].axes
    middle = [k_i, *window, *plain]
    s[acc].reorder(k_o, *(middle[int(n)] for n in rng.permutation(len(middle))), b, o, c)
    s[acc].tensorize(b, gemm_intrin(config))
    for cache in (data, weights):
        place = int(rng.integers(3))
        if place == 0:
            s[cache].compute_at(s[acc], k_o)
            continue
        leaf = at if place == 1 else s[y].leaves[int(rng.integers(s[y].leaves.index(at) + 1))]
        s[cache].compute_at(s[y], leaf)
        if s[y].kinds.get(leaf) != "vthread" and rng.random() < 0.5:
            s[cache].double_buffer()


CASES = {"add": vector_add, "matmul": matmul, "conv2d": conv2d}
