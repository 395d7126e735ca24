"""The command that tests a device: ``vta selftest``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vta import show
from vta.commands.options import (
    DeviceOption,
    JsonOption,
    MaybeConfig,
    RecordOption,
    SetOption,
)

if TYPE_CHECKING:
    from fpga.driver.selftest_steps import StepReport

_NAME_WIDTH = 10
_VERDICT_WIDTH = 14


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
        listener=_show,
    )
    wall_s = time.perf_counter() - start
    failed = [r.name for r in reports if str(r.verdict) == "failed"]
    passed = sum(str(r.verdict) == "passed" for r in reports)
    show.write(
        f"{passed} of {len(reports)} steps passed, {len(failed)} failed"
        + (f" ({', '.join(failed)})" if failed else "")
        + f", {wall_s:.1f} s"
    )
    if as_json:
        show.write_json(
            {
                "device": device,
                "ok": not failed,
                "seed": seed,
                "wall_s": round(wall_s, 6),
                "steps": [report.to_dict() for report in reports],
            }
        )
    return show.EXIT_DIFFERENT if failed else show.EXIT_OK


def _show(report: StepReport) -> None:
    text = report.text or ", ".join(f"{k} {_value(v)}" for k, v in report.figures.items())
    line = f"{report.name:{_NAME_WIDTH}} {report.verdict:{_VERDICT_WIDTH}} {report.seconds:7.3f} s"
    show.write(f"{line}  {text}")


def _value(value: int | float | str) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
