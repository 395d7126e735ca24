"""What a run of a program gives, in the same form on every device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from vta_hw.spec.events import Timeline


class Status(StrEnum):
    """How a run ended. Verdict order: fault, then ok / finish_not_drained, deadlock, no_finish."""

    OK = "ok"
    FAULT = "fault"
    FINISH_NOT_DRAINED = "finish_not_drained"
    DEADLOCK = "deadlock"
    NO_FINISH = "no_finish"


@dataclass(frozen=True)
class Fault:
    """Why a run did not end well: `kind` is a fault class's text, or the status itself.

    `index` is the instruction the verdict names (None for `no_finish`).
    """

    kind: str
    index: int | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """The form used by ``--json``."""
        return {"class": self.kind, "index": self.index, "text": self.text}


@dataclass(frozen=True)
class RunResult:
    """Verdict and counts of one run.

    `cycles` and `timeline` are None on a device that has no clock; a timeline must be asked for.
    """

    status: Status
    fault: Fault | None
    instructions: int
    macs: int
    cycles: int | None = None
    counters: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    timeline: Timeline | None = None

    @property
    def ok(self) -> bool:
        """Whether the program finished and everything retired."""
        return self.status is Status.OK
