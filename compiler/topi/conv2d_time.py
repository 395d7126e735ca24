"""How long a convolution takes with a tiling: a model of the machine's pipeline.

A step loads inputs and weights, then multiplies; a tile ends with requantisation and a store.
`estimated_cycles` looks at sums alone, for many tilings at once. `modelled_cycles` goes through the
steps of one tiling and keeps when the bus, the units and the buffers are free again. It leaves out
single cycles of the control, and of many tiles it takes some for all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from compiler.topi.conv2d_space import IntArray, Tiles, input_blocks, window
from compiler.topi.conv2d_tiling import INPUTS, NOTHING, WEIGHTS, ConvShape, ConvTiling
from compiler.topi.requant import PARAMS
from vta_hw.spec.config import INSN_BYTES, MemType, VtaConfig

FloatArray = npt.NDArray[np.float64]

_REACT = 10
"""Cycles from the end of what an instruction waits for to its first request or micro-op."""
_BETWEEN = 5
"""Cycles between the products of one instruction and those of the next."""
_END = 40
"""Cycles before the first request and after the last response."""
_LATER = float("inf")
_STEPS_MOST = 300
"""Steps that are gone through one by one, about."""


@dataclass(frozen=True, eq=False)
class Work:
    """What parts of tilings' work take: cycles of their unit, a number per tiling.

    Of the bus: `inputs` of a step (of a place if they are kept), `weights` of a step (of a block
    of output channels if they are kept), `params` of a block, `fetch` of a tile's instructions. Of
    other units: `products` of a step; `requant`, `zero` and `store` of a tile. `stall` is how
    long requantisation waits where it and the next tile's products work in one half of ACC.
    """

    inputs: FloatArray
    weights: FloatArray
    params: FloatArray
    fetch: FloatArray
    products: FloatArray
    requant: FloatArray
    zero: FloatArray
    store: FloatArray
    stall: FloatArray
    k_steps: FloatArray
    window_steps: FloatArray
    places: FloatArray
    blocks: FloatArray


def _real(numbers: IntArray) -> FloatArray:
    return numbers.astype(np.float64)


def work_of(t: Tiles, s: ConvShape, config: VtaConfig) -> Work:
    """The work of tilings; `places` and `blocks` are counted per thread."""
    bus_bytes = (1 << config.log_bus_width) // 8
    rows, columns = window(t, s)
    vectors = t.co * t.h * t.w
    k_steps, window_steps = s.ci // t.ci, s.kh // t.kh
    products = k_steps * window_steps
    reads = PARAMS if config.has("requant") else 1

    def beats(memory: MemType, elements: IntArray) -> FloatArray:
        return np.ceil(elements * config.elem_bytes(memory) / bus_bytes)

    instructions = k_steps * (input_blocks(t, s) + window_steps) + products + t.co + 3
    parted = vectors * s.buffers + t.co * s.params <= config.depth(MemType.ACC) // 2
    requant = s.passes * (vectors + _BETWEEN + reads * t.co)
    return Work(
        inputs=beats(
            MemType.INP, rows * columns * np.where(t.keeps(INPUTS), s.ci, input_blocks(t, s))
        ),
        weights=beats(
            MemType.WGT, t.co * s.kw * np.where(t.keeps(WEIGHTS), s.ci * s.kh, t.ci * t.kh)
        ),
        params=beats(MemType.ACC, t.co * s.params),
        fetch=instructions * INSN_BYTES / bus_bytes,
        products=_real(vectors * t.ci * t.kh * s.kw + _BETWEEN),
        requant=_real(requant),
        zero=_real(vectors),
        store=beats(MemType.OUT, vectors),
        stall=np.where(parted, 0, requant),
        k_steps=_real(k_steps),
        window_steps=_real(window_steps),
        places=_real((s.h // t.h // t.h_threads) * (s.w // t.w)),
        blocks=_real(s.n * (s.co // t.co // t.co_threads)),
    )


def _is_beside(t: Tiles, config: VtaConfig) -> np.ndarray:
    """Whether a tile's requantisation can run beside the products of another one."""
    return (t.acc_halves * t.threads > 1) & config.has("overlap")


def estimated_cycles(t: Tiles, s: ConvShape, config: VtaConfig) -> FloatArray:
    """About what tilings take, as their busiest units have it."""
    w = work_of(t, s, config)
    steps, rounds = w.k_steps * w.window_steps, w.places * w.blocks
    inputs = np.where(t.keeps(INPUTS), w.inputs / w.blocks, w.inputs * w.k_steps)
    weights = np.where(t.keeps(WEIGHTS), w.weights / w.places, w.weights * steps)
    params = np.where(t.keeps(INPUTS), w.params, w.params / w.places)
    bus = inputs + weights + params + w.fetch
    beside = _is_beside(t, config)
    rest = np.where(beside, w.stall / 2, w.requant + w.zero)
    # Loads run ahead of the products by as many steps as there are buffers.
    ahead = np.minimum(steps, t.threads * np.minimum(t.inp_halves, t.wgt_halves))
    load = bus / steps
    array = np.maximum(rest, ahead * load) + ahead * w.products
    array += (steps - ahead) * np.maximum(w.products, load)
    array = np.where(ahead == 1, array + (steps - 1) * (w.products + config.dram_latency), array)
    tail = w.requant + w.store + config.dram_latency
    chain = np.where(beside, tail + w.zero, 0)  # until a tile's accumulators are free again
    each = np.maximum(np.maximum(bus, array), chain / np.maximum(1, t.acc_halves * t.threads - 1))
    return rounds * t.threads * each + w.inputs + w.weights + tail


def least_cycles(t: Tiles, s: ConvShape, config: VtaConfig) -> FloatArray:
    """What no program with these tilings stays below: a bound, where the others are estimates.

    All products come one after the other, and so do the beats of all loads.
    """
    w = work_of(t, s, config)
    steps, tiles = w.k_steps * w.window_steps, t.threads * w.places * w.blocks
    # Padding does not come over the bus.
    rows, columns = window(t, s)
    whole = (s.h // t.h) * rows, (s.w // t.w) * columns
    read = (whole[0] - s.pads[0] - s.pads[2]) * (whole[1] - s.pads[1] - s.pads[3])
    inputs = w.inputs * np.where(t.keeps(INPUTS), t.threads * w.places * s.n, tiles * w.k_steps)
    inputs *= read / (whole[0] * whole[1])
    weights = w.weights * np.where(t.keeps(WEIGHTS), t.threads * w.blocks, tiles * steps)
    products = float(s.n * s.co * s.h * s.w * s.ci * s.kh * s.kw)
    return np.maximum(inputs + weights, products)


def modelled_cycles(tiles: Tiles, s: ConvShape, config: VtaConfig) -> list[float]:
    """Cycles of the whole layer with each tiling, alone on the machine."""
    work = work_of(tiles, s, config)
    columns = [getattr(work, item.name).tolist() for item in fields(work)]
    names = [item.name for item in fields(work)]
    beside = _is_beside(tiles, config).tolist()
    return [
        _Pipeline(tiling, dict(zip(names, costs, strict=True)), is_beside, config).cycles()
        for tiling, costs, is_beside in zip(
            tiles.tilings(s), zip(*columns, strict=True), beside, strict=True
        )
    ]


def _buffers(copies: int) -> deque[float]:
    """When buffers of one kind, used in turn, are free: first the one that comes next.

    To append until when it is in use takes it away.
    """
    return deque([0.0] * copies, maxlen=copies)


class _Pipeline:
    def __init__(
        self, t: ConvTiling, cost: Mapping[str, float], beside: bool, config: VtaConfig
    ) -> None:
        self.kept, self.threads = t.kept, range(t.threads)
        self.cost = cost  # as in `Work`
        self.products = cost["products"]
        self.steps = [int(cost["k_steps"]), int(cost["window_steps"])]
        self.places, self.blocks = int(cost["places"]), int(cost["blocks"])
        self.latency = config.dram_latency
        self.overlap = config.has("overlap")
        self.beside = beside
        self.bus = self.load = self.gemm = self.alu = self.store = 0.0
        halves = (t.inp_halves, t.wgt_halves, t.acc_halves)
        inputs, weights, self.acc = (_buffers(t.threads * count) for count in halves)
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
        load, bus = self.load, self.bus
        kinds = [(self.streams[what], self.cost[what], self.there[what]) for what in whats]
        for thread in self.threads:
            for ends, cost, there in kinds:
                free = ends[0]
                if free:
                    load = max(load, free + _REACT)
                there[thread] = bus = max(bus, load + self.latency) + cost
                # In use until it is known better.
                ends.append(_LATER)
        self.load, self.bus = load, bus

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
        self.bus += cost["fetch"] * len(self.threads)
        ready = [self._zeroed() for _ in self.threads]
        ended = ready
        for _ in range(self.steps[0]):
            parts = self.steps[1]
            if self.kept == NOTHING and parts == 1:
                self._loaded(WEIGHTS, INPUTS)
            elif self.kept != INPUTS:
                self._loaded(INPUTS)
            for _ in range(parts):
                if self.kept != WEIGHTS and not (self.kept == NOTHING and parts == 1):
                    self._loaded(WEIGHTS)
                ended = self._multiplied(ready)
                if self.kept != WEIGHTS:
                    self._used(WEIGHTS, ended)
            if self.kept != INPUTS:
                self._used(INPUTS, ended)
        if at == inner - 1 and self.kept != NOTHING:
            self._used(self.kept, ended)
        for end in ended:
            self._finished(end, number)
        return self.store

    def _used(self, what: str, ended: list[float]) -> None:
        for position, end in enumerate(ended):
            self.streams[what][position - len(ended)] = end

    def _zeroed(self) -> float:
        """When the accumulators of the next tile are zero."""
        free = self.acc[0]
        if self.overlap:
            return free + _REACT + self.cost["zero"] if free else 0.0
        self.gemm = max(self.gemm, free + _REACT) + self.cost["zero"] + _BETWEEN
        return self.gemm

    def _multiplied(self, ready: list[float]) -> list[float]:
        """When a step's products of each thread end."""
        ended = []
        for inputs, weights, zeroed in zip(*self.there.values(), ready, strict=True):
            self.gemm = max(self.gemm, max(inputs, weights) + _REACT, zeroed) + self.products
            ended.append(self.gemm)
        return ended

    def _finished(self, ended: float, number: int) -> None:
        """Requantise and store a tile."""
        cost = self.cost
        if self.beside:
            if cost["stall"] and number:
                self.alu = max(self.alu, ended + cost["stall"])
            start = max(self.alu, ended + _REACT)
            self.gemm = max(self.gemm, start)
        else:
            start = max(self.alu, self.gemm + _REACT)
            self.gemm = start + cost["requant"]
        self.alu = start + cost["requant"]
        self.store = max(self.store, self.alu + _REACT) + cost["store"]
        self.acc.append(self.store + self.latency)
