"""Random programs: the compiled engines say what the readable simulators say, on every machine.

The full size is ``python -m tests.vta_sim.native_sweep``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.vta_sim.engines import functional_differences
from tests.vta_sim.native_sweep import MACHINES, differences, machine, main, pick
from vta_hw.spec.isa import FaultClass
from vta_sim.lang import cpu
from vta_sim.native.functional import FunctionalProgram, shape_constants
from vta_sim.native.volatile import VolatileProgramError

LEVELS = ("generic", "avx2", "vnni")
_WIDE = ("block32", "block64")
"""These take long to compile."""
PROGRAMS = 12
MANY = 100


def _marked(*names: str, fast: tuple[str, ...] = ()) -> list[Any]:
    """Names as parameters; all but the fast ones, by default those of `_WIDE`, are slow."""
    slow = [name for name in names if (name not in fast if fast else name in _WIDE)]
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


SHAPES = _marked(
    *("tiny", "rect", "batch4", "in1-out2", "in2-out1", "in4-out1", "block1", "block32"),
    fast=("tiny", "rect", "in1-out2", "in4-out1"),
)


def _compare(name: str, rng: np.random.Generator, programs: int) -> None:
    counts: Counter[str] = Counter()
    for seed in rng.integers(0, 1 << 31, programs).tolist():
        assert differences(pick(name, seed), counts) == []
    assert counts["volatile"] < programs


@pytest.mark.parametrize("name", _marked(*MACHINES))
def test_engines_agree(name, rng):
    _compare(name, rng, PROGRAMS)


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_engines_agree_on_many_programs(name, rng):
    _compare(name, rng, MANY)


def _agree_on_results(name: str, rng: np.random.Generator, layout: str | None = None) -> None:
    compared = 0
    for seed in rng.integers(0, 1 << 31, 12).tolist():
        chosen = pick(name, seed)
        try:
            assert functional_differences(chosen.launch, layout=layout) == [], chosen.name
            compared += 1
        except VolatileProgramError:
            continue
    assert compared


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", SHAPES)
def test_all_levels_of_the_cpu_agree(name, level, rng, monkeypatch):
    if LEVELS.index(level) > LEVELS.index(cpu.detected()):
        pytest.skip(f"this CPU has no more than {cpu.detected()}")
    monkeypatch.setenv(cpu.CPU_VARIABLE, level)
    assert cpu.chosen().isa == level
    _agree_on_results(name, rng)


@pytest.mark.parametrize("name", SHAPES)
def test_the_layout_of_vnni_is_right_on_any_cpu(name, rng):
    """Bytes with an offset, in groups of four; what VNNI does is made of plain products."""
    config = machine(name)
    constants = shape_constants(config.batch, config.block_in, config.block_out, "vnni")
    assert constants["GROUP"] == min(4, config.block_in)
    _agree_on_results(name, rng, layout="vnni")


def test_the_sweep_meets_every_fault(capsys):
    """What the random programs end as, and that the command reports it."""
    assert main(["--programs", "60", "--seed", "7", "--machines", "tiny", "minimal", "mac64"]) == 0
    printed = capsys.readouterr().out
    assert "0 programs with differences" in printed
    assert "programs 60" in printed
    met = {kind for kind in FaultClass if f"{kind.text} " in printed}
    assert len(met) >= 4, printed


def test_a_difference_is_found(monkeypatch, rng):
    """An engine that forgets the last instruction is caught by the first program or two."""
    flow = FunctionalProgram._flow

    def shortened(self, table, dram):
        order, ending = flow(self, table, dram)
        return order[: max(0, len(order) - 3)], ending

    monkeypatch.setattr(FunctionalProgram, "_flow", shortened)
    found = []
    for seed in range(12):
        try:
            found += functional_differences(pick("tiny", seed).launch)
        except VolatileProgramError:
            continue
    assert found
