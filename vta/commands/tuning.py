"""The command that searches schedules: ``vta tune``."""

from __future__ import annotations

import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vta import show
from vta.commands.measuring import OnlyOption
from vta.commands.options import (
    ConfigOption,
    JsonOption,
    LatencyOption,
    SetOption,
    with_latency,
)

if TYPE_CHECKING:
    from compiler.tune.session import TuneResult
    from vta.bench import tuners


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
    patience: Annotated[
        int,
        typer.Option(metavar="N", help="trials of a layer without gain that end its search"),
    ] = 24,
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
            patience=patience,
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


def bench_tuners_command(
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="LOG", help="log to write, or to go on with")
    ],
    config: ConfigOption = "default",
    settings: SetOption = None,
    latency: LatencyOption = None,
    only: OnlyOption = None,
    sample: Annotated[int, typer.Option(metavar="N", help="points for the mark")] = 5000,
    trials: Annotated[int, typer.Option(metavar="N", help="of each search")] = 128,
    seeds: Annotated[int, typer.Option(metavar="N", help="of each search")] = 5,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="processes that measure; all cores by default")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="PAGE.md", help="write all figures as a page")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the tuners on the layers of ResNet-18: trials until a schedule is good.

    Takes tens of minutes; what is measured is in the log.
    """
    from vta import api
    from vta.bench import tuners, tuners_page
    from vta.tuning import bar, usable_cores

    chosen = api.config(config, with_latency(settings, latency))
    options = tuners.Options(sample, trials, seeds, usable_cores() if jobs is None else jobs)
    with bar() as progress:
        found = list(tuners.tuner_costs(chosen, options, output, progress, only or ()))
    title = f"cold searches on {chosen.name}, memory latency {chosen.dram_latency}"
    rows = tuners_page.rows(found, options)
    show.write_table(show.table(title, tuners_page.HEADINGS, rows))
    if write is not None:
        command = _command(config, latency, only, options)
        write.write_text(tuners_page.page(chosen, options, found, command))
    if as_json:
        records = [cost.record() for cost in found]
        show.write_json({"config": chosen.name, "latency": chosen.dram_latency, "layers": records})


def _command(
    config: str, latency: int | None, only: list[str] | None, options: tuners.Options
) -> str:
    words = ["vta bench tuners -o LOG", f"--config {config}"]
    words += [f"--sample {options.sample} --trials {options.trials} --seeds {options.seeds}"]
    words += [] if latency is None else [f"--latency {latency}"]
    words += [f"--only {text}" for text in only or ()]
    return " ".join([*words, "--write PAGE.md"])
