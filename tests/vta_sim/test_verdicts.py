"""How runs end: every fault class, the order of verdicts, deadlock, bounded queues and tokens."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.vta_sim.helpers import TINY, fresh_dram, run, verdict
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import TOKEN_MAX, FaultClass, Finish, Gemm, Load, Unknown
from vta_hw.spec.result import Status
from vta_sim import functional
from vta_sim.report import describe_fault

SHORT = TINY.override(["LOG_CMD_QUEUE=2"])

FAULTS = {
    FaultClass.BAD_OPCODE: ("unknown 0x6", "has no opcode of this machine"),
    FaultClass.BAD_FLAGS: ("store out push_next", "flag that its stage or memory type does not"),
    FaultClass.BAD_MEMORY_TYPE: ("load out", "it must be uop, wgt, inp, acc or acc_8bit"),
    FaultClass.BAD_PAD: ("store out y=1 x=1 ypad=1/0", "has padding, which a store cannot do"),
    FaultClass.SRAM_RANGE: (
        "load inp sram=0xff y=1 x=1 xpad=0/3",
        "ends at SRAM element 259 of 256; move it down",
    ),
    FaultClass.DRAM_RANGE: ("load inp dram=0x400 y=1 x=1", "reaches beyond the 4096 bytes of DRAM"),
    FaultClass.BAD_ALU_OPCODE: ("alu req imm=1", "that does not exist with the extensions"),
    FaultClass.UOP_RANGE: ("gemm uop=0..257 iter=1/1", "runs past the last of 256 micro-ops"),
    FaultClass.INDEX_RANGE: (
        "gemm uop=0..1 iter=1/3 wgt=0/40",
        r"beyond its memory \(ACC 256, INP 256, WGT 64\)",
    ),
}


def test_every_class_that_a_program_can_cause_is_here() -> None:
    assert set(FAULTS) == set(FaultClass) - {FaultClass.BUS}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault: FaultClass) -> None:
    line, message = FAULTS[fault]
    result = run(f"load uop\n{line}\nfinish")
    assert result.status is Status.FAULT
    assert verdict(result) == (fault.text, 1)
    assert result.fault is not None
    assert result.fault.text.startswith(f"instruction 1 ({line.split()[0]}")
    assert re.search(message, result.fault.text)
    assert result.fault.to_dict()["class"] == fault.text


def test_lowest_faulted_instruction_wins_over_all_else(rng: np.random.Generator) -> None:
    text = """
        load uop
        alu add uop=0..1 iter=1/2 dst=0/{}
        store out y=1 x=1 sram=0xffff
        load inp y=1 x=1 sram=0xffff
        gemm pop_prev
        finish
    """
    for _ in range(20):
        assert verdict(run(text.format(255), interleave=rng)) == ("sram_range", 2)
        higher = text.format(255).replace("iter=1/2", "iter=1/3")
        assert verdict(run(higher, interleave=rng)) == ("index_range", 1)


def test_fault_of_one_stage_lets_the_others_run_on(rng: np.random.Generator) -> None:
    text = """
        gemm push_next
        load inp y=1 x=1 sram=0xffff push_next
        alu add uop=0..1 iter=1/1 imm=3 push_next
        gemm pop_prev
        alu add uop=0..1 iter=1/1 imm=3 push_next
        store out y=1 x=1 pop_prev
        store out y=1 x=1 pop_prev dram=0x10
        store out y=1 x=1 pop_prev dram=0x20
        finish
    """
    for _ in range(20):
        dram = fresh_dram()
        dram[:] = 77
        dram[:4] = 0
        assert verdict(run(text, dram, interleave=rng)) == ("sram_range", 1)
        # Two stores had their token; the third waits for what comes after the lost one.
        assert dram[0x40:0x44].tolist() == [3] * 4
        assert dram[0x80:0x84].tolist() == [77] * 4


def test_bad_opcode_stops_the_fetch_only() -> None:
    dram = fresh_dram()
    text = """
        alu add uop=0..1 iter=1/1 imm=9 push_next
        unknown 0x5
        store out y=1 x=1 pop_prev
        finish
    """
    assert verdict(run(text, dram)) == ("bad_opcode", 1)
    assert not dram.any()
    moved = text.replace("unknown 0x5", "").replace("finish", "unknown 0x5\nfinish")
    assert verdict(run(moved, dram)) == ("bad_opcode", 2)
    assert (dram[:4] == 9).all()


def test_instruction_is_checked_after_its_pops() -> None:
    bad = "store out push_next pop_prev\nfinish"
    assert verdict(run(bad)) == ("finish_not_drained", 0)
    assert verdict(run(f"gemm push_next\n{bad}")) == ("bad_flags", 1)


# -- ends without a fault -------------------------------------------------------------------------


def test_no_finish() -> None:
    for text in ("", "load inp\nstore out"):
        result = run(text)
        assert verdict(result) == ("no_finish", None)
        assert result.status is Status.NO_FINISH
        assert result.fault is not None
        assert result.fault.text == "the program ended without FINISH; append one"


def test_finish_with_work_left() -> None:
    result = run("load inp pop_next\nload wgt\nstore out\nfinish")
    assert verdict(result) == ("finish_not_drained", 0)
    assert result.fault is not None
    assert "load instruction 0 waits for a token compute_to_load" in result.fault.text
    # What the compute stage was handed after FINISH stays there.
    late = run("finish\nload inp\ngemm")
    assert verdict(late) == ("finish_not_drained", 2)
    assert late.fault is not None
    assert "waits for a stage that FINISH has stopped" in late.fault.text


def test_finish_does_not_wait_but_the_verdict_does() -> None:
    assert verdict(run("finish\nload inp\nstore out")) == ("ok", None)


def test_finish_pops_and_pushes() -> None:
    assert verdict(run("finish pop_prev")) == ("deadlock", 0)
    assert verdict(run("load inp push_next\nfinish pop_prev push_prev\nload inp pop_next")) == (
        "ok",
        None,
    )
    assert verdict(run("finish push_next\nstore out pop_prev")) == ("ok", None)


def test_deadlock_names_each_waiting_stage() -> None:
    result = run("""
        load inp
        load inp pop_next
        gemm pop_prev pop_next
        store out pop_prev
        finish
    """)
    assert result.status is Status.DEADLOCK
    assert verdict(result) == ("deadlock", 1)
    assert result.instructions == 1
    assert result.fault is not None
    assert result.fault.text == (
        "the program is stuck: load instruction 1 waits for a token compute_to_load; compute "
        "instruction 2 waits for a token load_to_compute and store_to_compute; store instruction "
        "3 waits for a token compute_to_store; let the other stages push these tokens"
    )


def test_pops_are_all_or_nothing() -> None:
    """With both tokens needed and one there, that one stays for nobody else to lose."""
    text = """
        load inp push_next
        gemm pop_prev pop_next
        store out push_prev pop_prev
        finish
    """
    result = run(text)
    assert verdict(result) == ("deadlock", 1)
    assert result.fault is not None
    assert "compute instruction 1 waits for a token store_to_compute;" in result.fault.text


# -- bounded queues -------------------------------------------------------------------------------


def test_full_queue_stops_the_fetch() -> None:
    """A fifth load does not fit while four wait, so the compute stage gets nothing."""
    text = "load inp pop_next * {0}\ngemm push_prev * {0}\nfinish"
    assert verdict(run(text.format(4), config=SHORT)) == ("ok", None)
    assert verdict(run(text.format(5), config=SHORT)) == ("deadlock", 0)
    assert verdict(run(text.format(5))) == ("ok", None)


def test_entry_is_freed_at_issue() -> None:
    """A load that has issued and waits to push leaves its entry to another one."""
    pushes = f"load inp push_next * {TOKEN_MAX}\n"
    waiting = "load inp push_next * {}\ngemm pop_prev * {}\nfinish"
    for count, expected in ((5, ("ok", None)), (6, ("deadlock", TOKEN_MAX))):
        text = pushes + waiting.format(count, count + TOKEN_MAX)
        assert verdict(run(text, config=SHORT)) == expected


def test_default_queue_is_that_of_the_original() -> None:
    config = VtaConfig.load("default")
    text = "load inp pop_next * {0}\ngemm push_prev * {0}\nfinish"
    dram = np.zeros(0, np.uint8)
    assert verdict(run(text.format(512), dram, config)) == ("ok", None)
    assert verdict(run(text.format(513), dram, config)) == ("deadlock", 0)


# -- token counters -------------------------------------------------------------------------------


def test_push_onto_a_full_counter_waits(rng: np.random.Generator) -> None:
    text = "load inp push_next * {}\nfinish"
    assert verdict(run(text.format(TOKEN_MAX))) == ("ok", None)
    result = run(text.format(TOKEN_MAX + 1))
    assert verdict(result) == ("finish_not_drained", TOKEN_MAX)
    assert result.fault is not None
    assert "waits for room in the full counter load_to_compute" in result.fault.text
    drained = "load inp push_next * 300\ngemm pop_prev * 300\nfinish"
    assert verdict(run(drained, interleave=rng)) == ("ok", None)


def test_stuck_push_without_finish_is_a_deadlock() -> None:
    result = run(f"load inp push_next * {TOKEN_MAX + 3}")
    assert verdict(result) == ("deadlock", TOKEN_MAX)
    assert result.instructions == TOKEN_MAX


def test_effect_of_a_waiting_push_has_taken_place() -> None:
    """The instruction is done but for its token: what it stored is in memory."""
    dram = fresh_dram()
    text = f"""
        alu add uop=0..1 iter=1/1 imm=5 push_next
        store out pop_prev push_prev
        store out push_prev * {TOKEN_MAX - 1}
        store out y=1 x=1 push_prev
    """
    assert verdict(run(text, dram)) == ("deadlock", TOKEN_MAX + 1)
    assert (dram[:4] == 5).all()


def test_counters_start_at_zero_in_every_run() -> None:
    assert verdict(run("load inp push_next\nfinish")) == ("ok", None)
    assert verdict(run("gemm pop_prev\nfinish")) == ("deadlock", 0)


# -- streams that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "pynq", "batch4"])
def test_random_bytes_end_in_a_verdict(name: str, rng: np.random.Generator) -> None:
    config = VtaConfig.load(name)
    seen = set()
    for _ in range(150):
        words = rng.integers(0, 256, (int(rng.integers(1, 12)), 16)).astype(np.uint8)
        if rng.random() < 0.8:  # opcodes that exist, no waiting: further into each instruction
            words[:, 0] = words[:, 0] & 0x80 | rng.integers(0, 5, len(words)).astype(np.uint8)
        stream = words.tobytes()
        result = functional.run(config, stream, rng.integers(0, 256, 9999).astype(np.uint8))
        kind, index = verdict(result)
        assert index is None or 0 <= index < len(words)
        seen.add(kind)
    assert {"bad_opcode", "sram_range"} <= seen


def test_a_bus_error_is_told_of_the_transfer_or_of_fetch() -> None:
    load = describe_fault(3, Load(x_size=1, y_size=1), FaultClass.BUS, TINY, 4096)
    assert re.match(r"instruction 3 \(load .*\) met a bus error; see .* its DRAM address", load)
    for insn in (Gemm(), Finish(), Unknown(word=7)):
        text = describe_fault(3, insn, FaultClass.BUS, TINY, 4096)
        assert re.match(r"instruction 3 \(.*\) was the next to dispatch when fetch met a", text)
