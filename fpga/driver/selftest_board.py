"""Steps of the self-test that look at a board through its transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from fpga.driver import memory_check
from fpga.driver.core_port import CorePort
from fpga.driver.device import BoardDevice
from fpga.driver.selftest_steps import Bench, Figure, Step, StepFailure
from fpga.driver.transport import Transport
from runtime.device import DeviceError
from runtime.devices.core_result import BASE_REGISTERS
from vta_hw.spec.config import PAGE_BYTES, VtaConfig, named_configs
from vta_hw.spec.registers import READ_ONLY, Register

TIMEOUT_S = 10.0
"""Seconds that one program of the self-test may take."""

_WORD = 0xFFFFFFFF
_PATTERNS = (_WORD, 0, 0x55555555, 0xAAAAAAAA)
_NO_VALUE = frozenset({Register.CONTROL, Register.IRQ_STATUS})


def _identity(bench: Bench) -> Mapping[str, Figure]:
    """Who answers; opens the device."""
    transport = _transport(bench)
    port = CorePort(transport)
    port.check_id()
    found = port.config_hash()
    config = bench.config or config_with(found)
    if config is None:
        raise StepFailure(
            f"the core was built for a config with hash {found}, which none of the named ones has: "
            f"give --config with the file that its bitstream was built from"
        )
    bench.device = BoardDevice(config, transport, timeout_s=TIMEOUT_S)
    bench.config = config
    identity = transport.identity
    return {
        "board": identity.board,
        "memory_bytes": identity.memory_bytes,
        "clock_hz": identity.clock_hz,
        "version": identity.version,
        "config": config.name,
        "config_hash": found,
    }


def config_with(config_hash: str) -> VtaConfig | None:
    """The named config of this hash, if there is one."""
    configs = (VtaConfig.load(name) for name in named_configs())
    return next((config for config in configs if config.hash == config_hash), None)


def _registers(bench: Bench) -> Mapping[str, Figure]:
    """Registers hold what is written, each its own value; others cannot be written."""
    transport = _transport(bench)
    device = bench.device
    assert isinstance(device, BoardDevice)
    held = [r for r in Register if r not in READ_ONLY | _NO_VALUE]
    rng = bench.rng("registers")
    accesses = 0
    device.forget()
    try:
        for pattern in (*_PATTERNS, None, None):
            drawn = rng.integers(0, _WORD, len(held), np.uint64, endpoint=True).tolist()
            values = drawn if pattern is None else [pattern] * len(held)
            for register, value in zip(held, values, strict=True):
                transport.write_register(register, value)
            for register, value in zip(held, values, strict=True):
                expected = value & _mask(register)
                _expect(transport, register, expected, f"after {value:#010x} was written")
            accesses += 2 * len(held)
        if transport.survives_bus_errors:
            for register in sorted(READ_ONLY):
                before = transport.read_register(register)
                # The bus answers with an error, which a link may pass on.
                with suppress(DeviceError):
                    transport.write_register(register, before ^ _WORD)
                _expect(transport, register, before, "as before, because it can only be read")
                accesses += 3
    finally:
        device.forget()
    for register in held:
        _expect(transport, register, 0, "after the reset")
    return {"registers": len(held), "accesses": accesses + len(held)}


def _mask(register: Register) -> int:
    if register in BASE_REGISTERS:
        return _WORD & ~(PAGE_BYTES - 1)
    return 1 if register is Register.IRQ_ENABLE else _WORD


def _expect(transport: Transport, register: Register, expected: int, when: str) -> None:
    got = transport.read_register(register)
    if got != expected:
        raise StepFailure(
            f"register {register.name} at {register.value:#04x} reads {got:#010x}, not "
            f"{expected:#010x}, {when}: look at the link, and at the AXI4-Lite path to the core"
        )


def _memory(bench: Bench) -> Mapping[str, Figure]:
    return _timed(bench, lambda transport: memory_check.march(transport, bench.memory_bytes))


def _addresses(bench: Bench) -> Mapping[str, Figure]:
    return _timed(
        bench,
        lambda transport: memory_check.unique_addresses(transport, bench.memory_bytes, bench.seed),
    )


def _timed(bench: Bench, test: Callable[[Transport], int]) -> Mapping[str, Figure]:
    transport = _transport(bench)
    start = time.perf_counter()
    tested = test(transport)
    seconds = time.perf_counter() - start
    return {
        "tested_bytes": tested,
        "memory_bytes": transport.identity.memory_bytes,
        "tested_bytes_per_s": round(tested / max(seconds, 1e-9)),
    }


def _transport(bench: Bench) -> Transport:
    assert bench.transport is not None, "steps of boards run with a transport alone"
    return bench.transport


STEPS = (
    Step("identity", _identity, of_board=True),
    Step("registers", _registers, ("identity",), of_board=True),
    Step("memory", _memory, ("identity",), of_board=True),
    Step("addresses", _addresses, ("memory",), of_board=True),
)
