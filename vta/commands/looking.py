"""The commands that look inside: ``vta disasm``, ``check``, ``info`` and ``diff``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from vta import show
from vta.commands.options import JsonOption, MaybeConfig, SetOption

PAIRS_MAX = 1_000
"""Hazards that `vta check` lists: `vta_sim.hazards.PAIRS_MAX`, which costs an import of numpy."""


def disasm_command(
    file: Annotated[Path, typer.Argument(help="package, or raw instructions")],
    config: MaybeConfig = None,
    settings: SetOption = None,
) -> None:
    """List the instructions of a package or of a raw stream.

    A raw stream is read with `--config` (default: default); a package knows its own.
    """
    from vta import api

    chosen = None
    if config is not None or settings:
        chosen = api.config(config or "default", settings or ())
    show.write(api.disassemble(file, chosen))


def check_command(
    file: Annotated[Path, typer.Argument(help="package, or raw instructions")],
    dram: Annotated[
        Path | None, typer.Option(help="DRAM image from address 0 for raw instructions")
    ] = None,
    config: MaybeConfig = None,
    settings: SetOption = None,
    max_pairs: Annotated[int, typer.Option(help="hazards to list per program")] = PAIRS_MAX,
    as_json: JsonOption = False,
) -> int:
    """Prove that a program has no hazards, faults or deadlocks, without running it.

    A hazard is a pair of instructions that touch the same SRAM entries or DRAM bytes, one of them
    writing, in an order that no token fixes. A raw stream is read with `--config` (default:
    default) and needs `--dram`.
    """
    from vta import api

    chosen = None
    if config is not None or settings:
        chosen = api.config(config or "default", settings or ())
    image = None if dram is None else api.read_bytes(dram)
    start = time.perf_counter()
    with show.progress(f"checking {file.name}"):
        reports = api.check(file, chosen, dram=image, pairs_max=max_pairs)
    wall_s = time.perf_counter() - start
    show.write_reports(reports, wall_s)
    if as_json:
        show.write_json(show.check_record(reports, wall_s))
    return show.check_status(reports)


def info_command(
    subject: Annotated[
        str | None,
        typer.Argument(help="package, named configuration or JSON file of one"),
    ] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a package holds or what a configuration means; alone, list the configurations."""
    from runtime.package import Package
    from vta import api
    from vta_hw.spec.config import named_configs

    if subject is None:
        rows = [_config_row(name, settings or ()) for name in named_configs()]
        show.write_table(show.table("configurations", ("name", "GEMM", "extensions"), rows))
        return
    path = Path(subject)
    if subject not in named_configs() and path.is_file() and path.suffix != ".json":
        package = Package.load(path)
        if settings:
            raise api.UsageError("--set changes a configuration, not a package; leave it out")
        if as_json:
            show.write_json(show.package_record(package))
        else:
            show.write_package(package)
        return
    config = api.config(subject, settings or ())
    if as_json:
        show.write_json({"name": config.name, "hash": config.hash, **config.to_dict()})
    else:
        show.write_config(config)


def _config_row(name: str, settings: Sequence[str]) -> tuple[str, str, str]:
    from vta import api

    config = api.config(name, settings)
    gemm = f"{config.batch}x{config.block_in}x{config.block_out}"
    return name, gemm, ", ".join(sorted(config.extensions)) or "none"


def diff_command(
    first: Annotated[Path, typer.Argument(help="file that --trace wrote")],
    second: Annotated[Path, typer.Argument(help="another one of the same program")],
) -> int:
    """Say where two traces first differ; the exit status is 1 if they do."""
    from vta_sim import trace_diff

    found = trace_diff.first_difference(first, second)
    show.write("equal" if found is None else found)
    return show.EXIT_OK if found is None else show.EXIT_DIFFERENT
