"""The system on chip of a board under Verilator, with its SDRAM, at the end of a line."""

from __future__ import annotations

import ctypes
import os
import select
import threading
import tty
import weakref
from contextlib import suppress
from types import TracebackType

import numpy as np

from fpga.simulation.chip import ChipOptions, chip_options
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.machine import bus_bytes
from vta_hw.spec.sdram import SdramPart
from vta_hw.verilator.build import Harness, build_library

CYCLES_PER_BIT = 8
"""A faster line than a board's: each of its cycles is simulated."""

_SLICE_CYCLES = 20_000
_OUT_ROOM = 1 << 16
_IDLE_S = 0.05


class SocSimulation:
    """`fpga.soc.top.Soc`, cycle by cycle; `DeviceError` if it breaks the SDRAM's timing."""

    def __init__(
        self, config: VtaConfig, part: SdramPart, *, clock_hz: int, board: str, seed: int = 0
    ) -> None:
        """Builds the simulation if need be, which takes a minute for a large array."""
        from fpga.soc.top import Soc
        from vta_hw.rtl.verilog import CORE, to_verilog

        baud = clock_hz // CYCLES_PER_BIT
        soc = Soc(config, part, clock_hz=clock_hz, baud=baud, board=board)
        harness = Harness.of_package("fpga.simulation", "soc.cpp")
        path = build_library(to_verilog(soc, CORE), bus_bytes(config), harness=harness)
        library = ctypes.CDLL(str(path))
        for name, result in (
            ("create", ctypes.c_void_p),
            ("words", ctypes.c_void_p),
            ("run", ctypes.c_uint64),
            ("cycles", ctypes.c_uint64),
            ("complaint", ctypes.c_char_p),
            ("refreshes", ctypes.c_uint64),
            ("postponed", ctypes.c_uint64),
        ):
            getattr(library, f"soc_{name}").restype = result
        assert library.soc_options_bytes() == ctypes.sizeof(ChipOptions)
        self._library = library
        options = chip_options(part, clock_hz, seed)
        created = library.soc_create(
            ctypes.byref(options), ctypes.c_uint64(clock_hz), ctypes.c_uint64(baud)
        )
        self._soc = ctypes.c_void_p(created)
        weakref.finalize(self, library.soc_destroy, self._soc)
        self._out = (ctypes.c_uint8 * _OUT_ROOM)()
        pointer = ctypes.cast(library.soc_words(self._soc), ctypes.POINTER(ctypes.c_uint8))
        self.memory = np.ctypeslib.as_array(pointer, (part.size_bytes,))
        """What the SDRAM holds, not a copy."""

    def run(self, received: bytes = b"", cycles: int = _SLICE_CYCLES) -> bytes:
        """Put bytes on the line and run some cycles, fewer if nothing happens: what came back."""
        count = self._library.soc_run(
            self._soc, ctypes.c_uint64(cycles), received, ctypes.c_uint64(len(received)),
            self._out, ctypes.c_uint64(_OUT_ROOM),
        )  # fmt: skip
        complaint = self._library.soc_complaint(self._soc).decode()
        if complaint:
            raise DeviceError(f"{complaint}; this is a defect of the memory controller")
        return bytes(self._out[:count])

    @property
    def busy(self) -> bool:
        """Whether a byte is on the line or was a moment ago, or the core runs."""
        return bool(self._library.soc_busy(self._soc))

    @property
    def cycles(self) -> int:
        """Cycles since the simulation began."""
        return int(self._library.soc_cycles(self._soc))

    @property
    def refreshes(self) -> int:
        """Refresh commands that the SDRAM was given."""
        return int(self._library.soc_refreshes(self._soc))

    @property
    def postponed(self) -> int:
        """The most refreshes that were ever owed at once."""
        return int(self._library.soc_postponed(self._soc))


class Terminal:
    """A pseudo-terminal whose other end is a simulated board; open its `name` as a serial port.

    Use it as a context: the board is simulated by a thread of its own. What goes wrong there is
    raised where the context ends.
    """

    def __init__(self, soc: SocSimulation) -> None:
        self._soc = soc
        self._board, self._port = os.openpty()
        tty.setraw(self._port)
        os.set_blocking(self._board, False)
        self.name = os.ttyname(self._port)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stop = threading.Event()
        self._error: BaseException | None = None

    def __enter__(self) -> Terminal:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.unplug()
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Until the simulation fails, which is raised, or the user interrupts it."""
        while self._thread.is_alive():
            self._thread.join(_IDLE_S)

    def unplug(self) -> None:
        """Close both ends, as if the cable were drawn."""
        self._stop.set()
        for name in ("_board", "_port"):
            number = getattr(self, name)
            if number >= 0:
                setattr(self, name, -1)
                os.close(number)

    def _serve(self) -> None:
        try:
            waiting = b""
            while not self._stop.is_set():
                busy = self._soc.busy or waiting
                ready, _, _ = select.select([self._board], [], [], 0 if busy else _IDLE_S)
                received = os.read(self._board, 4096) if ready else b""
                waiting += self._soc.run(received)
                with suppress(BlockingIOError):
                    waiting = waiting[os.write(self._board, waiting) :]
        except (DeviceError, OSError, ValueError) as error:
            # The cable was drawn: there is nobody to tell.
            if not self._stop.is_set():
                self._error = error
