"""What a build may take and must reach: one file per board and config, held by every build."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Any

from fpga.build.figures import RESOURCES, Clock, Figures
from fpga.build.stages import BuildError
from vta_hw.spec import cache

FOLDER = Path(__file__).parent / "budgets"

_SPARE = 1.03
_SPARE_CLOCK = 0.95
"""A new budget leaves so much room: results differ a little between versions of the tools."""

_HZ_PER_MHZ = 1e6


@dataclass(frozen=True)
class Budget:
    """The most of each resource, and the least frequency of each clock in MHz."""

    resources: Mapping[str, int]
    clocks_mhz: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As it is written to its file."""
        return {"resources": dict(self.resources), "clocks_mhz": dict(self.clocks_mhz)}


def path_of(board: str, config: str) -> Path:
    """Where the budget of a board with a named config lies."""
    return FOLDER / f"{board}-{config}.json"


def load(path: Path) -> Budget | None:
    """The budget in a file, or None if there is no such file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"the budget {str(path)!r} cannot be read: {error}") from error
    try:
        record = json.loads(text)
        budget = Budget(
            {name: int(record["resources"][name]) for name in RESOURCES},
            {str(name): float(mhz) for name, mhz in record["clocks_mhz"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(
            f"the budget {str(path)!r} lacks or mistakes {error}; write it anew with --new-budget"
        ) from error
    return budget


def of(figures: Figures) -> Budget:
    """A budget that `figures` keep with a little room."""
    return Budget(
        {
            name: min(ceil(amount.used * _SPARE), amount.available)
            for name, amount in figures.resources.items()
        },
        {clock.name: _least_mhz(clock) for clock in figures.clocks},
    )


def _least_mhz(clock: Clock) -> float:
    """In whole MHz, but never more than was reached."""
    spared = floor(clock.reached_hz * _SPARE_CLOCK / _HZ_PER_MHZ)
    return min(max(clock.required_hz / _HZ_PER_MHZ, spared), clock.reached_hz / _HZ_PER_MHZ)


def write(path: Path, budget: Budget) -> None:
    """Write a budget's file."""
    text = json.dumps(budget.to_dict(), indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cache.replace_file(path, text.encode())
    except OSError as error:
        raise BuildError(
            f"the budget {str(path)!r} cannot be written: {error.strerror or error}; make its "
            f"folder writable"
        ) from error


def exceeded(budget: Budget, figures: Figures) -> list[str]:
    """Each figure that does not keep the budget, in words."""
    found = [
        f"{amount.used:,} {name} of {budget.resources[name]:,}"
        for name, amount in figures.resources.items()
        if amount.used > budget.resources[name]
    ]
    reached = {clock.name: clock.reached_hz / _HZ_PER_MHZ for clock in figures.clocks}
    for name, least in budget.clocks_mhz.items():
        if name not in reached:
            found.append(f"no clock {name}")
        elif reached[name] < least:
            found.append(f"{reached[name]:.2f} MHz of {least:g} MHz for {name}")
    return found
