"""A Vivado project for a Zynq board: everything from the core's Verilog to a bitstream."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

from fpga.boards import device_tree
from fpga.boards.zynq import CONTROL_WINDOW_BYTES, BoardError, ZynqBoard
from fpga.boards.zynq_estimate import refuse_what_cannot_fit
from vta_hw.rtl import verilog
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.register_tables import c_header

PROJECT, BLOCK_DESIGN = "vta", "system"
CORE_FOLDER = "ip"
SCRIPTS = ("run.tcl", "block_design.tcl", "constraints.xdc")
"""Texts that are the same for all boards; what differs is in ``settings.tcl``."""

RESULTS = (f"out/{PROJECT}.bit", f"out/{PROJECT}.hwh", f"out/{PROJECT}.xsa")

_README = Template("""\
# VTA on $title

Config `$config` (hash `$hash`), part `$part`, $clock_mhz MHz asked for. Made by vta-kit; nothing in
here has been edited by hand.

    vivado -mode batch -source run.tcl

makes `$bitstream`, `$handoff` and `$platform`, and fails if timing is not met. It needs Vivado
2020.2 or later with support for the part, and the board file `$board_file` for a system that boots
from this project's own first-stage loader.

| file | what it is |
|---|---|
| `run.tcl`, `block_design.tcl`, `settings.tcl`, `constraints.xdc` | the project |
| `$core_folder/` | the core as an IP core: `component.xml`, Verilog |
| `vta.dts` | device-tree overlay: registers and memory for Linux |
| `vta.json`, `vta_regs.h` | config, ports, registers, and what the board says of itself |

Registers are at $control_address ($control_bytes bytes), memory from 0 to $dram_bytes.
""")


def export(
    board: ZynqBoard, config: VtaConfig, folder: str | Path, *, clock_mhz: int | None = None
) -> list[Path]:
    """Write the project into `folder`, which may exist if it is empty; the files, sorted.

    All of it is there or nothing. Equal arguments give equal bytes. `clock_mhz` takes the place of
    the board's clock.
    """
    target = Path(folder)
    mhz = board.clock_mhz if clock_mhz is None else clock_mhz
    if not 1 <= mhz <= 500:
        raise BoardError(f"a clock of {mhz} MHz cannot be made; choose one from 1 to 500 MHz")
    refuse_what_cannot_fit(board, config)
    files = project_files(board, config, mhz)
    try:
        if target.is_dir() and any(target.iterdir()):
            raise BoardError(f"folder {str(folder)!r} is not empty; name another one")
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same file system, so that moving it is one step.
        with tempfile.TemporaryDirectory(prefix=".vta-", dir=target.parent) as temporary:
            made = Path(temporary, "project")
            for name, text in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_text(text)
            made.replace(target)
    except OSError as error:
        raise BoardError(
            f"folder {str(folder)!r} cannot be written: {error.strerror or error}; name another one"
        ) from error
    return sorted(target / name for name in files)


def project_files(board: ZynqBoard, config: VtaConfig, clock_mhz: int) -> dict[str, str]:
    """The texts of a project by their paths."""
    # It says what to install where there is no Amaranth, which the other needs to be loaded.
    shell = verilog.verilog(config, verilog.SHELL, board.fabric)
    from fpga.boards import ip_xact

    scripts = resources.files("fpga.boards") / "tcl"
    return {
        **{name: (scripts / name).read_text() for name in SCRIPTS},
        "settings.tcl": _settings(board, config, clock_mhz),
        "README.md": _readme(board, config, clock_mhz),
        "vta.dts": device_tree.overlay(board),
        "vta.json": json.dumps(_record(board, config, clock_mhz), indent=2) + "\n",
        "vta_regs.h": c_header(config),
        f"{CORE_FOLDER}/component.xml": ip_xact.component_xml(config),
        f"{CORE_FOLDER}/{ip_xact.SOURCE}": shell,
    }


def _settings(board: ZynqBoard, config: VtaConfig, clock_mhz: int) -> str:
    from fpga.boards import ip_xact

    system = board.system
    bus_bits = 1 << config.log_bus_width
    port_bits = max((n for n in system.memory_bits if n <= bus_bits), default=system.memory_bits[0])
    parameters = {
        **system.settings,
        system.clock_setting: str(clock_mhz),
        system.memory_width_setting: str(port_bits),
    }
    values = {
        "project": PROJECT,
        "design": BLOCK_DESIGN,
        "part": board.part.name,
        "board_file": board.board_file,
        "clock_mhz": str(clock_mhz),
        "system_ip": system.ip,
        "system_externals": system.externals,
        "system_clock": system.clock,
        "system_reset": system.reset,
        "system_interrupt": system.interrupt,
        "system_space": system.space,
        "control_port": system.control_port,
        "control_clock": system.control_clock,
        "memory_port": system.memory_port,
        "memory_clock": system.memory_clock,
        "memory_segment": system.memory_segment,
        "other_segments": " ".join(system.other_segments),
        "system_settings": " ".join(f"CONFIG.{k} {v}" for k, v in parameters.items()),
        "core_vlnv": ip_xact.VLNV,
        "core_clock": ip_xact.CLOCK,
        "core_reset": ip_xact.RESET,
        "core_interrupt": ip_xact.INTERRUPT,
        "core_master": ip_xact.MASTER_BUS,
        "core_slave": ip_xact.SLAVE_BUS,
        "core_registers": ip_xact.REGISTER_SEGMENT,
        "control_address": f"{board.control_address:#x}",
        "control_bytes": f"{CONTROL_WINDOW_BYTES:#x}",
        "dram_bytes": f"{board.dram_bytes:#x}",
    }
    lines = [f"# {board.title}, config {config.name}, hash {config.hash}."]
    return "\n".join(lines + [f"set {name} {{{value}}}" for name, value in values.items()]) + "\n"


def _readme(board: ZynqBoard, config: VtaConfig, clock_mhz: int) -> str:
    bitstream, handoff, platform = RESULTS
    return _README.substitute(
        title=board.title,
        config=config.name,
        hash=config.hash,
        part=board.part.name,
        clock_mhz=clock_mhz,
        bitstream=bitstream,
        handoff=handoff,
        platform=platform,
        board_file=board.board_file,
        core_folder=CORE_FOLDER,
        control_address=f"{board.control_address:#x}",
        control_bytes=CONTROL_WINDOW_BYTES,
        dram_bytes=f"{board.dram_bytes:#x}",
    )


def _record(board: ZynqBoard, config: VtaConfig, clock_mhz: int) -> Mapping[str, object]:
    return {
        **verilog.describe(config),
        "board": {
            "name": board.name,
            "part": board.part.name,
            "clock_mhz": clock_mhz,
            "control_address": board.control_address,
            "control_bytes": CONTROL_WINDOW_BYTES,
            "dram_bytes": board.dram_bytes,
            "interrupt": board.system.interrupt_number,
            "uio_name": device_tree.UIO_NAME,
            "buffer_name": device_tree.BUFFER_NAME,
            "buffer_bytes": device_tree.BUFFER_BYTES,
        },
    }
