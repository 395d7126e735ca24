"""The tilings that the convolution template offers for one shape: its knobs, and what fits.

All is computed for many tilings at once, see `Tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.errors import CapacityError, ScheduleError
from compiler.topi.conv2d_tiling import INPUTS, KEPT, WEIGHTS, ConvShape, ConvTiling
from compiler.topi.kernel import divisors
from vta_hw.spec.config import MemType, VtaConfig

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

THREADS_MOST = 4
"""Virtual threads over blocks of output channels and over rows, together."""
_STEPS_MOST = 256
"""Steps of a layer, unless even the largest tiles that fit make nearly as many."""
_STEPS_RATIO = 8
"""A layer may always have so many times the fewest steps."""
_MEMORY_OF = {
    "inputs": MemType.INP,
    "weights": MemType.WGT,
    "accumulators": MemType.ACC,
    "parameters": MemType.ACC,
    "common parameters": MemType.ACC,
    "micro-ops": MemType.UOP,
}


@dataclass(frozen=True, eq=False)
class Tiles:
    """Many tilings at once, a column per knob of `ConvTiling`; `kept` is a place in `KEPT`."""

    co: IntArray
    ci: IntArray
    h: IntArray
    w: IntArray
    co_threads: IntArray
    h_threads: IntArray
    inp_halves: IntArray
    wgt_halves: IntArray
    acc_halves: IntArray
    kept: IntArray
    kh: IntArray

    @classmethod
    def of(cls, tilings: Sequence[ConvTiling], shape: ConvShape) -> Tiles:
        """The columns of some tilings."""
        rows = [{**asdict(t), "kept": KEPT.index(t.kept), "kh": t.kh or shape.kh} for t in tilings]
        return cls(*(np.array([row[name] for row in rows], np.int64) for name in KNOBS))

    @classmethod
    def product(cls, values: Mapping[str, Sequence[int]]) -> Tiles:
        """All combinations of values of the knobs; the last knob changes fastest."""
        grid = np.meshgrid(*(np.array(values[name], np.int64) for name in KNOBS), indexing="ij")
        return cls(*(column.ravel() for column in grid))

    @property
    def columns(self) -> tuple[IntArray, ...]:
        """The columns in the order of `KNOBS`."""
        return tuple(getattr(self, name) for name in KNOBS)

    @property
    def threads(self) -> IntArray:
        """Virtual threads in all."""
        return self.co_threads * self.h_threads

    @property
    def halves(self) -> IntArray:
        """The most halves of any buffer."""
        return np.maximum(np.maximum(self.inp_halves, self.wgt_halves), self.acc_halves)

    def keeps(self, what: str) -> BoolArray:
        """Which tilings keep `what`, one of `KEPT`."""
        return self.kept == KEPT.index(what)

    def __len__(self) -> int:
        return len(self.co)

    def __getitem__(self, chosen: BoolArray | IntArray) -> Tiles:
        return Tiles(*(column[chosen] for column in self.columns))

    def tilings(self, shape: ConvShape) -> Iterator[ConvTiling]:
        """The tilings one by one."""
        for values in zip(*(column.tolist() for column in self.columns), strict=True):
            row: dict[str, Any] = dict(zip(KNOBS, values, strict=True))
            kh = row["kh"] if row["kh"] < shape.kh else None
            yield ConvTiling(**{**row, "kept": KEPT[row["kept"]], "kh": kh})


KNOBS = tuple(field.name for field in fields(Tiles))
"""Names of the knobs."""


def knob_values(shape: ConvShape) -> dict[str, tuple[int, ...]]:
    """What each knob can be for a shape, in terms of `Tiles`."""
    threads = tuple(range(1, THREADS_MOST + 1))
    return {
        "co": tuple(divisors(shape.group)),
        "ci": tuple(divisors(shape.ci)),
        "h": tuple(divisors(shape.h)),
        "w": tuple(divisors(shape.w)),
        "co_threads": threads,
        "h_threads": threads,
        "inp_halves": (1, 2),
        "wgt_halves": (1, 2),
        "acc_halves": (1, 2),
        "kept": tuple(range(len(KEPT))),
        "kh": tuple(divisors(shape.kh)),
    }


def legal_tiles(
    shape: ConvShape, config: VtaConfig, values: Mapping[str, Sequence[int]] | None = None
) -> Tiles:
    """All tilings of a shape that fit the memories of `config`, in a fixed order.

    `values` narrows what knobs can be. Tilings with absurdly many steps are left out.
    """
    tiles = Tiles.product({**knob_values(shape), **(values or {})})
    tiles = tiles[_is_offered(tiles, shape)]
    tiles = tiles[_fits(tiles, shape, config)]
    if not len(tiles):
        return tiles
    steps = steps_of(tiles, shape)
    return tiles[steps <= max(_STEPS_MOST, _STEPS_RATIO * int(steps.min()))]


def steps_of(t: Tiles, s: ConvShape) -> IntArray:
    """Steps of the whole layer, those of all threads."""
    tiles = s.n * (s.co // t.co) * (s.h // t.h) * (s.w // t.w)
    return tiles * (s.ci // t.ci) * (s.kh // t.kh)


def _is_offered(t: Tiles, s: ConvShape) -> BoolArray:
    """Whether sizes and threads divide what they cut, and what is kept has several users."""
    divides = np.ones(len(t), bool)
    for size, extent in ((t.co, s.group), (t.ci, s.ci), (t.h, s.h), (t.w, s.w), (t.kh, s.kh)):
        divides &= extent % size == 0
    divides &= (s.group // t.co % t.co_threads == 0) & (s.h // t.h % t.h_threads == 0)
    # In a diagonal convolution each block of output channels has inputs of its own.
    return divides & (t.threads <= THREADS_MOST) & ~(t.keeps(INPUTS) & s.is_diagonal)


def _fits(t: Tiles, s: ConvShape, config: VtaConfig) -> BoolArray:
    fits = np.ones(len(t), bool)
    for memory, need in sram_use(t, s).items():
        fits &= need <= config.depth(memory)
    return fits


def sram_use(t: Tiles, s: ConvShape) -> dict[MemType, IntArray]:
    """Elements of each memory that tilings need at once."""
    use: dict[MemType, IntArray] = {}
    for name, need in _buffers(t, s).items():
        use[_MEMORY_OF[name]] = use.get(_MEMORY_OF[name], 0) + need
    return use


def _buffers(t: Tiles, s: ConvShape) -> dict[str, IntArray]:
    """Elements of each buffer, those of all threads and halves together; see `_MEMORY_OF`."""
    row = s.group // t.co // t.co_threads  # tiles that see the same inputs
    blocks = s.n * (s.co // t.co // t.co_threads)
    tiles = blocks * (s.h // t.h // t.h_threads) * (s.w // t.w)
    steps = tiles * (s.ci // t.ci)
    rows, columns = window(t, s)

    # A buffer has halves only if there is more than one round to use them in turn.
    input_rounds = np.where(t.keeps(INPUTS), tiles // row, steps)
    weight_rounds = np.where(t.keeps(WEIGHTS), blocks, steps * (s.kh // t.kh))
    inputs = np.where(t.keeps(INPUTS), s.ci, input_blocks(t, s)) * rows * columns
    weights = np.where(t.keeps(WEIGHTS), s.ci * s.kh, t.ci * t.kh) * s.kw
    acc_halves = np.where(tiles > 1, t.acc_halves, 1)
    return {
        "inputs": t.threads * np.where(input_rounds > 1, t.inp_halves, 1) * inputs,
        "weights": t.threads * np.where(weight_rounds > 1, t.wgt_halves, 1) * t.co * weights,
        "parameters": t.threads * acc_halves * t.co * s.params,
        "common parameters": np.full_like(t.co, s.fixed),
        "accumulators": t.threads * acc_halves * t.co * s.buffers * t.h * t.w,
        "micro-ops": t.threads * t.halves * (_micro_ops(t, s) + t.co),
    }


def input_blocks(t: Tiles, s: ConvShape) -> IntArray:
    """Input blocks in one step: each output block of a diagonal convolution reads its own."""
    return t.co if s.is_diagonal else t.ci


def window(t: Tiles, s: ConvShape) -> tuple[IntArray, IntArray]:
    """Rows and columns of the inputs of a tile."""
    return (t.h - 1) * s.sh + s.kh, (t.w - 1) * s.sw + s.kw


def _micro_ops(t: Tiles, s: ConvShape) -> IntArray:
    """Micro-ops that the two loops of an instruction leave."""
    extents = np.sort(np.stack([t.co, t.ci, t.kh, np.full_like(t.kh, s.kw), t.h, t.w]), axis=0)
    return extents[:-2].prod(axis=0)


def check_tiling(tiling: ConvTiling, shape: ConvShape, config: VtaConfig) -> None:
    """Refuse a tiling that does not divide the shape, or does not fit: with the buffers' sum."""
    if tiling.kept not in KEPT:
        raise ScheduleError(f"tiling {tiling}: kept must be one of {', '.join(KEPT)}")
    tiles = Tiles.of([tiling], shape)
    if not _is_offered(tiles, shape)[0]:
        raise ScheduleError(
            f"tiling {tiling} does not divide a convolution of {shape.co} ({shape.group} together) "
            f"by {shape.ci} blocks of channels, {shape.h} rows, {shape.w} columns and a window of "
            f"{shape.kh}x{shape.kw} into equal parts; choose divisors"
        )
    buffers = {name: int(need[0]) for name, need in _buffers(tiles, shape).items()}
    for memory, need in sram_use(tiles, shape).items():
        parts = [f"{n} ({name})" for name, n in buffers.items() if _MEMORY_OF[name] is memory]
        if need[0] > config.depth(memory):
            raise CapacityError(
                f"tiling {tiling} does not fit: memory {memory.name} of config {config.name!r} has "
                f"{config.depth(memory)} elements, but {' + '.join(parts)} = {need[0]} must be in "
                f"it at once; use smaller tiles or fewer threads"
            )


def check_any(shape: ConvShape, config: VtaConfig) -> None:
    """Refuse a shape of which not even single blocks fit, with what they need."""
    smallest = Tiles.of([ConvTiling(1, 1, 1, 1, kh=1)], shape)
    use = {memory: int(need[0]) for memory, need in sram_use(smallest, shape).items()}
    if any(need > config.depth(memory) for memory, need in use.items()):
        parts = ", ".join(f"{m.name} {need} of {config.depth(m)}" for m, need in use.items())
        raise CapacityError(
            f"no tile of a {shape.kh}x{shape.kw} convolution fits config {config.name!r}: "
            f"the smallest needs {parts} elements"
        )
