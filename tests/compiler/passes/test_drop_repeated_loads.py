"""LOADs of constants that are still there are left out, and no others."""

from __future__ import annotations

import numpy as np

from compiler.passes.drop_repeated_loads import drop_repeated_loads
from compiler.passes.insert_tokens import Access
from vta_hw.spec.config import MemType
from vta_hw.spec.footprint import Touch
from vta_hw.spec.isa import Alu, Instruction, Load

Part = tuple[Instruction, tuple[Touch, ...], tuple[Touch, ...], str | None]


def load(at: int, name: str | None = "params", source: int = 0) -> Part:
    insn = Load(
        memory_type=int(MemType.ACC),
        sram_base=at,
        dram_base=source,
        y_size=1,
        x_size=4,
        x_stride=4,
    )
    return insn, (), (Touch("acc", at, at + 3),), name


def write(at: int) -> Part:
    return Alu(uop_end=1), (), (Touch("acc", at, at),), None


def kept(*parts: Part) -> list[int]:
    stream = [Access(*part[:3], origin) for origin, part in enumerate(parts)]
    left = drop_repeated_loads(stream, [part[3] for part in parts])
    return [access.origin for access in left]


def test_both_halves_are_loaded_once() -> None:
    assert kept(load(0), load(8), load(0), load(8), load(0)) == [0, 1]


def test_other_places_sources_and_constants_are_loaded() -> None:
    assert kept(load(0), load(1), load(0, source=4), load(0, "others")) == [0, 1, 2, 3]


def test_what_was_overwritten_in_part_is_loaded_again() -> None:
    assert kept(load(0), write(3), load(0), write(4), load(0)) == [0, 1, 2, 3]
    assert kept(load(0), load(2), load(0), load(0)) == [0, 1, 2]


def test_activations_are_loaded_each_time() -> None:
    assert kept(load(0, None), load(0, None)) == [0, 1]


def test_the_chip_has_the_same_at_every_moment(rng: np.random.Generator) -> None:
    """Against loading everything: a place holds what was written to it last."""
    dropped = 0
    for _ in range(100):
        parts = []
        for _ in range(30):
            at = int(rng.integers(12))
            constant = "ab"[int(rng.integers(2))]
            parts.append(write(at) if rng.random() < 0.2 else load(at - at % 4, constant))
        left = kept(*parts)
        memory: dict[int, object] = {}
        with_all: list[dict[int, object]] = []
        for origin, (insn, _, writes, name) in enumerate(parts):
            memory |= {p: _value(insn, name, p, origin) for t in writes for p in t.places.tolist()}
            with_all.append(dict(memory))
        memory = {}
        for origin, (insn, _, writes, name) in enumerate(parts):
            if origin in left:
                places = [p for t in writes for p in t.places.tolist()]
                memory |= {p: _value(insn, name, p, origin) for p in places}
            assert memory == with_all[origin]
        dropped += len(parts) - len(left)
    assert dropped > 100


def _value(insn: Instruction, name: str | None, place: int, origin: int) -> object:
    """What an instruction writes to a place: the same for the same constant."""
    return (name, place - insn.sram_base) if isinstance(insn, Load) else origin
