"""Assembly text: fixed lines, round trips, errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spec.strategies import ANY_CONFIG, field_values, instructions
from tests.spec.test_isa import GOLDEN
from vta_hw.spec import isa
from vta_hw.spec.asm import (
    assemble,
    assemble_uops,
    disassemble,
    disassemble_program,
    disassemble_uops,
    format_insn,
)
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import EncodingError
from vta_hw.spec.isa import Alu, Finish, Gemm, Load, MicroOp, Store
from vta_hw.spec.program import Program, Relocation, Symbol

DEFAULT = VtaConfig.load("default")

LINES = [
    "load inp sram=0x123 dram=0xabcdef y=5 x=7 stride=14 ypad=1/2 xpad=3/4 pop_next",
    "load wgt sram=0x3f0 dram=0x1000 y=2 x=9 stride=72 push_next",
    "load uop sram=0x10 dram=0x2002 y=1 x=56 stride=56",
    "load uop pop_prev push_prev",
    "store out sram=0x7ff dram=0xffffffff y=1 x=1 stride=1 pop_prev push_prev",
    "load acc_8bit dram=0x300 y=4 x=4 stride=4",
    "gemm uop=16..72 iter=14/3 dst=1/0 src=1/1 wgt=0/1 pop_prev push_prev",
    "gemm uop=0..8191 iter=16383/1 dst=2047/0 wgt=0/1023 reset",
    "alu shr uop=72..73 iter=1/196 dst=0/1 src=0/1 imm=8 push_next",
    "alu max uop=0..1 iter=2/5 dst=100/1 src=7/2 imm=-128",
    "alu mul uop=3..4 iter=1/1",
    "finish",
]


@pytest.mark.parametrize(
    ("line", "insn"), list(zip(LINES, [golden[0] for golden in GOLDEN], strict=True))
)
def test_lines(line: str, insn: isa.Instruction) -> None:
    assert format_insn(insn) == line
    assert assemble(line, DEFAULT) == [insn]


@pytest.mark.parametrize(
    ("line", "insn"),
    [
        ("alu req zero=-128 round=double", Alu(alu_opcode=7, imm=0x80)),
        ("alu req zero=3 round=float", Alu(alu_opcode=7, imm=0x203)),
        ("alu req param=0x1003", Alu(alu_opcode=7, imm=0x1003)),
        ("alu req imm=3", Alu(alu_opcode=7, imm=3, use_imm=True)),
        ("alu add param=0xffff", Alu(alu_opcode=2, imm=-1)),
        ("alu add imm=0", Alu(alu_opcode=2, use_imm=True)),
        ("load 6 x=1", Load(memory_type=6, x_size=1)),
        ("load inp pad_min", Load(memory_type=MemType.INP, pad_min=True)),
        ("gemm overlap", Gemm(overlap=True)),
        ("unknown 0x00000000000000000000000000000007", isa.decode(7, DEFAULT)),
    ],
)
def test_special_lines(line: str, insn: isa.Instruction) -> None:
    assert format_insn(insn) == line
    assert assemble(line, DEFAULT) == [insn]


@given(st.data(), ANY_CONFIG)
def test_round_trip(data: st.DataObject, config: VtaConfig) -> None:
    words = data.draw(st.lists(st.integers(0, (1 << 128) - 1), max_size=3))
    insns = data.draw(st.lists(instructions(config), max_size=4))
    insns += [isa.decode(word, config) for word in words]
    stream = isa.encode_all(insns, config)
    assert assemble(disassemble(stream, config), config) == insns


@given(st.data(), ANY_CONFIG)
def test_micro_op_round_trip(data: st.DataObject, config: VtaConfig) -> None:
    uops = [MicroOp(**v) for v in data.draw(st.lists(field_values(MicroOp, config), max_size=4))]
    words = [isa.encode_uop(uop, config) for uop in uops]
    assert assemble_uops(disassemble_uops(words, config), config) == uops


def test_micro_op_line() -> None:
    assert disassemble_uops([0xAA8AAFFF], DEFAULT) == "     0: uop dst=2047 src=341 wgt=682\n"


def test_comments_indices_and_blank_lines() -> None:
    text = "; a program\n\n  3: load uop  ; nothing\n finish\n"
    assert assemble(text, DEFAULT) == [Load(memory_type=MemType.UOP), Finish()]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("jump", "'jump' must be one of load, store, gemm, finish, alu, unknown"),
        ("load", "'' must be one of uop, wgt, inp, acc, out, acc_8bit, or a number"),
        ("load cache", "'cache' must be one of uop, wgt"),
        ("load inp z=3", "'z=3' must be one of sram=, dram=, y=, x=, stride=, ypad=, xpad=, pop"),
        ("load inp x=three", "'three' must be a number, such as 12, -3 or 0x1f"),
        ("load inp x=70000", r"Load\.x_size must be within 0\.\.65535, not 70000"),
        ("load inp x=1 x=2", "'x=2' gives x_size twice; leave one out"),
        ("load inp ypad=1", "'ypad=1' must have the form ypad=A/B"),
        ("load inp pop_next=1", "'pop_next=1' must be one of"),
        ("gemm uop=1", r"'uop=1' must have the form uop=A\.\.B"),
        ("gemm imm=1", "'imm=1' must be one of"),
        ("alu add round=double", "zero= and round= must stand in an alu req"),
        ("alu req imm=3 zero=1", "zero= and round= must stand in an alu req without imm="),
        ("alu req round=up", "rounding 'up' must be one of double, single, float"),
        ("alu req zero=300 round=double", r"the zero point of REQ must be within -128\.\.127"),
        ("alu add imm=40000", r"Alu\.imm must be within -32768\.\.32767, not 40000"),
        ("alu add param=0x10000", r"Alu\.imm must be within"),
        ("alu 9", "alu_opcode must be within 0..7, not 9"),
        ("unknown 0x3", "0x3 is the known instruction 'finish'; write that"),
        ("unknown", "'unknown' must be followed by one 128-bit word"),
        ("uop dst=1", "'uop' must be one of load"),
    ],
)
def test_errors_name_the_line_and_the_mend(line: str, message: str) -> None:
    with pytest.raises(EncodingError, match=f"^line 2: .*{message}"):
        assemble(f"finish\n{line}\n", DEFAULT)


def test_extension_bits_need_their_extension() -> None:
    with pytest.raises(EncodingError, match="line 1: Load.pad_min needs the extension 'pad_min'"):
        assemble("load inp pad_min", VtaConfig.load("pynq"))


def test_micro_op_errors() -> None:
    with pytest.raises(EncodingError, match=r"line 1: MicroOp\.dst must be within 0\.\.2047"):
        assemble_uops("uop dst=2048 src=0 wgt=0", DEFAULT)
    with pytest.raises(EncodingError, match="line 1: 'gemm' must be one of uop"):
        assemble_uops("gemm", DEFAULT)


def test_program_listing() -> None:
    program = Program(
        config=DEFAULT,
        instructions=(
            Load(memory_type=MemType.INP, dram_base=16, y_size=1, x_size=2, push_next=True),
            Gemm(uop_end=1, iter_out=1, iter_in=1, pop_prev=True, push_next=True),
            Store(memory_type=MemType.OUT, y_size=1, x_size=1, pop_prev=True, push_prev=True),
            Finish(pop_next=True),
        ),
        symbols={"image": Symbol("image", 4096), "result": Symbol("result", 4096)},
        relocations=(Relocation(0, "image"), Relocation(2, "result")),
        sources=("conv: load", "conv: gemm", ""),
        source_of=(0, 1, 1, 2),
    )
    assert disassemble_program(program).splitlines() == [
        "; conv: load",
        "     0: load inp dram=image+0x10 y=1 x=2 push_next",
        "; conv: gemm",
        "     1: gemm uop=0..1 iter=1/1 pop_prev push_next",
        "     2: store out dram=result+0x0 y=1 x=1 pop_prev push_prev",
        "     3: finish pop_next",
    ]
