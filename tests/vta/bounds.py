"""What holds for the profile of every network, whatever its schedules are."""

from __future__ import annotations

from vta.profiling.measure import Profile, add_rows


def check_bounds(found: Profile) -> None:
    """No part of a run is faster than its bound.

    A layer's own cycles may be fewer, since some of its transfers and products run beside the end
    of the layer before; from the launch to the end of any layer they cannot.
    """
    for program in {row.program for row in found.rows}:
        rows = [row for row in found.rows if row.program == program]
        for count in range(1, len(rows) + 1):
            part = add_rows("", rows[:count], found.machine)
            assert part.bound_cycles <= part.cycles, rows[count - 1].name
    assert found.total.bound_cycles <= found.total.cycles
