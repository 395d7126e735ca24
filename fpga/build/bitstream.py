"""A bitstream for a board that open tools can build for: what goes in, and the report on it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fpga.boards import ulx3s
from fpga.build import budget, ecp5
from fpga.build.ecp5 import BITSTREAM, Built, Design
from fpga.build.figures import Figures
from fpga.build.stages import BuildError, BuildFolder, Tell
from vta_hw.rtl.verilog import EmissionError, to_verilog
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import VtaKitError

REPORT, TABLE, PAGE = "report.json", "report.txt", "report.md"
BOARDS = (ulx3s.NAME,)
"""The boards that have a build here."""

_TOP = "vta_ulx3s"
_SOURCES = ("vta_hw.rtl", "vta_hw.spec", "fpga", "fpga.boards", "fpga.driver", "fpga.soc")
_BRAM_BITS = 18 << 10
_HZ_PER_MHZ = 1e6


@dataclass(frozen=True)
class Report:
    """A bitstream and what it takes.

    `over_budget` has each figure that does not keep the budget, in words; with a file of it.
    """

    board: str
    config: VtaConfig
    clock_hz: int
    part: str
    built: Built
    versions: Mapping[str, str]
    over_budget: tuple[str, ...]
    budget_file: Path | None
    digest: str
    """SHA-256 of the bitstream."""

    @property
    def figures(self) -> Figures:
        """Resources and clocks."""
        return self.built.figures

    @property
    def too_slow(self) -> tuple[str, ...]:
        """The clocks that are not reached, in words."""
        return tuple(
            f"{clock.reached_hz / _HZ_PER_MHZ:.2f} MHz of {clock.required_hz / _HZ_PER_MHZ:g} MHz "
            f"for {clock.name}"
            for clock in self.figures.clocks
            if clock.slack_ns < 0
        )

    def to_dict(self) -> dict[str, Any]:
        """What ``report.json`` holds."""
        return {
            "board": self.board,
            "part": self.part,
            "config": {"name": self.config.name, "hash": self.config.hash},
            "clock_mhz": self.clock_hz / _HZ_PER_MHZ,
            "bitstream": {"file": BITSTREAM, "sha256": self.digest},
            **self.figures.to_dict(),
            "over_budget": list(self.over_budget),
            "seed": self.built.seed,
            "seeds": {
                str(seed): round(hz / _HZ_PER_MHZ, 3) for seed, hz in self.built.reached_hz.items()
            },
            "steps": [
                {"name": step.name, "seconds": step.seconds, "taken_over": step.taken_over}
                for step in self.built.steps
            ],
            "tools": dict(self.versions),
        }


def build(
    board: str,
    config: VtaConfig,
    folder: str | Path,
    *,
    seed: int = 1,
    seeds: int = 1,
    clock_hz: int | None = None,
    new_budget: bool = False,
    tell: Tell = lambda text: None,
) -> Report:
    """Make the bitstream of `board` with a core for `config` in `folder`, and report on it.

    Place and route is tried with `seeds` seeds from `seed` on. A clock that is not reached is an
    error, and so is a figure that does not keep the board's budget for this config, if it has one;
    the report is written all the same. `new_budget` writes that budget anew instead.
    """
    if board not in BOARDS:
        raise BuildError(f"no board {board!r} can be built for; known are {', '.join(BOARDS)}")
    if seeds < 1 or seed < 0:
        raise BuildError(f"{seeds} seeds from {seed} on is no choice; give 1 or more from 0 on")
    named = config.hash == _named_hash(config.name)
    if new_budget and not named:
        raise BuildError(
            f"config {config.name!r} is no named one, and so has no budget; leave out --new-budget"
        )
    chain = ecp5.find_tools()
    ecp5.require_fit(ulx3s.PART, least(config), f"config {config.name!r}")
    design = _design(config, ulx3s.SYSTEM_HZ if clock_hz is None else clock_hz)
    place = BuildFolder(folder)
    with place.locked():
        built = ecp5.build(design, place, chain, range(seed, seed + seeds), tell)
        kept = budget.path_of(board, config.name)
        if new_budget:
            budget.write(kept, budget.of(built.figures))
        limits = budget.load(kept) if named else None
        report = Report(
            board,
            config,
            design.clock_hz,
            ulx3s.PART.name,
            built,
            chain.versions,
            tuple(budget.exceeded(limits, built.figures)) if limits is not None else (),
            kept if limits is not None else None,
            hashlib.sha256((place.path / BITSTREAM).read_bytes()).hexdigest(),
        )
        _write(place, report)
    return report


def require_good(report: Report) -> None:
    """An error that names every figure that a good bitstream must not have."""
    if report.too_slow:
        raise BuildError(
            f"timing is not met: {', '.join(report.too_slow)}; try --seeds, or a slower clock with "
            f"--clock-mhz"
        )
    if report.over_budget:
        raise BuildError(
            f"the budget {str(report.budget_file)!r} is not kept: {', '.join(report.over_budget)}; "
            f"undo what made it worse, or write a budget with --new-budget"
        )


def least(config: VtaConfig) -> dict[str, int]:
    """Block RAM and multipliers that no synthesis can do without."""
    bits = {memory: 8 * config.elem_bytes(memory) * config.depth(memory) for memory in MemType}
    memories = [MemType.UOP, MemType.UOP, MemType.INP, MemType.WGT, MemType.ACC, MemType.OUT]
    return {
        "DSP": config.macs_per_cycle,
        "BRAM": sum(-(-bits[memory] // _BRAM_BITS) for memory in memories),
    }


def _named_hash(name: str) -> str | None:
    """The hash of the named config of that name; a changed one has no budget."""
    try:
        return VtaConfig.load(name).hash
    except VtaKitError:
        return None


def _design(config: VtaConfig, clock_hz: int) -> Design:
    try:
        from fpga.boards.ulx3s_top import PORTS, Ulx3sTop, refuse_clock
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("amaranth"):
            raise
        raise EmissionError(
            "Verilog is made by Amaranth, which is not installed; install the extra 'rtl'"
        ) from error
    refuse_clock(clock_hz)
    return Design(
        _TOP,
        lambda: to_verilog(Ulx3sTop(config, clock_hz), _TOP),
        (config.hash, str(clock_hz), *_source_texts()),
        ulx3s.constraints(PORTS),
        clock_hz,
        ulx3s.PART,
    )


def _source_texts() -> list[str]:
    texts = []
    for package in _SOURCES:
        files = [f for f in resources.files(package).iterdir() if f.name.endswith(".py")]
        for file in sorted(files, key=lambda f: f.name):
            texts += [package, file.name, file.read_text()]
    return texts


def _write(place: BuildFolder, report: Report) -> None:
    place.write(REPORT, json.dumps(report.to_dict(), indent=2) + "\n")
