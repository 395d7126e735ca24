"""`AxiMemory` with its chip under Verilator, driven by lists of bursts."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fpga.simulation.chip import ChipOptions, chip_options
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.machine import bus_bytes
from vta_hw.spec.sdram import SdramPart, SdramTiming
from vta_hw.verilator.build import Harness, build_library

_BURST = np.dtype(
    [
        ("address", np.uint64),
        ("offset", np.uint64),
        ("not_before", np.int64),
        ("accepted", np.int64),
        ("first", np.int64),
        ("last", np.int64),
        ("beats", np.uint32),
        ("gap", np.uint32),
    ]
)
"""`Burst` of memory_bench.cpp."""

_SETTLE_CYCLES_MAX = 200_000
_CYCLES_PER_BEAT_MAX = 400
_REST_ONE = 1 << 16


@dataclass(frozen=True)
class Request:
    """A burst: its first byte, its beats, and the cycle from which on its address is offered.

    `gap` cycles lie between two beats of a write.
    """

    address: int
    beats: int
    not_before: int = 0
    gap: int = 0


@dataclass(frozen=True)
class Outcome:
    """When what happened to each burst, in cycles, and what was read.

    Of a read, `first` and `last` are its first and last beat. Of a write, `first` is the acceptance
    of its last beat and `last` its response. The rows of `data` are those of all beats.
    """

    accepted: np.ndarray
    first: np.ndarray
    last: np.ndarray
    data: np.ndarray


class MemoryBench:
    """The memory of a board. A violation of the chip's timing raises `DeviceError`."""

    def __init__(
        self,
        config: VtaConfig,
        part: SdramPart,
        clock_hz: int,
        *,
        seed: int = 0,
        timing: SdramTiming | None = None,
    ) -> None:
        """A controller with `timing`, by default that of the part, and the part at `clock_hz`."""
        from fpga.soc.axi_memory import AxiMemory
        from vta_hw.rtl.verilog import CORE, to_verilog

        self.timing = timing or SdramTiming.of(part, clock_hz)
        self.bus_bytes = bus_bytes(config)
        text = to_verilog(AxiMemory(config, self.timing), CORE)
        harness = Harness.of_package("fpga.simulation", "memory_bench.cpp")
        library = ctypes.CDLL(str(build_library(text, self.bus_bytes, harness=harness)))
        for name, result in (
            ("create", ctypes.c_void_p),
            ("words", ctypes.c_void_p),
            ("settle", ctypes.c_int64),
            ("now", ctypes.c_int64),
            ("complaint", ctypes.c_char_p),
            ("refreshes", ctypes.c_uint64),
            ("postponed", ctypes.c_uint64),
        ):
            getattr(library, f"bench_{name}").restype = result
        sizes = library.bench_sizes(0), library.bench_sizes(1)
        assert sizes == (ctypes.sizeof(ChipOptions), _BURST.itemsize), sizes
        self._library = library
        options = chip_options(part, clock_hz, seed)
        self._bench = ctypes.c_void_p(library.bench_create(ctypes.byref(options)))
        weakref.finalize(self, library.bench_destroy, self._bench)
        words = library.bench_words(self._bench)
        pointer = ctypes.cast(words, ctypes.POINTER(ctypes.c_uint8))
        self.memory = np.ctypeslib.as_array(pointer, (part.size_bytes,))
        """What the chip holds, not a copy."""

    def settle(self) -> int:
        """Close rows and refresh; the cycle in which the memory said that it has done so."""
        cycle = self._library.bench_settle(self._bench, ctypes.c_uint64(_SETTLE_CYCLES_MAX))
        self._check()
        if cycle < 0:
            raise DeviceError(f"the memory does not settle within {_SETTLE_CYCLES_MAX} cycles")
        return int(cycle)

    def run(
        self,
        reads: Sequence[Request],
        writes: Sequence[Request] = (),
        write_data: np.ndarray | None = None,
        strobes: np.ndarray | None = None,
        rest: float = 0.0,
    ) -> tuple[Outcome, Outcome]:
        """Do all bursts; each kind in its order, as soon as the memory and `not_before` let it.

        `write_data` has a row for each beat, `strobes` an integer. The master does not take what it
        is given in a share `rest` of all cycles.
        """
        read_bursts, read_beats = self._bursts(reads)
        write_bursts, write_beats = self._bursts(writes)
        read_data = np.zeros((read_beats, self.bus_bytes), np.uint8)
        if write_data is None:
            write_data = np.zeros((write_beats, self.bus_bytes), np.uint8)
        if strobes is None:
            strobes = np.full(write_beats, (1 << self.bus_bytes) - 1, np.uint8)
        assert write_data.shape == (write_beats, self.bus_bytes) and strobes.size == write_beats
        late = max([r.not_before for r in (*reads, *writes)], default=0)
        gaps = sum(r.beats * r.gap for r in writes)
        limit = (read_beats + write_beats + 50) * _CYCLES_PER_BEAT_MAX + late + gaps
        done = self._library.bench_run(
            self._bench,
            *_array(read_bursts), _pointer(read_data),
            *_array(write_bursts), _pointer(np.ascontiguousarray(write_data)),
            _pointer(np.ascontiguousarray(strobes, np.uint8)),
            ctypes.c_uint32(int(rest * _REST_ONE)), ctypes.c_uint64(limit),
        )  # fmt: skip
        self._check()
        if not done:
            raise DeviceError(f"the memory has not done all bursts within {limit} cycles")
        return _outcome(read_bursts, read_data), _outcome(write_bursts, write_data)

    @property
    def now(self) -> int:
        """The present cycle."""
        return int(self._library.bench_now(self._bench))

    @property
    def refreshes(self) -> int:
        """Refresh commands so far."""
        return int(self._library.bench_refreshes(self._bench))

    @property
    def postponed(self) -> int:
        """The most refreshes that were ever owed at once."""
        return int(self._library.bench_postponed(self._bench))

    def _bursts(self, requests: Sequence[Request]) -> tuple[np.ndarray, int]:
        bursts = np.zeros(len(requests), _BURST)
        beats = 0
        for burst, request in zip(bursts, requests, strict=True):
            burst["address"], burst["beats"] = request.address, request.beats
            burst["not_before"], burst["gap"] = request.not_before, request.gap
            burst["offset"] = beats * self.bus_bytes
            beats += request.beats
        return bursts, beats

    def _check(self) -> None:
        complaint = self._library.bench_complaint(self._bench).decode()
        if complaint:
            raise DeviceError(f"{complaint}; this is a defect of the memory controller")


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _array(bursts: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.c_uint64]:
    return _pointer(bursts), ctypes.c_uint64(len(bursts))


def _outcome(bursts: np.ndarray, data: np.ndarray) -> Outcome:
    return Outcome(bursts["accepted"], bursts["first"], bursts["last"], data)
