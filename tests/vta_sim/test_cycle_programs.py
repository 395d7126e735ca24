"""The cycle simulator on whole programs: results of the functional one, and moments in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from tests.cosim.programs import CONFIGS, Case, case
from tests.vta_sim.helpers import TINY, fresh_dram
from vta_hw.spec import isa, machine
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import MemType
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.isa import Finish, Instruction, Stage
from vta_hw.spec.registers import COUNTERS, FETCH_STATES, STAGE_STATES, state_counter
from vta_hw.spec.result import RunResult
from vta_sim import functional
from vta_sim.cycle import simulate

PROGRAMS = 20
INSN_BASE = 1 << 20


def _image(made: Case) -> np.ndarray:
    return np.frombuffer(made.generated.dram, np.uint8).copy()


def _run(made: Case, *settings: str, **options: object) -> tuple[RunResult, np.ndarray]:
    image = _image(made)
    config = made.config.override(settings)
    result = simulate(config, made.generated.stream, image, insn_base=INSN_BASE, **options)  # type: ignore[arg-type]
    return result, image


@pytest.mark.parametrize("name", CONFIGS)
def test_results_are_those_of_the_functional_simulator(name: str, rng: np.random.Generator) -> None:
    for seed in rng.integers(0, 1 << 30, PROGRAMS).tolist():
        made = case(name, seed)
        expected = _image(made)
        latency = f"DRAM_LATENCY={1 << seed % 8}"
        wanted = functional.run(made.config.override([latency]), made.generated.stream, expected)
        found, image = _run(made, latency)
        assert (found.status, found.fault) == (wanted.status, wanted.fault), made.name
        assert np.array_equal(image, expected), made.name
        assert found.instructions == wanted.instructions and found.macs == wanted.macs, made.name
        assert {name: found.counters[name] for name in wanted.counters} == wanted.counters, (
            made.name
        )


@pytest.mark.parametrize("name", ["tiny", "tiny-short-queue", "rect"])
def test_moments_and_counters_fit_together(name: str, rng: np.random.Generator) -> None:
    for seed in rng.integers(0, 1 << 30, PROGRAMS).tolist():
        made = case(name, seed)
        found, _ = _run(made, f"DRAM_LATENCY={1 << seed % 8}")
        _check_counters(found)
        instructions = isa.decode_all(made.generated.stream, made.config)
        line = found.timeline
        assert line is not None
        dispatched = [int(n) for n in line.dispatch if n >= 0]
        assert all(b > a for a, b in pairwise(dispatched)), made.name
        for stage in Stage:
            own = [i for i, insn in enumerate(instructions) if isa.stage_of(insn) is stage]
            _check_stage(found, own, made.config.cmd_queue_depth, made.name)
        _check_tokens(found, instructions)


def _check_counters(found: RunResult) -> None:
    counters, line = found.counters, found.timeline
    assert line is not None and tuple(counters) == COUNTERS
    assert counters["cycles"] == found.cycles == line.cycles
    for stage, states in STAGE_STATES.items():
        assert sum(counters[state_counter(stage, state)] for state in states) == found.cycles
    assert sum(counters[f"{name}_cycles"] for name in FETCH_STATES) == found.cycles
    for name, spans in (("read", line.read_bus), ("write", line.write_bus)):
        assert counters[f"{name}_beats"] == sum(last - first + 1 for first, last in spans.tolist())
        assert all(b[0] > a[1] + 1 for a, b in pairwise(spans.tolist()))
    if found.ok:
        operations = counters["gemm_ops"] + counters["gemm_reset_ops"]
        assert counters["gemm_busy_cycles"] == operations
        assert counters["alu_busy_cycles"] >= counters["alu_ops"]


def _check_stage(found: RunResult, own: Sequence[int], depth: int, name: str) -> None:
    line = found.timeline
    assert line is not None
    issued = [i for i in own if line.issue[i] >= 0]
    retired = [i for i in own if line.retire[i] >= 0]
    assert issued == own[: len(issued)] and retired == own[: len(retired)], name
    for i in issued:
        assert line.issue[i] >= line.dispatch[i] + machine.DISPATCH_TO_READY, name
    for a, b in pairwise(issued):
        assert line.issue[b] >= line.issue[a] + machine.ISSUE_INTERVAL, name
    for i in retired:
        assert line.retire[i] >= line.issue[i] + machine.DONE_TO_RETIRE, name
    for a, b in pairwise(retired):
        assert line.retire[b] > line.retire[a], name
    dispatched = [i for i in own if line.dispatch[i] >= 0]
    for place, i in enumerate(dispatched):
        before = sum(1 for j in issued if line.issue[j] < line.dispatch[i])
        assert place - before < depth, name


def _check_tokens(found: RunResult, instructions: Sequence[Instruction]) -> None:
    line = found.timeline
    assert line is not None
    events: dict[int, list[tuple[int, int]]] = {queue: [] for queue in isa.TokenQueue}
    for i, insn in enumerate(instructions):
        if line.issue[i] >= 0:
            for queue in isa.pops(insn):
                events[queue].append((int(line.issue[i]), -1))
        if line.retire[i] >= 0:
            for queue in isa.pushes(insn):
                events[queue].append((int(line.retire[i]), 1))
    for changes in events.values():
        count = 0
        for cycle in sorted({cycle for cycle, _ in changes}):
            now = [change for at, change in changes if at == cycle]
            assert -1 not in now or count > 0
            assert 1 not in now or count < isa.TOKEN_MAX
            count += sum(now)


def test_without_results_everything_else_is_the_same(rng: np.random.Generator) -> None:
    for seed in rng.integers(0, 1 << 30, PROGRAMS).tolist():
        made = case("tiny", seed)
        full, _ = _run(made)
        bare, image = _run(made, execute=False)
        assert full.status == bare.status and full.fault == bare.fault
        assert full.counters == bare.counters
        for moment in ("dispatch", "issue", "retire", "read_bus", "write_bus"):
            assert np.array_equal(getattr(full.timeline, moment), getattr(bare.timeline, moment))
        assert image.tobytes() == made.generated.dram


def test_latency_is_that_of_the_config_unless_given() -> None:
    made = case("tiny", 3)
    by_config, _ = _run(made, "DRAM_LATENCY=77")
    given, _ = _run(made, latency=77)
    other, _ = _run(made)
    assert by_config.cycles == given.cycles != other.cycles


def _simulate(text: str, insn_base: int = 0, **options: object) -> RunResult:
    program = assemble(text, TINY)
    return simulate(TINY, program, fresh_dram(), insn_base=insn_base, **options)  # type: ignore[arg-type]


def test_chunks_are_aligned_in_memory() -> None:
    # B2: from 3 before a multiple of 256 bytes on: 3 instructions, 16, 1.
    found = _simulate("load inp\n" * 20, insn_base=256 - 3 * 16, latency=10)
    assert found.counters["read_bursts"] == 3 and found.counters["read_beats"] == 40
    assert found.timeline is not None and found.timeline.dispatch[:4].tolist() == [16, 18, 20, 22]


def test_no_instructions() -> None:
    found = _simulate("")
    assert (found.status.value, found.cycles, found.fault and found.fault.index) == (
        "no_finish",
        1 + machine.QUIET,
        None,
    )


def test_base_registers_move_transfers() -> None:
    dram = np.zeros(1 << 14, np.uint8)
    program = assemble("load acc y=1 x=1 push_next\nstore out y=1 x=1 pop_prev\nfinish", TINY)
    dram[4096:4112] = np.array([1, 2, 3, 4], "<i4").view(np.uint8)
    bases = {MemType.ACC: 4096, MemType.OUT: 8192}
    assert simulate(TINY, program, dram, insn_base=0, bases=bases).instructions == 3
    assert dram[8192:8196].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"insn_base": 8}, "multiple of 16, not 8"),
        ({"insn_base": -16}, "multiple of 16, not -16"),
        ({"bases": {MemType.INP: 64}}, "INP must be a multiple of 4096, not 64"),
        ({"latency": 0}, "at least 1 cycle, not 0"),
        ({"dram_limit": 1 << 20}, "DRAM_LIMIT must be within"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(ProgramError, match=text):
        _simulate("finish", **options)  # type: ignore[arg-type]


def test_finish_is_the_last_of_its_stage() -> None:
    found = _simulate("finish\nfinish")
    assert (found.status.value, found.fault and found.fault.index) == ("finish_not_drained", 1)
    assert isinstance(assemble("finish", TINY)[0], Finish)
