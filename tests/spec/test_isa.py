"""Encodings against words from outside, and against themselves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spec.strategies import ANY_CONFIG, field_values, instructions
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig, named_configs
from vta_hw.spec.errors import EncodingError
from vta_hw.spec.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, MicroOp, Store, TokenQueue

PYNQ = VtaConfig.load("pynq")
BASE = {
    "LOG_BLOCK": 4,
    "LOG_UOP_BUFF_SIZE": 15,
    "LOG_INP_BUFF_SIZE": 15,
    "LOG_WGT_BUFF_SIZE": 18,
    "LOG_ACC_BUFF_SIZE": 17,
}

# Compiled from the original C header with its default configuration: (high word, low word).
GOLDEN: list[tuple[Instruction, int, int]] = [
    (
        Load(
            memory_type=MemType.INP,
            pop_next=True,
            sram_base=0x123,
            dram_base=0xABCDEF,
            y_size=5,
            x_size=7,
            x_stride=14,
            y_pad_0=1,
            y_pad_1=2,
            x_pad_0=3,
            x_pad_1=4,
        ),
        0x4321000E00070005,
        0x0002AF37BC048D10,
    ),
    (
        Load(
            memory_type=MemType.WGT,
            push_next=True,
            sram_base=0x3F0,
            dram_base=0x1000,
            y_size=2,
            x_size=9,
            x_stride=72,
        ),
        0x0000004800090002,
        0x00000040000FC0C0,
    ),
    (
        Load(
            memory_type=MemType.UOP,
            sram_base=16,
            dram_base=0x2002,
            y_size=1,
            x_size=56,
            x_stride=56,
        ),
        0x0000003800380001,
        0x0000008008004000,
    ),
    (Load(memory_type=MemType.UOP, pop_prev=True, push_prev=True), 0, 0x28),
    (
        Store(
            memory_type=MemType.OUT,
            pop_prev=True,
            push_prev=True,
            sram_base=0x7FF,
            dram_base=0xFFFFFFFF,
            y_size=1,
            x_size=1,
            x_stride=1,
        ),
        0x0000000100010001,
        0x03FFFFFFFC1FFE29,
    ),
    (
        Load(memory_type=MemType.ACC_8BIT, dram_base=0x300, y_size=4, x_size=4, x_stride=4),
        0x0000000400040004,
        0x0000000C00000280,
    ),
    (
        Gemm(
            pop_prev=True,
            push_prev=True,
            uop_bgn=16,
            uop_end=72,
            iter_out=14,
            iter_in=3,
            dst_factor_out=1,
            src_factor_out=1,
            src_factor_in=1,
            wgt_factor_in=1,
        ),
        0x0040000200400001,
        0x000600700900102A,
    ),
    (
        Gemm(
            reset=True,
            uop_end=8191,
            iter_out=0x3FFF,
            iter_in=1,
            dst_factor_out=0x7FF,
            wgt_factor_in=0x3FF,
        ),
        0xFFC00000000007FF,
        0x0003FFFBFFE00082,
    ),
    (
        Alu(
            alu_opcode=AluOp.SHR,
            use_imm=True,
            imm=8,
            push_next=True,
            uop_bgn=72,
            uop_end=73,
            iter_out=1,
            iter_in=196,
            dst_factor_in=1,
            src_factor_in=1,
        ),
        0x0008B00200000800,
        0x0188000809204844,
    ),
    (
        Alu(
            alu_opcode=AluOp.MAX,
            use_imm=True,
            imm=-128,
            uop_end=1,
            iter_out=2,
            iter_in=5,
            dst_factor_out=100,
            dst_factor_in=1,
            src_factor_out=7,
            src_factor_in=2,
        ),
        0xFF80900401C00864,
        0x000A001000200004,
    ),
    (
        Alu(alu_opcode=AluOp.MUL, uop_bgn=3, uop_end=4, iter_out=1, iter_in=1),
        0x0000400000000000,
        0x0002000800800304,
    ),
    (Finish(), 0, 3),
]


@pytest.mark.parametrize(("insn", "high", "low"), GOLDEN)
def test_golden_words(insn: Instruction, high: int, low: int) -> None:
    word = high << 64 | low
    assert isa.encode(insn, PYNQ) == word
    assert isa.decode(word, PYNQ) == insn
    assert isa.encode_all([insn], PYNQ) == low.to_bytes(8, "little") + high.to_bytes(8, "little")


def test_golden_micro_op() -> None:
    uop = MicroOp(dst=0x7FF, src=0x155, wgt=0x2AA)
    assert isa.encode_uop(uop, PYNQ) == 0xAA8AAFFF
    assert isa.decode_uop(0xAA8AAFFF, PYNQ) == uop


def _positions(form: type[Any], config: VtaConfig) -> dict[str, tuple[int, int]]:
    return {slot.name: (slot.high, slot.low) for slot in isa.layout(form, config)}


def test_layout_of_blocks_of_32() -> None:
    config = VtaConfig.from_dict({**BASE, "LOG_BLOCK": 5})
    gemm = _positions(Gemm, config)
    assert gemm["dst_factor_out"] == (73, 64)
    assert gemm["dst_factor_in"] == (83, 74)
    assert gemm["src_factor_out"] == (93, 84)
    assert gemm["src_factor_in"] == (103, 94)
    assert gemm["wgt_factor_out"] == (111, 104)
    assert gemm["wgt_factor_in"] == (119, 112)
    alu = _positions(Alu, config)
    assert (alu["alu_opcode"], alu["use_imm"], alu["imm"]) == ((106, 104), (107, 107), (123, 108))
    assert _positions(MicroOp, config) == {"dst": (9, 0), "src": (19, 10), "wgt": (27, 20)}


def test_layout_of_batch_2() -> None:
    config = VtaConfig.from_dict({**BASE, "LOG_BATCH": 1})
    gemm = _positions(Gemm, config)
    assert (gemm["wgt_factor_out"], gemm["wgt_factor_in"]) == ((113, 104), (123, 114))
    assert _positions(Alu, config)["imm"] == (123, 108)


def test_layout_of_a_smaller_micro_op_buffer() -> None:
    gemm = _positions(Gemm, VtaConfig.from_dict({**BASE, "LOG_UOP_BUFF_SIZE": 14}))
    assert gemm["uop_bgn"] == (19, 8)
    assert gemm["uop_end"] == (32, 20)
    assert gemm["iter_out"] == (46, 33)
    assert gemm["iter_in"] == (60, 47)
    assert gemm["dst_factor_out"] == (74, 64)


def test_small_config_moves_a_factor_into_the_low_word() -> None:
    gemm = _positions(Gemm, VtaConfig.load("tiny"))
    assert gemm["dst_factor_out"] == (60, 53)
    assert gemm["dst_factor_in"] == (71, 64)


def test_no_field_crosses_a_word_or_overlaps() -> None:
    for config in map(VtaConfig.load, named_configs()):
        for form in (*isa.FORMATS.values(), MicroOp):
            taken: set[int] = set()
            for slot in isa.layout(form, config):
                assert slot.low // 64 == slot.high // 64
                bits = set(range(slot.low, slot.high + 1))
                assert not bits & taken, (config.name, form, slot)
                taken |= bits


@given(st.data(), ANY_CONFIG)
def test_decode_undoes_encode(data: st.DataObject, config: VtaConfig) -> None:
    insn = data.draw(instructions(config))
    word = isa.encode(insn, config)
    assert 0 <= word < 1 << 128
    assert isa.decode(word, config) == insn


@given(st.integers(0, (1 << 128) - 1), ANY_CONFIG)
def test_any_word_decodes_and_reserved_bits_are_ignored(word: int, config: VtaConfig) -> None:
    insn = isa.decode(word, config)
    if isinstance(insn, isa.Unknown):
        assert word & 7 > 4
        assert isa.encode(insn, config) == word
        return
    used = sum(((1 << slot.width) - 1) << slot.low for slot in isa.layout(type(insn), config))
    assert isa.encode(insn, config) == word & used
    assert isa.decode(word & used, config) == insn


@given(st.data(), ANY_CONFIG)
def test_micro_op_round_trip(data: st.DataObject, config: VtaConfig) -> None:
    uop = MicroOp(**data.draw(field_values(MicroOp, config)))
    assert isa.decode_uop(isa.encode_uop(uop, config), config) == uop


@pytest.mark.parametrize(
    ("insn", "message"),
    [
        (Load(y_pad_0=16), r"Load\.y_pad_0 must be within 0\.\.15, not 16"),
        (Gemm(dst_factor_in=2048), r"Gemm\.dst_factor_in must be within 0\.\.2047, not 2048"),
        (Alu(imm=32768), r"Alu\.imm must be within -32768\.\.32767, not 32768"),
        (Load(pad_min=True), r"Load\.pad_min needs the extension 'pad_min', which config 'pynq'"),
        (Gemm(overlap=True), r"Gemm\.overlap needs the extension 'overlap'"),
    ],
)
def test_encode_refuses(insn: Instruction, message: str) -> None:
    with pytest.raises(EncodingError, match=f"^{message}"):
        isa.encode(insn, PYNQ)


def test_extension_bits() -> None:
    config = VtaConfig.load("default")
    assert isa.encode(Load(memory_type=MemType.INP, pad_min=True), config) >> 58 & 3 == 1
    assert isa.encode(Load(overlap=True), config) == 1 << 59
    assert isa.encode(Gemm(overlap=True), config) == 1 << 63 | 2
    assert isa.encode(Alu(overlap=True), config) == 1 << 63 | 4
    assert isa.decode(1 << 63 | 4, PYNQ) == Alu()


def test_stream_of_odd_length_is_refused() -> None:
    with pytest.raises(EncodingError, match="multiple of 16 bytes long, not 17"):
        isa.decode_all(bytes(17), PYNQ)


def test_routing() -> None:
    route = {memory: isa.stage_of(Load(memory_type=memory)) for memory in range(8)}
    compute = {MemType.UOP, MemType.ACC, MemType.ACC_8BIT}
    for memory, stage in route.items():
        assert stage is (isa.Stage.COMPUTE if memory in compute else isa.Stage.LOAD)
    assert isa.stage_of(Store()) is isa.Stage.STORE
    assert {isa.stage_of(i) for i in (Gemm(), Alu(), Finish())} == {isa.Stage.COMPUTE}


def test_tokens_of_each_stage() -> None:
    every = {"pop_prev": True, "pop_next": True, "push_prev": True, "push_next": True}
    gemm, load, store = Gemm(**every), Load(memory_type=MemType.INP, **every), Store(**every)
    assert set(isa.pops(gemm)) == {TokenQueue.LOAD_TO_COMPUTE, TokenQueue.STORE_TO_COMPUTE}
    assert set(isa.pushes(gemm)) == {TokenQueue.COMPUTE_TO_LOAD, TokenQueue.COMPUTE_TO_STORE}
    assert isa.pops(load) == (TokenQueue.COMPUTE_TO_LOAD,)
    assert isa.pushes(load) == (TokenQueue.LOAD_TO_COMPUTE,)
    assert isa.pops(store) == (TokenQueue.COMPUTE_TO_STORE,)
    assert isa.pushes(store) == (TokenQueue.STORE_TO_COMPUTE,)
