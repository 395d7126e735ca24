"""Compare the devices on many random programs: ``python -m tests.cosim.sweep --programs 1000``.

Prints every difference, then the coverage table; the exit status is 1 if anything differs or, at
the full size, a bin is empty. With ``--contended`` the programs are those of
`tests.cosim.contended`, without the table.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from tests.cosim.compare import DEVICES, Outcome, differences, run
from tests.cosim.contended import contended_picks
from tests.cosim.coverage import Coverage
from tests.cosim.programs import CONFIGS, EDGES, Case, case, decoded, recorded_uops
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Instruction
from vta_sim import functional

FULL = 1000
LATENCIES = (1, 16, 32, 200)
READS = (1, 4, 64)
"""Each value of MAX_READS is another machine, so only the smallest config has them all."""

ROUND = (*CONFIGS, *(name for name in CONFIGS if name not in EDGES))
"""The configs in turn."""


def picks(programs: int, first_seed: int = 0) -> Iterator[tuple[Case, VtaConfig]]:
    """That many programs, spread over configs, latencies and read limits."""
    turns: Counter[str] = Counter()
    for number in range(programs):
        name = ROUND[number % len(ROUND)]
        turn = turns[name]
        turns[name] += 1
        made = case(name, first_seed + turn)
        settings = [f"DRAM_LATENCY={LATENCIES[turn % len(LATENCIES)]}"]
        if name == "tiny":
            settings.append(f"MAX_READS={READS[turn // 2 % len(READS)]}")
        yield made, made.config.override(settings)


def compare(
    made: Case, config: VtaConfig, devices: Sequence[str], coverage: Coverage | None
) -> list[str]:
    """What the devices disagree in on one program."""
    stream, dram = made.generated.stream, made.generated.dram
    instructions = decoded(made.generated)
    with recorded_uops(instructions) as uops:
        outcomes: list[Outcome] = [run_functional(config, instructions, dram)]
    outcomes += [run(name, config, stream, dram) for name in devices]
    found = []
    for left, right in zip(outcomes, outcomes[1:], strict=False):
        found += differences(left, right, config, stream)
    if coverage is not None and len(outcomes) > 1:
        coverage.add(config, instructions, uops, outcomes[-1].result)
    return found


def run_functional(config: VtaConfig, instructions: Sequence[Instruction], dram: bytes) -> Outcome:
    """The reference: decoded instructions, so that their micro-ops can be recorded."""
    image = np.frombuffer(dram, np.uint8).copy()
    return Outcome("functional", functional.run(config, instructions, image), image)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.cosim.sweep")
    parser.add_argument("--programs", type=int, default=FULL)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument(
        "--contended", action="store_true", help="programs whose units want the same slots of ACC"
    )
    parser.add_argument("--devices", default=",".join(DEVICES))
    options = parser.parse_args(arguments)
    coverage, failed = Coverage(), 0
    console = Console(stderr=True)
    everything = list(range(options.programs))
    made_by = contended_picks if options.contended else picks
    source = made_by(options.programs, options.first_seed)
    for _ in track(everything, "comparing", console=console, disable=not console.is_terminal):
        made, config = next(source)
        found = compare(made, config, options.devices.split(","), coverage)
        if found:
            failed += 1
            print(f"{made.name}, latency {config.dram_latency}, reads {config.max_reads}:")
            print("\n".join(f"  {line}" for line in found[:6]))
    empty = []
    if not options.contended:  # the table is not about these
        print(coverage.table())
        empty = coverage.empty()
    print(f"{options.programs} programs, {failed} with differences, {len(empty)} empty bins")
    return int(failed > 0 or (bool(empty) and options.programs >= FULL))


if __name__ == "__main__":
    sys.exit(main())
