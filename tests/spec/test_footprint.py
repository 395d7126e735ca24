"""Footprints against plain loops over every micro-op and every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.footprint import NOTHING, Footprint, Rows, Touch, footprint, spans

TINY = VtaConfig.load("tiny")
DEFAULT = VtaConfig.load("default")


def _sets(touches: tuple[Touch, ...]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for touch in touches:
        places = touch.places.tolist()
        assert touch.memory not in found
        assert places == sorted(set(places))
        assert (touch.first, touch.last) == (places[0], places[-1])
        assert np.arange(touch.last + 1)[touch.at].tolist() == places
        found[touch.memory] = set(places)
    return found


def _indices(insn: isa.Gemm | isa.Alu, uops: list[isa.MicroOp], name: str) -> set[int]:
    outer, inner = getattr(insn, f"{name}_factor_out"), getattr(insn, f"{name}_factor_in")
    return {
        getattr(uop, name) + i * outer + j * inner
        for i in range(insn.iter_out)
        for j in range(insn.iter_in)
        for uop in uops
    }


def _of(insn: isa.Gemm | isa.Alu, uops: list[isa.MicroOp]) -> Footprint:
    words = np.array([isa.encode_uop(uop, DEFAULT) for uop in uops], np.uint32)
    return footprint(insn, words, DEFAULT)


def _random_uops(rng: np.random.Generator) -> list[isa.MicroOp]:
    count = int(rng.integers(1, 12))
    draws = rng.integers(0, 300, (count, 3)).tolist()
    return [isa.MicroOp(dst=d, src=s, wgt=w) for d, s, w in draws]


def _random_loops(rng: np.random.Generator, uops: list[isa.MicroOp]) -> dict[str, Any]:
    names = ("dst_factor_out", "dst_factor_in", "src_factor_out", "src_factor_in")
    first = int(rng.integers(0, 50))
    return {
        "uop_bgn": first,
        "uop_end": first + len(uops),
        "iter_out": int(rng.integers(1, 8)),
        "iter_in": int(rng.integers(1, 12)),
        **{name: int(rng.choice([0, 1, 2, 7, 19])) for name in names},
    }


def test_gemm_touches_what_its_loops_compute(rng: np.random.Generator) -> None:
    for _ in range(200):
        uops = _random_uops(rng)
        factors: dict[str, Any] = {
            f"wgt_factor_{n}": int(rng.integers(0, 20)) for n in ("out", "in")
        }
        insn = isa.Gemm(**_random_loops(rng, uops), **factors, reset=bool(rng.integers(2)))
        touched = _of(insn, uops)
        reads = {"uop": set(range(insn.uop_bgn, insn.uop_end))}
        if not insn.reset:
            reads["inp"] = _indices(insn, uops, "src")
            reads["wgt"] = _indices(insn, uops, "wgt")
            reads["acc"] = _indices(insn, uops, "dst")
        assert _sets(touched.reads) == reads
        assert _sets(touched.writes) == {"acc": _indices(insn, uops, "dst")}
        assert touched.rows is None


def test_alu_touches_what_its_loops_compute(rng: np.random.Generator) -> None:
    for _ in range(200):
        uops = _random_uops(rng)
        form = rng.choice(["imm", "register", "req"])
        op = isa.AluOp.REQ if form == "req" else isa.AluOp.MAX
        insn = isa.Alu(**_random_loops(rng, uops), alu_opcode=op, use_imm=form == "imm")
        dst, src = _indices(insn, uops, "dst"), _indices(insn, uops, "src")
        parts = {"imm": 0, "register": 1, "req": 3}[str(form)]
        acc = dst | {s + part for s in src for part in range(parts)}
        touched = _of(insn, uops)
        assert _sets(touched.reads) == {"uop": set(range(insn.uop_bgn, insn.uop_end)), "acc": acc}
        assert _sets(touched.writes) == {"acc": dst}


@pytest.mark.parametrize("memory", [m for m in MemType if m is not MemType.OUT])
def test_load_writes_pads_and_reads_rows(memory: MemType) -> None:
    insn = isa.Load(
        memory_type=memory, sram_base=5, dram_base=9, y_size=3, x_size=4, x_stride=6,
        y_pad_0=1, y_pad_1=2, x_pad_0=3, x_pad_1=1,
    )  # fmt: skip
    touched = footprint(insn, np.zeros(0, np.uint32), TINY)
    pad = "acc" if memory is MemType.ACC_8BIT else memory.name.lower()
    assert _sets(touched.writes) == {pad: set(range(5, 5 + (1 + 3 + 2) * (3 + 4 + 1)))}
    size = TINY.elem_bytes(memory)
    assert touched.reads == ()
    assert touched.rows == Rows(9 * size, 6 * size, 4 * size, 3)


def test_load_of_pads_only_reads_no_dram() -> None:
    insn = isa.Load(memory_type=MemType.INP, y_size=0, x_size=4, x_pad_0=1, y_pad_1=2)
    touched = footprint(insn, np.zeros(0, np.uint32), TINY)
    assert _sets(touched.writes) == {"inp": set(range(10))}
    assert touched.rows is None


def test_store_reads_acc_and_writes_rows() -> None:
    insn = isa.Store(memory_type=MemType.OUT, sram_base=7, dram_base=2, y_size=2, x_size=3)
    touched = footprint(insn, np.zeros(0, np.uint32), TINY)
    assert _sets(touched.reads) == {"acc": set(range(7, 13))}
    assert touched.writes == ()
    assert touched.rows == Rows(8, 0, 12, 2)


@pytest.mark.parametrize(
    "insn",
    [
        isa.Load(memory_type=MemType.INP, y_size=3, y_pad_0=1, x_pad_0=1),
        isa.Store(y_size=3),
        isa.Store(memory_type=MemType.OUT, x_size=3),
        isa.Gemm(uop_bgn=0, uop_end=1, iter_out=0, iter_in=1),
        isa.Gemm(uop_bgn=0, uop_end=1, iter_out=1, iter_in=0),
        isa.Alu(uop_bgn=1, uop_end=1, iter_out=1, iter_in=1),
        isa.Alu(uop_bgn=2, uop_end=1, iter_out=1, iter_in=1),
        isa.Finish(),
        isa.Unknown(opcode=7),
    ],
)
def test_no_ops_touch_nothing(insn: isa.Instruction) -> None:
    assert footprint(insn, np.zeros(0, np.uint32), TINY) == NOTHING


def test_units_are_those_that_rows_have_bytes_in(rng: np.random.Generator) -> None:
    for _ in range(200):
        start, pitch, length, count = (int(n) for n in rng.integers((0, 0, 1, 1), (99, 40, 30, 9)))
        address, unit = int(rng.integers(0, 99)), int(rng.choice([1, 4, 16]))
        touch = Rows(start, pitch, length, count).units(address, unit)
        bytes_ = {address + start + i * pitch + j for i in range(count) for j in range(length)}
        assert _sets((touch,)) == {"dram": {byte // unit for byte in bytes_}}


def test_spans_merge_and_leave_gaps(rng: np.random.Generator) -> None:
    for _ in range(300):
        begins = rng.integers(0, 60, int(rng.integers(1, 9)))
        ends = begins + rng.integers(1, 15, len(begins))
        expected = {n for b, e in zip(begins, ends, strict=True) for n in range(b, e)}
        assert _sets((spans("x", begins, ends),)) == {"x": expected}
