"""Programs on the compiled functional engine: placement, verdicts, what is analysed, what runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.vta_sim.engines import (
    Launch,
    functional_differences,
    scratch_of,
    timing_differences,
)
from tests.vta_sim.native_sweep import machine
from vta_hw.spec import asm, isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.isa import Finish, Gemm, Instruction, Load, MicroOp, Store
from vta_hw.spec.result import RunResult, Status
from vta_hw.spec.words import from_stream
from vta_sim.native.functional import FunctionalProgram, Scratch
from vta_sim.native.volatile import VolatileProgramError

TINY = machine("tiny")
PAGE = 4096


def _launch(text: str, dram: bytes | None = None, **options: Any) -> Launch:
    lines = []
    for line in text.strip().splitlines():
        part, _, count = line.partition("*")
        lines += [part.strip()] * int(count or 1)
    stream = isa.encode_all(asm.assemble("\n".join(lines), TINY), TINY)
    return Launch(TINY, stream, bytes(PAGE) if dram is None else dram, **options)


def _differences(launch: Launch) -> list[str]:
    return [*functional_differences(launch), *timing_differences(launch)]


def _program(launch: Launch, dram: np.ndarray | None = None, **more: Any) -> FunctionalProgram:
    memory = launch.memory() if dram is None else dram
    return FunctionalProgram(
        launch.config, from_stream(launch.stream), memory, **launch.options, **more
    )


# -- placement ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 3 * PAGE - 1, 3 * PAGE, 3 * PAGE + 5, None])
def test_base_registers_and_the_end_of_dram(limit, rng):
    bases = {
        MemType.UOP: PAGE,
        MemType.INP: 2 * PAGE,
        MemType.WGT: 0,
        MemType.ACC: PAGE,
        MemType.OUT: 3 * PAGE,
    }
    dram = rng.integers(0, 256, 4 * PAGE + 77).astype("u1").tobytes()
    for places in (0, 255, 256, 1023, 1024, 0xFFFFFFFF):
        text = f"""
            load uop y=1 x=1
            load inp dram={places} y=1 x=1
            load wgt dram={places} y=1 x=1
            load acc dram={places} y=1 x=1
            load acc_8bit sram=1 dram={places} y=1 x=1
            store out dram={places} y=1 x=2
            finish
        """
        assert _differences(_launch(text, dram, bases=bases, limit=limit)) == []


@pytest.mark.parametrize("base", [-1, 1 << 32])
def test_base_registers_that_do_not_exist_are_refused(base):
    with pytest.raises(ProgramError, match="base register of INP"):
        _program(_launch("finish", bases={MemType.INP: base}))


def test_addresses_beyond_32_bits_are_beyond_dram():
    launch = _launch("load acc dram=0xffffffff y=1 x=1\nfinish", bases={MemType.ACC: 0xFFFFF000})
    assert _differences(launch) == []


@pytest.mark.parametrize("limit", [-1, PAGE + 1])
def test_ends_of_dram_that_do_not_exist_are_refused(limit):
    with pytest.raises(ProgramError, match="DRAM_LIMIT"):
        _program(_launch("finish", limit=limit))


@pytest.mark.parametrize("dram", [np.zeros(8, np.int8), np.zeros((2, 2), np.uint8)])
def test_other_arrays_than_bytes_are_refused(dram):
    launch = _launch("finish")
    with pytest.raises(ProgramError, match="contiguous uint8"):
        _program(launch, dram)
    program = _program(_launch("finish", dram=b""))
    with pytest.raises(ProgramError, match="contiguous uint8"):
        Scratch(TINY).run(program, dram)


# -- verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "finish",
        "finish\nfinish",
        "load inp y=1 x=1",
        "finish pop_prev",
        "finish\nstore out y=1 x=1 pop_prev",
        "finish\nload acc y=1 x=1",
        "load inp y=1 x=1 push_next * 300\nfinish",
        "load inp y=1 x=1 push_next * 255\nfinish pop_prev",
        "load inp y=1 x=1 push_next * 256\nfinish pop_prev",
        "load inp y=1 x=1 pop_next\nstore out pop_prev\nfinish pop_prev pop_next",
        "load acc y=1 x=1 pop_next * 40\nfinish",
        "load inp y=1 x=1 pop_next\nload wgt y=1 x=1 * 40\nfinish push_prev",
        "store out y=1 x=9 sram=250\nload inp dram=0xffffffff y=1 x=1\ngemm uop=0..300\nfinish",
    ],
)
def test_ends_of_all_kinds(text):
    assert _differences(_launch(text)) == []


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_words_without_an_opcode_stop_the_fetch(opcode, rng):
    junk = int(rng.integers(1 << 60)) << 60 | opcode
    good = isa.encode_all([Load(memory_type=MemType.INP, y_size=1, x_size=1)], TINY)
    stream = good + junk.to_bytes(16, "little") + good + isa.encode_all([Finish()], TINY)
    assert _differences(Launch(TINY, stream, bytes(PAGE))) == []
    assert _differences(Launch(TINY, stream[16:], bytes(PAGE))) == []


# -- programs that change their micro-ops ---------------------------------------------------------


def _reload(config: VtaConfig, load: dict[str, Any], store: dict[str, Any]) -> Launch:
    insns: list[Instruction] = [
        Store(**{"memory_type": MemType.OUT, "y_size": 1, "x_size": 1, **store}),
        Load(**{"memory_type": MemType.UOP, "y_size": 1, "x_size": 1, **load}),
        Finish(),
    ]
    return Launch(config, isa.encode_all(insns, config), bytes(PAGE))


@pytest.mark.parametrize(
    ("load", "store", "refused"),
    [
        ({"dram_base": 8}, {"dram_base": 8}, True),
        ({"dram_base": 8}, {"dram_base": 7}, False),
        ({"dram_base": 8}, {"dram_base": 9}, False),
        ({"dram_base": 8}, {"dram_base": 7, "x_size": 2}, True),
        ({"dram_base": 4, "x_size": 4}, {"dram_base": 8}, False),
        ({"dram_base": 4, "x_size": 5}, {"dram_base": 8}, True),
        ({"dram_base": 8}, {"dram_base": 2, "y_size": 2, "x_stride": 6}, True),
        ({"dram_base": 8}, {"dram_base": 2, "y_size": 2, "x_stride": 5}, False),
        # Between the rows of a STORE: refused, though it is not written.
        ({"dram_base": 8}, {"dram_base": 2, "y_size": 2, "x_stride": 99}, True),
        ({"dram_base": 8}, {"dram_base": 8, "y_size": 0}, False),
        ({"dram_base": 8, "y_size": 0, "y_pad_0": 1}, {"dram_base": 8}, False),
        ({"dram_base": 8, "x_size": 0}, {"dram_base": 8}, False),
    ],
)
def test_programs_that_may_change_their_micro_ops(load, store, refused):
    """In the machine `tiny` an element of OUT is as large as one of UOP."""
    launch = _reload(TINY, load, store)
    if refused:
        with pytest.raises(VolatileProgramError, match="plain engine"):
            functional_differences(launch)
        with pytest.raises(VolatileProgramError, match="plain engine"):
            timing_differences(launch)
    else:
        assert _differences(launch) == []


def test_a_long_store_is_seen_behind_later_short_ones():
    stores = [
        Store(memory_type=MemType.OUT, dram_base=base, y_size=1, x_size=size)
        for base, size in ((40, 1), (2, 100), (10, 1), (30, 1))
    ]
    load = Load(memory_type=MemType.UOP, dram_base=60, y_size=1, x_size=1)
    launch = Launch(TINY, isa.encode_all([*stores, load, Finish()], TINY), bytes(PAGE))
    with pytest.raises(VolatileProgramError):
        _program(launch)


# -- analysed once, run often ---------------------------------------------------------------------

_SUM = """
    load uop dram=8 y=1 x=2
    load acc dram=16 y=1 x=4
    alu add uop=0..2 iter=1/1
    alu add uop=0..2 iter=1/1
    store out dram=200 y=1 x=4
    finish
"""


def _sum_dram(rng: np.random.Generator, places: tuple[int, int] = (0, 2)) -> np.ndarray:
    dram = rng.integers(0, 256, PAGE).astype(np.uint8)
    for number, place in enumerate(places):
        word = isa.encode_uop(MicroOp(dst=place, src=place + 1), TINY)
        at = 4 * (8 + number)
        dram[at : at + 4] = np.frombuffer(word.to_bytes(4, "little"), np.uint8)
    return dram


def test_a_program_runs_again_on_other_data(rng):
    first = _launch(_SUM, _sum_dram(rng).tobytes())
    program, scratch = _program(first), Scratch(TINY)
    for _ in range(3):
        launch = _launch(_SUM, _sum_dram(rng).tobytes())
        found, other = launch.memory(), _program(launch)
        assert program.is_current(found)
        scratch.run(program, found)
        again = launch.memory()
        scratch.run(other, again)
        assert (found == again).all()
        assert functional_differences(launch) == []


def test_it_is_seen_that_micro_ops_have_changed(rng):
    dram = _sum_dram(rng)
    program = _program(_launch(_SUM), dram)
    for at in range(4 * 8, 4 * 10):
        changed = dram.copy()
        changed[at] ^= 1 << int(rng.integers(8))
        assert not program.is_current(changed)
    for at in (4 * 8 - 1, 4 * 10):
        changed = dram.copy()
        changed[at] ^= 255
        assert program.is_current(changed)
    assert not program.is_current(dram[:-1])


def test_rows_of_micro_ops_are_seen_one_by_one(rng):
    dram = rng.integers(0, 256, PAGE).astype(np.uint8)
    program = _program(_launch("load uop dram=8 y=3 x=2 stride=5\nfinish"), dram)
    read = {4 * (8 + 5 * row) + byte for row in range(3) for byte in range(8)}
    for at in range(4 * 30):
        changed = dram.copy()
        changed[at] ^= 255
        assert program.is_current(changed) == (at not in read)


def test_nothing_is_left_of_the_program_before(rng):
    """Memories are zero when a program starts, weights arranged for GEMM included."""
    dram = rng.integers(0, 256, 3 * PAGE).astype(np.uint8)
    fill = "\n".join(f"load {name} y=1 x=64" for name in ("inp", "wgt", "acc"))
    gemm = "gemm uop=0..1 iter=1/1\nstore out dram=700 y=1 x=64\nfinish"
    scratch = scratch_of(TINY)
    for text in (f"{fill}\n{gemm}", gemm, f"load inp y=1 x=1\n{gemm}", f"load acc y=1 x=3\n{gemm}"):
        launch = _launch(text, dram.tobytes())
        scratch.run(_program(launch), launch.memory())
        assert functional_differences(launch) == []


def test_a_program_does_not_run_on_less_dram_than_it_may_use(rng):
    program = _program(_launch(_SUM), _sum_dram(rng))
    with pytest.raises(ProgramError, match="DRAM_LIMIT"):
        Scratch(TINY).run(program, np.zeros(PAGE - 1, np.uint8))


def test_a_program_does_not_run_on_memories_of_another_machine(rng):
    program = _program(_launch(_SUM), _sum_dram(rng))
    with pytest.raises(ProgramError, match="'tiny', which differs from 'mac64'"):
        Scratch(machine("mac64")).run(program, np.zeros(PAGE, np.uint8))


def test_dram_that_cannot_be_written_is_refused(rng):
    dram = _sum_dram(rng)
    program = _program(_launch(_SUM), dram)
    dram.flags.writeable = False
    with pytest.raises(ProgramError, match="give a copy"):
        Scratch(TINY).run(program, dram)


def test_an_order_in_which_an_instruction_is_illegal_is_refused():
    """A LOAD UOP that a false hint lets pass a GEMM: its micro-ops are beyond what GEMM may use."""
    words = [MicroOp(dst=1), MicroOp(dst=255)]
    dram = b"".join(isa.encode_uop(uop, TINY).to_bytes(4, "little") for uop in words) + bytes(64)
    load = Load(memory_type=MemType.UOP, dram_base=1, y_size=1, x_size=1)
    gemm = Gemm(uop_end=1, iter_out=1, iter_in=2, dst_factor_in=1)
    launch = Launch(TINY, isa.encode_all([gemm, load, Finish()], TINY), dram)
    nothing = RunResult(status=Status.OK, fault=None, instructions=0, macs=0)
    with pytest.raises(ProgramError, match="instruction 0 becomes illegal.*overlap"):
        _program(launch, order=np.array([1, 0, 2], np.int32), result=nothing)


def test_patterns_are_shared_by_equal_loops_only(rng):
    """Many instructions whose loops differ in one number each, or not at all."""
    names = [f"{name}_factor_{level}" for name in ("dst", "src", "wgt") for level in ("out", "in")]
    steps: list[dict[str, Any]] = [{name: 1} for name in names]
    gemms = [Gemm(uop_end=2, iter_out=2, iter_in=2, **step) for step in steps]
    gemms += [Gemm(uop_end=2, iter_out=2, iter_in=2) for _ in range(3)]
    gemms += [
        Gemm(uop_end=1, iter_out=2, iter_in=2),
        Gemm(uop_bgn=1, uop_end=2, iter_out=2, iter_in=2),
        Gemm(uop_end=2, iter_out=4, iter_in=1),
        Gemm(uop_end=2, iter_out=2, iter_in=2, reset=True),
    ]
    load = Load(memory_type=MemType.UOP, dram_base=2, y_size=1, x_size=1)
    dram = b"".join(
        isa.encode_uop(MicroOp(dst=i, src=i, wgt=i), TINY).to_bytes(4, "little") for i in range(4)
    )
    insns: list[Instruction] = [
        Load(memory_type=MemType.UOP, y_size=1, x_size=2),
        Load(memory_type=MemType.INP, dram_base=9, y_size=1, x_size=20, push_next=True),
        Load(memory_type=MemType.WGT, dram_base=9, y_size=1, x_size=20, push_next=True),
        Gemm(pop_prev=True),
        Gemm(pop_prev=True),
        *gemms,
        load,
        *gemms[:8],
        Finish(),
    ]
    image = dram + rng.integers(0, 256, PAGE).astype("u1").tobytes()
    launch = Launch(TINY, isa.encode_all(insns, TINY), image)
    assert functional_differences(launch) == []
    assert len(_program(launch).tables["patterns"]) == 6 + 1 + 4 + 7


def test_an_order_without_its_result_is_refused() -> None:
    config = VtaConfig.load("tiny")
    words = np.zeros((0, 2), np.uint64)
    with pytest.raises(
        ProgramError, match="^an order of effects and a result come from one timing"
    ):
        FunctionalProgram(config, words, np.zeros(64, np.uint8), order=np.zeros(0, np.int32))
