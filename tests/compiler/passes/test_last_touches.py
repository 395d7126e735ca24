"""Lookups by place find what comparing with every older instruction would find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.passes.insert_tokens import Access, conflict
from compiler.passes.last_touches import LastTouches
from vta_hw.spec.footprint import Touch, meet
from vta_hw.spec.isa import Finish, Gemm, Load, altered

SIZES = {"acc": 12, "dram": 20}


def random_touch(memory: str, rng: np.random.Generator) -> Touch:
    places = np.unique(rng.integers(0, SIZES[memory], int(rng.integers(1, 5))))
    first, last = int(places[0]), int(places[-1])
    if rng.random() < 0.5:
        return Touch(memory, first, last)
    return Touch(memory, first, last, None if last - first == len(places) - 1 else places)


def random_touches(rng: np.random.Generator) -> tuple[Touch, ...]:
    return tuple(random_touch(memory, rng) for memory in SIZES if rng.random() < 0.5)


def test_touches_meet_where_they_have_a_place_in_common(rng: np.random.Generator) -> None:
    seen = set()
    for _ in range(500):
        a, b = random_touch("acc", rng), random_touch("acc", rng)
        common = bool(set(a.places.tolist()) & set(b.places.tolist()))
        assert meet(a, b) == meet(b, a) == common, (a, b)
        seen.add((a.indices is None, b.indices is None, common))
    assert len(seen) == 8
    assert not meet(Touch("acc", 0, 3), Touch("dram", 0, 3))


def test_the_newest_conflict_of_an_actor(rng: np.random.Generator) -> None:
    found = 0
    for _ in range(40):
        history, past = LastTouches(SIZES), list[tuple[str, Access]]()
        for order in range(15):
            access = Access(Finish(), random_touches(rng), random_touches(rng), order)
            for actor in ("one", "other"):
                after = int(rng.integers(-1, order + 1))
                met = [a.origin for who, a in past if who == actor and conflict(a, access)]
                newest = max([after, *met])
                assert history.conflict(actor, access.reads, access.writes, after) == newest
                found += newest > after
            actor = ("one", "other")[int(rng.integers(2))]
            history.note(actor, access.reads, access.writes, order)
            past.append((actor, access))
    assert found > 100


def test_memories_without_a_size_do_not_count() -> None:
    history = LastTouches({"acc": 4})
    history.note("one", (), (Touch("uop", 0, 1), Touch("acc", 2, 3)), 0)
    assert history.conflict("other", (), (Touch("acc", 2, 2),), -1) == -1
    assert history.conflict("one", (Touch("uop", 0, 0),), (), -1) == -1
    assert history.conflict("one", (Touch("acc", 3, 3),), (), -1) == 0


def test_altered_instructions_are_replaced_ones() -> None:
    for insn in (Load(memory_type=3, x_size=4, y_pad_0=1), Gemm(uop_end=3, dst_factor_in=2)):
        changed = altered(insn, pop_prev=True, overlap=True)
        assert changed == replace(insn, pop_prev=True, overlap=True)
        assert type(changed) is type(insn)
        assert not insn.pop_prev
