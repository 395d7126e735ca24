"""The command that says where the cycles of a network go: ``vta profile``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vta import show
from vta.commands.options import LatencyOption, SetOption, with_latency


def profile_command(
    package: Annotated[Path, typer.Argument(help="file that `vta compile` wrote")],
    latency: LatencyOption = None,
    settings: SetOption = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="write all figures as JSON")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a page with plots")
    ] = None,
) -> int:
    """Count a network's cycles layer by layer, and say what they went into.

    Nothing is computed: the cycles do not depend on the input. `--latency` and `--set` describe a
    machine that differs from the package's config in timing.
    """
    from runtime.package import Package, write_atomically
    from vta import api
    from vta.profiling import page, report
    from vta.profiling.measure import ProgramEndError

    loaded = Package.load(package)
    try:
        with show.progress(f"profiling {loaded.model}"):
            found = api.profile(loaded, settings=with_latency(settings, latency))
    except ProgramEndError as error:
        show.note(f"vta: {error}")
        return show.exit_status(error.result.status)
    for table in report.tables(found):
        show.write_table(table)
    for row in found.elsewhere:
        show.write(f"not on VTA: {show.short_name(row.name)} ({row.op}): {row.reason or row.where}")
    if as_json is not None:
        write_atomically(as_json, json.dumps(report.record(found), indent=1).encode() + b"\n")
    if html is not None:
        write_atomically(html, page.page(found))
    return show.EXIT_OK
