"""Whole programs on the functional simulator: results, counters, interleavings."""

from __future__ import annotations

import numpy as np
import pytest

from tests.vta_sim.helpers import DRAM_BYTES, TINY, fresh_dram, run, verdict
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import EncodingError, ProgramError
from vta_hw.spec.isa import Stage, encode_all
from vta_hw.spec.result import Status
from vta_hw.spec.semantics import Scratchpads
from vta_sim import functional

PRODUCT = """
    load uop y=1 x=1
    load acc dram=0x10 y=1 x=2 stride=2
    load inp dram=0x20 y=1 x=2 stride=2
    load wgt dram=0x10 y=1 x=1 push_next
    gemm uop=0..1 iter=2/1 dst=1/0 src=1/0 pop_prev push_next
    store out dram=0x40 y=1 x=2 stride=2 pop_prev push_prev
    finish pop_next
"""


def test_matrix_product(rng: np.random.Generator) -> None:
    dram = fresh_dram(rng)
    acc = dram[0x100:0x120].view("<i4").reshape(2, 4).astype(np.int64)
    inp = dram[0x80:0x88].view(np.int8).reshape(2, 4).astype(np.int64)
    wgt = dram[0x100:0x110].view(np.int8).reshape(4, 4).astype(np.int64)
    expected = (acc + inp @ wgt.T) & 0xFF
    untouched = dram.copy()
    result = run(PRODUCT, dram)
    assert result.status is Status.OK
    assert (dram[0x100:0x108].reshape(2, 4) == expected).all()
    untouched[0x100:0x108] = dram[0x100:0x108]
    assert (dram == untouched).all()
    assert result.instructions == 7
    assert result.macs == 2 * 16
    assert result.cycles is None
    assert result.counters == {
        "load_uop_bytes": 4,
        "load_wgt_bytes": 16,
        "load_inp_bytes": 8,
        "load_acc_bytes": 32,
        "load_acc_8bit_bytes": 0,
        "store_out_bytes": 8,
        "gemm_ops": 2,
        "gemm_reset_ops": 0,
        "alu_ops": 0,
        "load_instructions": 2,
        "compute_instructions": 4,
        "store_instructions": 1,
    }


def test_counters_leave_out_pads_and_empty_loops() -> None:
    result = run("""
        load acc_8bit y=2 x=3 stride=3 ypad=1/1 xpad=2/2
        load inp y=2
        gemm uop=0..4 iter=2/3 reset
        gemm uop=4..4 iter=2/3
        alu add uop=0..2 iter=5/1 imm=1
        alu add uop=3..2 iter=5/1 imm=1
        finish
    """)
    assert result.ok
    assert result.macs == 0
    counted = {name: n for name, n in result.counters.items() if n}
    assert counted == {
        "load_acc_8bit_bytes": 2 * 3 * 4,
        "gemm_reset_ops": 24,
        "alu_ops": 10,
        "load_instructions": 1,
        "compute_instructions": 6,
    }


def test_bytes_and_instructions_run_alike(rng: np.random.Generator) -> None:
    program = assemble(PRODUCT, TINY)
    one = fresh_dram(rng)
    two = one.copy()
    stream = encode_all(program, TINY)
    assert functional.run(TINY, program, one) == functional.run(TINY, stream, two)
    assert (one == two).all()


def test_base_registers_and_limit() -> None:
    dram = np.arange(DRAM_BYTES, dtype=np.uint32).view(np.uint8)[:DRAM_BYTES].copy()
    text = """
        load acc_8bit y=1 x=1
        alu add push_next
        store out y=1 x=1 pop_prev push_prev
        finish pop_next
    """
    bases = {MemType.ACC: 1024, MemType.OUT: 2048}
    assert run(text, dram, bases=bases).ok
    assert (dram[2048:2052] == dram[1024:1028]).all()
    assert verdict(run(text, dram, bases=bases, dram_limit=2051)) == ("dram_range", 2)
    assert verdict(run(text, dram, bases=bases, dram_limit=1027)) == ("dram_range", 0)


def test_scratchpads_persist_when_given() -> None:
    pads = Scratchpads(TINY)
    dram = fresh_dram()
    assert run("alu add uop=0..1 iter=1/1 imm=5\nfinish", dram, pads=pads).ok
    assert run("alu add uop=0..1 iter=1/1 imm=5\nfinish", dram, pads=pads).ok
    assert (pads.acc[0] == 10).all()
    with pytest.raises(ProgramError, match="scratchpads are those of config 'default'"):
        run("finish", dram, pads=Scratchpads(VtaConfig.load("default")))


@pytest.mark.parametrize(
    ("dram", "options", "message"),
    [
        (np.zeros(64, np.int8), {}, "DRAM must be a contiguous uint8 array"),
        (np.zeros((8, 8), np.uint8), {}, "DRAM must be a contiguous uint8 array"),
        (np.zeros(64, np.uint8)[::2], {}, "DRAM must be a contiguous uint8 array"),
        (np.zeros(64, np.uint8), {"dram_limit": 65}, r"DRAM_LIMIT must be within 0\.\.64"),
        (np.zeros(64, np.uint8), {"dram_limit": -1}, r"DRAM_LIMIT must be within 0\.\.64"),
        (np.zeros(64, np.uint8), {"bases": {MemType.INP: -4}}, "base register of INP must be"),
        (np.zeros(64, np.uint8), {"bases": {MemType.INP: 1 << 32}}, "base register of INP must"),
    ],
)
def test_unusable_memory(dram: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        run("finish", dram, **options)


def test_cut_off_stream() -> None:
    with pytest.raises(EncodingError, match="multiple of 16 bytes long, not 20"):
        functional.run(TINY, bytes(20), fresh_dram())


def test_empty_dram_is_enough_for_a_program_that_needs_none() -> None:
    assert run("load inp\nfinish", np.zeros(0, np.uint8)).ok


# -- interleavings --------------------------------------------------------------------------------


def _double_buffered(rounds: int, ordered: bool) -> str:
    """Products in two halves of INP and ACC; only tokens keep a half's rounds apart."""
    lines = ["load uop y=1 x=2", "load wgt dram=0x10 y=1 x=1"]
    for i in range(rounds):
        half = i % 2
        wait = " pop_next" if i >= 2 and ordered else ""
        free = " push_prev" if i < rounds - 2 and ordered else ""
        place = f"sram={half * 8}"
        lines += [
            f"load inp {place} dram={64 + 8 * i} y=2 x=4 stride=4 push_next{wait}",
            f"load acc {place} dram={16 + i} y=1 x=8 stride=8{wait}",
            f"gemm uop={half}..{half + 1} iter=8/1 dst=1/0 src=1/0 pop_prev{free}",
            f"alu max uop={half}..{half + 1} iter=8/1 dst=1/0 imm=-100 push_next",
            f"store out {place} dram={512 + 8 * i} y=1 x=8 stride=8 pop_prev{free}",
        ]
    return "\n".join([*lines, "finish"])


def _interleaved(ordered: bool, rng: np.random.Generator) -> set[bytes]:
    """Every memory that 40 orders of events leave behind, starting with the fixed order."""
    text = _double_buffered(8, ordered)
    image = fresh_dram(rng)
    image[:8].view("<u4")[:] = (0, 8 | 8 << 8)  # micro-ops of the two halves
    results = []
    for interleave in (None, *[rng] * 40):
        dram = image.copy()
        assert run(text, dram, interleave=interleave).ok
        results.append(dram.tobytes())
    return set(results)


def test_any_interleaving_gives_the_same_memory(rng: np.random.Generator) -> None:
    assert len(_interleaved(True, rng)) == 1


def test_missing_tokens_show(rng: np.random.Generator) -> None:
    assert len(_interleaved(False, rng)) > 1


def test_interleavings_do_differ_where_nothing_orders_them(rng: np.random.Generator) -> None:
    """The store may come before or after the addition: both results must turn up."""
    text = """
        store out dram=0x40 y=1 x=1
        alu add uop=0..1 iter=1/1 imm=1
        finish
    """
    seen = set()
    for _ in range(60):
        dram = fresh_dram()
        assert run(text, dram, interleave=rng).ok
        seen.add(int(dram[0x100]))
    assert seen == {0, 1}


def test_verdict_of_a_deadlock_does_not_depend_on_the_order(rng: np.random.Generator) -> None:
    text = """
        load inp push_next * 3
        gemm pop_prev push_next * 2
        store out pop_prev push_prev
        gemm pop_next pop_prev
        gemm pop_next
        finish
    """
    for _ in range(20):
        assert verdict(run(text, interleave=rng)) == ("deadlock", 7)


# -- uninitialised reads --------------------------------------------------------------------------


def test_uninitialised_reads_are_noted() -> None:
    result = run(
        """
        load uop y=1 x=1
        gemm uop=0..1 iter=1/1 reset
        gemm uop=0..2 iter=1/3 src=0/1
        alu add uop=0..1 iter=1/1
        store out sram=0x0 y=1 x=4 stride=4
        finish
        """,
        report_uninitialised=True,
    )
    assert result.ok
    assert result.notes == (
        "instruction 2 reads UOP element 1, which this run has not written",
        "instruction 2 reads INP element 0 and 2 more, which this run has not written",
        "instruction 2 reads WGT element 0, which this run has not written",
        "instruction 4 reads ACC element 1 and 2 more, which this run has not written",
    )


def test_no_notes_without_asking_or_without_reads() -> None:
    assert run("gemm uop=0..1 iter=1/1\nfinish").notes == ()
    text = """
        load uop y=1 x=1
        load acc y=1 x=1 ypad=0/1
        alu add uop=0..1 iter=1/2 dst=0/1 imm=1 push_next
        store out y=1 x=2 stride=2 pop_prev
        finish
    """
    assert run(text, report_uninitialised=True).notes == ()


def test_notes_are_capped() -> None:
    result = run("alu add uop=0..1 iter=1/1 src=0/0 * 120\nfinish", report_uninitialised=True)
    # The first addition also reads, and then writes, ACC element 0.
    assert len(result.notes) == 101
    assert result.notes[-1] == "and 21 more such reads"


def test_requantisation_reads_three_parameters() -> None:
    text = """
        load uop y=1 x=1
        load acc y=1 x=1
        alu req uop=0..1 iter=1/1 zero=0 round=double
        finish
    """
    (note,) = run(text, report_uninitialised=True).notes
    assert note.startswith("instruction 2 reads ACC element 1 and 1 more")


# -- stages ---------------------------------------------------------------------------------------


def test_stages_are_counted_where_they_run() -> None:
    result = run("load inp\nload uop * 2\nstore out * 3\nfinish")
    counts = [result.counters[f"{stage.name.lower()}_instructions"] for stage in Stage]
    assert counts == [1, 3, 3]
