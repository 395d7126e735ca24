"""The commands about boards: ``vta selftest`` and ``vta soc-sim``."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated

import typer

from vta import show
from vta.commands.options import (
    ConfigOption,
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


def soc_sim_command(
    config: ConfigOption = "ulx3s",
    settings: SetOption = None,
    seed: Annotated[int, typer.Option(help="of what memory and registers hold at first")] = 0,
) -> int:
    """Simulate a ULX3S with everything on it, at the end of a pseudo-terminal.

    Its hardware is the one that `vta bitstream` builds, with a faster line. The terminal's name is
    printed; use it as the port of a board, as in `--device ulx3s:/dev/pts/3`, until the command is
    interrupted.
    """
    from fpga.simulation.soc import SocSimulation, Terminal
    from vta import api
    from vta_hw.spec.sdram import ULX3S_CLOCK_HZ, ULX3S_SDRAM

    if not 0 <= seed < 1 << 31:
        raise api.UsageError(f"--seed must be from 0 to {(1 << 31) - 1}, not {seed}")
    chosen = api.config(config, settings or ())
    with show.progress(f"building the simulation of a ULX3S with config {chosen.name}"):
        soc = SocSimulation(chosen, ULX3S_SDRAM, clock_hz=ULX3S_CLOCK_HZ, board="ulx3s", seed=seed)
    with Terminal(soc) as terminal:
        show.write(terminal.name + "\n")
        show.note("the board is there until this is interrupted (Ctrl-C)")
        with suppress(KeyboardInterrupt):
            terminal.wait()
    show.note(
        f"{soc.cycles} cycles, {soc.refreshes} refreshes of the SDRAM, at most {soc.postponed} "
        f"put off at once"
    )
    return show.EXIT_OK
