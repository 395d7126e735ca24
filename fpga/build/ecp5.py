"""From Verilog to a bitstream for an ECP5: synthesis, place and route, packing."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fpga.boards.ecp5_parts import Ecp5Part
from fpga.build import figures, multiplier_registers, tools
from fpga.build.figures import Figures
from fpga.build.multiplier_registers import absorb_registers
from fpga.build.stages import BuildError, BuildFolder, Done, Stage, Tell
from fpga.build.tools import Tool
from vta_hw.rtl.resources import ECP5, cell_counts, used

VERILOG, CONSTRAINTS, BITSTREAM = "top.v", "top.lpf", "top.bit"
SYNTHESISED, CELLS, NETLIST = "synthesised.json", "cells.json", "netlist.json"
PLACE_AND_ROUTE_OPTIONS = (
    *("--router", "router2"),
    *("--placer-heap-timingweight", "30"),
    *("--placer-heap-critexp", "3"),
)
"""The other router takes several times as long for a design that fills half of the FPGA. With
the placer's usual weight of timing (10, exponent 2) the clock was a tenth slower, twice of twice.
"""

# What becomes a part of the bitstream's head, or not at all.
_EXTRA_CELLS = {"EHXPLLL", "TRELLIS_IO", "DCCA"}


@dataclass(frozen=True)
class Design:
    """What is to be built: a top level with its pins.

    `verilog` makes the text of the module `top`, and depends on `sources` alone (texts of its
    sources, config, versions). `constraints` is LPF text. `clock_hz` is asked of every clock
    without a constraint of its own.
    """

    top: str
    verilog: Callable[[], str]
    sources: tuple[str, ...]
    constraints: str
    clock_hz: int
    part: Ecp5Part


@dataclass(frozen=True)
class Toolchain:
    """The tools of one build."""

    yosys: Tool
    nextpnr: Tool
    ecppack: Tool

    @property
    def versions(self) -> dict[str, str]:
        """The version of each, by name."""
        return {tool.name: tool.version for tool in (self.yosys, self.nextpnr, self.ecppack)}


def find_tools() -> Toolchain:
    """All that a build needs; a `ToolError` names the one that is missing."""
    return Toolchain(*(tools.find(name) for name in (tools.YOSYS, tools.NEXTPNR, tools.ECPPACK)))


@dataclass(frozen=True)
class Built:
    """A bitstream's figures, those of each seed tried, the seed chosen, and the steps."""

    figures: Figures
    seed: int
    reached_hz: Mapping[int, float]
    steps: tuple[Done, ...]


def build(
    design: Design, folder: BuildFolder, chain: Toolchain, seeds: Sequence[int], tell: Tell
) -> Built:
    """Make `BITSTREAM` in `folder`, of the one of `seeds` with the most slack."""
    steps = [folder.run(_verilog_stage(design), tell)]
    folder.write(CONSTRAINTS, design.constraints)
    steps.append(folder.run(_synthesis_stage(design, chain.yosys), tell))
    require_fit(design.part, _used((folder.path / CELLS).read_text()), "the design")
    steps.append(folder.run(_multiplier_stage(design), tell))
    found: dict[int, Figures] = {}
    for seed in seeds:
        steps.append(folder.run(_placement_stage(design, chain.nextpnr, seed), tell))
        found[seed] = figures.read((folder.path / _report(seed)).read_text())
    # Among equals the first one tried.
    best = max(found, key=lambda seed: found[seed].slack_ns)
    steps.append(folder.run(_packing_stage(chain.ecppack, best), tell))
    reached = {seed: _slowest(of_seed) for seed, of_seed in found.items()}
    return Built(found[best], best, reached, tuple(steps))


def require_fit(part: Ecp5Part, needed: Mapping[str, float], what: str) -> None:
    """An error if a resource of `needed` is more than `part` has; `what` says whose need it is."""
    for name, amount in needed.items():
        if amount > part.resources[name]:
            raise BuildError(
                f"{what} needs {amount:,.0f} {name} and {part.name} has "
                f"{part.resources[name]:,}; choose smaller buffers or a smaller block"
            )


def _slowest(found: Figures) -> float:
    """The clock that has the least slack, in Hz."""
    return min(found.clocks, key=lambda clock: clock.slack_ns).reached_hz


def _used(statistics: str) -> dict[str, float]:
    cells = cell_counts(statistics)
    return used({name: n for name, n in cells.items() if name not in _EXTRA_CELLS}, ECP5)


def _verilog_stage(design: Design) -> Stage:
    def make(work: Path, log: Path) -> None:
        (work / VERILOG).write_text(design.verilog())

    return Stage("verilog", "writing Verilog", (design.top, *design.sources), (), (VERILOG,), make)


def _synthesis_stage(design: Design, yosys: Tool) -> Stage:
    script = "; ".join(
        (
            f"read_verilog {VERILOG}",
            ECP5.synthesis.format(top=design.top),
            "check -assert",
            f"tee -q -o {CELLS} stat -json",
            f"write_json {SYNTHESISED}",
        )
    )

    def make(work: Path, log: Path) -> None:
        tools.run(yosys, ["-q", "-p", script], work, log)

    return Stage(
        "synthesis", "synthesis", (script, yosys.version), (VERILOG,), (SYNTHESISED, CELLS), make
    )


def _multiplier_stage(design: Design) -> Stage:
    def make(work: Path, log: Path) -> None:
        netlist = json.loads((work / SYNTHESISED).read_text())
        moved = absorb_registers(netlist["modules"][design.top])
        (work / NETLIST).write_text(json.dumps(netlist))
        log.write_text(f"{moved} multipliers register their factors\n")

    return Stage(
        "multiplier-registers",
        "moving registers into multipliers",
        (design.top, inspect.getsource(multiplier_registers)),
        (SYNTHESISED,),
        (NETLIST,),
        make,
    )


def _placed(seed: int) -> str:
    return f"placed-{seed}.config"


def _report(seed: int) -> str:
    return f"timing-{seed}.json"


def _placement_stage(design: Design, nextpnr: Tool, seed: int) -> Stage:
    part = design.part
    arguments = (
        f"--{part.device}",
        *("--package", part.package),
        *("--speed", str(part.speed)),
        *("--json", NETLIST),
        *("--lpf", CONSTRAINTS),
        *("--textcfg", _placed(seed)),
        *("--report", _report(seed)),
        *("--freq", f"{design.clock_hz / 1e6:g}"),
        *("--seed", str(seed)),
        # The report says which clocks are too slow, in more detail.
        "--timing-allow-fail",
        *PLACE_AND_ROUTE_OPTIONS,
    )

    def make(work: Path, log: Path) -> None:
        tools.run(nextpnr, arguments, work, log)

    return Stage(
        f"place-and-route-{seed}",
        f"place and route with seed {seed}",
        (*arguments, nextpnr.version),
        (NETLIST, CONSTRAINTS),
        (_placed(seed), _report(seed)),
        make,
    )


def _packing_stage(ecppack: Tool, seed: int) -> Stage:
    placed = _placed(seed)
    arguments = ("--compress", "--input", placed, "--bit", BITSTREAM)

    def make(work: Path, log: Path) -> None:
        tools.run(ecppack, arguments, work, log)

    return Stage(
        "pack",
        "packing the bitstream",
        (*arguments, ecppack.version),
        (placed,),
        (BITSTREAM,),
        make,
    )
