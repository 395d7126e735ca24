"""Programs: relocation, binding, counting, and their form in a package."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
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


def test_macs_leave_out_resets() -> None:
    assert PROGRAM.macs == 4 * 5 * 6 * 256


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


def test_symbol_size() -> None:
    with pytest.raises(ProgramError, match="'w' has 3 bytes of contents, not its size of 4"):
        Symbol("w", 4, b"abc")
