"""Effects and legality of single instructions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from vta_hw.spec import isa, semantics
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, FaultClass, Finish, Gemm, Load, MicroOp, Rounding, Store
from vta_hw.spec.semantics import ALU, Scratchpads, check, execute, pack_req_shift, req_imm

CONFIGS = ("tiny", "batch4", "rect", "default")
DRAM_BYTES = 1 << 16


def _pads(config: VtaConfig, rng: np.random.Generator) -> Scratchpads:
    pads = Scratchpads(config)
    pads.inp[...] = rng.integers(-128, 128, pads.inp.shape)
    pads.wgt[...] = rng.integers(-128, 128, pads.wgt.shape)
    pads.acc[...] = rng.integers(-(1 << 31), 1 << 31, pads.acc.shape)
    return pads


def _set_uops(pads: Scratchpads, uops: Iterable[MicroOp], at: int = 0) -> int:
    words = [isa.encode_uop(uop, pads.config) for uop in uops]
    pads.uop[at : at + len(words)] = words
    return at + len(words)


def _run(insn: isa.Instruction, pads: Scratchpads, dram: Any = None) -> FaultClass | None:
    memory = np.zeros(DRAM_BYTES, np.uint8) if dram is None else dram
    return execute(insn, pads, memory, pads.config)


# -- LOAD and STORE -------------------------------------------------------------------------------

LOADS = [MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC, MemType.ACC_8BIT]


def _element(pads: Scratchpads, memory: MemType, raw: bytes) -> Any:
    dtype = {MemType.UOP: "<u4", MemType.ACC: "<i4"}.get(memory, "<i1")
    target = pads.memory(memory)
    return np.frombuffer(raw, dtype).astype(target.dtype).reshape(target.shape[1:])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("memory", LOADS)
def test_load(name: str, memory: MemType, rng: np.random.Generator) -> None:
    config = VtaConfig.load(name)
    dram = rng.integers(0, 256, DRAM_BYTES).astype(np.uint8)
    size = config.elem_bytes(memory)
    for stride in (0, 2, 3, 5):
        pads = _pads(config, rng)
        pads.uop[...] = rng.integers(0, 1 << 32, pads.uop.shape)
        expected = pads.memory(memory).copy()
        insn = Load(
            memory_type=memory,
            sram_base=3,
            dram_base=7,
            y_size=2,
            x_size=3,
            x_stride=stride,
            y_pad_0=1,
            y_pad_1=2,
            x_pad_0=2,
            x_pad_1=1,
        )
        at = 3
        for row in range(-1, 4):
            for column in range(-2, 4):
                expected[at] = 0
                if 0 <= row < 2 and 0 <= column < 3:
                    start = (7 + row * stride + column) * size
                    expected[at] = _element(pads, memory, bytes(dram[start : start + size]))
                at += 1
        assert _run(insn, pads, dram) is None
        assert (pads.memory(memory) == expected).all()


@pytest.mark.parametrize(
    ("memory", "value"),
    [
        (MemType.INP, -128),
        (MemType.WGT, -128),
        (MemType.ACC_8BIT, -128),
        (MemType.ACC, -(1 << 31)),
    ],
)
def test_least_value_padding(memory: MemType, value: int, rng: np.random.Generator) -> None:
    pads = _pads(VtaConfig.load("tiny"), rng)
    insn = Load(memory_type=memory, y_size=1, x_size=1, x_pad_1=1, y_pad_0=1, pad_min=True)
    assert _run(insn, pads) is None
    values = pads.memory(memory)[:4].reshape(4, -1)
    assert (values == np.array([value, value, 0, value])[:, None]).all()


def test_no_rows_still_writes_pads(rng: np.random.Generator) -> None:
    pads = _pads(VtaConfig.load("tiny"), rng)
    before = pads.inp.copy()
    insn = Load(memory_type=MemType.INP, x_size=2, x_pad_0=1, y_pad_0=2, dram_base=0xFFFFFFFF)
    assert _run(insn, pads) is None
    assert not pads.inp[:6].any()
    assert (pads.inp[6:] == before[6:]).all()


def test_empty_rows_do_nothing(rng: np.random.Generator) -> None:
    pads = _pads(VtaConfig.load("tiny"), rng)
    before = pads.inp.copy()
    insn = Load(memory_type=MemType.INP, y_size=9, y_pad_0=2, x_pad_0=3, sram_base=0xFFFF)
    assert _run(insn, pads) is None
    assert (pads.inp == before).all()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("stride", [1, 3, 5])
def test_store_keeps_the_low_bits(name: str, stride: int, rng: np.random.Generator) -> None:
    pads = _pads(VtaConfig.load(name), rng)
    size = pads.config.elem_bytes(MemType.OUT)
    dram = rng.integers(0, 256, DRAM_BYTES).astype(np.uint8)
    expected = dram.copy()
    for row in range(3):
        for column in range(3):
            lanes = pads.acc[5 + row * 3 + column].reshape(-1)
            at = (11 + row * stride + column) * size
            expected[at : at + size] = [int(lane) & 0xFF for lane in lanes]
    insn = Store(
        memory_type=MemType.OUT, sram_base=5, dram_base=11, y_size=3, x_size=3, x_stride=stride
    )
    assert _run(insn, pads, dram) is None
    assert (dram == expected).all()


def test_base_registers_are_added() -> None:
    config = VtaConfig.load("default")
    pads = Scratchpads(config)
    dram = np.zeros(4096, np.uint8)
    dram[256 + 32 : 256 + 48] = 1
    bases = {MemType.INP: 256, MemType.ACC: 256}
    load = Load(memory_type=MemType.INP, dram_base=2, y_size=1, x_size=1)
    assert execute(load, pads, dram, config, bases) is None
    assert (pads.inp[0] == 1).all()
    # ACC_8BIT goes by the base register of ACC.
    load = Load(memory_type=MemType.ACC_8BIT, dram_base=2, y_size=1, x_size=1)
    assert execute(load, pads, dram, config, bases) is None
    assert (pads.acc[0] == 1).all()


# -- GEMM and ALU ---------------------------------------------------------------------------------


def _steps(insn: Gemm | Alu, uops: list[MicroOp]) -> Iterable[tuple[int, int, int]]:
    wgt_out = insn.wgt_factor_out if isinstance(insn, Gemm) else 0
    wgt_in = insn.wgt_factor_in if isinstance(insn, Gemm) else 0
    for o in range(insn.iter_out):
        for n in range(insn.iter_in):
            for uop in uops[insn.uop_bgn : insn.uop_end]:
                yield (
                    uop.dst + o * insn.dst_factor_out + n * insn.dst_factor_in,
                    uop.src + o * insn.src_factor_out + n * insn.src_factor_in,
                    uop.wgt + o * wgt_out + n * wgt_in,
                )


def _random_uops(rng: np.random.Generator) -> list[MicroOp]:
    count = int(rng.integers(1, 9))
    return [MicroOp(*(int(v) for v in rng.integers(0, limit, 3))) for limit in [8] * count]


def _loops(rng: np.random.Generator, names: Iterable[str]) -> dict[str, Any]:
    loops = {"iter_out": int(rng.integers(1, 5)), "iter_in": int(rng.integers(1, 5))}
    for name in names:
        loops[f"{name}_factor_out"], loops[f"{name}_factor_in"] = map(int, rng.integers(0, 4, 2))
    return loops


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("reset", [False, True])
def test_gemm_is_a_sequence_of_small_products(
    name: str, reset: bool, rng: np.random.Generator
) -> None:
    for _ in range(25):
        pads = _pads(VtaConfig.load(name), rng)
        uops = _random_uops(rng)
        end = _set_uops(pads, uops)
        insn = Gemm(uop_end=end, reset=reset, **_loops(rng, ("dst", "src", "wgt")))
        expected = pads.acc.astype(np.int64)
        for dst, src, wgt in _steps(insn, uops):
            product = pads.inp[src].astype(np.int64) @ pads.wgt[wgt].astype(np.int64).T
            expected[dst] = 0 if reset else expected[dst] + product
        assert _run(insn, pads) is None
        assert (pads.acc == expected.astype(np.int32)).all()


def test_gemm_sums_of_extremes_are_exact() -> None:
    pads = Scratchpads(VtaConfig.load("default"))
    pads.inp[...] = pads.wgt[...] = -128
    end = _set_uops(pads, [MicroOp(0, i, i) for i in range(1024)])
    insn = Gemm(uop_end=end, iter_out=3, iter_in=1)
    assert _run(insn, pads) is None
    assert (pads.acc[0] == 3 * 1024 * 16 * (1 << 14)).all()
    assert _run(insn, pads) is None
    assert _run(insn, pads) is None
    exact = 9 * 1024 * 16 * (1 << 14)
    assert exact > 1 << 31
    assert (pads.acc[0] == exact - (1 << 32)).all()


def _alu_expected(insn: Alu, uops: list[MicroOp], acc: Any) -> Any:
    acc = acc.copy()
    rule = ALU[AluOp(insn.alu_opcode)]
    held: tuple[int, list[Any]] = (-1, [])
    for dst, src, _ in _steps(insn, uops):
        if insn.alu_opcode == AluOp.REQ:
            if held[0] != src:
                held = (src, [acc[src + i].copy() for i in range(3)])
            acc[dst] = rule.apply(acc[dst], *held[1], insn.imm)
        else:
            acc[dst] = rule.apply(acc[dst], insn.imm if insn.use_imm else acc[src])
    return acc


@pytest.mark.parametrize(
    ("op", "use_imm"),
    [(op, False) for op in AluOp] + [(op, True) for op in AluOp if op is not AluOp.REQ],
)
def test_alu_is_sequential(op: AluOp, use_imm: bool, rng: np.random.Generator) -> None:
    for name in ("tiny", "batch4"):
        for _ in range(60):
            pads = _pads(VtaConfig.load(name), rng)
            uops = _random_uops(rng)
            end = _set_uops(pads, uops)
            imm = int(rng.integers(-40, 40))
            if op is AluOp.REQ:
                imm = req_imm(imm, Rounding(int(rng.integers(0, 3))))
            insn = Alu(
                uop_end=end,
                alu_opcode=op,
                use_imm=use_imm,
                imm=imm,
                **_loops(rng, ("dst", "src")),
            )
            expected = _alu_expected(insn, uops, pads.acc)
            assert _run(insn, pads) is None
            assert (pads.acc == expected).all(), (insn, uops)


@pytest.mark.parametrize("op", AluOp)
def test_pieces_of_a_large_instruction_join(
    op: AluOp, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = semantics.micro_ops
    monkeypatch.setattr(semantics, "micro_ops", lambda insn, pads: whole(insn, pads, block=3))
    pads = _pads(VtaConfig.load("tiny"), rng)
    uops = [MicroOp(2, 2, 0), MicroOp(3, 2, 0)]
    end = _set_uops(pads, uops)
    imm = req_imm(0, Rounding.DOUBLE) if op is AluOp.REQ else 0
    insn = Alu(uop_end=end, iter_out=4, iter_in=3, dst_factor_in=1, alu_opcode=op, imm=imm)
    expected = _alu_expected(insn, uops, pads.acc)
    assert len(list(semantics.micro_ops(insn, pads))) == 12
    assert _run(insn, pads) is None
    assert (pads.acc == expected).all()


def test_req_holds_parameters_that_it_overwrites() -> None:
    pads = Scratchpads(VtaConfig.load("tiny"))
    pads.acc[0], pads.acc[1], pads.acc[2] = 10, 1 << 30, pack_req_shift(0)
    pads.acc[3] = 100
    end = _set_uops(pads, [MicroOp(0, 0, 0), MicroOp(3, 0, 0)])
    insn = Alu(
        uop_end=end, iter_out=1, iter_in=1, alu_opcode=AluOp.REQ, imm=req_imm(0, Rounding.DOUBLE)
    )
    assert _run(insn, pads) is None
    assert (pads.acc[0] == 10).all()  # (10 + 10) / 2
    assert (pads.acc[3] == 55).all()  # the bias is still 10, not what acc[0] became


def test_alu_immediate_reads_its_destination() -> None:
    pads = Scratchpads(VtaConfig.load("pynq"))
    pads.acc[1], pads.acc[2] = 5, 70
    _set_uops(pads, [MicroOp(1, 2, 0)])
    insn = Alu(uop_end=1, iter_out=1, iter_in=1, alu_opcode=AluOp.ADD, use_imm=True, imm=-3)
    assert _run(insn, pads) is None
    assert (pads.acc[1] == 2).all()


@pytest.mark.parametrize(
    "loops", [{"iter_out": 0, "iter_in": 1}, {"iter_out": 1, "iter_in": 0}, {"uop_bgn": 9}]
)
@pytest.mark.parametrize("form", [Gemm, Alu])
def test_empty_loops_do_nothing_and_check_nothing(
    form: type[Gemm] | type[Alu], loops: dict[str, int], rng: np.random.Generator
) -> None:
    pads = _pads(VtaConfig.load("tiny"), rng)
    before = pads.acc.copy()
    _set_uops(pads, [MicroOp(255, 255, 63)])
    values: dict[str, Any] = {
        "iter_out": 1,
        "iter_in": 1,
        "uop_end": 9,
        "dst_factor_out": 255,
        **loops,
    }
    assert _run(form(**values), pads) is None
    assert (pads.acc == before).all()


# -- legality -------------------------------------------------------------------------------------

F = FaultClass
FULL: dict[str, Any] = {"y_size": 1, "x_size": 1, "x_stride": 1}
# On `tiny`: 256 entries of INP and ACC, DRAM of 4096 bytes, INP elements of 4 bytes.
TRANSFERS: list[tuple[isa.Instruction, FaultClass | None]] = [
    (Load(memory_type=2, pop_prev=True), F.BAD_FLAGS),
    (Load(memory_type=1, push_prev=True), F.BAD_FLAGS),
    (Load(memory_type=2, pop_next=True, push_next=True), None),
    (Load(memory_type=3, pop_prev=True, pop_next=True, push_prev=True, push_next=True), None),
    (Load(memory_type=0, pad_min=True), F.BAD_FLAGS),
    (Load(memory_type=2, pad_min=True), None),
    (Load(memory_type=6, pop_prev=True), F.BAD_FLAGS),
    (Load(memory_type=6, pad_min=True), F.BAD_MEMORY_TYPE),
    (Load(memory_type=4), F.BAD_MEMORY_TYPE),
    (Load(memory_type=7), F.BAD_MEMORY_TYPE),
    (Load(memory_type=7, sram_base=0xFFFF, **FULL), F.BAD_MEMORY_TYPE),
    (Load(memory_type=2, sram_base=255, **FULL), None),
    (Load(memory_type=2, sram_base=256, **FULL), F.SRAM_RANGE),
    (Load(memory_type=2, sram_base=255, x_pad_0=1, **FULL), F.SRAM_RANGE),
    (Load(memory_type=2, sram_base=255, y_pad_1=1, **FULL), F.SRAM_RANGE),
    (Load(memory_type=2, sram_base=256, dram_base=9999, **FULL), F.SRAM_RANGE),
    (Load(memory_type=2, sram_base=256, x_size=1), None),
    (Load(memory_type=2, sram_base=257, x_size=1), F.SRAM_RANGE),
    (Load(memory_type=5, sram_base=255, **FULL), None),
    (Load(memory_type=5, sram_base=256, **FULL), F.SRAM_RANGE),
    (Load(memory_type=2, dram_base=1023, **FULL), None),
    (Load(memory_type=2, dram_base=1024, **FULL), F.DRAM_RANGE),
    (Load(memory_type=2, dram_base=0xFFFFFFFF, **FULL), F.DRAM_RANGE),
    (Load(memory_type=2, dram_base=0xFFFFFFFF, x_size=1), None),
    (Load(memory_type=2, y_size=2, x_size=1, x_stride=1023), None),
    (Load(memory_type=2, y_size=2, x_size=1, x_stride=1024), F.DRAM_RANGE),
    (Load(memory_type=2, y_size=200, x_size=1, dram_base=1023), None),
    (Store(memory_type=4, pop_next=True), F.BAD_FLAGS),
    (Store(memory_type=4, push_next=True, **FULL), F.BAD_FLAGS),
    (Store(memory_type=0, pop_prev=True, push_prev=True), None),
    (Store(memory_type=7, y_pad_0=1), None),
    (Store(memory_type=3, y_pad_0=1, **FULL), F.BAD_MEMORY_TYPE),
    (Store(memory_type=4, x_pad_1=1, sram_base=999, **FULL), F.BAD_PAD),
    (Store(memory_type=4, sram_base=256, **FULL), F.SRAM_RANGE),
    (Store(memory_type=4, sram_base=255, dram_base=1024, **FULL), F.DRAM_RANGE),
    (Store(memory_type=4, sram_base=255, dram_base=1023, **FULL), None),
    (Store(memory_type=4, dram_base=0xFFFFFFFF, x_size=1), None),
    (Finish(pop_prev=True, pop_next=True, push_prev=True, push_next=True), None),
    (isa.Unknown(word=5), F.BAD_OPCODE),
]


@pytest.mark.parametrize(("insn", "fault"), TRANSFERS)
def test_transfer_faults(insn: isa.Instruction, fault: FaultClass | None) -> None:
    pads = Scratchpads(VtaConfig.load("tiny"))
    assert check(insn, pads, pads.config, 4096) is fault
    assert execute(insn, pads, np.zeros(4096, np.uint8), pads.config) is fault


def test_dram_limit_and_bases_count() -> None:
    config = VtaConfig.load("tiny")
    pads = Scratchpads(config)
    insn = Load(memory_type=MemType.INP, dram_base=10, **FULL)
    assert check(insn, pads, config, 44) is None
    assert check(insn, pads, config, 43) is FaultClass.DRAM_RANGE
    assert check(insn, pads, config, 44, {MemType.INP: 1}) is FaultClass.DRAM_RANGE
    assert check(insn, pads, config, 44, {MemType.WGT: 1}) is None
    # The sum of base and offset does not wrap at 2^32, whatever the limit.
    far = Load(memory_type=MemType.INP, dram_base=0x3FFFFFFF, **FULL)
    assert check(far, pads, config, 1 << 40) is None
    assert check(far, pads, config, 1 << 40, {MemType.INP: 4}) is FaultClass.DRAM_RANGE


def test_bad_instruction_changes_nothing(rng: np.random.Generator) -> None:
    pads = _pads(VtaConfig.load("tiny"), rng)
    before = pads.acc.copy()
    _set_uops(pads, [MicroOp(0, 0, 0), MicroOp(255, 0, 0)])
    insn = Gemm(reset=True, uop_end=2, iter_out=2, iter_in=1, dst_factor_out=1)
    assert _run(insn, pads) is FaultClass.INDEX_RANGE
    assert (pads.acc == before).all()


STEPS: dict[str, Any] = {"uop_end": 1, "iter_out": 2, "iter_in": 3}
# The micro-op is (200, 100, 50); `tiny` has 256 entries of ACC and INP, 64 of WGT.
INDICES: list[tuple[isa.Instruction, FaultClass | None]] = [
    (Gemm(dst_factor_in=20, dst_factor_out=15, **STEPS), None),
    (Gemm(dst_factor_in=20, dst_factor_out=16, **STEPS), F.INDEX_RANGE),
    (Gemm(src_factor_in=77, src_factor_out=1, **STEPS), None),
    (Gemm(src_factor_in=78, **STEPS), F.INDEX_RANGE),
    (Gemm(wgt_factor_in=6, wgt_factor_out=1, **STEPS), None),
    (Gemm(wgt_factor_out=14, **STEPS), F.INDEX_RANGE),
    (Gemm(reset=True, src_factor_in=255, wgt_factor_in=63, **STEPS), None),
    (Gemm(reset=True, dst_factor_in=28, **STEPS), F.INDEX_RANGE),
    (Alu(dst_factor_in=28, **STEPS), F.INDEX_RANGE),
    (Alu(src_factor_in=77, src_factor_out=1, **STEPS), None),
    (Alu(src_factor_in=78, **STEPS), F.INDEX_RANGE),
    (Alu(src_factor_in=78, use_imm=True, **STEPS), F.INDEX_RANGE),
    (Alu(alu_opcode=7, src_factor_in=76, src_factor_out=1, **STEPS), None),
    (Alu(alu_opcode=7, src_factor_in=77, **STEPS), F.INDEX_RANGE),
    (Alu(alu_opcode=7, use_imm=True), F.BAD_ALU_OPCODE),
    (Alu(alu_opcode=7, imm=0x300), F.BAD_ALU_OPCODE),
    (Alu(alu_opcode=7, imm=0x1000, src_factor_in=255, **STEPS), F.BAD_ALU_OPCODE),
    (Alu(alu_opcode=7, imm=-0x8000), F.BAD_ALU_OPCODE),
    (Alu(alu_opcode=7, imm=0xE7F), None),
    (Gemm(uop_bgn=255, uop_end=256, iter_out=1, iter_in=1), None),
    (Gemm(uop_bgn=255, uop_end=257, iter_out=1, iter_in=1), F.UOP_RANGE),
    (Gemm(uop_bgn=255, uop_end=257, iter_out=0, iter_in=1), None),
    # The end of the micro-ops is met in the first round, before any step of a later one.
    (Gemm(uop_end=300, iter_out=9, iter_in=1, dst_factor_out=255), F.UOP_RANGE),
]


@pytest.mark.parametrize(("insn", "fault"), INDICES)
def test_index_faults(insn: isa.Instruction, fault: FaultClass | None) -> None:
    pads = Scratchpads(VtaConfig.load("tiny"))
    _set_uops(pads, [MicroOp(200, 100, 50)])
    assert _run(insn, pads) is fault


def test_index_fault_before_the_end_of_the_micro_ops() -> None:
    # With less INP than ACC a micro-op alone can be out of range.
    config = VtaConfig.load("tiny").override(["LOG_INP_BUFF_SIZE=9"])
    pads = Scratchpads(config)
    depth = config.depth(MemType.UOP)
    _set_uops(pads, [MicroOp(0, config.depth(MemType.INP), 0)], at=depth - 1)
    loops: dict[str, Any] = {
        "uop_bgn": depth - 1,
        "uop_end": depth + 1,
        "iter_out": 1,
        "iter_in": 1,
    }
    assert _run(Gemm(**loops), pads) is FaultClass.INDEX_RANGE
    assert _run(Gemm(reset=True, **loops), pads) is FaultClass.UOP_RANGE


@pytest.mark.parametrize("op", [AluOp.RDHM, AluOp.RSR, AluOp.REQ])
def test_requantising_needs_its_extension(op: AluOp) -> None:
    pads = Scratchpads(VtaConfig.load("pynq"))
    assert _run(Alu(alu_opcode=op), pads) is FaultClass.BAD_ALU_OPCODE
    assert _run(Alu(alu_opcode=AluOp.MUL), pads) is None
