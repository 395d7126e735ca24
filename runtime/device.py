"""The one interface behind which every machine that runs VTA programs stands."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from runtime.device_names import DEVICES, device_names
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import DeviceError
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult

__all__ = ["Device", "DeviceError", "Engine", "Waves", "device_names", "open_device"]

Engine = Literal["compiled", "plain"]
"""Forms of a simulator: compiled to machine code, or the readable definition."""


@dataclass(frozen=True)
class Waves:
    """Where the signals of runs are recorded: a .vcd or .fst file, and the cycles (first, last).

    Without a window, whole runs are recorded. The second run of a device goes to a file with
    ``-1`` after its stem, and so on.
    """

    path: Path
    window: tuple[int, int] | None = None


class Device(ABC):
    """A VTA with its DRAM.

    Addresses are bytes from the start of DRAM; `alloc` gives page-aligned ones. SRAM contents are
    undefined at the start of each run.
    """

    name: str
    can_report_uninitialised = False
    has_clock = False
    has_waves = False
    has_engines = False
    generation = 0
    """Another number whenever DRAM has moved, and with it what `view` gave."""

    def __init__(
        self, config: VtaConfig, *, report_uninitialised: bool = False, timeline: bool = False
    ) -> None:
        """A device without any allocated DRAM.

        With `report_uninitialised`, results carry a note per read of SRAM nothing wrote. With
        `timeline`, they carry what happened when.
        """
        if report_uninitialised and not self.can_report_uninitialised:
            raise DeviceError(
                f"device {self.name!r} cannot tell which SRAM was never written; use functional"
            )
        if timeline and not self.has_clock:
            raise DeviceError(
                f"device {self.name!r} has no clock to record a timeline by; use one that counts "
                f"cycles"
            )
        self.config = config
        self.report_uninitialised = report_uninitialised
        self.timeline = timeline

    @abstractmethod
    def alloc(self, size_bytes: int) -> int:
        """The address of `size_bytes` fresh bytes of DRAM, their contents undefined."""

    def check_room(self, sizes: Iterable[int], stream_bytes: int = 0) -> None:
        """Refuse allocations of these sizes, and a stream behind them, that cannot all be had.

        Nothing is changed. A device that does not know its limits refuses nothing.
        """
        return

    @abstractmethod
    def write(self, address: int, data: bytes | np.ndarray) -> None:
        """Put bytes, or an array's bytes in C order, into DRAM."""

    @abstractmethod
    def read(self, address: int, size_bytes: int) -> np.ndarray:
        """A copy of DRAM as uint8."""

    def view(self, address: int, size_bytes: int) -> np.ndarray | None:
        """DRAM itself as uint8, until `generation` changes; None where this process has none."""
        return None

    def fork(self) -> Device:
        """Another device of this kind and config whose DRAM holds the same, for another thread."""
        raise DeviceError(f"device {self.name!r} cannot be doubled; run it with one worker")

    @abstractmethod
    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program with each of its symbols at the address given for it."""

    @abstractmethod
    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on a DRAM that is exactly `image` (uint8, changed in place).

        Base registers are 0 and `DRAM_LIMIT` is the image's size; memory that `alloc` gave is
        neither seen nor changed.
        """

    def close(self) -> None:
        """Give back what the device holds outside of this process: a board, a simulation."""
        return


def open_device(
    name: str,
    config: VtaConfig,
    *,
    report_uninitialised: bool = False,
    timeline: bool = False,
    waves: Waves | None = None,
    engine: Engine | None = None,
) -> Device:
    """A fresh device of this kind for `config`; see `Device` and `Waves` for the options.

    `engine` chooses between the compiled form of a simulator (the default) and its plain one.
    """
    if name not in DEVICES:
        raise DeviceError(f"device must be one of {', '.join(DEVICES)}, not {name!r}")
    module, _, attribute = DEVICES[name].partition(":")
    kind: type[Device] = getattr(importlib.import_module(module), attribute)
    refuse_options(kind, name, waves=waves, engine=engine)
    options: dict[str, Any] = {"report_uninitialised": report_uninitialised, "timeline": timeline}
    if waves is not None:
        options["waves"] = waves
    if engine is not None:
        options["engine"] = engine
    return kind(config, **options)


def refuse_options(
    kind: type[Device], name: str, *, waves: Waves | None, engine: Engine | None
) -> None:
    """Refuse options that this kind of device, which the user calls `name`, does not have."""
    if waves is not None and not kind.has_waves:
        raise DeviceError(f"device {name!r} has no signals to record; use rtl, or no waves")
    if engine is not None and not kind.has_engines:
        raise DeviceError(f"device {name!r} has one engine only; leave the engine out")
