"""Verdicts worked out by hand from docs/isa.md: oracle and simulator must both give them."""

from __future__ import annotations

import numpy as np
import pytest

from tests import oracle_words as w
from tests.oracle import execute
from tests.oracle_words import Geometry, Values
from vta_hw.spec.config import VtaConfig
from vta_sim.functional import run

TINY = VtaConfig.load("tiny")
"""INP, ACC and UOP have 256 entries here, WGT has 64; an INP and an OUT element take 4 bytes."""
PYNQ = VtaConfig.load("pynq")
SHORT = TINY.override(["LOG_CMD_QUEUE=2"])
IMAGE_BYTES = 1024

Verdict = tuple[str, int | None]


def load(memory: int = w.INP, **fields: int) -> Values:
    shape = {"x_size": 1, "y_size": 1, "x_stride": 1}
    return {"opcode": w.LOAD, "memory_type": memory, **shape, **fields}


def store(memory: int = w.OUT, **fields: int) -> Values:
    return {**load(memory), "opcode": w.STORE, **fields}


def loops(opcode: int, **fields: int) -> Values:
    return {"opcode": opcode, "uop_end": 1, "iter_out": 1, "iter_in": 1, **fields}


def alu(**fields: int) -> Values:
    return loops(w.ALU, **fields)


def gemm(**fields: int) -> Values:
    return loops(w.GEMM, **fields)


FINISH: Values = {"opcode": w.FINISH}
IDLE_LOAD = load(x_size=0)
IDLE_COMPUTE = load(w.UOP, x_size=0)
IDLE_STORE = store(0, x_size=0)
ACC_READY = load(w.ACC, y_size=0, y_pad_0=8)
UOP_READY = load(w.UOP, y_size=0, y_pad_0=8)


def results(
    insns: list[Values], config: VtaConfig = TINY, image: bytes = bytes(IMAGE_BYTES)
) -> tuple[Verdict, bytes]:
    """What both say, which must be equal: (verdict, index) and DRAM."""
    geometry = Geometry.of(config)
    stream = b"".join(w.encode(insn, geometry).to_bytes(16, "little") for insn in insns)
    expected = execute(config, stream, image)
    dram = np.frombuffer(image, np.uint8).copy()
    result = run(config, stream, dram)
    kind, index = (result.fault.kind, result.fault.index) if result.fault else ("ok", None)
    assert (kind, index) == (expected.kind or "ok", expected.index)
    assert str(result.status) == expected.status
    assert dram.tobytes() == expected.dram
    return (kind, index), expected.dram


def verdict(insns: list[Values], config: VtaConfig = TINY) -> Verdict:
    return results(insns, config)[0]


def test_empty_stream_has_no_finish() -> None:
    assert verdict([]) == ("no_finish", None)


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_bad_opcode_stops_the_fetch_only(opcode: int) -> None:
    bad: Values = {"opcode": opcode, "junk": -1}
    assert verdict([FINISH, bad]) == ("bad_opcode", 1)
    # What was dispatched before still runs; what comes after is never seen.
    image = bytes([7]) * IMAGE_BYTES
    first, second = store(dram_base=0), store(dram_base=1)
    ready = {**ACC_READY, "push_next": 1}
    outcome, dram = results([{**first, "pop_prev": 1}, ready, bad, second], TINY, image)
    assert outcome == ("bad_opcode", 2)
    assert dram == bytes(4) + image[4:]


@pytest.mark.parametrize(
    "bad",
    [load(pop_prev=1), load(push_prev=1), store(pop_next=1), store(push_next=1)]
    + [load(x_size=0, push_prev=1), store(x_size=0, push_next=1), load(w.UOP, pad_min=1)]
    + [load(w.UOP, pad_min=1, x_size=0)]
    + [load(7, pop_prev=1, sram_base=65535), store(3, pop_next=1, y_pad_0=1, sram_base=65535)],
)
def test_bad_flags_come_first(bad: Values) -> None:
    assert verdict([bad, FINISH]) == ("bad_flags", 0)


@pytest.mark.parametrize("memory", [w.INP, w.WGT, w.UOP, w.ACC])
def test_pad_min_needs_the_extension(memory: int) -> None:
    # Without the extension bit 58 is a reserved one.
    assert verdict([{**load(memory), "junk": 1 << 58}, FINISH], PYNQ) == ("ok", None)


@pytest.mark.parametrize("memory", [4, 6, 7])
@pytest.mark.parametrize("x_size", [0, 1])
def test_load_of_an_unknown_type_is_always_bad(memory: int, x_size: int) -> None:
    bad = load(memory, x_size=x_size, sram_base=65535, y_size=9)
    assert verdict([bad, FINISH]) == ("bad_memory_type", 0)


@pytest.mark.parametrize("memory", [0, 1, 2, 3, 5, 6, 7])
def test_store_type_counts_unless_it_is_idle(memory: int) -> None:
    fields = {"y_pad_0": 3, "sram_base": 65535, "dram_base": 0xFFFFFFFF}
    assert verdict([store(memory, **fields), FINISH]) == ("bad_memory_type", 0)
    assert verdict([store(memory, y_size=0, **fields), FINISH]) == ("bad_memory_type", 0)
    assert verdict([store(memory, x_size=0, **fields), FINISH]) == ("ok", None)


@pytest.mark.parametrize("pad", ["y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"])
def test_store_pads_are_bad_before_any_range(pad: str) -> None:
    fields = {pad: 1, "sram_base": 65535, "dram_base": 0xFFFFFFFF}
    assert verdict([store(**fields), FINISH]) == ("bad_pad", 0)
    assert verdict([store(y_size=0, **fields), FINISH]) == ("bad_pad", 0)


def test_sram_end_is_exact_and_comes_before_dram() -> None:
    far = 0xFFFFFFFF
    assert verdict([load(sram_base=255), FINISH]) == ("ok", None)
    assert verdict([load(sram_base=256, dram_base=far), FINISH]) == ("sram_range", 0)
    assert verdict([load(sram_base=250, x_pad_0=4, x_pad_1=1), FINISH]) == ("ok", None)
    assert verdict([load(sram_base=250, x_pad_0=4, x_pad_1=2), FINISH]) == ("sram_range", 0)
    assert verdict([load(w.WGT, sram_base=60, y_pad_0=2, y_pad_1=1), FINISH]) == ("ok", None)
    assert verdict([load(w.WGT, sram_base=61, y_pad_0=2, y_pad_1=1), FINISH]) == ("sram_range", 0)
    assert verdict([load(x_size=65535, y_size=65535), FINISH]) == ("sram_range", 0)
    assert verdict([store(sram_base=256, dram_base=far), FINISH]) == ("sram_range", 0)


def test_dram_end_is_exact() -> None:
    last = IMAGE_BYTES // 4 - 1
    assert verdict([load(dram_base=last), FINISH]) == ("ok", None)
    assert verdict([load(dram_base=last + 1), FINISH]) == ("dram_range", 0)
    rows = {"y_size": 3, "x_size": 2, "x_stride": 10}
    assert verdict([load(dram_base=last - 21, **rows), FINISH]) == ("ok", None)
    assert verdict([load(dram_base=last - 20, **rows), FINISH]) == ("dram_range", 0)
    # The sum does not wrap at 32 bits.
    assert verdict([load(dram_base=1 << 30), FINISH]) == ("dram_range", 0)
    assert verdict([load(dram_base=0xFFFFFFFF, x_stride=2, y_size=2), FINISH]) == ("dram_range", 0)
    assert verdict([ACC_READY, {**store(dram_base=last + 1)}, FINISH]) == ("dram_range", 1)


def test_transfer_without_rows_touches_no_dram() -> None:
    pads = load(dram_base=0xFFFFFFFF, y_size=0, y_pad_0=2, x_pad_1=1)
    assert verdict([pads, FINISH]) == ("ok", None)
    assert verdict([store(dram_base=0xFFFFFFFF, y_size=0), FINISH]) == ("ok", None)


@pytest.mark.parametrize("iterations", [0, 1])
def test_bad_alu_operations_are_found_at_decode(iterations: int) -> None:
    fields = {"iter_in": iterations, "uop_end": 511}
    for extra in ({"use_imm": 1}, {"imm": 0x1000}, {"imm": 0x8000}, {"imm": 0x300}):
        bad = alu(alu_opcode=w.REQ, **extra, **fields)
        assert verdict([bad, FINISH]) == ("bad_alu_opcode", 0)
    for opcode in (w.RDHM, w.RSR, w.REQ):
        bad = alu(alu_opcode=opcode, **fields)
        assert verdict([bad, FINISH], PYNQ) == ("bad_alu_opcode", 0)
    reserved = alu(alu_opcode=w.REQ, imm=0xC00, iter_in=0)
    assert verdict([reserved, FINISH]) == ("ok", None)


def test_micro_ops_are_checked_as_they_come() -> None:
    ready = [ACC_READY, UOP_READY]
    all_uops = load(w.UOP, y_size=0, y_pad_0=15, x_pad_0=15)  # 15 rows of 16 zeros
    rest = load(w.UOP, sram_base=240, y_size=0, y_pad_0=1, x_pad_0=15)
    full = [ACC_READY, all_uops, rest]
    assert verdict([*full, gemm(reset=1, uop_end=256), FINISH]) == ("ok", None)
    assert verdict([*full, gemm(reset=1, uop_end=257), FINISH]) == ("uop_range", 3)
    assert verdict([*full, gemm(reset=1, uop_end=257, iter_in=0), FINISH]) == ("ok", None)
    assert verdict([*full, gemm(reset=1, uop_bgn=255, uop_end=255), FINISH]) == ("ok", None)
    # The second outer step leaves ACC, but the 257th micro-op of the first comes before.
    both = gemm(reset=1, uop_end=257, iter_out=2, dst_factor_out=255)
    assert verdict([*full, both, FINISH]) == ("uop_range", 3)
    # A micro-op whose shifts lie beyond ACC comes before the 257th.
    beyond = [load(w.UOP, sram_base=7), alu(alu_opcode=w.REQ, uop_bgn=7, uop_end=300), FINISH]
    word = w.pack({"dst": 0, "src": 254}, Geometry.of(TINY).uop_fields(), 32)
    image = word.to_bytes(4, "little") + bytes(IMAGE_BYTES - 4)
    assert results([*full, *beyond], TINY, image)[0] == ("index_range", 4)
    outside = gemm(reset=1, iter_out=3, dst_factor_out=128)
    assert verdict([*ready, outside, FINISH]) == ("index_range", 2)
    assert verdict([*ready, {**outside, "iter_out": 2}, FINISH]) == ("ok", None)


def test_every_computed_index_is_checked() -> None:
    ready = [ACC_READY, UOP_READY]
    far = {"iter_out": 3, "src_factor_out": 128}
    assert verdict([*ready, gemm(reset=1, **far), FINISH]) == ("ok", None)
    assert verdict([*ready, gemm(reset=1, iter_out=3, wgt_factor_out=63), FINISH]) == ("ok", None)
    data = [load(w.INP), load(w.WGT), {**load(w.WGT, sram_base=32), "push_next": 1}]
    multiply = {**gemm(iter_out=3, wgt_factor_out=32), "pop_prev": 1}
    assert verdict([*ready, *data, multiply, FINISH]) == ("index_range", 5)
    assert verdict([*ready, *data, {**multiply, "iter_out": 2}, FINISH]) == ("ok", None)
    for opcode in (w.MIN, w.SHR, w.RSR):
        bad = alu(alu_opcode=opcode, use_imm=1, **far)
        assert verdict([*ready, bad, FINISH]) == ("index_range", 2)
    # src and src + 1 exist, src + 2 does not.
    step = {"iter_out": 2, "src_factor_out": 254, "alu_opcode": w.REQ}
    assert verdict([*ready, load(w.ACC, sram_base=254), alu(**step), FINISH])[0] == "index_range"
    step["src_factor_out"] = 253
    tail = load(w.ACC, sram_base=253, y_size=0, y_pad_0=3)
    assert verdict([*ready, tail, alu(**step), FINISH]) == ("ok", None)


def test_micro_op_field_may_name_more_than_there_is() -> None:
    """The src field is as wide as the deeper of ACC and INP needs."""
    small = TINY.override(["LOG_INP_BUFF_SIZE=7"])  # 32 elements
    data = [load(w.WGT), {**load(w.INP, sram_base=31), "push_next": 1}, ACC_READY, load(w.UOP)]
    for src, end in ((31, ("ok", None)), (32, ("index_range", 4)), (255, ("index_range", 4))):
        word = w.pack({"src": src}, Geometry.of(small).uop_fields(), 32)
        image = word.to_bytes(4, "little") + bytes(IMAGE_BYTES - 4)
        insns = [*data, {**gemm(), "pop_prev": 1}, FINISH]
        assert results(insns, small, image)[0] == end


def test_verdict_names_the_lowest_faulted_instruction() -> None:
    bad_load, bad_store = load(4), store(y_pad_0=1)
    bad_alu = alu(alu_opcode=w.REQ, use_imm=1)
    assert verdict([bad_store, bad_alu, bad_load]) == ("bad_pad", 0)
    assert verdict([bad_load, bad_alu, bad_store, FINISH]) == ("bad_memory_type", 0)
    # The store waits for a token that the bad instruction would have pushed.
    pushing = {**bad_alu, "push_next": 1}
    waiting = {**bad_store, "pop_prev": 1}
    assert verdict([waiting, pushing, FINISH]) == ("bad_alu_opcode", 1)
    # Without its own token a bad instruction is never looked at.
    assert verdict([FINISH, {**bad_load, "pop_next": 1}]) == ("finish_not_drained", 1)
    assert verdict([{**bad_load, "pop_next": 1}]) == ("deadlock", 0)


def test_finish_stops_compute_and_waits_for_nobody() -> None:
    assert verdict([FINISH, IDLE_LOAD, IDLE_STORE]) == ("ok", None)
    assert verdict([FINISH, IDLE_COMPUTE, IDLE_LOAD]) == ("finish_not_drained", 1)
    assert verdict([IDLE_LOAD, FINISH, FINISH]) == ("finish_not_drained", 2)
    assert verdict([{**FINISH, "pop_prev": 1}, {**IDLE_LOAD, "push_next": 1}]) == ("ok", None)
    assert verdict([{**FINISH, "pop_next": 1}, IDLE_LOAD]) == ("deadlock", 0)
    assert verdict([{**IDLE_LOAD, "pop_next": 1}, {**FINISH, "push_prev": 1}]) == ("ok", None)
    assert verdict([{**FINISH, "junk": -1}]) == ("ok", None)


def test_deadlock_names_the_lowest_waiting_head() -> None:
    stuck_load = {**IDLE_LOAD, "pop_next": 1}
    stuck_store = {**IDLE_STORE, "pop_prev": 1}
    both = {**IDLE_COMPUTE, "pop_prev": 1, "pop_next": 1}
    assert verdict([IDLE_LOAD, stuck_store, stuck_load]) == ("deadlock", 1)
    assert verdict([IDLE_LOAD, IDLE_STORE]) == ("no_finish", None)
    # One of two tokens is not enough, and it is not taken.
    assert verdict([both, {**IDLE_LOAD, "push_next": 1}, FINISH]) == ("deadlock", 0)


def test_push_onto_a_full_counter_waits() -> None:
    push = {**IDLE_LOAD, "push_next": 1}
    pop = {**IDLE_COMPUTE, "pop_prev": 1}
    assert verdict([push] * 255 + [FINISH]) == ("ok", None)
    assert verdict([push] * 256 + [FINISH]) == ("finish_not_drained", 255)
    assert verdict([push] * 255) == ("no_finish", None)
    assert verdict([push] * 256) == ("deadlock", 255)
    assert verdict([push] * 300 + [pop] * 300 + [FINISH]) == ("ok", None)
    # Both pushes of an instruction or none: the store never gets its token.
    twice = {**IDLE_COMPUTE, "push_prev": 1, "push_next": 1}
    start = [{**IDLE_COMPUTE, "push_prev": 1}] * 255
    store_after = {**store(y_pad_0=1), "pop_prev": 1}
    assert verdict([*start, twice, store_after]) == ("deadlock", 255)


def test_queue_holds_what_has_not_issued() -> None:
    pop, push = {**IDLE_LOAD, "pop_next": 1}, {**IDLE_COMPUTE, "push_prev": 1}
    for count, end in ((3, "ok"), (4, "ok"), (5, "deadlock"), (9, "deadlock")):
        outcome = verdict([pop] * count + [push] * count + [FINISH], SHORT)
        assert outcome == (end, None if end == "ok" else 0)
    # An issued instruction that waits to push has left its queue.
    full = [{**IDLE_LOAD, "push_next": 1}] * 256
    drain = [{**IDLE_COMPUTE, "pop_prev": 1}] * 256
    assert verdict([*full, *[IDLE_LOAD] * 4, *drain, FINISH], SHORT) == ("ok", None)
    assert verdict([*full, *[IDLE_LOAD] * 5, *drain, FINISH], SHORT)[0] == "deadlock"


@pytest.mark.parametrize(("behind", "stored"), [(4, True), (5, False)])
def test_stage_that_faulted_still_blocks_the_fetch(behind: int, stored: bool) -> None:
    image = bytes([9]) * IMAGE_BYTES
    ready = {**ACC_READY, "push_next": 1}
    insns = [ready, load(4), *[IDLE_LOAD] * behind, store(pop_prev=1), FINISH]
    outcome, dram = results(insns, SHORT, image)
    assert outcome == ("bad_memory_type", 1)
    assert (dram != image) == stored
