"""Virtual threads on any axis: no races, the same numbers in whatever order the stages run."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.language.cases import CASES
from vta_hw.spec.config import VtaConfig
from vta_sim.hazards import check_program

ROUNDS = {"tiny": 40, "mac64": 25, "default": 12, "batch4": 10}


@pytest.mark.parametrize("config", ROUNDS)
@pytest.mark.parametrize("kind", CASES)
def test_random_programs(kind: str, config: str, rng: np.random.Generator) -> None:
    machine = VtaConfig.load(config)
    built = 0
    for _ in range(ROUNDS[config]):
        case = CASES[kind](rng, machine)
        program = case.build(machine)
        if program is None:
            continue
        built += 1
        report = check_program(program)
        assert report.clean, (case.label, report)
        case.check(program)
        case.check(program, rng)
    assert built >= ROUNDS[config] * 2 // 3, f"only {built} programs fit config {config}"


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "axis"),
    [
        (kind, axis)
        for kind, axes in (("add", 2), ("matmul", 2), ("conv2d", 3))
        for axis in range(axes)
    ],
)
def test_each_axis(kind: str, axis: int, threads: int, rng: np.random.Generator) -> None:
    machine = VtaConfig.load("tiny")
    programs = 0
    for _ in range(5):
        case = CASES[kind](rng, machine, [(axis, threads)])
        program = case.build(machine)
        if program is None:
            continue
        programs += 1
        assert check_program(program).clean, case.label
        case.check(program, rng)
    assert programs >= 3, f"only {programs} programs fit"
