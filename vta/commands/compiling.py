"""The command that makes packages: ``vta compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vta import show
from vta.commands.options import ConfigOption, SetOption


def compile_command(
    model: Annotated[Path, typer.Argument(help=".tflite or .onnx file")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the package to write")],
    config: ConfigOption = "default",
    settings: SetOption = None,
    numerics: Annotated[
        str | None,
        typer.Option(help="runtime to be equal to: litert-ref, xnnpack, ort; or ties-up"),
    ] = None,
    dump: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder for every intermediate form"),
    ] = None,
    timing: Annotated[bool, typer.Option(help="print the time of every pass")] = False,
    host: Annotated[
        str | None,
        typer.Option(metavar="TRIPLE", help="machine for the host operators"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="images at once, where the model's batch is not wanted"),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(metavar="LOG", help="log of vta tune, to take schedules from"),
    ] = None,
) -> None:
    """Compile a network to one package file."""
    from vta import api

    tilings, broken = ({}, 0) if tuned is None else api.tuned_choices(tuned, config, settings or ())
    if broken:
        show.note(f"{broken:,} broken lines of {tuned} were skipped")
    with show.progress(f"compiling {model.name}"):
        compiled = api.compile(
            model,
            config,
            numerics=numerics,
            settings=settings or (),
            dump_dir=dump,
            host_triple=host,
            batch=batch,
            tuned=tilings,
        )
        package = compiled.package
        package.save(output)
    if timing:
        total = sum(seconds for _, seconds in compiled.timings)
        rows = [(name, seconds * 1e3) for name, seconds in (*compiled.timings, ("total", total))]
        show.write_table(show.table("time per pass", ("pass", "ms"), rows))
    for row in package.layers:
        if row.where == "host":
            show.write(f"on the host: {row.name} ({row.op}): {row.reason}")
    for text in package.notes:
        show.write(f"note: {text}")
    instructions = sum(len(program.words) for program in package.programs)
    show.write(
        f"wrote {output}: {package.model} for config {package.config.name}, numerics "
        f"{package.numerics}, {instructions:,} instructions"
    )
