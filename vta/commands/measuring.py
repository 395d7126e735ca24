"""The commands that measure: ``vta bench``."""

from __future__ import annotations

from dataclasses import asdict

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
