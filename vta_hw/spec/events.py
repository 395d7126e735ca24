"""What happened when: the record of one run that cycle simulator and RTL give in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[Any]

NEVER = -1
"""In place of a cycle: it did not happen."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """Cycles of one run, counted as ``docs/timing.md`` does.

    `dispatch`, `issue` and `retire` have one entry per instruction of the stream, `NEVER` where it
    did not happen; a bad instruction retires never. `read_bus` and `write_bus` are the spans in
    which beats follow each other without a gap, as rows of (first cycle, last cycle).
    """

    cycles: int
    dispatch: IntArray
    issue: IntArray
    retire: IntArray
    read_bus: IntArray
    write_bus: IntArray

    @classmethod
    def of(
        cls,
        cycles: int,
        moments: Sequence[Sequence[int]],
        read_bus: Sequence[tuple[int, int]],
        write_bus: Sequence[tuple[int, int]],
    ) -> Timeline:
        """Build from sequences; `moments` are dispatch, issue and retire."""
        dispatch, issue, retire = (np.asarray(column, np.int64) for column in moments)
        spans = [np.asarray(rows, np.int64).reshape(-1, 2) for rows in (read_bus, write_bus)]
        return cls(cycles, dispatch, issue, retire, *spans)
