"""What the steps of the self-test have in common: what they test, and what they say."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from fpga.driver.transport import Transport
from runtime.device import Device
from vta_hw.spec.config import VtaConfig

Figure = int | float | str


class StepVerdict(StrEnum):
    """What came of a step."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_APPLICABLE = "not applicable"


class StepFailure(Exception):
    """What a step found wrong: what was expected, what came, where, and what to look at."""


class NotApplicable(Exception):
    """Why a step has nothing to test."""


@dataclass(frozen=True)
class StepReport:
    """One step: its verdict, why if it did not pass, what it measured, and its time in seconds."""

    name: str
    verdict: StepVerdict
    text: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The form used by ``--json``."""
        return {
            "name": self.name,
            "verdict": str(self.verdict),
            "text": self.text,
            "figures": dict(self.figures),
            "seconds": round(self.seconds, 6),
        }


@dataclass
class Bench:
    """What is tested, and how thoroughly.

    A board has a `transport` from the start; its `device` and `config` are there when the step
    `identity` has passed. `memory_bytes` is how much memory is tested.
    """

    seed: int
    memory_bytes: int
    transport: Transport | None = None
    device: Device | None = None
    config: VtaConfig | None = None

    def rng(self, name: str) -> np.random.Generator:
        """Random numbers of a step, or of one part of it."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


@dataclass(frozen=True)
class Step:
    """A step of the self-test.

    `needs` are steps without which it says nothing. One that is `of_board` needs a transport, one
    that is `timed` a device with a clock. `act` gives what it measured, or raises
    `StepFailure` or `NotApplicable`.
    """

    name: str
    act: Callable[[Bench], Mapping[str, Figure]]
    needs: tuple[str, ...] = ()
    of_board: bool = False
    timed: bool = False
