"""A Verilated core with its memory, driven from Python through ctypes."""

from __future__ import annotations

import ctypes
import os
import weakref
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType

import numpy as np

from vta_hw.spec.errors import DeviceError
from vta_hw.spec.events import NEVER, Timeline
from vta_hw.spec.machine import DECERR, OKAY, SLVERR
from vta_hw.spec.registers import CONTROL_LAUNCH, Register

CHANNELS = ("ar", "r", "aw", "w", "b")
CYCLES_END = (1 << 63) - 1
"""No run takes as many cycles."""

_SLICE_CYCLES = 1 << 20
_START_CYCLES_MAX = 1000
_STALL_ONE = 1 << 16
_ADDRESS_END = 1 << 32


@dataclass(frozen=True)
class MemoryModel:
    """The memory behind the core: rules M1 and M2 of the timing page, or a worse one.

    `stalls` gives, for any of `CHANNELS`, the share of cycles in which the channel rests (0 to 1;
    that of ``ar`` also holds for the control port). Addresses in `error_range` answer with
    `error_code`. From the cycle `stop_cycle` of a run on nothing is answered; that, and anything
    else that leaves a transfer open without any movement for `patience` cycles beyond the latency,
    ends the run with an error. Values out of range raise `DeviceError`.
    """

    latency: int
    max_reads: int
    seed: int = 0
    stalls: dict[str, float] = field(default_factory=dict)
    error_range: tuple[int, int] = (0, 0)
    error_code: int = SLVERR
    stop_cycle: int | None = None
    patience: int = 10_000

    def __post_init__(self) -> None:
        word = (1 << 32) - 1
        stop = 0 if self.stop_cycle is None else self.stop_cycle
        first, end = self.error_range
        for name, value, least, most in (
            ("latency", self.latency, 1, word),
            ("max_reads", self.max_reads, 1, word),
            ("seed", self.seed, 0, (1 << 64) - 1),
            ("the end of error_range", end, 0, _ADDRESS_END),
            ("the beginning of error_range", first, 0, end),
            ("error_code", self.error_code, 1, DECERR),
            ("stop_cycle", stop, 0, CYCLES_END),
            ("patience", self.patience, 0, word),
        ):
            if not least <= value <= most:
                raise DeviceError(
                    f"{name} of the memory model is {value}; give one from {least} to {most}"
                )
        for channel, share in self.stalls.items():
            if channel not in CHANNELS or not 0 <= share < 1:
                raise DeviceError(
                    f"stalls must give shares within 0..1, 1 excluded, for {', '.join(CHANNELS)}, "
                    f"not {share} for {channel!r}"
                )


class Trouble(IntEnum):
    """What made the harness give up, as axi.h has it."""

    NONE = 0
    PROTOCOL = 1
    NO_ANSWER = 2


class ProtocolError(DeviceError):
    """The core broke a rule of a bus: a defect of the hardware, not of the program."""


class _MemoryOptions(ctypes.Structure):
    """`MemoryOptions` of memory.h, field by field."""

    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("error_first", ctypes.c_uint64),
        ("error_end", ctypes.c_uint64),
        ("stop_cycle", ctypes.c_int64),
        ("latency", ctypes.c_uint32),
        ("max_reads", ctypes.c_uint32),
        ("patience", ctypes.c_uint32),
        ("error_code", ctypes.c_uint32),
        ("stalls", ctypes.c_uint32 * len(CHANNELS)),
    )


def _options(model: MemoryModel) -> _MemoryOptions:
    # Rounded down: a share below 1 must not become 1.
    shares = [int(model.stalls.get(channel, 0.0) * _STALL_ONE) for channel in CHANNELS]
    first, end = model.error_range
    stop = -1 if model.stop_cycle is None else model.stop_cycle
    return _MemoryOptions(
        model.seed, first, end, stop, model.latency, model.max_reads, model.patience,
        model.error_code, (ctypes.c_uint32 * len(CHANNELS))(*shares),
    )  # fmt: skip


_POINTER, _COUNT, _CYCLE = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64
_FUNCTIONS = {
    "bus_bytes": (ctypes.c_uint32, ()),
    "options_bytes": (ctypes.c_uint32, ()),
    "create": (_POINTER, (ctypes.POINTER(_MemoryOptions),)),
    "destroy": (None, (_POINTER,)),
    "attach": (None, (_POINTER, _POINTER, _COUNT, _COUNT)),
    "reset": (None, (_POINTER,)),
    "record": (None, (_POINTER, _POINTER, _POINTER, _POINTER, _COUNT)),
    "access": (
        ctypes.c_int,
        (_POINTER, ctypes.c_int, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)),
    ),
    "run": (None, (_POINTER, _COUNT)),
    "trouble": (ctypes.c_int, (_POINTER,)),
    "message": (ctypes.c_char_p, (_POINTER,)),
    "started": (ctypes.c_int, (_POINTER,)),
    "ended": (ctypes.c_int, (_POINTER,)),
    "irq": (ctypes.c_int, (_POINTER,)),
    "cycles": (_CYCLE, (_POINTER,)),
    "spans": (_COUNT, (_POINTER, ctypes.c_int, _POINTER)),
    "open_waves": (ctypes.c_int, (_POINTER, ctypes.c_char_p, _CYCLE, _CYCLE)),
    "close_waves": (None, (_POINTER,)),
}


class Simulation:
    """One core from a library that `build_library` made, reset, with a memory attached.

    Whatever finds a bus rule broken raises `ProtocolError`; a memory that does not answer raises
    `DeviceError`. Only `reset` is of use after that. Close it, or use it in a ``with`` statement.
    """

    def __init__(self, library: Path, model: MemoryModel) -> None:
        options = _options(model)
        try:
            self._library = ctypes.CDLL(str(library))
        except OSError as error:
            raise DeviceError(
                f"the simulation {str(library)!r} cannot be loaded: {error}; delete it, so that it "
                f"is built anew"
            ) from error
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(self._library, f"vta_{name}")
            function.restype, function.argtypes = result, arguments
        self.bus_bytes = int(self._library.vta_bus_bytes())
        if (theirs := int(self._library.vta_options_bytes())) != ctypes.sizeof(options):
            raise DeviceError(
                f"the simulation {str(library)!r} takes memory options of {theirs} bytes, not of "
                f"{ctypes.sizeof(options)}; delete it, so that it is built anew"
            )
        self._handle: int | None = self._library.vta_create(ctypes.byref(options))
        self._freed = weakref.finalize(self, self._library.vta_destroy, self._handle)
        self._dram = np.zeros(0, np.uint8)
        self._moments = np.zeros((3, 0), np.int64)
        self.reset()

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the core's memory back, and finish a recording; forgetting the object does too."""
        self._freed()
        self._handle = None

    def attach(self, dram: np.ndarray, writable: int | None = None) -> None:
        """Put uint8 memory behind the bus, from address 0 on; it is used in place.

        Its size must be a multiple of the bus: whole beats are read and written. The core may only
        read what lies behind the first `writable` bytes; by default it may write all.
        """
        assert dram.dtype == np.uint8 and dram.flags.c_contiguous and dram.flags.writeable
        if dram.size % self.bus_bytes or dram.size > _ADDRESS_END:
            raise DeviceError(
                f"DRAM must have a multiple of {self.bus_bytes} bytes, at most {_ADDRESS_END}, not "
                f"{dram.size}; fill it up"
            )
        self._dram = dram
        allowed = dram.size if writable is None else writable
        self._library.vta_attach(self._handle, dram.ctypes.data, dram.size, allowed)

    def reset(self) -> None:
        """Reset the core and forget what the bus has open; on-chip memories keep their contents."""
        self._library.vta_reset(self._handle)

    # -- control port ---------------------------------------------------------------------------

    def access(self, address: int, value: int | None = None) -> tuple[int, int]:
        """Read a register, or write `value` to it: the response code and the word."""
        word = ctypes.c_uint32(0 if value is None else value)
        response = self._library.vta_access(
            self._handle, value is not None, address, ctypes.byref(word)
        )
        self._check()
        return int(response), int(word.value)

    def write(self, address: int, value: int) -> None:
        """Write a register that can be written."""
        self._expect_okay(address, self.access(address, value)[0])

    def read(self, address: int) -> int:
        """A register's word."""
        response, value = self.access(address)
        self._expect_okay(address, response)
        return value

    @property
    def irq(self) -> bool:
        """The interrupt line."""
        return bool(self._library.vta_irq(self._handle))

    # -- runs -----------------------------------------------------------------------------------

    def launch(self, instructions: int) -> None:
        """Start a run of a stream of so many instructions; its registers are set already."""
        self._moments = np.full((3, instructions), NEVER, np.int64)
        pointers = [row.ctypes.data for row in self._moments]
        self._library.vta_record(self._handle, *pointers, instructions)
        self.write(Register.CONTROL, 1 << CONTROL_LAUNCH)

    def step(self, cycles: int) -> bool:
        """Go on for at most so many cycles; whether the run has ended."""
        self._library.vta_run(self._handle, cycles)
        self._check()
        return bool(self._library.vta_ended(self._handle))

    def finish(self, cycles_max: int) -> int:
        """Go on to the end of the run: its cycles. More than `cycles_max` are an error."""
        ended = self.step(0)
        for _ in range(_START_CYCLES_MAX):
            if self._library.vta_started(self._handle):
                break
            ended = self.step(1)
        else:
            raise ProtocolError("the core does not run after it was launched; reset it")
        # In slices, so that an interrupt from the keyboard is seen. That a run has ended shows in
        # the cycle after its last one.
        while not ended and (left := cycles_max + 1 - self.cycles) > 0:
            ended = self.step(min(_SLICE_CYCLES, left))
        if self.cycles > cycles_max:
            raise DeviceError(
                f"the core {'ran for' if ended else 'still runs after'} {self.cycles} cycles, more "
                f"than the {cycles_max} that this program may take; allow more or look at its waves"
            )
        return self.cycles

    @property
    def cycles(self) -> int:
        """Cycles of the run so far."""
        return int(self._library.vta_cycles(self._handle))

    def timeline(self) -> Timeline:
        """What happened when in the run so far."""
        spans = [self._spans(write) for write in (False, True)]
        return Timeline(self.cycles, *self._moments, *spans)

    # -- waves ----------------------------------------------------------------------------------

    def open_waves(self, path: Path, window: tuple[int, int]) -> None:
        """Record the cycles (first, last) of the runs to come; one cycle is 10 units of time."""
        first, last = window
        if not 0 <= first <= last <= CYCLES_END:
            raise DeviceError(
                f"waves of the cycles {first} to {last} cannot be recorded; name two cycles in "
                f"order, at most {CYCLES_END}"
            )
        name = os.fsencode(path)
        if not self._library.vta_open_waves(self._handle, name, *window):
            raise DeviceError(f"the waves {str(path)!r} cannot be written; name another file")

    def close_waves(self) -> None:
        """Finish the recording."""
        self._library.vta_close_waves(self._handle)

    def _spans(self, write: bool) -> np.ndarray:
        count = self._library.vta_spans(self._handle, write, None)
        rows = np.zeros((count, 2), np.int64)
        self._library.vta_spans(self._handle, write, rows.ctypes.data)
        return rows

    def _expect_okay(self, address: int, response: int) -> None:
        if response != OKAY:
            raise DeviceError(
                f"register {address:#x} answered with {response} in place of OKAY; use an address "
                f"of the register page"
            )

    def _check(self) -> None:
        trouble = Trouble(self._library.vta_trouble(self._handle))
        if trouble is Trouble.NONE:
            return
        text = self._library.vta_message(self._handle).decode()
        if trouble is Trouble.PROTOCOL:
            raise ProtocolError(f"the core broke a rule of its bus {text}; report its program")
        raise DeviceError(f"the run was given up {text}; look at the memory")
