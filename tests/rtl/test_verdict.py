"""End of a run and its verdict, against the text of the instruction set's documentation."""

from __future__ import annotations

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from vta_hw.spec.isa import Stage
from vta_hw.spec.machine import QUIET
from vta_hw.spec.registers import NO_INDEX, Verdict

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.clock import Clock  # noqa: E402
from cocotb.triggers import FallingEdge, RisingEdge  # noqa: E402

from vta_hw.rtl.verdict import FAULT, HELD, EndOfRun  # noqa: E402

STAGES = [stage.name.lower() for stage in Stage]
STOPPABLE = ["fetch", *STAGES]
UNITS = 3


def draw(random) -> dict:
    """How a machine may come to rest, more or less likely."""
    few = random.random() < 0.7
    indices = random.sample(range(12 if few else 2**32 - 1), 7)
    none = {name: (0, random.getrandbits(32)) for name in STOPPABLE}
    faults = dict(none)
    if random.random() < 0.4:
        for name, index in zip(STOPPABLE, indices, strict=False):
            if random.random() < 0.5:
                faults[name] = (random.randint(1, 10), index)
    held = {name: (random.random() < 0.4, i) for name, i in zip(STAGES, indices[4:], strict=True)}
    if random.random() < 0.3:
        held = {name: (False, index) for name, (_, index) in held.items()}
    count = random.choice((0, 1, 20, 2**32 - 1))
    next_index = count if random.random() < 0.5 else random.randint(0, count)
    return {
        "bad_launch": random.random() < 0.1,
        "faults": faults,
        "held": held,
        "count": count,
        "next_index": next_index,
        "finished": random.random() < 0.6,
    }


def verdict_of(state: dict) -> tuple[int, int]:
    if state["bad_launch"]:
        return Verdict.BAD_LAUNCH, NO_INDEX
    faults = [(index, kind) for kind, index in state["faults"].values() if kind]
    held = [index for valid, index in state["held"].values() if valid]
    if faults:
        index, kind = min(faults)
        return kind, index
    if state["finished"]:
        undispatched = state["next_index"] < state["count"]
        left = [*held, *([state["next_index"]] if undispatched else [])]
        return (Verdict.FINISH_NOT_DRAINED, min(left)) if left else (Verdict.OK, NO_INDEX)
    return (Verdict.DEADLOCK, min(held)) if held else (Verdict.NO_FINISH, NO_INDEX)


def apply(dut, state: dict) -> None:
    for name, (kind, index) in state["faults"].items():
        value = FAULT.const({"kind": kind, "index": index}).as_bits()
        getattr(dut, f"{name}_fault").value = value
    for name, (valid, index) in state["held"].items():
        value = HELD.const({"valid": valid, "index": index}).as_bits()
        getattr(dut, f"{name}_held").value = value
    for name in ("bad_launch", "count", "next_index", "finished"):
        getattr(dut, name).value = int(state[name])


@cocotb.test()
async def ends(dut):
    """Random movement with gaps shorter than `QUIET`, the state wild until the last movement."""
    random = rng()
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for _ in range(parameters()["runs"]):
        dut.rst.value, dut.start.value, dut.running.value, dut.moving.value = 1, 0, 0, 0
        apply(dut, draw(random))
        await RisingEdge(dut.clk)
        await RisingEdge(dut.clk)
        dut.rst.value = 0
        moves = [0]
        for _ in range(random.randrange(12)):
            moves.append(moves[-1] + random.choice((1, 1, 2, 3, QUIET - 2, QUIET - 1)))
        state = draw(random)
        end = None
        for cycle in range(moves[-1] + QUIET + 20):
            dut.start.value, dut.running.value = int(cycle == 0), int(end is None)
            # Whether the units call cycle 0 moving does not matter.
            moves_now = cycle in moves[1:] or (cycle == 0 and random.random() < 0.5)
            dut.moving.value = random.randrange(1, 1 << UNITS) if moves_now else 0
            if cycle <= moves[-1]:
                apply(dut, draw(random))
            elif cycle == moves[-1] + 1:
                apply(dut, state)
            await FallingEdge(dut.clk)
            if int(dut.ended.value):
                assert end is None
                end = cycle
                assert (int(dut.verdict.value), int(dut.index.value)) == verdict_of(state)
            await RisingEdge(dut.clk)
        assert end == moves[-1] + QUIET


def test_verdict(request: pytest.FixtureRequest):
    seed = request.config.getoption("--seed")
    run_cocotb(EndOfRun(UNITS), __name__, ["ends"], seed=seed, parameters={"runs": 1500})
