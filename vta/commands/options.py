"""Options that several commands have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from runtime.device_names import device_names
from vta.devices import board_forms


class EngineChoice(StrEnum):
    """Forms of a simulator, see `runtime.device.Engine`."""

    COMPILED = "compiled"
    PLAIN = "plain"


ConfigOption = Annotated[str, typer.Option(help="named configuration or JSON file")]
MaybeConfig = Annotated[str | None, typer.Option(help="named configuration or JSON file")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override one key of the configuration"),
]
LatencyOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="of the memory, in cycles: short for --set DRAM_LATENCY=N"),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help=f"what runs the programs: {', '.join(device_names())}, or a board: "
        f"{', '.join(board_forms())}"
    ),
]
RecordOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="write all traffic with the board, for replay")
]
EngineOption = Annotated[
    EngineChoice | None,
    typer.Option(help="form of a simulator: compiled (the default), or the readable one"),
]
JobsOption = Annotated[
    int, typer.Option(metavar="N", help="threads that run the inputs of --inputs")
]
OutputDirOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="write NAME.npy for every output")
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


def engine_of(choice: EngineChoice | None) -> Literal["compiled", "plain"] | None:
    """What `runtime.device.open_device` takes for an `EngineOption`."""
    match choice:
        case EngineChoice.COMPILED:
            return "compiled"
        case EngineChoice.PLAIN:
            return "plain"
    return None


def with_latency(settings: list[str] | None, latency: int | None) -> list[str]:
    """The settings of a `SetOption` and a `LatencyOption` together."""
    return [*(settings or ()), *([] if latency is None else [f"DRAM_LATENCY={latency}"])]
