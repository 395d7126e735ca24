"""Everything that runs programs, by the name that a user gives: simulators, hardware, boards.

The names of boards have an argument, as in ``ulx3s:/dev/ttyUSB0``. What a device needs is imported
when it is opened, so that ``vta --help`` can name them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.device_names import device_names

if TYPE_CHECKING:
    from fpga.driver.selftest_steps import StepReport
    from fpga.driver.transport import Transport
    from runtime.device import Device, Engine, Waves
    from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class BoardKind:
    """A way to reach boards: how its argument looks, and what opens it."""

    argument: str
    example: str
    open: Callable[[str], Transport]


def _open_ulx3s(argument: str) -> Transport:
    from fpga.driver.serial_link import SerialLink
    from runtime.device import DeviceError

    port, comma, baud = argument.partition(",")
    options: dict[str, Any] = {"expected_board": "ulx3s"}
    if comma:
        if not baud.isdecimal() or not int(baud):
            raise DeviceError(
                f"the rate behind port {port!r} must be a number of bits per second, not {baud!r}"
            )
        options["baud"] = int(baud)
    return SerialLink(port, **options)


def _open_mmio(argument: str) -> Transport:
    from fpga.driver.mmio import MappedTransport

    return MappedTransport.open(argument)


def _open_replay(argument: str) -> Transport:
    from fpga.driver.recording import ReplayTransport

    return ReplayTransport(argument)


BOARDS: Mapping[str, BoardKind] = {
    "ulx3s": BoardKind("PORT[,BAUD]", "ulx3s:/dev/ttyUSB0", _open_ulx3s),
    "mmio": BoardKind("REGISTERS,MEMORY", "mmio:/dev/uio0,/dev/udmabuf0", _open_mmio),
    "replay": BoardKind("FILE", "replay:session.jsonl", _open_replay),
}
"""Boards by what stands before the colon of a device's name."""


def board_forms() -> tuple[str, ...]:
    """How the names of boards look, for messages and help."""
    return tuple(f"{name}:{kind.argument}" for name, kind in BOARDS.items())


def is_board(name: str) -> bool:
    """Whether a device of this name is reached by a transport."""
    return name.partition(":")[0] in BOARDS


def open_transport(name: str, record: str | Path | None = None) -> Transport:
    """The way to the board of this name; with `record` all that goes through it is written there.

    Only what the board says of itself has been read then.
    """
    from runtime.device import DeviceError

    kind, _, argument = name.partition(":")
    if not argument:
        raise DeviceError(
            f"device {name!r} lacks where its board is; give it as in {BOARDS[kind].example}"
        )
    transport = BOARDS[kind].open(argument)
    if record is None:
        return transport
    from fpga.driver.recording import RecordingTransport

    try:
        return RecordingTransport(transport, record)
    except DeviceError:
        transport.close()
        raise


def refuse_record(name: str, record: str | Path | None) -> None:
    """Refuse to record a session with what is no board."""
    from runtime.device import DeviceError

    if record is not None:
        raise DeviceError(
            f"device {name!r} is no board whose session could be recorded; use one of "
            f"{', '.join(board_forms())}, or no record"
        )


def open_device(
    name: str,
    config: VtaConfig,
    *,
    report_uninitialised: bool = False,
    timeline: bool = False,
    waves: Waves | None = None,
    engine: Engine | None = None,
    record: str | Path | None = None,
) -> Device:
    """A fresh device for `config`, by its name or a board's; see `runtime.device.open_device`.

    `record` is a file for the session with a board, see `fpga.driver.recording`.
    """
    from runtime import device

    if not is_board(name):
        refuse_record(name, record)
        if name not in device_names():
            known = (*device_names(), *board_forms())
            raise device.DeviceError(f"device must be one of {', '.join(known)}, not {name!r}")
        return device.open_device(
            name,
            config,
            report_uninitialised=report_uninitialised,
            timeline=timeline,
            waves=waves,
            engine=engine,
        )
    from fpga.driver.device import BoardDevice

    device.refuse_options(BoardDevice, name, waves=waves, engine=engine)
    transport = open_transport(name, record)
    try:
        return BoardDevice(
            config, transport, report_uninitialised=report_uninitialised, timeline=timeline
        )
    except BaseException:
        transport.close()
        raise


def selftest(
    name: str,
    config: VtaConfig | None = None,
    *,
    seed: int = 0,
    memory_bytes: int | None = None,
    record: str | Path | None = None,
    listener: Callable[[StepReport], None] | None = None,
) -> list[StepReport]:
    """Test a device step by step; `fpga.driver.selftest` says how, and what the options are.

    Without a config, that of a board is the named one that its core says it has, that of any other
    device is ``default``.
    """
    from fpga.driver import selftest as tests
    from vta_hw.spec.config import VtaConfig

    if is_board(name):
        size = tests.MEMORY_BYTES if memory_bytes is None else memory_bytes
        transport = open_transport(name, record)
        try:
            return tests.check_board(
                transport, config, seed=seed, memory_bytes=size, listener=listener
            )
        finally:
            transport.close()
    chosen = VtaConfig.load("default") if config is None else config
    device = open_device(name, chosen, record=record)
    try:
        return tests.check_device(device, seed=seed, listener=listener)
    finally:
        device.close()
