"""The command that searches schedules: ``vta tune``."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vta import show
from vta.commands.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from compiler.tune.session import TuneResult


class TunerChoice(StrEnum):
    """Ways to search, see `compiler.tune.search`."""

    XGB = "xgb"
    GENETIC = "genetic"
    RANDOM = "random"
    EXHAUSTIVE = "exhaustive"


def tune_command(
    model: Annotated[Path, typer.Argument(help=".tflite or .onnx file")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="LOG", help="log to write, or to go on with")
    ],
    config: ConfigOption = "default",
    settings: SetOption = None,
    tuner: Annotated[TunerChoice, typer.Option(help="how to search")] = TunerChoice.XGB,
    trials: Annotated[int, typer.Option(metavar="N", help="for each distinct layer")] = 64,
    seed: Annotated[int, typer.Option(help="of the search")] = 0,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="processes that measure; all cores by default")
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="do not begin with the analytical choice")
    ] = False,
    numerics: Annotated[
        str | None,
        typer.Option(help="runtime to be equal to: litert-ref, xnnpack, ort; or ties-up"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="images at once, where the model's batch is not wanted"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search fast schedules for a network's convolutions on the cycle simulator.

    An interrupted search goes on where it was. `vta compile --tuned LOG` takes what was found.
    """
    from vta import api
    from vta.tuning import bar

    start = time.perf_counter()
    with bar() as progress:
        found = api.tune(
            model,
            output,
            config,
            tuner=tuner.value,
            trials=trials,
            seed=seed,
            jobs=jobs,
            cold=cold,
            numerics=numerics,
            settings=settings or (),
            batch=batch,
            progress=progress,
        )
    wall_s = time.perf_counter() - start
    if found.broken:
        show.note(f"{found.broken:,} broken lines of {output} were skipped")
    _write(found, output, wall_s)
    if as_json:
        show.write_json(_record(found, wall_s))


def _write(found: TuneResult, output: Path, wall_s: float) -> None:
    headings = ("layer", "times", "legal points", "trials", "default", "best", "gain, %", "tiling")
    rows = [
        (
            show.short_name(layer.layers[0]),
            len(layer.layers),
            layer.size,
            layer.trials,
            layer.default_cycles,
            layer.best_cycles,
            100 * (layer.default_cycles / layer.best_cycles - 1),
            str(layer.tiling),
        )
        for layer in found.layers
    ]
    show.write_table(show.table("cycles of layers, each alone", headings, rows))
    trials = sum(layer.measured for layer in found.layers)
    show.write(
        f"the network: {found.default_cycles:,} cycles by default, {found.cycles:,} with {output}; "
        f"{trials:,} trials measured in {wall_s:.1f} s"
    )


def _record(found: TuneResult, wall_s: float) -> dict[str, Any]:
    return {
        "default_cycles": found.default_cycles,
        "cycles": found.cycles,
        "broken": found.broken,
        "wall_s": round(wall_s, 3),
        "layers": [asdict(layer) for layer in found.layers],
    }
