"""Instructions as numbers, held against `isa.encode` and `isa.decode`, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spec.strategies import ANY_CONFIG, instructions
from vta_hw.spec import isa, words
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.errors import EncodingError

CONFIG = VtaConfig.load("default")


@given(st.data(), ANY_CONFIG)
def test_fields_are_those_of_the_decoded_instructions(data: st.DataObject, config: VtaConfig):
    insns = tuple(data.draw(st.lists(instructions(config), max_size=8)))
    encoded = words.encode(insns, config)
    assert encoded.shape == (len(insns), 2) and encoded.dtype == np.uint64
    assert encoded.flags.c_contiguous and encoded.tobytes() == isa.encode_all(insns, config)
    assert words.decode(encoded, config) == insns
    assert words.opcodes(encoded, config).tolist() == [insn.opcode for insn in insns]
    for opcode, form in isa.FORMATS.items():
        chosen = encoded[words.opcodes(encoded, config) == opcode]
        for slot in isa.layout(form, config):
            found = words.field_of(chosen, slot)
            assert found.dtype == np.int64
            wanted = [int(getattr(insn, slot.name)) for insn in insns if isinstance(insn, form)]
            assert found.tolist() == wanted


@given(st.data(), ANY_CONFIG)
def test_putting_a_field_changes_that_field_alone(data: st.DataObject, config: VtaConfig):
    insn = data.draw(instructions(config))
    form = type(insn)
    slot = data.draw(st.sampled_from([s for s in isa.layout(form, config) if s.name != "opcode"]))
    value = data.draw(st.integers(slot.least, slot.greatest))
    encoded = words.encode((insn, insn), config).copy()
    words.put_field(encoded, np.array([1]), slot, np.array([value]))
    kept = {s.name: getattr(insn, s.name) for s in isa.layout(form, config) if s.name != "opcode"}
    assert words.decode(encoded, config) == (insn, form(**{**kept, slot.name: value}))


def test_slots():
    assert words.slot_of(isa.Alu, "imm", CONFIG).signed
    with pytest.raises(KeyError, match="Finish has no field 'imm' in config 'default'"):
        words.slot_of(isa.Finish, "imm", CONFIG)


@pytest.mark.parametrize("name", named_configs())
def test_store_has_its_fields_where_load_has_them(name: str):
    config = VtaConfig.load(name)
    load = isa.layout(isa.Load, config)
    assert [s for s in load if s.extension is None] == list(isa.layout(isa.Store, config))


def test_streams_of_odd_length_are_refused():
    assert words.from_stream(b"").shape == (0, 2)
    with pytest.raises(EncodingError, match="a multiple of 16 bytes long, not 17; it is cut off"):
        words.from_stream(bytes(17))
