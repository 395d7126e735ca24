"""The command for the hardware itself: ``vta verilog``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vta import show
from vta.commands.options import ConfigOption, SetOption


def verilog_command(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="folder for the files")
    ],
    config: ConfigOption = "default",
    settings: SetOption = None,
) -> None:
    """Write the hardware as Verilog: the core, its shell for an FPGA, and its register map."""
    from vta import api, hardware

    chosen = api.config(config, settings or ())
    with show.progress(f"writing the Verilog of {chosen.name}"):
        names = hardware.verilog(chosen, output)
    show.write(f"wrote {', '.join(names)} to {output} for config {chosen.name} ({chosen.hash})")
