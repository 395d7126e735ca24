"""How long a convolution takes with a tiling: a model of the machine's pipeline.

A step loads inputs and weights, then multiplies; a tile ends with requantisation and a store.
`least_cycles` looks at sums alone, for many tilings at once. `modelled_cycles` goes through the
steps of one tiling and keeps when the bus, the units and the buffers are free again. It leaves out
single cycles of the control, and of many tiles it takes some for all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.topi.conv2d_space import IntArray, Tiles, input_blocks, window
from compiler.topi.conv2d_tiling import INPUTS, NOTHING, WEIGHTS, ConvShape, ConvTiling
from compiler.topi.requant import PARAMS
from vta_hw.spec.config import INSN_BYTES, MemType, VtaConfig

Numbers = npt.NDArray[Any]

_REACT = 10
"""Cycles from the end of what an instruction waits for to its first request or micro-op."""
_BETWEEN = 5
"""Cycles between the products of one instruction and those of the next."""
_END = 40
"""Cycles before the first request and after the last response."""
_STEPS_MOST = 300
"""Steps that are gone through one by one, about."""


@dataclass(frozen=True, eq=False)
class Work:
    """What parts of tilings' work take: cycles of their unit, a number per tiling.

    Of the bus: `inputs` of a step (of a place if they are kept), `weights` of a step (of a block
    of output channels if they are kept), `params` of a block, `others` of a tile: instructions and
    the tail's operands. Of other units: `products` of a step; `tail`, `zero` and `store` of a tile.
    `stall` is what the tail takes longer if its parameters are in the half of ACC into which the
    next tile's products go: each change of parameters waits for an end of products.
    """

    inputs: Numbers
    weights: Numbers
    params: Numbers
    others: Numbers
    products: Numbers
    tail: Numbers
    zero: Numbers
    store: Numbers
    stall: Numbers
    k_steps: Numbers
    window_steps: Numbers
    places: Numbers
    blocks: Numbers


def work_of(t: Tiles, s: ConvShape, config: VtaConfig) -> Work:
    """The work of tilings; `places` and `blocks` are counted per thread."""
    bus_bytes = (1 << config.log_bus_width) // 8

    def beats(memory: MemType, elements: IntArray) -> Numbers:
        return np.ceil(elements * config.elem_bytes(memory) / bus_bytes)

    rows, columns = window(t, s)
    vectors = t.co * t.h * t.w
    k_steps, window_steps = s.ci // t.ci, s.kh // t.kh
    blocks = np.where(t.keeps(INPUTS), s.ci, input_blocks(t, s))
    taps = np.where(t.keeps(WEIGHTS), s.ci * s.kh, t.ci * t.kh) * s.kw
    loads = k_steps * (input_blocks(t, s) + window_steps) + t.co
    instructions = loads + k_steps * window_steps + s.operations + s.operands + 3
    fetched = instructions * INSN_BYTES / bus_bytes
    reads = PARAMS if config.has("requant") else 1
    tail = s.passes * vectors + s.operations * (_BETWEEN + reads * t.co)
    # The accumulators' halves are in different halves of ACC, if all fits so.
    apart = vectors * s.buffers + t.co * s.params + s.fixed <= config.depth(MemType.ACC) // 2
    return Work(
        inputs=beats(MemType.INP, blocks * rows * columns),
        weights=beats(MemType.WGT, t.co * taps),
        params=beats(MemType.ACC, t.co * s.params),
        others=fetched + s.operands * beats(MemType.ACC_8BIT, vectors),
        products=vectors * t.ci * t.kh * s.kw + _BETWEEN,
        tail=tail,
        zero=vectors,
        store=beats(MemType.OUT, vectors),
        stall=np.where(apart, (t.co - 1) * (t.h * t.w + reads), tail),
        k_steps=k_steps,
        window_steps=window_steps,
        places=(s.h // t.h // t.h_threads) * (s.w // t.w),
        blocks=s.n * (s.co // t.co // t.co_threads),
    )


def _is_beside(t: Tiles, config: VtaConfig) -> np.ndarray:
    """Whether a tile's requantisation can run beside the products of another one."""
    return (t.acc_halves * t.threads > 1) & config.has("overlap")


def estimated_cycles(t: Tiles, s: ConvShape, config: VtaConfig) -> Numbers:
    """About what tilings take, by what keeps a tile longest."""
    w = work_of(t, s, config)
    steps = w.k_steps * w.window_steps
    inputs = np.where(t.keeps(INPUTS), w.inputs / w.blocks, w.inputs * w.k_steps)
    weights = np.where(t.keeps(WEIGHTS), w.weights / w.places, w.weights * steps)
    params = np.where(t.keeps(INPUTS), w.params, w.params / w.places)
    bus = inputs + weights + params + w.others
    done = w.tail + w.store + config.dram_latency + 3 * _REACT
    # Where the tail stops the products, loads run on by as many steps as there are buffers.
    ahead = np.minimum(steps, t.threads * np.minimum(t.inp_halves, t.wgt_halves))
    load = bus / steps
    array = np.maximum(w.tail + w.zero, ahead * load) + ahead * w.products
    array += (steps - ahead) * np.maximum(w.products, load)
    beside = _is_beside(t, config)
    array = np.where(beside, steps * w.products + w.stall / 2, array)
    array = np.where(ahead == 1, array + (steps - 1) * (w.products + config.dram_latency), array)
    turn = np.where(beside, done + w.zero, 0)  # until the next tile's accumulators are zero
    each = np.maximum(np.maximum(bus, array), turn)
    return w.places * w.blocks * t.threads * each + w.inputs + w.weights + done


def modelled_cycles(t: ConvTiling, s: ConvShape, config: VtaConfig) -> float:
    """Cycles of the whole layer, alone on the machine."""
    return _Pipeline(t, s, config).cycles()


class _Stream:
    """Buffers of one kind, used in turn: when the one that comes next is free."""

    def __init__(self, copies: int) -> None:
        self.ends = deque([0.0] * copies, maxlen=copies)

    @property
    def free(self) -> float:
        return self.ends[0]

    def use(self, until: float) -> None:
        """The next buffer is in use until then."""
        self.ends.append(until)


class _Pipeline:
    def __init__(self, t: ConvTiling, s: ConvShape, config: VtaConfig) -> None:
        tiles = Tiles.of([t], s)
        work = work_of(tiles, s, config)
        self.kept, self.threads = t.kept, range(t.threads)
        self.cost = {f.name: float(getattr(work, f.name)[0]) for f in fields(work)}
        self.steps = [int(work.k_steps[0]), int(work.window_steps[0])]
        self.places, self.blocks = int(work.places[0]), int(work.blocks[0])
        self.latency = config.dram_latency
        self.overlap = config.has("overlap")
        self.beside = bool(_is_beside(tiles, config)[0])
        self.bus = self.load = self.gemm = self.alu = self.store = self.zeroed = 0.0
        halves = (t.inp_halves, t.wgt_halves, t.acc_halves)
        inputs, weights, self.acc = (_Stream(t.threads * count) for count in halves)
        self.streams = {INPUTS: inputs, WEIGHTS: weights}
        self.there = {INPUTS: [0.0] * t.threads, WEIGHTS: [0.0] * t.threads}

    def cycles(self) -> float:
        rounds = self.places * self.blocks
        inner = self.blocks if self.kept == INPUTS else self.places
        steps = self.steps[0] * self.steps[1] * len(self.threads)
        some = max(8, _STEPS_MOST // steps)
        if some >= inner:  # whole runs of the inner loop
            some = max(2, some // inner) * inner
        some = min(rounds, some)
        ends = [self._round(number) for number in range(some)]
        end = ends[-1]
        if some < rounds:
            first = some - inner if some > inner else some // 2
            end += (ends[-1] - ends[first - 1]) / (some - first) * (rounds - some)
        return end + self.latency + _END

    def _loaded(self, *whats: str) -> None:
        """Load all threads' weights, inputs, or both: what a thread needs comes together."""
        for thread in self.threads:
            for what in whats:
                stream = self.streams[what]
                free = stream.free
                self.load = max(self.load, free + _REACT if free else 0.0)
                self.bus = max(self.bus, self.load + self.latency) + self.cost[what]
                self.there[what][thread] = self.bus
                # In use until it is known better.
                stream.use(float("inf"))

    def _round(self, number: int) -> float:
        """A tile of every thread; the cycle in which the last one is stored."""
        cost = self.cost
        inner, at = self.places, number % self.places
        if self.kept == INPUTS:
            inner, at = self.blocks, number % self.blocks
        if at == 0 and self.kept != NOTHING:
            self._loaded(self.kept)
        if at == 0 or self.kept == INPUTS:
            self.bus += cost["params"] * len(self.threads)
            if not self.overlap:
                self.gemm += (cost["params"] + self.latency + _REACT) * len(self.threads)
        self.bus += cost["others"] * len(self.threads)
        ready = [self._zeroed() for _ in self.threads]
        ended = ready
        outer, within = self._streamed()
        for _ in range(self.steps[0]):
            self._loaded(*outer)
            for _ in range(self.steps[1]):
                self._loaded(*within)
                ended = [self._multiplied(thread, ready) for thread in self.threads]
                for what in within:
                    self._used(what, ended)
            for what in outer:
                self._used(what, ended)
        if at == inner - 1 and self.kept != NOTHING:
            self._used(self.kept, ended)
        for end in ended:
            self._finished(end, number)
        return self.store

    def _streamed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is loaded per step of input channels, and per step of rows of the window."""
        if self.kept == INPUTS:
            return (), (WEIGHTS,)
        if self.kept == WEIGHTS:
            return (INPUTS,), ()
        return ((WEIGHTS, INPUTS), ()) if self.steps[1] == 1 else ((INPUTS,), (WEIGHTS,))

    def _used(self, what: str, ended: list[float]) -> None:
        for position, end in enumerate(ended):
            self.streams[what].ends[position - len(ended)] = end

    def _zeroed(self) -> float:
        """When the accumulators of the next tile are zero."""
        free = self.acc.free
        if self.overlap:
            return free + _REACT + self.cost["zero"] if free else 0.0
        self.gemm = max(self.gemm, free + _REACT) + self.cost["zero"] + _BETWEEN
        return self.gemm

    def _multiplied(self, thread: int, ready: list[float]) -> float:
        data = max(there[thread] for there in self.there.values())
        self.gemm = max(self.gemm, data + _REACT, ready[thread]) + self.cost["products"]
        return self.gemm

    def _finished(self, ended: float, number: int) -> None:
        """Requantise and store a tile."""
        cost = self.cost
        if self.beside:
            if number % 2 == 0:  # the tile before is in the half of ACC without parameters
                self.alu = max(self.alu, ended + cost["stall"] if number else 0.0)
            # Zeroing of the tile after the next one comes before it, and waits for the last store.
            start = max(self.alu, ended + _REACT, self.zeroed + _BETWEEN)
            self.gemm = max(self.gemm, start)
        else:
            start = max(self.alu, self.gemm + _REACT)
            self.gemm = start + cost["tail"]
        self.alu = start + cost["tail"]
        self.store = max(self.store, self.alu + _REACT) + cost["store"]
        self.acc.use(self.store + self.latency)
        self.zeroed = self.acc.ends[-1] + _REACT + cost["zero"]
