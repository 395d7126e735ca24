"""The control registers of a core behind a transport: what it is, and one run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from fpga.driver.transport import Transport
from runtime.device import DeviceError
from vta_hw.spec import registers
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.registers import CORE_ID, COUNTERS, REGISTER_BYTES, Register

_LAUNCH = 1 << registers.CONTROL_LAUNCH
_OK = 1 << registers.CONTROL_OK
_FAULT = 1 << registers.CONTROL_FAULT
_VERSION_MASK = 0xFF
_WORDS_PER_COUNTER = registers.COUNTER_BYTES // REGISTER_BYTES

_PAUSE_FIRST_S = 50e-6
_PAUSE_MAX_S = 2e-3


@dataclass(frozen=True)
class Ended:
    """The registers that say how a run ended; `counters` are the values of `COUNTERS` by name."""

    verdict: int
    verdict_index: int
    counters: Mapping[str, int]


def config_with(config_hash: str) -> VtaConfig | None:
    """The named config of this hash, if there is one."""
    configs = (VtaConfig.load(name) for name in named_configs())
    return next((config for config in configs if config.hash == config_hash), None)


class CorePort:
    """The core behind a transport, and what was last written into its registers."""

    def __init__(self, transport: Transport) -> None:
        """Nothing is read or written."""
        self.transport = transport
        self._written: dict[Register, int] = {}

    # -- what it is -----------------------------------------------------------------------------

    def check_id(self) -> None:
        """Refuse what is no core of this kit, or one with another register map."""
        where = self.transport.name
        found = self.transport.read_register(Register.ID)
        if found == CORE_ID:
            return
        if found & ~_VERSION_MASK == CORE_ID & ~_VERSION_MASK:
            raise DeviceError(
                f"the core at {where} has version {found & _VERSION_MASK} of the register map and "
                f"this kit knows version {CORE_ID & _VERSION_MASK}; build its bitstream with this "
                f"version of the kit"
            )
        raise DeviceError(
            f"no VTA core answers at {where}: its register ID reads {found:#010x} in place of "
            f"{CORE_ID:#010x}; load a bitstream of this kit and see that the address is right"
        )

    def config_hash(self) -> str:
        """The hash of the config that the core was built for, as `VtaConfig.hash` has it."""
        low, high = self.transport.read_registers(Register.CONFIG_HASH_LOW, 2)
        return f"{high:08x}{low:08x}"

    def check(self, config: VtaConfig) -> None:
        """Refuse a core that was not built for exactly this config; nothing is changed."""
        self.check_id()
        found = self.config_hash()
        if found != config.hash:
            other = config_with(found)
            built_for = "a config" if other is None else f"config {other.name!r}"
            raise DeviceError(
                f"the core at {self.transport.name} was built for {built_for} with hash {found}, "
                f"and config {config.name!r} has {config.hash}; build it with `vta bitstream "
                f"--config`, or compile and run for the config of the core"
            )

    def is_running(self) -> bool:
        """Whether a run lasts."""
        return bool(self.transport.read_register(Register.CONTROL) & _LAUNCH)

    # -- one run --------------------------------------------------------------------------------

    def configure(self, values: Mapping[Register, int]) -> None:
        """Give registers these values; those that have them already are not written."""
        for register, value in values.items():
            if self._written.get(register) != value:
                # Forgotten first: where writing fails, nobody knows what the register holds.
                self._written.pop(register, None)
                self.transport.write_register(register, value)
                self._written[register] = value

    def run(self, timeout_s: float) -> None:
        """Launch what is configured and wait for its end, for so many seconds at most."""
        name = self.transport.name
        self.transport.write_register(Register.CONTROL, _LAUNCH)
        deadline = time.monotonic() + timeout_s
        pause_s = _PAUSE_FIRST_S
        while (control := self.transport.read_register(Register.CONTROL)) & _LAUNCH:
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"the core at {name} still runs after {timeout_s:g} s; run `vta selftest` on "
                    f"it, or allow more time if the program is that long"
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        if control not in (_OK, _FAULT):
            raise DeviceError(
                f"the core at {name} was launched and reads CONTROL {control:#x}, which is neither "
                f"running nor ended, as if it had been reset; run `vta selftest` on it"
            )

    def ended(self) -> Ended:
        """What the registers say of the run that has just ended."""
        verdict, index = self.transport.read_registers(Register.VERDICT, 2)
        counters = self.counters()
        shown = self.transport.read_register(Register.CYCLES)
        if shown != counters["cycles"] & 0xFFFFFFFF:
            raise DeviceError(
                f"the core at {self.transport.name} counted {counters['cycles']} cycles and shows "
                f"{shown} in CYCLES; see whether its registers can be read reliably"
            )
        return Ended(verdict, index, counters)

    def counters(self) -> dict[str, int]:
        """All counters by name; after a run they are exact."""
        words = self.transport.read_registers(
            registers.COUNTER_BASE, _WORDS_PER_COUNTER * len(COUNTERS)
        )
        return {
            name: words[_WORDS_PER_COUNTER * i] | words[_WORDS_PER_COUNTER * i + 1] << 32
            for i, name in enumerate(COUNTERS)
        }

    def reset(self) -> None:
        """Stop the core and forget its registers."""
        self._written.clear()
        self.transport.reset()
