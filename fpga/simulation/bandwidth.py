"""How much of its peak the SDRAM gives: the table of ``docs/sdram.md``.

``python -m fpga.simulation.bandwidth [--write FILE]`` prints it, or puts it into the page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from fpga.pages import show
from fpga.simulation.memory_bench import MemoryBench, Request
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import VtaKitError
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ, ULX3S_SDRAM

_MARK = "bandwidth"
_ROWS = 256
_SHORT_BURSTS = 4096
_APART = 4096
"""Bytes between bursts of the strided patterns: every one is in another row of the same bank."""


def patterns(bus_bytes: int) -> Iterator[tuple[str, list[Request], list[Request]]]:
    """Name, reads and writes of each."""
    row = ULX3S_SDRAM.row_bytes
    whole = [Request(i * row, row // bus_bytes) for i in range(_ROWS)]
    yield "long sequential reads", whole, []
    yield "long sequential writes", [], whole
    behind = [Request((_ROWS + i) * row, row // bus_bytes) for i in range(_ROWS)]
    yield "both at once, long", whole, behind
    for size in (256, 64, 16):
        beats = size // bus_bytes
        following = [Request(i * size, beats) for i in range(_SHORT_BURSTS)]
        yield f"sequential reads of {size} bytes", following, []
        strided = [Request(i * _APART, beats) for i in range(_SHORT_BURSTS)]
        yield f"reads of {size} bytes, {_APART} apart", strided, []
    random = Random(0)
    places = random.sample(range(ULX3S_SDRAM.size_bytes // 64), 2 * _SHORT_BURSTS)
    mixed = [Request(64 * place, 64 // bus_bytes) for place in places]
    yield "random reads and writes of 64 bytes", mixed[::2], mixed[1::2]


def share_of_peak(memory: MemoryBench, reads: list[Request], writes: list[Request]) -> float:
    """Bytes moved per cycle, of those that the chip could move."""
    memory.settle()
    begin = memory.now
    outcomes = memory.run(
        [Request(r.address, r.beats, begin) for r in reads],
        [Request(w.address, w.beats, begin) for w in writes],
    )
    cycles = max(int(cycle) for outcome in outcomes for cycle in outcome.last) - begin + 1
    beats = sum(request.beats for request in (*reads, *writes))
    return beats * memory.bus_bytes / ULX3S_SDRAM.word_bytes / cycles


def table() -> str:
    """The rows of the page."""
    memory = MemoryBench(VtaConfig.load("ulx3s"), ULX3S_SDRAM, ULX3S_CLOCK_HZ)
    lines = [
        f"| pattern, at {ULX3S_CLOCK_HZ / 1e6:g} MHz, refresh on | share of "
        f"{ULX3S_SDRAM.word_bytes} bytes per cycle |",
        "|---|---:|",
    ]
    for name, reads, writes in patterns(memory.bus_bytes):
        lines.append(f"| {name} | {100 * share_of_peak(memory, reads, writes):.1f} % |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(prog="python -m fpga.simulation.bandwidth")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the page it goes into")
    given = parser.parse_args(arguments)
    show(table(), given.write, _MARK)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except VtaKitError as error:
        sys.exit(f"error: {error}")
