"""Which devices there are. Nothing is imported, so that ``vta --help`` can name them at once."""

from __future__ import annotations

from collections.abc import Mapping

DEVICES: Mapping[str, str] = {
    "functional": "runtime.devices.functional:FunctionalDevice",
    "cycle": "runtime.devices.cycle:CycleDevice",
    "rtl": "runtime.devices.rtl:RtlDevice",
    "cycle-ulx3s": "runtime.devices.cycle_ulx3s:CycleUlx3sDevice",
}
"""Name of each device and the class behind it, as module and attribute."""


def device_names() -> tuple[str, ...]:
    """Names that `runtime.device.open_device` knows."""
    return tuple(DEVICES)
