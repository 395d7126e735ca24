"""A board as a device: its core runs the programs, its memory holds what they work on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from fpga.driver.core_port import CorePort
from fpga.driver.transport import Transport
from runtime.device import DeviceError
from runtime.devices.allocating import AllocatingDevice, as_bytes, in_pages
from runtime.devices.core_result import BASE_REGISTERS, limit_register, result_of
from runtime.devices.stream_places import StreamPlaces
from vta_hw.spec import words
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.registers import Register
from vta_hw.spec.result import RunResult
from vta_hw.spec.semantics import ADDRESS_LIMIT

TIMEOUT_S = 60.0
"""Seconds that one program may take unless the device is opened with another limit."""


@dataclass(frozen=True)
class _Resident:
    """A stream in the board's memory; `encoded` are its instructions in the form of `words`."""

    address: int
    encoded: np.ndarray


class BoardDevice(AllocatingDevice):
    """A core behind a transport, for programs of exactly the config that it was built for.

    What `alloc` gives grows upwards from address 0. Instruction streams lie at the end of memory
    and stay there for the next run, until the room is wanted. Whatever goes wrong in a run, a
    keyboard interrupt included, the core is reset before anything else is asked of it. A program
    that faults is a result, as on every device.
    """

    has_clock = True

    def __init__(
        self,
        config: VtaConfig,
        transport: Transport,
        *,
        report_uninitialised: bool = False,
        timeline: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Refuses another core than one for `config`; resets one that still runs.

        `timeout_s` limits a single run of a program. The transport is the device's from now on,
        unless this raises.
        """
        identity = transport.identity
        self.name = f"{identity.board}:{transport.name}"
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        if timeline:
            raise DeviceError(
                f"device {self.name!r} counts cycles but keeps no timeline of them; use cycle or "
                f"rtl for traces"
            )
        self.transport = transport
        self.timeout_s = timeout_s
        self.memory_bytes = identity.memory_bytes // PAGE_BYTES * PAGE_BYTES
        end = transport.base_address + self.memory_bytes
        if transport.base_address % PAGE_BYTES or end > ADDRESS_LIMIT:
            raise DeviceError(
                f"the memory at {transport.name} lies at {transport.base_address:#x}..{end:#x}, "
                f"and the core reaches whole pages below {ADDRESS_LIMIT:#x}; place it there"
            )
        self.port = CorePort(transport)
        self.port.check(config)
        self._places = StreamPlaces[_Resident](self.name, self.memory_bytes)
        self._must_reset = False
        if self.port.is_running():
            self.reset()

    # -- memory ---------------------------------------------------------------------------------

    def write(self, address: int, data: bytes | np.ndarray) -> None:
        """Put bytes into allocated memory."""
        data = as_bytes(data)
        self._check(address, data.size)
        if data.size:
            self.transport.write_memory(address, data)

    def read(self, address: int, size_bytes: int) -> np.ndarray:
        """A copy of allocated memory."""
        self._check(address, size_bytes)
        return self._fetch(address, size_bytes)

    def _fetch(self, address: int, size_bytes: int) -> np.ndarray:
        if not size_bytes:
            return np.zeros(0, np.uint8)
        return self.transport.read_memory(address, size_bytes)

    def _extend(self, end: int) -> None:
        self._places.make_room(end)

    # -- runs -----------------------------------------------------------------------------------

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; its stream is sent once per set of addresses."""
        self._check_config(program)
        stream = self._places.find(program, addresses)
        encoded = program.bound_words(addresses) if stream is None else stream.encoded
        with self._sound():
            if stream is None:
                at = self._send_stream(encoded.tobytes(), self._used_bytes)
                stream = _Resident(at, encoded)
                self._places.keep(program, addresses, stream)
            return self._launch(encoded, stream.address, 0, self._used_bytes)

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone, which lies behind all that is allocated."""
        base = self._used_bytes
        room = self.memory_bytes - in_pages(len(stream)) - base
        if in_pages(image.size) > room:
            raise DeviceError(
                f"an image of {image.size} bytes and {len(stream)} bytes of instructions exceed "
                f"what device {self.name!r} has left of its {self.memory_bytes} bytes; make the "
                f"image smaller"
            )
        encoded = words.from_stream(stream)
        with self._sound():
            at = self._send_stream(stream, base + in_pages(image.size))
            if image.size:
                self.transport.write_memory(base, image)
            result = self._launch(encoded, at, base, image.size)
            image[:] = self._fetch(base, image.size)
            # It is nobody's: the next one may lie there.
            self._places.give_back(at, len(stream))
            return result

    def reset(self) -> None:
        """Stop the core, whatever it does; memory keeps its contents."""
        self._must_reset = True
        self.port.reset()
        self._must_reset = False

    def forget(self) -> None:
        """Take it that anybody may have changed the board: reset it, and send streams again."""
        self._places.clear()
        self.reset()

    def close(self) -> None:
        """Give the board back."""
        self.transport.close()

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """A core that nothing is left in, and none of this if the block raises anything."""
        if self._must_reset:
            self.reset()
        try:
            yield
        except BaseException:
            self._places.clear()
            # What cannot be reset now is reset before the next run.
            with suppress(DeviceError):
                self.reset()
            raise

    def _send_stream(self, stream: bytes, floor: int) -> int:
        """Put a stream behind all others, but not below `floor`: its address."""
        at = self._places.take(len(stream), floor)
        if stream:
            self.transport.write_memory(at, np.frombuffer(stream, np.uint8))
        return at

    def _launch(self, encoded: np.ndarray, at: int, base: int, limit: int) -> RunResult:
        """Run the stream at `at` with base registers for `base` and `limit` legal bytes behind."""
        physical = self.transport.base_address + base
        self.port.configure(
            {
                Register.INSN_COUNT: len(encoded),
                Register.INSN_BASE: self.transport.base_address + at,
                **dict.fromkeys(BASE_REGISTERS, physical),
                Register.DRAM_LIMIT: limit_register(physical + limit, self.config),
            }
        )
        self.port.run(self.timeout_s)
        ended = self.port.ended()

        def instructions() -> Sequence[Instruction]:
            return words.decode(encoded, self.config)

        result = result_of(
            ended.verdict, ended.verdict_index, ended.counters, self.config, instructions, limit
        )
        if not result.ok:
            self.reset()
        return result
