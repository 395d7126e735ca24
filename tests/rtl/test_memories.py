"""The queue in block RAM against a list."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.rtl.bench import parameters, rng, run_cocotb
from tests.rtl.load_bench import begin

cocotb = pytest.importorskip("cocotb", reason="needs the extra 'rtl'")
pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from cocotb.triggers import FallingEdge, ReadOnly  # noqa: E402

from vta_hw.rtl import verilog  # noqa: E402
from vta_hw.rtl.memories import Queue  # noqa: E402

_WIDTH = 9


@cocotb.test()
async def keeps_order(dut: Any) -> None:
    given = parameters()
    random = rng()
    await begin(dut, ("push", "entry", "pop"))
    # Entries, and the cycle from which each can be seen.
    entries: list[tuple[int, int]] = []
    seen_from = 0
    full = 0
    for cycle in range(given["cycles"]):
        hurry = (cycle // 200 % 3 + 1) / 4
        push = len(entries) < given["depth"] and random.random() < 1 - hurry
        pop = random.random() < hurry
        entry = random.getrandbits(_WIDTH)
        dut.push.value, dut.entry.value, dut.pop.value = int(push), entry, int(pop)
        await ReadOnly()
        visible = bool(entries) and cycle >= max(entries[0][1], seen_from)
        assert int(dut.level.value) == len(entries)
        assert int(dut.valid.value) == visible
        if visible:
            assert int(dut.head.value) == entries[0][0]
        full += len(entries) == given["depth"]
        if visible and pop:
            del entries[0]
            seen_from = cycle + 1
        if push:
            entries.append((entry, cycle + 2))
        await FallingEdge(dut.clk)
    assert full > 50


@pytest.mark.parametrize("depth", [2, 8, 9])
def test_keeps_order(depth: int, request: pytest.FixtureRequest):
    run_cocotb(
        Queue(_WIDTH, depth), __name__, ["keeps_order"],
        seed=int(request.config.getoption("--seed")),
        parameters={"depth": depth, "cycles": 3000},
    )  # fmt: skip


def test_synthesis_is_told_that_nothing_is_read_while_it_is_written():
    text = verilog.to_verilog(Queue(_WIDTH, 8), "queue")
    assert re.search(r"no_rw_check = 32'd1 \*\)\s*reg \[8:0\] storage \[7:0\];", text)
