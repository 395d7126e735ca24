"""The commands that measure: ``vta bench``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vta import show
from vta.commands.options import (
    ConfigOption,
    DeviceOption,
    JsonOption,
    LatencyOption,
    SetOption,
    with_latency,
)

if TYPE_CHECKING:
    from vta.bench.costs import Cost
    from vta_hw.spec.config import VtaConfig

OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="workloads whose names contain this; may be repeated"),
]


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


def bench_layers_command(
    config: ConfigOption = "default",
    settings: SetOption = None,
    latency: LatencyOption = None,
    only: OnlyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the cycles of single layers of ResNet-18, ResNet-50 and MobileNet, each alone.

    Every figure comes with the array's ideal, the bound, and what was published for the geometry.
    """
    from vta import api
    from vta.bench import costs

    chosen = api.config(config, with_latency(settings, latency))
    found = list(costs.layer_costs(chosen, show.progress, only or ()))
    _write_costs(chosen, found)
    if as_json:
        show.write_json({**_machine(chosen), "layers": [cost.record() for cost in found]})


def bench_threads_command(
    config: ConfigOption = "default",
    settings: SetOption = None,
    latency: LatencyOption = None,
    only: OnlyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the cycles of ResNet-18's layers with one virtual thread and with two.

    Every buffer is there once per thread. The last column is the layer as it is compiled.
    """
    from vta import api
    from vta.bench import hiding

    chosen = api.config(config, with_latency(settings, latency))
    found = list(hiding.thread_costs(chosen, show.progress, only or ()))
    title = f"cycles on {chosen.name}, memory latency {chosen.dram_latency}"
    show.write_table(show.table(title, hiding.HEADINGS, hiding.rows(found)))
    if as_json:
        show.write_json({**_machine(chosen), "layers": [cost.record() for cost in found]})


def bench_networks_command(
    config: ConfigOption = "default",
    settings: SetOption = None,
    latency: LatencyOption = None,
    only: OnlyOption = None,
    models: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="folder with MLPerf Tiny's networks"),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(metavar="LOG", help="compile with this log of `vta tune` as well"),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", help="tune first: trials for each distinct layer, into the log"),
    ] = None,
    seed: Annotated[int, typer.Option(help="of the tuning")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", help="processes that measure in tuning; all cores by default"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count the cycles of whole networks, and of the layers that published figures count.

    A network that is not here is left out, with a remark that says how to get it. With --tuned,
    --trials or both each is compiled a second time, with tuned schedules.
    """
    from vta import api
    from vta.bench import costs
    from vta.bench.tuned import tuning_of

    chosen = api.config(config, with_latency(settings, latency))
    missing: dict[str, str] = {}
    with tuning_of(tuned, trials, seed, jobs) as tuning:
        found = list(
            costs.network_costs(chosen, show.progress, only or (), models, missing, tuning)
        )
    if tuning is not None and tuning.broken:
        show.note(f"{tuning.broken:,} broken lines of {tuned} were skipped")
    _write_costs(chosen, found)
    for name, reason in missing.items():
        show.note(f"without {name}: {reason}")
    if as_json:
        records = [cost.record() for cost in found]
        show.write_json({**_machine(chosen), "networks": records, "missing": missing})


def _machine(config: VtaConfig) -> dict[str, Any]:
    return {"config": config.name, "latency": config.dram_latency}


def _write_costs(config: VtaConfig, found: Sequence[Cost]) -> None:
    from vta.bench import costs

    title = f"cycles on {config.name}, memory latency {config.dram_latency}"
    show.write_table(show.table(title, costs.headings(found), costs.table_rows(found)))
    for name, source in costs.sources(found).items():
        show.write(f"{name}: {source}")
