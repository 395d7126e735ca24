"""A board whose core is the hardware itself, under Verilator."""

from __future__ import annotations

import numpy as np

from fpga.driver.transport import Identity, Transport
from vta_hw.rtl.verilog import SIMULATED, verilog
from vta_hw.spec import machine, registers
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import Register
from vta_hw.spec.semantics import ADDRESS_LIMIT
from vta_hw.verilator.build import build_library
from vta_hw.verilator.harness import MemoryModel, Simulation

_LAUNCH = 1 << registers.CONTROL_LAUNCH
_CYCLES_PER_LOOK = 300


class RtlBoard(Transport):
    """The core for `config`; it goes on by some cycles whenever CONTROL is looked at."""

    name = "rtl0"

    def __init__(self, config: VtaConfig, memory_bytes: int, base_address: int) -> None:
        library = build_library(verilog(config, SIMULATED), machine.bus_bytes(config))
        self._simulation = Simulation(library, MemoryModel(config.dram_latency, config.max_reads))
        self._base = base_address
        self._dram = np.zeros(base_address + memory_bytes, np.uint8)
        self._is_running = False

    @property
    def identity(self) -> Identity:
        return Identity("rtl", self._dram.size - self._base, 0, 1)

    @property
    def base_address(self) -> int:
        return self._base

    def read_register(self, offset: int) -> int:
        if offset == Register.CONTROL and self._is_running:
            self._is_running = not self._simulation.step(_CYCLES_PER_LOOK)
        return self._simulation.read(offset)

    def write_register(self, offset: int, value: int) -> None:
        if offset == Register.CONTROL and value & _LAUNCH:
            # The harness holds writes of the core to what the program may reach.
            end = self._simulation.read(Register.DRAM_LIMIT) or ADDRESS_LIMIT
            self._simulation.attach(self._dram, min(end, self._dram.size))
            self._simulation.launch(self._simulation.read(Register.INSN_COUNT))
            self._is_running = True
            return
        self._simulation.write(offset, value)

    def read_memory(self, address: int, size_bytes: int) -> np.ndarray:
        assert not self._is_running
        return self._dram[self._base + address :][:size_bytes].copy()

    def write_memory(self, address: int, data: np.ndarray) -> None:
        assert not self._is_running
        self._dram[self._base + address :][: data.size] = data

    def reset(self) -> None:
        self._simulation.reset()
        self._is_running = False

    def close(self) -> None:
        self._simulation.close()
