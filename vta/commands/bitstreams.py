"""The command that builds for a board: ``vta bitstream``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vta import show
from vta.commands.options import JsonOption, MaybeConfig, SetOption

_HZ_PER_MHZ = 1_000_000


def bitstream_command(
    board: Annotated[str, typer.Option(help="what to build for")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="folder for the files")
    ],
    config: MaybeConfig = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(metavar="N", help="of place and route")] = 1,
    seeds: Annotated[
        int, typer.Option(metavar="N", help="how many seeds to try; the best is kept")
    ] = 1,
    clock_mhz: Annotated[
        float | None, typer.Option(metavar="MHZ", help="of core and memory, not the board's usual")
    ] = None,
    new_budget: Annotated[
        bool, typer.Option("--new-budget", help="write the budget anew from this build")
    ] = False,
    write: Annotated[
        Path | None, typer.Option(metavar="PAGE.md", help="write all figures as a page")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build the bitstream of a board with open tools, and say what it takes of the FPGA.

    Steps whose inputs have not changed are taken over from the folder, so that an interrupted build
    goes on where it stopped. Without `--config` the core is the board's usual one. Boards with a
    Zynq get a project for Vivado.
    """
    import datetime

    from fpga.build import bitstream, tables, targets
    from vta import api

    name = targets.usual_config(board)
    chosen = api.config(name if config is None else config, settings or ())
    clock_hz = None if clock_mhz is None else round(clock_mhz * _HZ_PER_MHZ)
    if targets.needs_vivado(board):
        if (seed, seeds, new_budget, write) != (1, 1, False, None):
            raise api.UsageError(
                f"{board} gets a project for Vivado, which places and routes; leave out --seed, "
                f"--seeds, --new-budget and --write"
            )
        with show.progress(f"writing the project for {board}"):
            project = targets.export_project(board, chosen, output, clock_hz=clock_hz)
        for text in project.findings:
            show.write(f"note: {text}")
        show.write(f"wrote {len(project.files)} files to {output}; {output / 'README.md'} goes on")
        if as_json:
            show.write_json(project.to_dict())
        return
    with show.changing_progress(f"building for {board}") as tell:
        report = bitstream.build(
            board,
            chosen,
            output,
            seed=seed,
            seeds=seeds,
            clock_hz=clock_hz,
            new_budget=new_budget,
            tell=tell,
        )
    show.write(tables.heading(report))
    for table in tables.tables(report):
        show.write_table(show.table(table.title, table.headings, table.rows))
    bitstream.require_good(report)
    if write is not None:
        write.write_text(tables.page(report, datetime.datetime.now(datetime.UTC).date()))
    show.write(f"wrote {output / bitstream.BITSTREAM}")
    if as_json:
        show.write_json(report.to_dict())
