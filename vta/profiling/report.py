"""A profile as data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from vta.profiling.measure import Profile, Row
from vta.show import short_name, table
from vta_sim.stalls import REASON_DOCS, REASONS, Reason

COST_HEADINGS = (
    *("layer", "operator", "MACs", "cycles", "ideal", "bound", "set by"),
    *("array use", "read use", "write use", "MACs/byte", "MACs/cycle"),
)
"""Of the table of costs, here and on the page."""

FORMAT_VERSION = 1
"""Of the JSON; a key that changes its meaning or goes away raises it."""


def record(found: Profile) -> dict[str, Any]:
    """What `vta profile --json` writes."""
    config, machine = found.config, found.machine
    return {
        "format": FORMAT_VERSION,
        "model": found.model,
        "numerics": found.numerics,
        "config": config.name,
        "config_hash": config.hash,
        "latency": config.dram_latency,
        "array_macs_per_cycle": machine.macs_per_cycle,
        "bus_bytes_per_cycle": machine.bus_bytes,
        "reason_docs": {str(reason): text for reason, text in REASON_DOCS.items()},
        "total": _row(found.total),
        "layers": [_row(row) for row in found.rows if row.is_layer],
        "outside": [_row(row) for row in found.rows if not row.is_layer],
        "elsewhere": [
            {"name": row.name, "op": row.op, "where": row.where, "reason": row.reason}
            for row in found.elsewhere
        ],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "op": row.op,
        "program": row.program,
        "cycles": row.cycles,
        "macs": row.macs,
        "ideal_cycles": row.ideal_cycles,
        "bound_cycles": row.bound_cycles,
        "bound_by": row.bound_by,
        "array_use": row.array_use,
        "read_use": row.read_use,
        "write_use": row.write_use,
        "read_bytes": row.traffic.read_bytes,
        "write_bytes": row.traffic.write_bytes,
        "read_beats": row.read_beats,
        "write_beats": row.write_beats,
        "macs_per_byte": row.macs_per_byte,
        "macs_per_cycle": row.macs_per_cycle,
        "reasons": {str(reason): cycles for reason, cycles in row.reasons.items()},
    }


def used_reasons(found: Profile) -> tuple[Reason, ...]:
    """The reasons that have cycles, in their order."""
    return tuple(reason for reason in REASONS if found.total.reasons[reason])


def all_rows(found: Profile) -> tuple[Row, ...]:
    """Every row, and their sum."""
    return (*found.rows, found.total)


def tables(found: Profile) -> Iterator[Table]:
    """What each layer costs, and the reasons of its cycles."""
    machine = found.machine
    title = (
        f"{found.model} on {found.config.name}: {machine.macs_per_cycle} MACs and "
        f"{machine.bus_bytes} bytes per cycle, latency {found.config.dram_latency}"
    )
    yield table(title, COST_HEADINGS, [_costs(row) for row in all_rows(found)])
    reasons = used_reasons(found)
    yield table(
        "cycles by reason",
        ("layer", "cycles", *map(str, reasons)),
        [
            (short_name(row.name), row.cycles, *(row.reasons[reason] for reason in reasons))
            for row in all_rows(found)
        ],
    )


def _costs(row: Row) -> Sequence[object]:
    return (
        short_name(row.name),
        row.op,
        row.macs,
        row.cycles,
        round(row.ideal_cycles),
        round(row.bound_cycles),
        row.bound_by if row.bound_cycles else "",
        *(row.array_use, row.read_use, row.write_use),
        *(row.macs_per_byte, row.macs_per_cycle),
    )
