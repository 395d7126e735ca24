"""Fuzz all readers for some time: ``python -m tests.fuzz --minutes 10``."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from tests.fuzz.runner import Failure, Tally, attempt, fuzz
from tests.fuzz.targets import TARGETS

ADDRESS_SPACE_BYTES = 6 << 30
ROUND_SECONDS = 5.0


def main() -> int:
    """Fuzz, or replay one saved input; exit status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock")
    parser.add_argument("--target", choices=list(TARGETS), action="append")
    parser.add_argument("--replay", type=Path, help="an input that an earlier run saved")
    given = parser.parse_args()
    # What asks for absurd amounts of memory then fails at once instead of swapping.
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    targets = given.target or list(TARGETS)
    if given.replay:
        outcome = attempt(targets[0], given.replay.read_bytes())
        print(outcome.text if isinstance(outcome, Failure) else f"accepted: {outcome}")
        return int(isinstance(outcome, Failure))
    seed = int(time.time()) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    return _fuzz(targets, seed, given.minutes * 60)


def _fuzz(targets: list[str], seed: int, seconds: float) -> int:
    end, count, found = time.monotonic() + seconds, 0, 0
    tallies = {name: Tally() for name in targets}
    seen: set[str] = set()
    while time.monotonic() < end:
        for name in targets:
            left = min(ROUND_SECONDS, end - time.monotonic())
            tally, failures = fuzz(name, seed + count, seconds=max(0.1, left))
            tallies[name].accepted += tally.accepted
            tallies[name].refused += tally.refused
            for failure in failures:
                found += 1
                # The last lines of a traceback tell one defect from another.
                signature = "".join(failure.text.splitlines()[-4:-1])
                if signature not in seen:
                    seen.add(signature)
                    print(f"{failure.text}{name}: input saved as {failure.save()}", flush=True)
        count += 1
    for name, tally in tallies.items():
        print(f"{name}: {tally.accepted} accepted, {tally.refused} refused")
    print(f"{found} broken promises, {len(seen)} different")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
