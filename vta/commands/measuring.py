"""The commands that measure: ``vta bench``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vta import show
from vta.commands.options import ConfigOption, DeviceOption, JsonOption, SetOption


def bench_machine_command(
    config: ConfigOption = "default",
    settings: SetOption = None,
    device: DeviceOption = "cycle",
    as_json: JsonOption = False,
) -> int:
    """Count the cycles of the machine's basic jobs; the exit status is 1 if a bound is broken."""
    from vta import api, bench_machine

    chosen = api.config(config, settings or ())
    with show.progress(f"measuring {chosen.name}"):
        figures = bench_machine.measure(chosen, device)
    show.write_table(
        show.table(
            f"{chosen.name} on {device}",
            ("what", "measured", "bound", "unit", "verdict"),
            [
                (f.name, round(f.value, 4), f.bound, f.unit, "kept" if f.good else "broken")
                for f in figures
            ],
        )
    )
    if as_json:
        records = [{**asdict(figure), "good": figure.good} for figure in figures]
        show.write_json({"config": chosen.name, "device": device, "figures": records})
    return show.EXIT_OK if all(figure.good for figure in figures) else show.EXIT_DIFFERENT


def bench_simulator_command(
    config: ConfigOption = "default",
    settings: SetOption = None,
    resnet18: Annotated[
        Path | None, typer.Option(metavar="FILE", help="ResNet-18, as a model or a package")
    ] = None,
    resnet8: Annotated[
        Path | None, typer.Option(metavar="FILE", help="ResNet-8, as a model or a package")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="PAGE.md", help="write all figures as a page")
    ] = None,
    quick: Annotated[
        bool, typer.Option(help="only a moment of everything: the figures are worthless")
    ] = False,
    spoil: Annotated[str, typer.Option(hidden=True)] = "",
    as_json: JsonOption = False,
) -> int:
    """Measure the compiled simulators on this machine; the exit status is 1 if an output is wrong.

    A missed bound is shown, and no failure.
    """
    from vta import api
    from vta.bench import page, simulator
    from vta.bench.programs import WrongOutputError

    chosen = api.config(config, settings or ())
    options = simulator.Options(chosen, resnet18, resnet8, quick, spoil)
    load_before = page.load_now()
    try:
        variants = simulator.measure(options, show.progress)
    except WrongOutputError as error:
        show.note(f"vta: {error}")
        return show.EXIT_DIFFERENT
    made = page.machine(simulator.command_of(options), load_before)
    headings = ("what", "measured", "bound", "verdict", "ratio to C", "unit")
    for variant in variants:
        show.write_table(
            show.table(
                f"{chosen.name} on {made.cpu}, VTA_CPU={variant.isa}", headings, page.rows(variant)
            )
        )
    if write is not None:
        write.write_text(page.page(made, chosen.name, variants))
    if as_json:
        records = {variant.isa: variant.record() for variant in variants}
        best = records[variants[0].isa]
        show.write_json(
            {**best, "config": chosen.name, "machine": made.record(), "variants": records}
        )
    return show.EXIT_OK
