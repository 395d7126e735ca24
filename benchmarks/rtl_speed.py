"""How many cycles of the hardware the device rtl simulates in a second, on one CPU core.

Two loads are timed: a long program that keeps GEMM busy while the next tiles are loaded, and whole
inferences of networks. The library is built first if need be, and not counted. A rate per second of
this process's CPU time is what the simulation costs; the rate per second that passed is lower
wherever other processes use the same cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import vta
from benchmarks.compile_time import add_models_option, models
from runtime.device import open_device
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import MicroOp, encode_all, encode_uop

GOAL_HZ = 250_000
_CPU_INFO = Path("/proc/cpuinfo")
_TILES = 24
_UOPS = 16
_IMAGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Speed:
    """Medians of several runs of one load."""

    load: str
    config: str
    cycles: int
    cpu_s: float
    wall_s: float

    @property
    def rate_hz(self) -> float:
        """Cycles per second of CPU time."""
        return self.cycles / self.cpu_s


def gemm_load(config: VtaConfig, tiles: int = _TILES) -> tuple[bytes, np.ndarray]:
    """A stream in which GEMM works on one tile of INP while the next is loaded, and its DRAM."""
    count = min(_UOPS, config.depth(MemType.WGT), config.depth(MemType.UOP) // 2)
    half = min(config.depth(MemType.INP), config.depth(MemType.ACC)) // 2
    columns = min(64, half)
    lines = [f"load uop y=1 x={2 * count} stride={2 * count}", f"load wgt y=1 x={count}"]
    for tile in range(tiles):
        side = tile % 2
        # A half of INP is loaded again once GEMM is done with what was there.
        flags = "push_next" if tile < 2 else "pop_next push_next"
        lines += [
            f"load inp sram={side * half} y={half // columns} x={columns} stride={columns} {flags}",
            f"gemm uop={side * count}..{side * count + count} iter=1/{half} dst=0/1 src=0/1 "
            "pop_prev push_prev",
        ]
    uops = [MicroOp(src=side * half, wgt=i) for side in range(2) for i in range(count)]
    words = np.array([encode_uop(uop, config) for uop in uops], "<u4").view(np.uint8)
    image = np.random.default_rng(0).integers(0, 256, _IMAGE_BYTES, np.uint8)
    image[: words.size] = words
    return encode_all(assemble("\n".join([*lines, "finish"]), config), config), image


def time_gemm(config: VtaConfig, repeats: int, tiles: int = _TILES) -> Speed:
    """The program of `gemm_load`, run `repeats` times after a first run that is not counted."""
    device = open_device("rtl", config)
    stream, image = gemm_load(config, tiles)

    def run() -> int:
        result = device.run_stream(stream, image.copy())
        assert result.ok and result.cycles is not None, result.fault
        return result.cycles

    return _time("GEMM", config, run, repeats)


def time_inference(name: str, model: Path, config: VtaConfig, repeats: int) -> Speed:
    """Whole inferences, the first of which is not counted."""
    package = vta.compile(model, config).package
    executor, inputs = vta.load(package, "rtl"), vta.random_inputs(package)

    def run() -> int:
        cycles = executor.run(inputs).result.cycles
        assert cycles is not None
        return cycles

    return _time(name, config, run, repeats)


def _time(load: str, config: VtaConfig, run: Callable[[], int], repeats: int) -> Speed:
    run()
    cpu, wall, cycles = [], [], 0
    for _ in range(repeats):
        before = time.process_time(), time.perf_counter()
        cycles = run()
        cpu.append(time.process_time() - before[0])
        wall.append(time.perf_counter() - before[1])
    return Speed(load, config.name, cycles, statistics.median(cpu), statistics.median(wall))


def host() -> str:
    """What the figures were measured on, and how busy it is."""
    name = platform.processor() or platform.machine()
    if _CPU_INFO.is_file():
        lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{os.cpu_count()} x {name}, load {loads}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", default=["default", "mac64"])
    parser.add_argument("--repeats", type=int, default=3)
    add_models_option(parser)
    options = parser.parse_args(arguments)

    title = f"device rtl, medians of {options.repeats}; {host()}"
    table = Table(title=title, caption=f"goal: {GOAL_HZ / 1e3:.0f} on default", box=box.SIMPLE)
    for heading in ("load", "config"):
        table.add_column(heading)
    for heading in ("cycles", "CPU, s", "wall, s", "1000 cycles per CPU second"):
        table.add_column(heading, justify="right")
    for config in map(VtaConfig.load, options.configs):
        speeds = [time_gemm(config, options.repeats)]
        for name, model in models(options.models).items():
            speeds.append(time_inference(name, model, config, options.repeats))
        for s in speeds:
            figures = (f"{s.cpu_s:.2f}", f"{s.wall_s:.2f}", f"{s.rate_hz / 1e3:.0f}")
            table.add_row(s.load, s.config, str(s.cycles), *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
