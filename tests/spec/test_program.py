"""Programs: relocation, binding, counting, and their form in a package."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from vta_hw.spec import isa, words
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import EncodingError, ProgramError
from vta_hw.spec.isa import Finish, Gemm, Load, Store
from vta_hw.spec.program import Program, Relocation, Symbol

CONFIG = VtaConfig.load("default")
PROGRAM = Program(
    config=CONFIG,
    instructions=(
        Load(memory_type=MemType.WGT, dram_base=3, y_size=1, x_size=1),
        Gemm(uop_end=4, iter_out=5, iter_in=6),
        Gemm(uop_end=4, iter_out=5, iter_in=6, reset=True),
        Store(memory_type=MemType.OUT, dram_base=7, y_size=1, x_size=1),
        Finish(),
    ),
    symbols={"weights": Symbol("weights", 4, b"abcd"), "result": Symbol("result", 64)},
    relocations=(Relocation(0, "weights"), Relocation(3, "result")),
    sources=("conv", "end"),
    source_of=(0, 0, 0, 0, 1),
)


def test_bound_adds_addresses_in_elements() -> None:
    bound = PROGRAM.bound({"weights": 0x2000, "result": 0x1000})
    assert [i.dram_base for i in bound if isinstance(i, Load | Store)] == [0x2000 // 256 + 3, 263]
    assert bound[1:3] == PROGRAM.instructions[1:3]
    addresses = {"weights": 0x2000, "result": 0x1000}
    assert PROGRAM.bind(addresses) == isa.encode_all(bound, CONFIG)


def test_bound_refuses() -> None:
    with pytest.raises(ProgramError, match="no address given for symbol 'result'"):
        PROGRAM.bound({"weights": 0})
    with pytest.raises(ProgramError, match="0x2010, which is no multiple of its 256-byte"):
        PROGRAM.bound({"weights": 0x2010, "result": 0})


@pytest.mark.parametrize("address", [-4096, (1 << 32) * 256, 1 << 63, 1 << 80])
def test_bind_refuses_addresses_beyond_the_field(address: int) -> None:
    addresses = {"weights": address, "result": 0}
    with pytest.raises(EncodingError) as wanted:
        isa.encode_all(PROGRAM.bound(addresses), CONFIG)
    assert f"Load.dram_base must be within 0..4294967295, not {address // 256 + 3}" in str(
        wanted.value
    )
    for refuse in (PROGRAM.bind, PROGRAM.bound_words, _read().bind):
        with pytest.raises(EncodingError) as caught:
            refuse(addresses)
        assert str(caught.value) == str(wanted.value)


def test_the_greatest_address_is_bound() -> None:
    addresses = {"weights": ((1 << 32) - 1 - 3) * 256, "result": 0}
    assert PROGRAM.bind(addresses) == isa.encode_all(PROGRAM.bound(addresses), CONFIG)


def test_an_instruction_may_be_relocated_twice() -> None:
    twice = replace(PROGRAM, relocations=(Relocation(0, "weights"), Relocation(0, "result")))
    addresses = {"weights": 0x2000, "result": 0x1000}
    load = twice.bound(addresses)[0]
    assert isinstance(load, Load) and load.dram_base == (0x2000 + 0x1000) // 256 + 3
    assert twice.bind(addresses) == isa.encode_all(twice.bound(addresses), CONFIG)


def test_bound_words_are_a_copy() -> None:
    addresses = {"weights": 0x2000, "result": 0x1000}
    bound = PROGRAM.bound_words(addresses)
    assert bound.tobytes() == PROGRAM.bind(addresses)
    bound[:] = 0
    assert PROGRAM.words.tobytes() == isa.encode_all(PROGRAM.instructions, CONFIG)
    assert PROGRAM.bind(addresses) == isa.encode_all(PROGRAM.bound(addresses), CONFIG)


# -- words and instructions -----------------------------------------------------------------------


def _read() -> Program:
    return Program.from_members(PROGRAM.to_members(), CONFIG)


def test_what_is_read_is_decoded_when_it_is_asked_for() -> None:
    program = _read()
    assert program.macs == PROGRAM.macs and program.bind({"weights": 0, "result": 0})
    assert program == _read()
    assert "instructions" not in vars(program)
    assert program.instructions == PROGRAM.instructions
    assert program.instructions is program.instructions
    with pytest.raises(AttributeError, match="no attribute 'instruction'"):
        program.instruction  # type: ignore[attr-defined]  # noqa: B018


def test_copies_of_what_was_read() -> None:
    for program in (copy.deepcopy(_read()), pickle.loads(pickle.dumps(_read()))):
        assert program == PROGRAM and program.instructions == PROGRAM.instructions


def test_equal_programs_of_words_and_of_instructions() -> None:
    read, made = _read(), PROGRAM
    assert read == made and made == read
    assert replace(_read(), sources=("conv", "finish")) != PROGRAM
    assert replace(_read(), instructions=(*PROGRAM.instructions[:4], Finish(pop_prev=True))) != (
        _read()
    )
    assert PROGRAM != "program"
    changed = _read().words.copy()
    changed[-1, 1] = 1 << 63
    stray = Program.from_words(changed, CONFIG)
    assert stray == Program(CONFIG, PROGRAM.instructions), "FINISH does not use that bit"
    assert stray.words.tobytes() == stray.bind({}) == changed.tobytes()


def test_words_of_another_form_are_refused() -> None:
    for wrong in (np.zeros((3, 2), np.int64), np.zeros((3, 3), np.uint64), np.zeros(4, np.uint64)):
        with pytest.raises(ProgramError, match="must be a uint64 array of shape .n, 2., not "):
            Program.from_words(wrong, CONFIG)


def test_instructions_that_cannot_be_encoded_are_refused_when_they_are_bound() -> None:
    program = Program(CONFIG, (Load(y_size=1 << 16),), {"a": Symbol("a", 4)}, (Relocation(0, "a"),))
    with pytest.raises(EncodingError, match="Load.y_size must be within 0..65535, not 65536"):
        program.bind({"a": 0})


def test_macs_leave_out_resets() -> None:
    assert PROGRAM.macs == _read().macs == 4 * 5 * 6 * 256
    none = (Gemm(uop_bgn=3, uop_end=2, iter_out=5, iter_in=6), Gemm(uop_end=4, iter_in=6))
    assert Program(CONFIG, none).macs == Program(CONFIG, ()).macs == 0


def test_sources() -> None:
    assert [PROGRAM.source(i) for i in (0, 4)] == ["conv", "end"]
    assert replace(PROGRAM, sources=(), source_of=()).source(0) == ""


def test_members_round_trip() -> None:
    assert Program.from_members(PROGRAM.to_members(), CONFIG) == PROGRAM


def test_symbols_may_say_what_array_they_hold() -> None:
    typed = {**PROGRAM.symbols, "result": Symbol("result", 64, None, "int32", (4, 4))}
    program = replace(PROGRAM, symbols=typed)
    members = program.to_members()
    assert Program.from_members(members, CONFIG) == program
    header = json.loads(members["program.json"])
    assert header["symbols"][0] == {"name": "weights", "size": 4, "at": 0}, "as without types"
    for entry in header["symbols"]:
        entry.pop("dtype", None), entry.pop("shape", None)
    old = {**members, "program.json": json.dumps(header).encode()}
    assert Program.from_members(old, CONFIG) == PROGRAM


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("int32", (4, 5)),
        ("int8", ()),
        ("", (64,)),
        ("object", (8,)),
        ("nothing", (64,)),
        ("int32", (-4, -4)),
    ],
)
def test_symbols_of_another_size_than_their_array(dtype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ProgramError, match="^symbol 'r' of 64 bytes cannot be an array of "):
        Symbol("r", 64, None, dtype, shape)


@pytest.mark.parametrize(
    ("member", "contents"),
    [
        ("program.json", b"{"),
        ("program.json", b"[]"),
        ("program.json", b'{"symbols": [], "relocations": [[0, 2]]}'),
    ],
)
def test_malformed_members(member: str, contents: bytes) -> None:
    with pytest.raises(ProgramError, match="program in the package is malformed"):
        Program.from_members({**PROGRAM.to_members(), member: contents}, CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_of": (0,)}, "the source map names 1 instructions, the program has 5"),
        ({"relocations": (Relocation(0, "nothing"),)}, "unknown symbol 'nothing'"),
        ({"relocations": (Relocation(9, "result"),)}, "instruction 9, which is absent"),
        ({"relocations": (Relocation(1, "result"),)}, "instruction 1 has no DRAM address"),
    ],
)
def test_inconsistent_programs(change: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        replace(PROGRAM, **change)


@pytest.mark.parametrize(
    ("insn", "message"),
    [
        (Gemm(), "^instruction 0 has no DRAM address to fill in$"),
        (isa.Unknown(opcode=7, word=7), "^instruction 0 has no DRAM address to fill in$"),
        (Load(memory_type=7), "^instruction 0 is of memory type 7, which has no elements"),
        (Store(memory_type=6), "^instruction 0 is of memory type 6, which has no elements"),
    ],
)
def test_relocations_of_what_has_no_address(insn: isa.Instruction, message: str) -> None:
    more = {"symbols": {"a": Symbol("a", 4)}, "relocations": (Relocation(0, "a"),)}
    with pytest.raises(ProgramError, match=message):
        Program(CONFIG, (insn,), **more)  # type: ignore[arg-type]
    with pytest.raises(ProgramError, match=message):
        Program.from_words(words.encode((insn,), CONFIG), CONFIG, **more)  # type: ignore[arg-type]


def test_streams_that_are_cut_off() -> None:
    members = PROGRAM.to_members()
    members["instructions.bin"] = members["instructions.bin"][:-1]
    with pytest.raises(EncodingError, match="multiple of 16 bytes long, not 79"):
        Program.from_members(members, CONFIG)


def test_symbol_size() -> None:
    with pytest.raises(ProgramError, match="'w' has 3 bytes of contents, not its size of 4"):
        Symbol("w", 4, b"abc")
