"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runtime.device_names import device_names

ConfigOption = Annotated[str, typer.Option(help="named configuration or JSON file")]
MaybeConfig = Annotated[str | None, typer.Option(help="named configuration or JSON file")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override one key of the configuration"),
]
DeviceOption = Annotated[
    str, typer.Option(help=f"what runs the programs: {', '.join(device_names())}")
]
JsonOption = Annotated[bool, typer.Option("--json", help="end with one line of JSON")]
UninitialisedOption = Annotated[
    bool, typer.Option(help="note every read of SRAM that the run has not written")
]
TraceOption = Annotated[
    Path | None,
    typer.Option(metavar="T.json", help="write what happened when, for ui.perfetto.dev"),
]
WavesOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="record the signals of device rtl, .vcd or .fst"),
]
WindowOption = Annotated[
    str | None,
    typer.Option("--wave-window", metavar="FIRST:LAST", help="cycles of a run to record"),
]
