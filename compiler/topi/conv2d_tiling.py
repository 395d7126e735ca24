"""Tile sizes of a convolution: all legal ones, and the choice among them by a traffic model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product

from compiler.errors import CapacityError
from compiler.topi.kernel import divisors
from vta_hw.spec.config import MemType, VtaConfig


@dataclass(frozen=True)
class ConvTiling:
    """Blocks of output channels and input channels, rows and columns per tile; virtual threads."""

    co: int
    ci: int
    h: int
    w: int
    co_threads: int = 1
    h_threads: int = 1
    halves: int = 1

    def knobs(self) -> dict[str, int]:
        """The choices by name."""
        return {f"tile_{k}" if "_" not in k else k: v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class ConvShape:
    """What a tiling depends on: extents in blocks, window, strides.

    `params` and `buffers` are what the requantisation needs in ACC: parameter vectors per output
    block, and tiles of accumulators in use at once; `fixed` vectors serve all blocks. `group` and
    `is_diagonal`: see GroupedWeights.
    """

    n: int
    ci: int
    co: int
    h: int
    w: int
    kh: int
    kw: int
    sh: int
    sw: int
    params: int
    buffers: int
    fixed: int
    group: int
    is_diagonal: bool


@lru_cache(maxsize=1024)
def choose_tiling(shape: ConvShape, config: VtaConfig) -> ConvTiling:
    """The legal tiling of least modelled time; refused if not even single blocks fit."""
    best = min(_legal(shape, config), key=lambda t: _cost(t, shape, config), default=None)
    if best is None:
        tile = ConvTiling(1, 1, 1, 1)
        use = _use(tile, shape)
        parts = ", ".join(
            f"{memory.name} {use[memory]} of {config.depth(memory)}" for memory in use
        )
        raise CapacityError(
            f"no tile of a {shape.kh}x{shape.kw} convolution fits config {config.name!r}: "
            f"the smallest needs {parts} elements"
        )
    return best


def _legal(shape: ConvShape, config: VtaConfig) -> Iterator[ConvTiling]:
    sizes = product(divisors(shape.group), divisors(shape.ci), divisors(shape.h), divisors(shape.w))
    for co, ci, h, w in sizes:
        for co_threads, h_threads, halves in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
            if shape.group // co % co_threads or shape.h // h % h_threads:
                continue
            tiling = ConvTiling(co, ci, h, w, co_threads, h_threads, halves)
            use = _use(tiling, shape)
            if all(use[memory] <= config.depth(memory) for memory in use):
                yield tiling


def _use(t: ConvTiling, s: ConvShape) -> dict[MemType, int]:
    """Elements of each memory that a tiling needs, all threads together."""
    threads = t.co_threads * t.h_threads * t.halves
    rows, columns = _window(t, s)
    return {
        MemType.INP: threads * _input_blocks(t, s) * rows * columns,
        MemType.WGT: threads * t.co * t.ci * s.kh * s.kw,
        MemType.ACC: threads * t.co * (s.buffers * t.h * t.w + s.params) + s.fixed,
        # Micro-ops that the two instruction loops leave; threads have lists of their own.
        MemType.UOP: threads * _micro_ops(t, s) + t.co * threads,
    }


def _input_blocks(t: ConvTiling, s: ConvShape) -> int:
    """Input blocks in one tile: each output block of a diagonal convolution reads its own."""
    return t.co if s.is_diagonal else t.ci


def _window(t: ConvTiling, s: ConvShape) -> tuple[int, int]:
    return (t.h - 1) * s.sh + s.kh, (t.w - 1) * s.sw + s.kw


def _micro_ops(t: ConvTiling, s: ConvShape) -> int:
    extents = sorted((t.co, t.ci, s.kh, s.kw, t.h, t.w))
    count = 1
    for extent in extents[:-2]:
        count *= extent
    return count


def _cost(t: ConvTiling, s: ConvShape, config: VtaConfig) -> tuple[float, int]:
    """Modelled cycles: the slower of array and bus, plus what starting transfers costs."""
    bus_bytes = (1 << config.log_bus_width) // 8
    tiles = s.n * (s.co // t.co) * (s.h // t.h) * (s.w // t.w)
    steps = tiles * (s.ci // t.ci)
    rows, columns = _window(t, s)
    inp = steps * _input_blocks(t, s) * rows * columns * config.elem_bytes(MemType.INP)
    wgt = steps * t.co * t.ci * s.kh * s.kw * config.elem_bytes(MemType.WGT)
    out = tiles * t.co * t.h * t.w * config.elem_bytes(MemType.OUT)
    macs = s.n * s.co * s.ci * s.h * s.w * s.kh * s.kw
    threads = t.co_threads * t.h_threads * t.halves
    # Zeroing, and requantisation unless it runs beside the next tile's products.
    passes = 1 if config.has("overlap") and t.halves > 1 else 2
    array = macs + passes * tiles * t.co * t.h * t.w
    if t.halves > 1 and t.ci == s.ci:
        wgt = s.n * s.co * s.ci * s.kh * s.kw * config.elem_bytes(MemType.WGT)
    bus = (inp + wgt + out) / bus_bytes
    started = steps * (config.dram_latency + 20) + tiles * 40
    # Threads hide the shorter of the two behind the longer; without them they add up.
    time = max(array, bus) + started / threads if threads > 1 else array + bus + started
    return time, steps
