"""The hazard checker on programs written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.vta_sim.helpers import TINY
from vta_hw.spec import isa
from vta_hw.spec.asm import assemble
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.program import Program, Relocation, Symbol
from vta_sim.hazards import Clash, Race, Report, check_program, check_stream

DRAM_BYTES = 4096


def dram_of(*uops: isa.MicroOp, config: VtaConfig = TINY) -> np.ndarray[Any, Any]:
    """Zeros behind the words of these micro-ops."""
    words = [isa.encode_uop(uop, config).to_bytes(4, "little") for uop in uops]
    head = b"".join(words)
    return np.frombuffer(head + bytes(DRAM_BYTES - len(head)), np.uint8)


def check(text: str, *uops: isa.MicroOp, config: VtaConfig = TINY, **options: Any) -> Report:
    return check_stream(config, assemble(text, config), dram_of(*uops, config=config), **options)


def races(report: Report) -> list[Race]:
    return [hazard.race for hazard in report.hazards]


def pairs(report: Report) -> list[tuple[int, int]]:
    return [(race.first, race.second) for race in races(report)]


# -- the virtual-thread listing of the TVM talks --------------------------------------------------

# INP: activ 0..15 and 16..31, ldbuf 32..47 and 48..63 (one per thread of a round); WGT: param
# 0..1, shared; ACC: 0..15 and 16..31. EXE is one GEMM: acc[half] += activ * param[0] + ldbuf *
# param[1].
UOPS = tuple(
    isa.MicroOp(dst=16 * half, src=base + 16 * half, wgt=wgt)
    for half in (0, 1)
    for wgt, base in ((0, 0), (1, 32))
)
PARAM = "load wgt sram={} dram=16 y=1 x=2 stride=2"
ACTIV = "load inp sram={} dram=64 y=1 x=16 stride=16"
EXE = "gemm uop={}..{} iter=1/16 dst=0/1 src=0/1"
STORE = "store out sram={} dram={} y=1 x=16 stride=16"

PUBLISHED_LOAD = (
    (PARAM.format(0), ACTIV.format(0), ACTIV.format(32) + " push_next"),
    (ACTIV.format(16), ACTIV.format(48) + " push_next"),
    (PARAM.format(0) + " pop_next", ACTIV.format(0), ACTIV.format(32) + " push_next"),
    (ACTIV.format(16) + " pop_next", ACTIV.format(48) + " push_next"),
)


def listing(load_stage: tuple[tuple[str, ...], ...] = PUBLISHED_LOAD) -> str:
    """The four threads as published: first-round ones pop nothing, last-round ones push none."""
    lines = ["load uop y=1 x=4 stride=4"]
    for thread, loads in enumerate(load_stage):
        half, last = thread % 2, thread >= 2
        exe = EXE.format(2 * half, 2 * half + 2)
        lines += loads
        lines.append(
            f"{exe} pop_prev pop_next push_next" if last else f"{exe} pop_prev push_prev push_next"
        )
        store = STORE.format(16 * half, 512 + 16 * thread)
        lines.append(f"{store} pop_prev" if last else f"{store} pop_prev push_prev")
    return "\n".join([*lines, "finish"])


def test_published_listing_has_exactly_the_known_race() -> None:
    text = listing()
    program = assemble(text, TINY)
    exe_of_1 = 8
    param_of_2 = 10
    assert isinstance(program[exe_of_1], isa.Gemm)
    assert program[param_of_2] == assemble(PARAM.format(0) + " pop_next", TINY)[0]
    report = check(text, *UOPS)
    clash = Clash("wgt", ((0, 1),), first_writes=False, second_writes=True)
    assert races(report) == [Race(exe_of_1, param_of_2, False, (clash,))]
    assert (report.faults, str(report.ending), report.status) == ((), "ok", "hazard")
    assert report.findings == (
        "nothing orders instruction 8 (gemm uop=2..4 iter=1/16 dst=0/1 src=0/1 pop_prev push_prev "
        "push_next) and instruction 10 (load wgt dram=0x10 y=1 x=2 stride=2 pop_next): both touch "
        "wgt 0..1, which the first reads and the second writes; add a token between them",
    )
    # Nothing pushes in the last round, so the end is not awaited.
    assert len(report.notes) == 1
    assert report.notes[0].startswith("FINISH (instruction 19) does not wait for instruction 14 ")


def test_listing_that_waits_for_both_tokens_is_clean() -> None:
    waiting = (
        *PUBLISHED_LOAD[:2],
        (
            ACTIV.format(0) + " pop_next",
            PARAM.format(0) + " pop_next",
            ACTIV.format(32) + " push_next",
        ),
        (ACTIV.format(16), ACTIV.format(48) + " push_next"),
    )
    assert check(listing(waiting), *UOPS).clean


def test_listing_with_two_halves_of_param_is_clean() -> None:
    halves = (
        *PUBLISHED_LOAD[:2],
        (PARAM.format(2) + " pop_next", *PUBLISHED_LOAD[2][1:]),
        PUBLISHED_LOAD[3],
    )
    second = tuple(
        isa.MicroOp(dst=uop.dst, src=uop.src, wgt=uop.wgt + 2 * (number >= 4))
        for number, uop in enumerate(UOPS * 2)
    )
    text = listing(halves).replace("load uop y=1 x=4 stride=4", "load uop y=1 x=8 stride=8")
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if "gemm" in line and "pop_next" in line:
            lines[number] = line.replace("uop=0..2", "uop=4..6").replace("uop=2..4", "uop=6..8")
    assert check("\n".join(lines), *second).clean


# -- what is ordered ------------------------------------------------------------------------------


def test_an_earlier_write_is_not_hidden_by_a_later_ordered_looking_read() -> None:
    # Compute writes acc 0 (1), then only reads it (2); the store (3) conflicts with 1 alone.
    report = check(
        """
        load uop y=1 x=1 stride=1
        load acc y=1 x=1 stride=1
        alu max uop=0..1 iter=1/1
        store out dram=512 y=1 x=1 stride=1
        finish
        """,
        isa.MicroOp(dst=5, src=0),
    )
    clash = Clash("acc", ((0, 0),), first_writes=True, second_writes=False)
    assert races(report) == [Race(1, 3, False, (clash,))]


def test_all_instructions_since_the_token_are_reported_not_just_the_last() -> None:
    report = check(
        """
        load inp sram=0 y=1 x=4 stride=4 push_next
        load inp sram=1 y=1 x=2 stride=2
        load inp sram=3 y=1 x=1 stride=1
        load uop dram=0 y=1 x=1 stride=1
        gemm uop=0..1 iter=1/4 src=0/1 pop_prev
        finish
        """
    )
    assert [(race.first, race.second, race.clashes[0].ranges) for race in races(report)] == [
        (1, 4, ((1, 2),)),
        (2, 4, ((3, 3),)),
    ]


def test_order_is_transitive_through_a_third_stage() -> None:
    text = """
        store out dram=512 y=1 x=2 stride=2 push_prev
        load uop pop_next push_prev
        load inp dram=512 y=1 x=2 stride=2 pop_next
        finish
        """
    assert check(text).clean
    broken = check(text.replace("x=2 stride=2 pop_next", "x=2 stride=2"))
    clash = Clash("dram", ((2048, 2055),), first_writes=True, second_writes=False)
    assert races(broken) == [Race(0, 2, False, (clash,))]
    assert "1 token compute_to_load never popped, pushed by instruction 1" in broken.notes


def test_the_younger_one_may_run_first() -> None:
    # The store waits for a token of the compute stage that comes after the load in program order.
    report = check(
        """
        store out dram=512 y=1 x=1 stride=1 pop_prev
        load inp dram=512 y=1 x=1 stride=1 push_next
        load uop pop_prev push_next
        finish
        """
    )
    assert report.clean


def test_dram_is_compared_byte_by_byte() -> None:
    # Two rows of 8 bytes from 2048, 16 apart; micro-ops from 2056 and from 2066.
    text = """
        store out dram=512 y=2 x=2 stride=4
        load uop dram={} y=1 x=2 stride=2
        finish
        """
    known = check(text.format(514))
    assert known.clean, known.findings
    shifted = check(text.format(514), bases={MemType.UOP: 6})
    (race,) = races(shifted)
    assert race.clashes == (Clash("dram", ((2064, 2069),), True, False),)


def test_no_ops_and_padding_touch_no_dram() -> None:
    report = check(
        """
        store out dram=512 y=1 x=4 stride=4
        load inp dram=512 x=4 stride=4 ypad=1/1
        load inp dram=512 y=4
        finish
        """
    )
    assert races(report) == []


def test_acc_8bit_and_store_share_acc() -> None:
    report = check(
        """
        load acc_8bit sram=8 dram=0 y=1 x=4 stride=4 xpad=1/1
        store out sram=10 dram=512 y=1 x=9 stride=9
        finish
        """
    )
    clash = Clash("acc", ((10, 13),), first_writes=True, second_writes=False)
    assert races(report) == [Race(0, 1, False, (clash,))]


def test_gemm_reset_reads_no_operands() -> None:
    text = """
        load uop y=1 x=1 stride=1
        load inp y=1 x=1 stride=1
        load wgt y=1 x=1 stride=1
        gemm uop=0..1 iter=1/1 {}
        finish
        """
    assert check(text.format("reset")).clean
    assert pairs(check(text.format(""))) == [(1, 3), (2, 3)]


def test_compute_after_finish_never_starts() -> None:
    report = check(
        """
        load inp y=1 x=1 stride=1
        finish
        gemm uop=0..1 iter=1/1
        """
    )
    assert races(report) == []
    assert str(report.ending) == report.status == "finish_not_drained"
    assert report.ending_fault is not None and report.ending_fault.index == 2


# -- tokens and faults ----------------------------------------------------------------------------


def test_deadlock_names_what_waits_for_which_token() -> None:
    report = check(
        """
        load inp y=1 x=1 stride=1 pop_next
        load uop pop_prev push_prev
        finish
        """
    )
    assert report.status == "deadlock" and not report.clean
    assert report.ending_fault is not None
    assert report.ending_fault.index == 0
    assert report.ending_fault.text == (
        "the program is stuck: load instruction 0 waits for a token compute_to_load; compute "
        "instruction 1 waits for a token load_to_compute; let the other stages push these tokens"
    )


def test_deadlock_of_a_short_queue_is_found() -> None:
    short = TINY.override(["LOG_CMD_QUEUE=2"])
    lines = ["load inp pop_next", *["load inp"] * 6, "load uop push_prev", "finish"]
    assert check("\n".join(lines)).clean
    assert check("\n".join(lines), config=short).status == "deadlock"


def test_tokens_left_over_are_noted() -> None:
    report = check("load uop push_prev push_next\nload uop push_prev\nfinish")
    assert report.clean
    assert report.notes == (
        "2 tokens compute_to_load never popped, pushed by instruction 0 and later ones",
        "1 token compute_to_store never popped, pushed by instruction 0",
    )


def test_missing_finish() -> None:
    report = check("load inp y=1 x=1 stride=1")
    assert report.status == "no_finish"
    assert report.findings == ("the program ended without FINISH; append one",)


def test_every_faulting_instruction_is_reported() -> None:
    report = check(
        """
        load inp sram=255 y=1 x=2 stride=2
        load uop y=1 x=1 stride=1
        gemm uop=0..1 iter=2/1 dst=200/0
        alu max uop=0..1 iter=1/1
        store out dram=1023 y=1 x=2 stride=2
        finish
        """,
        isa.MicroOp(dst=100),
    )
    assert [(fault.kind, fault.index) for fault in report.faults] == [
        ("sram_range", 0),
        ("index_range", 2),
        ("dram_range", 4),
    ]
    assert report.status == "fault"
    assert report.findings[0].startswith("instruction 0 (load inp sram=0xff y=1 x=2 stride=2) ")


def test_nothing_is_asked_of_what_follows_an_unknown_opcode() -> None:
    report = check("load inp y=1 x=1 stride=1\nunknown 0x7\nload uop pop_prev")
    assert [(fault.kind, fault.index) for fault in report.faults] == [("bad_opcode", 1)]
    assert report.ending_fault is None


EXECUTED = """
    store out dram=4 y=1 x=1 stride=1 push_prev
    load uop dram=0 y=1 x=8 stride=8 pop_next
    {}
    gemm uop={}..8 iter=1/1 reset
    finish
    """


def test_micro_ops_that_the_program_stores_are_refused() -> None:
    report = check(EXECUTED.format("", 7))
    assert [(fault.kind, fault.index) for fault in report.faults] == [("unknown_micro_ops", 1)]
    assert report.findings == (
        "instruction 1 (load uop y=1 x=8 stride=8 pop_next) loads micro-ops from bytes that are "
        "not known before the program runs, so what instruction 2 does with them cannot be told; "
        "make them constants",
    )


def test_unknown_micro_ops_that_are_not_executed_do_no_harm() -> None:
    assert check(EXECUTED.format("", 8)).clean
    again = "load uop sram=7 dram=64 y=1 x=1 stride=1"
    assert check(EXECUTED.format(again, 7)).clean
    assert not check(EXECUTED.format(again, 6)).clean
    padded = EXECUTED.replace("x=8 stride=8", "x=6 stride=6 xpad=1/1")
    assert check(padded.format("", 7)).clean
    assert not check(padded.format("", 6)).clean


def test_micro_ops_that_are_overwritten_later_are_known() -> None:
    text = """
        load uop dram=0 y=1 x=8 stride=8 push_next
        store out dram=4 y=1 x=1 stride=1 {}
        finish
        """
    assert check(text.format("pop_prev")).clean
    racing = check(text.format(""))
    assert (pairs(racing), racing.faults) == ([(0, 1)], ())


def test_the_listed_pairs_can_be_limited() -> None:
    text = "\n".join(
        ["load uop y=1 x=1 stride=1", *["load inp y=1 x=1 stride=1"] * 5]
        + ["gemm uop=0..1 iter=1/1", "finish"]
    )
    assert len(check(text).hazards) == 5 and not check(text).more
    assert len(check(text, pairs_max=5).hazards) == 5 and not check(text, pairs_max=5).more
    limited = check(text, pairs_max=3)
    assert len(limited.hazards) == 3 and limited.more
    assert limited.findings[-1] == "there are more hazards than these 3"


def test_dram_must_be_bytes() -> None:
    with pytest.raises(ProgramError, match=r"^DRAM must be a uint8 array .*, not int32 of shape"):
        check_stream(TINY, b"", np.zeros(16, np.int32))
    with pytest.raises(ProgramError, match=r"^the base register of INP must be within .*, not -1$"):
        check("finish", bases={MemType.INP: -1})


def test_dram_limit_must_lie_in_the_image() -> None:
    with pytest.raises(ProgramError, match=r"^DRAM_LIMIT must be within 0\.\.4096 .*, not 5000$"):
        check("finish", dram_limit=5000)
    assert check("load inp dram=4 y=1 x=1 stride=1\nfinish", dram_limit=16).status == "fault"


# -- programs with symbols ------------------------------------------------------------------------


def program_of(text: str, symbols: dict[str, Symbol], **addressed: int) -> Program:
    instructions = tuple(assemble(text, TINY))
    relocations = tuple(Relocation(index, name) for name, index in addressed.items())
    sources = tuple(f"layer {index}" for index in range(len(instructions)))
    return Program(
        TINY, instructions, symbols, relocations, sources, tuple(range(len(instructions)))
    )


IN_OUT = {"x": Symbol("x", 64), "y": Symbol("y", 64)}
COPY = """
    load acc_8bit y=1 x=16 stride=16 push_next
    store out y=1 x=16 stride=16 {}
    finish
    """


def test_symbols_lie_apart_unless_placed() -> None:
    program = program_of(COPY.format("pop_prev"), IN_OUT, x=0, y=1)
    assert check_program(program).clean
    assert check_program(program, {"x": 0, "y": 64}).clean


def test_hazards_name_layers_and_symbols() -> None:
    report = check_program(program_of(COPY.format(""), IN_OUT, x=0, y=1), {"x": 0, "y": 32})
    assert [clash.memory for clash in races(report)[0].clashes] == ["acc", "dram"]
    assert report.findings == (
        "nothing orders instruction 0 (load acc_8bit y=1 x=16 stride=16 push_next; layer 0) and "
        "instruction 1 (store out dram=0x8 y=1 x=16 stride=16; layer 1): both touch acc 0..15, "
        "which the first writes and the second reads; DRAM bytes 32..63 (x, y), which the first "
        "reads and the second writes; add a token between them",
    )
    record = report.hazards[0].to_dict()
    assert record["first"] == {
        "index": 0,
        "text": "load acc_8bit y=1 x=16 stride=16 push_next",
        "source": "layer 0",
    }
    assert record["conflicts"][1] == {
        "memory": "dram",
        "ranges": [[32, 63]],
        "first_writes": False,
        "second_writes": True,
    }


def test_an_instruction_must_stay_within_its_symbol() -> None:
    small = {"x": Symbol("x", 60), "y": Symbol("y", 64)}
    report = check_program(program_of(COPY.format("pop_prev"), small, x=0, y=1))
    assert [(fault.kind, fault.index) for fault in report.faults] == [("dram_range", 0)]
    assert "reaches bytes 0..63 of 'x', which has 60" in report.findings[0]


def test_micro_ops_must_be_constants() -> None:
    text = "load uop y=1 x=1 stride=1\ngemm uop=0..1 iter=1/1 reset\nfinish"
    unknown = check_program(program_of(text, {"u": Symbol("u", 4)}, u=0))
    assert [fault.kind for fault in unknown.faults] == ["unknown_micro_ops"]
    assert check_program(program_of(text, {"u": Symbol("u", 4, bytes(4))}, u=0)).clean


def test_micro_ops_are_taken_from_constants() -> None:
    word = isa.encode_uop(isa.MicroOp(dst=3), TINY).to_bytes(4, "little")
    text = """
        load uop y=1 x=1 stride=1
        alu max uop=0..1 iter=1/1 imm=0
        store out sram=3 y=1 x=1 stride=1
        finish
        """
    symbols = {"u": Symbol("u", 4, word), "y": Symbol("y", 64)}
    report = check_program(program_of(text, symbols, u=0, y=2))
    assert [race.clashes[0].ranges for race in races(report)] == [((3, 3),)]


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ({"z": 0}, r"^the program has no symbol 'z' to put at 0x0$"),
        ({"x": -64}, r"^symbol 'x' must lie at a positive address, not -64$"),
    ],
)
def test_bad_addresses_are_refused(addresses: dict[str, int], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        check_program(program_of(COPY.format("pop_prev"), IN_OUT, x=0, y=1), addresses)
