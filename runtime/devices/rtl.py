"""The hardware itself as a device: its Verilog under Verilator, with a memory model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runtime.device import DeviceError, Waves
from runtime.devices.core_result import BASE_REGISTERS, limit_register, result_of
from runtime.devices.hosted import DRAM_BYTES_MAX, HostedDevice
from vta_hw.rtl.verilog import SIMULATED, hardware_config, verilog
from vta_hw.spec import isa, machine
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.isa import Instruction
from vta_hw.spec.program import Program
from vta_hw.spec.registers import COUNTERS, Register, counter_address
from vta_hw.spec.result import RunResult
from vta_hw.verilator.build import WAVE_KINDS, build_library
from vta_hw.verilator.harness import CYCLES_END, MemoryModel, ProtocolError, Simulation

_EVERY_CYCLE = (0, CYCLES_END)


class RtlDevice(HostedDevice):
    """The core of `vta_hw.rtl` behind `vta_hw.verilator`; it is built at the first run.

    A core that breaks a rule of its bus, does not end, or disagrees with the harness about its
    cycles raises `DeviceError`: such a run has no result.
    """

    name = "rtl"
    has_clock = True
    has_waves = True

    def __init__(
        self,
        config: VtaConfig,
        *,
        report_uninitialised: bool = False,
        timeline: bool = False,
        waves: Waves | None = None,
        memory: MemoryModel | None = None,
        cycles_max: int | None = None,
    ) -> None:
        """`memory` is that of the timing page by default.

        `cycles_max` limits the cycles of a run; by default it follows from the program.
        """
        super().__init__(config, report_uninitialised=report_uninitialised, timeline=timeline)
        if waves is not None and waves.path.suffix[1:] not in WAVE_KINDS:
            raise DeviceError(
                f"waves {str(waves.path)!r} must end in {' or '.join('.' + k for k in WAVE_KINDS)}"
            )
        self.waves = waves
        self.memory = memory or MemoryModel(config.dram_latency, config.max_reads)
        if self.memory.max_reads < config.max_reads:
            raise DeviceError(
                f"the memory model takes {self.memory.max_reads} bursts at once, and the core "
                f"opens up to {config.max_reads}; give max_reads={config.max_reads} or lower "
                f"MAX_READS of the config"
            )
        self.cycles_max = cycles_max
        self._simulation: Simulation | None = None
        self._runs = 0

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        """Run a program; its instructions lie behind all that is allocated."""
        instructions = self.bound(program, addresses)
        limit = self.dram.size
        dram, at = self.with_stream(isa.encode_all(instructions, self.config))
        return self._run(instructions, dram, at, limit)

    def run_stream(self, stream: bytes, image: np.ndarray) -> RunResult:
        """Run raw instructions on `image` alone; they lie on the page behind it."""
        instructions = isa.decode_all(stream, self.config)
        at = -(-image.size // PAGE_BYTES) * PAGE_BYTES
        end = at + -(-len(stream) // PAGE_BYTES) * PAGE_BYTES
        if end > DRAM_BYTES_MAX:
            raise DeviceError(
                f"an image of {image.size} bytes and {len(stream)} bytes of instructions exceed "
                f"the {DRAM_BYTES_MAX} bytes that can be addressed; make the image smaller"
            )
        dram = np.zeros(end, np.uint8)
        dram[: image.size] = image
        dram[at : at + len(stream)] = np.frombuffer(stream, np.uint8)
        result = self._run(instructions, dram, at, image.size)
        image[:] = dram[: image.size]
        return result

    def close(self) -> None:
        """Give the simulation's memory back; the next run starts another one."""
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None

    # -- one run --------------------------------------------------------------------------------

    def _run(
        self, instructions: Sequence[Instruction], dram: np.ndarray, at: int, limit: int
    ) -> RunResult:
        simulation = self._open()
        try:
            simulation.attach(dram, limit)
            if self.waves is not None:
                window = self.waves.window or _EVERY_CYCLE
                simulation.open_waves(_numbered(self.waves.path, self._runs), window)
            self._runs += 1
            self._configure(simulation, len(instructions), at, limit)
            simulation.launch(len(instructions))
            most = self._bound_of(instructions) if self.cycles_max is None else self.cycles_max
            cycles = simulation.finish(most)
            return self._result(simulation, instructions, limit, cycles)
        except BaseException:
            # What is half done, a keyboard interrupt included, must not leak into the next run.
            self.close()
            raise
        finally:
            if self._simulation is not None:
                self._simulation.close_waves()

    def _open(self) -> Simulation:
        if self._simulation is None:
            text = verilog(hardware_config(self.config), SIMULATED)
            kind = None if self.waves is None else self.waves.path.suffix[1:]
            library = build_library(text, machine.bus_bytes(self.config), kind)
            self._simulation = Simulation(library, self.memory)
        return self._simulation

    def _configure(self, simulation: Simulation, count: int, at: int, limit: int) -> None:
        simulation.write(Register.INSN_COUNT, count)
        simulation.write(Register.INSN_BASE, at)
        for register in BASE_REGISTERS:
            simulation.write(register, 0)
        simulation.write(Register.DRAM_LIMIT, limit_register(limit, self.config))

    def _bound_of(self, instructions: Sequence[Instruction]) -> int:
        """Far more cycles than the program can take: every movement alone, with all its waits."""
        shares = self.memory.stalls.values()
        wait = self.memory.latency + 64
        total = 10_000 + wait * len(instructions)
        for insn in instructions:
            match insn:
                case isa.Load():
                    rows, columns = insn.sram_shape
                    total += rows * columns + insn.y_size * self._row_bound(insn, wait)
                case isa.Store():
                    total += insn.y_size * self._row_bound(insn, wait)
                case isa.Gemm() | isa.Alu():
                    steps = insn.iter_out * insn.iter_in * max(0, insn.uop_end - insn.uop_bgn)
                    total += 32 * steps
        return round(total * 4 / (1 - max(shares, default=0)) ** 2)

    def _row_bound(self, insn: isa.Load | isa.Store, wait: int) -> int:
        """Cycles of one row's bursts, if each is asked for `wait` after the one before."""
        if insn.memory_type not in tuple(MemType):
            # It is bad, and moves nothing.
            return 0
        row_bytes = insn.x_size * self.config.elem_bytes(MemType(insn.memory_type))
        bursts = row_bytes // machine.burst_window(self.config) + 2
        return row_bytes // machine.bus_bytes(self.config) + 2 + bursts * wait

    def _result(
        self,
        simulation: Simulation,
        instructions: Sequence[Instruction],
        limit: int,
        cycles: int,
    ) -> RunResult:
        counters = {name: _counter(simulation, name) for name in COUNTERS}
        shown = simulation.read(Register.CYCLES)
        if counters["cycles"] != cycles or shown != cycles % (1 << 32):
            raise ProtocolError(
                f"the core counted {counters['cycles']} cycles and shows {shown}, but ran for "
                f"{cycles}; report its program"
            )
        return result_of(
            simulation.read(Register.VERDICT),
            simulation.read(Register.VERDICT_INDEX),
            counters,
            self.config,
            lambda: instructions,
            limit,
            simulation.timeline() if self.timeline else None,
        )


def _counter(simulation: Simulation, name: str) -> int:
    address = counter_address(name)
    return simulation.read(address) | simulation.read(address + 4) << 32


def _numbered(path: Path, run: int) -> Path:
    return path if run == 0 else path.with_name(f"{path.stem}-{run}{path.suffix}")
