"""The one interface behind which every machine that runs VTA programs stands."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult


class DeviceError(VtaKitError):
    """A device that does not exist, or was asked for what it cannot do."""


class Device(ABC):
    """A VTA with its DRAM.

    Addresses are bytes from the start of DRAM; `alloc` gives page-aligned ones. SRAM contents are
    undefined at the start of each run.
    """

    name: str

    def __init__(self, config: VtaConfig, *, report_uninitialised: bool = False) -> None:
        """With `report_uninitialised`, results carry a note per read of SRAM nothing wrote."""
        self.config = config
        self.report_uninitialised = report_uninitialised

    @abstractmethod
    def alloc(self, size_bytes: int) -> int:
        """The address of `size_bytes` fresh bytes of DRAM, their contents undefined."""

    @abstractmethod
    def write(self, address: int, data: bytes | np.ndarray) -> None:
        """Put bytes, or an array's bytes in C order, into DRAM."""

    @abstractmethod
    def read(self, address: int, size_bytes: int) -> np.ndarray:
        """A copy of DRAM as uint8."""

    @abstractmethod
    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program with each of its symbols at the address given for it."""

    @abstractmethod
    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on a DRAM that is exactly `image` (uint8, changed in place).

        Base registers are 0 and `DRAM_LIMIT` is the image's size; memory that `alloc` gave is
        neither seen nor changed.
        """


_DEVICES: Mapping[str, str] = {
    "functional": "runtime.devices.functional:FunctionalDevice",
}


def device_names() -> tuple[str, ...]:
    """Names that `open_device` knows."""
    return tuple(_DEVICES)


def open_device(name: str, config: VtaConfig, *, report_uninitialised: bool = False) -> Device:
    """A fresh device of this kind for `config`; see `Device` for the option."""
    if name not in _DEVICES:
        raise DeviceError(f"device must be one of {', '.join(_DEVICES)}, not {name!r}")
    module, _, kind = _DEVICES[name].partition(":")
    make = getattr(importlib.import_module(module), kind)
    device: Device = make(config, report_uninitialised=report_uninitialised)
    return device
