"""A board in this process: registers in front of a simulator, as the driver sees a real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from fpga.driver.transport import Identity, Transport
from runtime.device import DeviceError, open_device
from runtime.devices.core_result import BASE_REGISTERS
from vta_hw.spec import registers
from vta_hw.spec.config import INSN_BYTES, PAGE_BYTES, VtaConfig
from vta_hw.spec.isa import FaultClass
from vta_hw.spec.registers import COUNTERS, READ_ONLY, Register, Verdict
from vta_hw.spec.result import RunResult, Status
from vta_hw.spec.semantics import ADDRESS_LIMIT

_RUNNING = 1 << registers.CONTROL_LAUNCH
_FAULTS = {fault.text: fault.value for fault in FaultClass}
_PAGED = ~(PAGE_BYTES - 1) & 0xFFFFFFFF


class FakeBoard(Transport):
    """A core for `config` with memory (an array, or so many bytes), on the cycle simulator.

    `polls` is how often CONTROL reads as running after a launch; below 0 a run never ends. `calls`
    counts what was asked for and `bytes_written` what was put into memory. `fail_after` makes the
    call after so many more raise; `on_call` sees every call; `twist` changes what is fetched.
    """

    name = "fake0"

    def __init__(
        self,
        config: VtaConfig,
        memory: int | np.ndarray = 1 << 20,
        *,
        base_address: int = 0,
        core_id: int = registers.CORE_ID,
        polls: int = 2,
    ) -> None:
        self.config = config
        if isinstance(memory, int):
            memory = np.random.default_rng(0).integers(0, 256, memory, np.uint8)
        self.memory = memory
        self.polls = polls
        self.calls: Counter[str] = Counter()
        self.bytes_written = 0
        self.resets = 0
        self.fail_after: int | None = None
        self.on_call: Callable[[str], None] | None = None
        self.twist: Callable[[bytes], bytes] = bytes
        self.is_closed = False
        self._base = base_address
        self._id = core_id
        self._polls_left = 0
        self._clear()

    @property
    def identity(self) -> Identity:
        return Identity("fake", self.memory.size, 25_000_000, 1)

    @property
    def base_address(self) -> int:
        return self._base

    # -- registers ------------------------------------------------------------------------------

    def read_register(self, offset: int) -> int:
        self._called("read_register")
        if offset == Register.CONTROL and self._is_running():
            self._polls_left -= 1
            return _RUNNING
        if offset not in self._registers:
            raise DeviceError(f"register {offset:#x} of the board answers with an error")
        return self._registers[offset]

    def write_register(self, offset: int, value: int) -> None:
        self._called("write_register")
        if offset not in list(Register) or offset in READ_ONLY:
            raise DeviceError(f"register {offset:#x} of the board answers with an error")
        match Register(offset):
            case Register.CONTROL:
                if value & _RUNNING and not self._is_running():
                    self._launch()
            case Register.IRQ_STATUS:
                if value & 1:
                    self._registers[offset] = 0
            case Register.IRQ_ENABLE:
                self._registers[offset] = value & 1
            case _ if not self._is_running():
                self._registers[offset] = value & (_PAGED if offset in BASE_REGISTERS else ~0)

    def known(self) -> set[int]:
        """Offsets of all registers."""
        return set(self._registers)

    # -- memory ---------------------------------------------------------------------------------

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        self._called("read_memory")
        self._check_memory(address, size_bytes)
        return self.memory[address : address + size_bytes].copy()

    def write_memory(self, address: int, data: np.ndarray) -> None:
        self._called("write_memory")
        self._check_memory(address, data.size)
        assert data.dtype == np.uint8 and data.ndim == 1
        self.memory[address : address + data.size] = data
        self.bytes_written += data.size

    def reset(self) -> None:
        self._called("reset")
        self.resets += 1
        self._polls_left = 0
        self._clear()

    def close(self) -> None:
        self.is_closed = True

    # -- inside ---------------------------------------------------------------------------------

    def _called(self, name: str) -> None:
        assert not self.is_closed
        self.calls[name] += 1
        if self.on_call is not None:
            self.on_call(name)
        if self.fail_after is not None:
            self.fail_after -= 1
            if self.fail_after < 0:
                self.fail_after = None
                raise DeviceError("the board does not answer; see whether its cable is plugged in")

    def _check_memory(self, address: int, size_bytes: int) -> None:
        assert not self._is_running(), "memory is not touched in a run"
        assert 0 <= address < address + size_bytes <= self.memory.size

    def _is_running(self) -> bool:
        return self._polls_left != 0

    def _clear(self) -> None:
        hash_word = int(self.config.hash, 16)
        self._registers: dict[int, int] = {
            **dict.fromkeys(Register, 0),
            Register.ID: self._id,
            Register.CONFIG_HASH_LOW: hash_word & 0xFFFFFFFF,
            Register.CONFIG_HASH_HIGH: hash_word >> 32,
            Register.VERDICT_INDEX: registers.NO_INDEX,
        }
        self._set_counters({})

    def _set_counters(self, counters: dict[str, int]) -> None:
        for name in COUNTERS:
            at, value = registers.counter_address(name), counters.get(name, 0)
            self._registers |= {at: value & 0xFFFFFFFF, at + 4: value >> 32}
        self._registers[Register.CYCLES] = counters.get("cycles", 0) & 0xFFFFFFFF

    def _launch(self) -> None:
        """Run at once; what is there to see of it comes after `polls` looks at CONTROL."""
        self._polls_left = self.polls
        if self.polls < 0:
            return
        held = self._registers
        bases = {held[register] for register in BASE_REGISTERS}
        assert len(bases) == 1, "the driver gives all memories the same base"
        start = bases.pop() - self._base
        end = (held[Register.DRAM_LIMIT] or ADDRESS_LIMIT) - self._base
        at = held[Register.INSN_BASE] - self._base
        stream = self.memory[at : at + INSN_BYTES * held[Register.INSN_COUNT]].tobytes()
        dram = self.memory[start : max(start, end)].copy()
        result = open_device("cycle", self.config).run_stream(self.twist(stream), dram)
        self.memory[start : start + dram.size] = dram
        self._show(result)

    def _show(self, result: RunResult) -> None:
        fault = result.fault
        verdict = Verdict.OK
        if fault is not None:
            named = result.status is not Status.FAULT
            verdict = Verdict[fault.kind.upper()] if named else Verdict(_FAULTS[fault.kind])
        bit = registers.CONTROL_OK if result.ok else registers.CONTROL_FAULT
        index = registers.NO_INDEX if fault is None or fault.index is None else fault.index
        self._set_counters(dict(result.counters))
        self._registers |= {
            Register.CONTROL: 1 << bit,
            Register.VERDICT: verdict,
            Register.VERDICT_INDEX: index,
            Register.IRQ_STATUS: 1,
        }
