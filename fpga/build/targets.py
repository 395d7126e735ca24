"""All boards: those that a bitstream is built for here, and those that get a Vivado project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga.boards import ulx3s, zynq
from fpga.build import bitstream
from fpga.build.stages import BuildError
from vta_hw.spec.config import VtaConfig


def board_names() -> tuple[str, ...]:
    """Names of the boards of both kinds."""
    return (*bitstream.BOARDS, *zynq.BOARDS)


def needs_vivado(board: str) -> bool:
    """Whether the board gets a project instead of a bitstream; an error if it is not known."""
    if board not in board_names():
        raise BuildError(f"unknown board {board!r}; known are {', '.join(board_names())}")
    return board in zynq.BOARDS


def usual_config(board: str) -> str:
    """The named config of a board."""
    return zynq.BOARDS[board].config if needs_vivado(board) else ulx3s.CONFIG


@dataclass(frozen=True)
class Project:
    """A Vivado project: its files, and what a check of it found."""

    board: str
    config: VtaConfig
    files: tuple[Path, ...]
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """What ``vta bitstream --json`` prints."""
        return {
            "board": self.board,
            "config": {"name": self.config.name, "hash": self.config.hash},
            "files": [str(path) for path in self.files],
            "findings": list(self.findings),
        }


def export_project(
    board: str, config: VtaConfig, folder: Path, *, clock_hz: int | None = None
) -> Project:
    """Write the Vivado project of a board and check it, where something is that can run Tcl."""
    from fpga.boards import zynq_check, zynq_project

    mhz = None if clock_hz is None else round(clock_hz / 1e6)
    files = zynq_project.export(zynq.find_board(board), config, folder, clock_mhz=mhz)
    try:
        findings = zynq_check.check(folder)
    except zynq_check.NoTclError as error:
        findings = [f"not checked: {error}"]
    return Project(board, config, tuple(files), tuple(findings))
