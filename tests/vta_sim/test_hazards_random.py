"""Random programs: the checker against sets of places and reachability, pair by pair."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.gen_programs import legal_program
from tests.vta_sim.hazard_brute import Conflicts, hazards
from tests.vta_sim.hazard_programs import Draw
from tests.vta_sim.helpers import TINY
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.result import Status
from vta_sim.hazards import Report, check_stream

CONFIGS = (TINY, TINY.override(["EXTENSIONS=requant"]), VtaConfig.load("rect"))


def found(report: Report) -> dict[tuple[int, int], Conflicts]:
    return {
        (hazard.race.first, hazard.race.second): {
            clash.memory: (
                frozenset(n for a, b in clash.ranges for n in range(a, b + 1)),
                clash.first_writes,
                clash.second_writes,
            )
            for clash in hazard.race.clashes
        }
        for hazard in report.hazards
    }


def compare(seeds: range) -> Counter[str]:
    """How often what was met; fails with the first seed on which the two differ."""
    met: Counter[str] = Counter()
    for seed in seeds:
        config = CONFIGS[seed % len(CONFIGS)]
        draw = Draw(config, seed)
        program = draw.program()
        bases = {MemType.OUT: seed % 11, MemType.INP: seed % 7} if seed % 4 == 3 else {}
        report = check_stream(config, program, np.frombuffer(draw.dram, np.uint8), bases=bases)
        expected = hazards(config, program, draw.dram, bases)
        assert found(report) == expected, f"seed {seed} of {config.name}"
        met[report.status] += 1
        met.update("false hint" if h.race.hint else "race" for h in report.hazards)
        met.update(clash.memory for h in report.hazards for clash in h.race.clashes)
        assert {fault.kind for fault in report.faults} <= {"unknown_micro_ops"}, f"seed {seed}"
    return met


def test_reports_equal_brute_force() -> None:
    met = compare(range(300))
    wanted = {"clean", "hazard", "deadlock", "no_finish", "fault", "race", "false hint"}
    assert wanted | {"inp", "wgt", "acc", "uop", "dram"} <= met.keys(), met


@pytest.mark.long
def test_reports_equal_brute_force_on_many_programs() -> None:
    assert compare(range(300, 2300))["race"] > 1000


@pytest.mark.parametrize("name", ["default", "mac64", "batch4", "tiny", "rect", "pynq"])
def test_programs_that_are_ordered_by_construction_are_clean(name: str) -> None:
    config, clean = VtaConfig.load(name), 0
    for seed in range(20):
        program = legal_program(config, seed)
        dram = np.frombuffer(program.dram, np.uint8)
        report = check_stream(program.config, program.stream, dram)
        # Now and then one executes micro-ops that it has stored.
        faults = {fault.kind for fault in report.faults}
        assert faults <= {"unknown_micro_ops"}, f"seed {seed}: {report.findings}"
        assert not report.hazards and report.ending is Status.OK, f"seed {seed}: {report.findings}"
        clean += report.clean
    assert clean >= 18
