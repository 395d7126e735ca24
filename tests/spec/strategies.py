"""Random instructions that fit a configuration."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from vta_hw.spec import isa
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.isa import Instruction


@st.composite
def instructions(draw: st.DrawFn, config: VtaConfig) -> Instruction:
    """Any instruction that fits the fields of `config`."""
    form = draw(st.sampled_from(list(isa.FORMATS.values())))
    return form(**draw(field_values(form, config)))


def field_values(form: type[Any], config: VtaConfig) -> st.SearchStrategy[dict[str, Any]]:
    """Values of all fields of a format but the opcode."""
    flags = {item.name for item in fields(form) if item.default is False}
    ranges = {}
    for slot in isa.layout(form, config):
        if slot.name == "opcode":
            continue
        least = -(1 << (slot.width - 1)) if slot.signed else 0
        numbers = st.integers(least, least + (1 << slot.width) - 1)
        ranges[slot.name] = st.booleans() if slot.name in flags else numbers
    return st.fixed_dictionaries(ranges)


ANY_CONFIG = st.sampled_from([VtaConfig.load(name) for name in named_configs()])
