"""The command that tests a device: ``vta selftest``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from vta import show
from vta.commands.options import (
    DeviceOption,
    JsonOption,
    MaybeConfig,
    RecordOption,
    SetOption,
)


def selftest_command(
    device: DeviceOption,
    config: MaybeConfig = None,
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(help="of the values that are tried")] = 0,
    memory_bytes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="how much of a board's memory is tested, all over it; takes 12 transfers of N",
        ),
    ] = None,
    record: RecordOption = None,
    as_json: JsonOption = False,
) -> int:
    """Test a device step by step, from who answers to a small network.

    What a board's memory holds is lost. Without `--config` a board's is the named one that its
    core says it was built for. The exit status is 1 if a step failed.
    """
    from vta import api, devices

    if seed < 0:
        raise api.UsageError(f"--seed must be at least 0, not {seed}")
    if memory_bytes is not None and memory_bytes < 1:
        raise api.UsageError(f"--memory-bytes must be at least 1, not {memory_bytes}")
    chosen = None
    if config is not None or settings or not devices.is_board(device):
        chosen = api.config("default" if config is None else config, settings or ())
    start = time.perf_counter()
    reports = devices.selftest(
        device,
        chosen,
        seed=seed,
        memory_bytes=memory_bytes,
        record=record,
        listener=show.write_step,
    )
    wall_s = time.perf_counter() - start
    status = show.write_steps(reports)
    if as_json:
        show.write_json(
            {
                "device": device,
                "ok": status == show.EXIT_OK,
                "seed": seed,
                "wall_s": round(wall_s, 6),
                "steps": [report.to_dict() for report in reports],
            }
        )
    return status
