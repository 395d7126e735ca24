"""Feeds generated input to a target and catches what must not happen: hangs and memory too."""

from __future__ import annotations

import resource
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.targets import TARGETS, BrokenPromise
from vta_hw.spec.errors import VtaKitError

CASE_SECONDS_MAX = 20
CASE_BYTES_MAX = 1 << 30


@dataclass(frozen=True)
class Failure:
    """Input that broke a promise, and how."""

    target: str
    data: bytes
    text: str

    def save(self) -> Path:
        """A temporary file with the input."""
        with tempfile.NamedTemporaryFile(
            prefix=f"fuzz-{self.target}-", suffix=".bin", delete=False
        ) as file:
            file.write(self.data)
        return Path(file.name)


@dataclass
class Tally:
    """What became of a target's inputs."""

    accepted: int = 0
    refused: int = 0

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.accepted + self.refused


def fuzz(
    name: str, seed: int, *, cases: int | None = None, seconds: float | None = None
) -> tuple[Tally, list[Failure]]:
    """Feed a target so many inputs, or for so long; each depends on the seed and its number."""
    tally, failures = Tally(), []
    start = time.monotonic()
    number = 0
    while number != cases and (seconds is None or time.monotonic() - start < seconds):
        rng = np.random.default_rng([seed, sorted(TARGETS).index(name), number])
        number += 1
        data = TARGETS[name].make(rng)
        outcome = attempt(name, data)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        elif outcome:
            tally.accepted += 1
        else:
            tally.refused += 1
    return tally, failures


def attempt(name: str, data: bytes) -> bool | Failure:
    """Whether the target accepts the input, or how it breaks its promise."""
    before = _peak_bytes()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), _time_limit():
            # A warning would be a second line on standard error, and often is a wrong answer.
            warnings.simplefilter("error")
            accepted = TARGETS[name].check(data, Path(folder))
    except (Exception, SystemExit) as error:  # noqa: BLE001  any other exception is a finding
        assert not isinstance(error, VtaKitError), "targets take refusals themselves"
        return Failure(name, data, "".join(traceback.format_exception(error)[-12:]))
    if _peak_bytes() - before > CASE_BYTES_MAX:
        return Failure(name, data, f"took more than {CASE_BYTES_MAX} bytes of memory")
    return accepted


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise when a case takes too long; signals only reach the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise BrokenPromise(f"took more than {CASE_SECONDS_MAX} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
