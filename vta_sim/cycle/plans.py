"""Slots of ACC that are asked for one after the other, and the cycles that are left for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vta_hw.spec import machine

LONG_AGO = -(1 << 30)
"""A cycle that nothing has to wait for."""


class User(Protocol):
    """Who asks for slots of ACC."""

    @property
    def start(self) -> int:
        """The cycle from which on it asks."""

    @property
    def ended(self) -> bool:
        """Whether it has been granted all."""

    @property
    def known(self) -> int:
        """How many of the slots that it will ask for next it knows; not 0 before it has ended."""

    def plan(self, n: int, taken: list[int]) -> Sequence[int]:
        """The cycles from n on in which it is granted a slot, if nobody ends before.

        `taken` has, for each of the cycles to plan, the halves taken by those who go before, as
        bits; the own ones are added. With the last slot known the plan ends, and `taken` with it.
        """

    def grant(self, cycles: Sequence[int]) -> None:
        """It is granted the first slots of the plan, in these cycles."""

    def finish(self, last: int) -> None:
        """It has ended with the grant in cycle `last`."""


@dataclass
class Slots:
    """Slots in the order in which one unit asks for them, by their number.

    `halves` are their halves, as bits. `gaps` says for those that A3 holds for how many slots
    before them the same element was an acc[dst]; the others are left out.
    """

    halves: list[int]
    gaps: Mapping[int, int] = field(default_factory=dict)

    def earliest(self, number: int, times: Sequence[int]) -> int:
        """The first cycle in which A3 lets a slot be asked for; `times` are the last grants'."""
        gap = self.gaps.get(number)
        return times[-gap] + machine.ACC_HAZARD if gap else LONG_AGO

    def fit(self, number: int, n: int, taken: list[int], times: Sequence[int] = ()) -> list[int]:
        """Plan the slots from `number` on, as `User.plan` says: each in the first cycle it can.

        `times` are the cycles of the grants before.
        """
        halves, gaps = self.halves, self.gaps
        half, earliest = halves[number], self.earliest(number, times)
        all_times = list(times)
        for place, others in enumerate(taken):
            if others & half or n + place < earliest:
                continue
            taken[place] = others | half
            all_times.append(n + place)
            number += 1
            if number == len(halves):
                del taken[place + 1 :]
                break
            half = halves[number]
            earliest = self.earliest(number, all_times) if number in gaps else LONG_AGO
        return all_times[len(times) :]
