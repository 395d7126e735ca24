"""Every rule of docs/timing.md, on each device that has a clock."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.cosim.compare import device_of
from tests.cosim.rules import RULES, Case
from tests.models import REPO
from vta_hw.spec import isa
from vta_hw.spec.asm import assemble, assemble_uops
from vta_hw.spec.config import VtaConfig

DEVICES = ("cycle:plain", "cycle", pytest.param("rtl", marks=pytest.mark.slow))
IMAGE_BYTES = 1 << 16

pytestmark = pytest.mark.parametrize("device", DEVICES)


def _holds(rule: str, device: str) -> None:
    for case in RULES[rule]:
        _check(case, device)


def _check(case: Case, device: str) -> None:
    config = VtaConfig.load("tiny").override([f"DRAM_LATENCY={case.latency}", *case.settings])
    image = np.zeros(IMAGE_BYTES, np.uint8)
    words = [isa.encode_uop(uop, config) for uop in assemble_uops(case.uops, config)]
    image[: 4 * len(words)] = np.array(words, "<u4").view(np.uint8)
    stream = isa.encode_all(assemble(case.program, config), config)
    result = device_of(device, config).run_stream(stream, image)
    line = result.timeline
    assert line is not None
    for moment in ("dispatch", "issue", "retire"):
        expected = getattr(case, moment)
        found = {index: int(getattr(line, moment)[index]) for index in expected}
        assert found == expected, f"{moment} of {case.program}"
    assert (result.fault.kind if result.fault else "ok") == case.verdict
    assert (result.fault.index if result.fault else None) == case.fault_index
    for bus in ("read_bus", "write_bus"):
        if getattr(case, bus) is not None:
            assert [tuple(row) for row in getattr(line, bus).tolist()] == list(getattr(case, bus))
    assert {name: result.counters[name] for name in case.counters} == case.counters
    if case.cycles is not None:
        assert (result.cycles, line.cycles) == (case.cycles, case.cycles)


def test_every_rule_has_a_test(device: str) -> None:
    page = (REPO / "docs" / "timing.md").read_text()
    rules = set(re.findall(r"^- \*\*(\w+)\*\*", page, re.M))
    assert rules == RULES.keys()
    assert {f"test_{rule.lower()}" for rule in rules} <= globals().keys()


def test_r1(device: str) -> None:
    _holds("R1", device)


def test_r2(device: str) -> None:
    _holds("R2", device)


def test_m1(device: str) -> None:
    _holds("M1", device)


def test_m2(device: str) -> None:
    _holds("M2", device)


def test_b1(device: str) -> None:
    _holds("B1", device)


def test_b2(device: str) -> None:
    _holds("B2", device)


def test_c1(device: str) -> None:
    _holds("C1", device)


def test_c2(device: str) -> None:
    _holds("C2", device)


def test_c3(device: str) -> None:
    _holds("C3", device)


def test_f1(device: str) -> None:
    _holds("F1", device)


def test_f2(device: str) -> None:
    _holds("F2", device)


def test_f3(device: str) -> None:
    _holds("F3", device)


def test_f4(device: str) -> None:
    _holds("F4", device)


def test_s1(device: str) -> None:
    _holds("S1", device)


def test_s2(device: str) -> None:
    _holds("S2", device)


def test_s3(device: str) -> None:
    _holds("S3", device)


def test_s4(device: str) -> None:
    _holds("S4", device)


def test_s5(device: str) -> None:
    _holds("S5", device)


def test_s6(device: str) -> None:
    _holds("S6", device)


def test_l1(device: str) -> None:
    _holds("L1", device)


def test_l2(device: str) -> None:
    _holds("L2", device)


def test_l3(device: str) -> None:
    _holds("L3", device)


def test_l4(device: str) -> None:
    _holds("L4", device)


def test_l5(device: str) -> None:
    _holds("L5", device)


def test_g1(device: str) -> None:
    _holds("G1", device)


def test_g2(device: str) -> None:
    _holds("G2", device)


def test_g3(device: str) -> None:
    _holds("G3", device)


def test_g4(device: str) -> None:
    _holds("G4", device)


def test_a1(device: str) -> None:
    _holds("A1", device)


def test_a2(device: str) -> None:
    _holds("A2", device)


def test_a3(device: str) -> None:
    _holds("A3", device)


def test_d1(device: str) -> None:
    _holds("D1", device)


def test_d2(device: str) -> None:
    _holds("D2", device)


def test_t1(device: str) -> None:
    _holds("T1", device)


def test_t2(device: str) -> None:
    _holds("T2", device)


def test_t3(device: str) -> None:
    _holds("T3", device)


def test_t4(device: str) -> None:
    _holds("T4", device)


def test_t5(device: str) -> None:
    _holds("T5", device)
