"""The timing engine: when everything happens, to the cycle, is what `vta_sim.cycle` says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.vta_sim.engines import Launch, timing_differences
from tests.vta_sim.native_sweep import machine
from vta_hw.spec import asm, isa
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import ProgramError
from vta_hw.spec.isa import MicroOp
from vta_hw.spec.words import from_stream
from vta_sim.timing import cached
from vta_sim.timing.cached import timing_of
from vta_sim.timing.parts import BLOCK
from vta_sim.timing.simulate import Timing, time_program

TINY = machine("tiny")
PAGE = 4096


def _stream(text: str, config: VtaConfig = TINY) -> bytes:
    lines = []
    for line in text.strip().splitlines():
        part, _, count = line.partition("*")
        lines += [part.strip()] * int(count or 1)
    return isa.encode_all(asm.assemble("\n".join(lines), config), config)


def _launch(text: str, config: VtaConfig = TINY) -> Launch:
    return Launch(config, _stream(text, config), bytes(8 * PAGE))


def _time(launch: Launch, **options: Any) -> Timing:
    chosen = {"insn_base": 0, **launch.options, **options}
    return time_program(launch.config, from_stream(launch.stream), launch.memory(), **chosen)


@pytest.mark.parametrize("bus", [5, 6, 9])
@pytest.mark.parametrize("insn_base", [0, 16, 128, 240, PAGE - 16])
def test_fetches_from_all_places_of_a_chunk(insn_base, bus):
    """Chunks end at multiples of 16 instructions; beats hold a quarter of one, or four."""
    config = TINY.override([f"LOG_BUS_WIDTH={bus}", "LOG_CMD_QUEUE=3"])
    for count in (0, 1, 2, 15, 16, 17, 31, 33, 70):
        text = "load inp y=1 x=1\n" * count + "finish"
        found = timing_differences(_launch(text, config), insn_base=insn_base, executes=False)
        assert found == [], count


@pytest.mark.parametrize("reads", [1, 2, 5])
@pytest.mark.parametrize("latency", [1, 2, 7, 300])
def test_padding_while_bursts_are_open(latency, reads):
    """Vectors are filled between beats; four loaders share the bus."""
    text = """
        load inp y=9 x=3 stride=50 ypad=3/2 xpad=2/1 push_next
        load wgt y=5 x=2 stride=3 ypad=1/1 xpad=1/1
        load uop y=9 x=3 stride=30 ypad=1/2 xpad=2/3
        load acc y=7 x=3 stride=11 ypad=2/2 xpad=1/2
        load acc_8bit y=20 x=1
        load inp y=2 x=9 stride=99
        load inp ypad=3/0 x=9
        load wgt ypad=9/9 x=1 push_next
        load acc sram=100 y=30 x=4 stride=4 pop_prev
        store out dram=4096 y=7 x=3 stride=21
        store out dram=4096 y=1 x=200
        finish pop_prev
    """
    config = TINY.override([f"DRAM_LATENCY={latency}", f"MAX_READS={reads}"])
    launch = _launch(text, config)
    assert timing_differences(launch) == []
    assert timing_differences(launch, latency=latency + 3) == []


@pytest.mark.parametrize("queue", ["push_next", "push_prev"])
def test_counters_that_fill(queue):
    """255 tokens and no more; what waits for room, and what is popped late."""
    if queue == "push_next":
        text = """
            load inp push_next * 300
            load acc y=200 x=1 * 9
            finish pop_prev
        """
        flow = """
            load inp push_next * 270
            load acc y=250 x=1 stride=2 * 30
            gemm pop_prev * 270
            finish
        """
    else:
        text = "gemm push_prev * 300\nfinish"
        flow = "gemm push_prev push_next * 258\nload inp pop_next * 258\nstore out pop_prev * 258"
    for program in (text, flow):
        assert timing_differences(_launch(program), executes=False) == []


@pytest.mark.parametrize("op", ["min", "add", "shr", "mul", "rdhm", "rsr", "req"])
@pytest.mark.parametrize("form", ["register", "imm"])
def test_hazards_between_micro_ops(op, form, rng):
    """A3 by A2: operands that were written lately, one to six slots before."""
    if op == "req" and form == "imm":
        pytest.skip("REQ has no immediate form")
    for _ in range(6):
        places = rng.integers(0, 6, (12, 2)).tolist()
        words = [isa.encode_uop(MicroOp(dst=dst, src=src), TINY) for dst, src in places]
        dram = b"".join(word.to_bytes(4, "little") for word in words) + bytes(PAGE)
        imm = " imm=3" if form == "imm" else ""
        loops = [
            f"alu {op} uop={first}..{first + count} iter={a}/{b} dst={c}/{d} src={e}/{f}{imm}"
            for first, count, a, b, c, d, e, f in (
                (0, 12, 1, 1, 0, 0, 0, 0),
                (2, 1, 3, 7, 1, 0, 0, 1),
                (2, 1, 3, 7, 0, 0, 0, 0),
                (5, 2, 2, 9, 1, 1, 1, 1),
                (1, 3, 4, 2, 0, 1, 1, 0),
            )
        ]
        text = "\n".join(["load uop y=1 x=12", *loops, "finish"])
        assert timing_differences(Launch(TINY, _stream(text), dram)) == []


def test_units_that_share_the_halves_of_acc(rng):
    """GEMM, ALU and LOAD ACC side by side, in the same half and in different ones."""
    depth = TINY.depth(MemType.ACC)
    for _ in range(12):
        at = rng.integers(0, depth - 40, 3).tolist()
        words = [isa.encode_uop(MicroOp(dst=place, src=place), TINY) for place in at[:2]]
        dram = b"".join(word.to_bytes(4, "little") for word in words) + bytes(PAGE)
        pads = rng.choice(["", " ypad=1/1", " xpad=2/1"])
        parts = [
            "gemm uop=0..1 iter=4/8 dst=8/1 reset overlap",
            f"alu {rng.choice(['add', 'mul'])} uop=1..2 iter=2/9 dst=9/1 src=9/1 overlap",
            f"load acc sram={at[2]} y=3 x=4 stride=5{pads} overlap",
            f"load acc_8bit sram={at[2]} y=9 x=1 overlap",
        ]
        order = rng.permutation(len(parts)).tolist()
        text = "\n".join(["load uop y=1 x=2", "gemm", *(parts[i] for i in order), "finish"])
        assert timing_differences(Launch(TINY, _stream(text), dram)) == []


@pytest.mark.parametrize("op", ["req", "mul", "max", "mul imm=3", "add imm=3"])
def test_more_slots_than_are_planned_at_once(op):
    """GEMM and ALU share the halves for longer than the engine lays out, and a LOAD comes in."""
    words = [
        isa.encode_uop(MicroOp(dst=dst, src=src), TINY)
        for dst, src in ((60, 0), (200, 0), (0, 20), (100, 190), (1, 23), (150, 26))
    ]
    dram = b"".join(word.to_bytes(4, "little") for word in words) + bytes(PAGE)
    name, _, form = op.partition(" ")
    text = f"""
        load uop y=1 x=6
        gemm uop=0..2 iter=3/{2 * BLOCK // 5} reset
        alu {name} uop=2..6 iter={BLOCK // 30}/30 dst=0/1 src=0/0 {form} overlap
        load acc sram=110 ypad=15/15 x=2 overlap
        load acc_8bit sram=40 y=100 x=1 overlap
        finish
    """
    launch = Launch(TINY, _stream(text), dram)
    assert timing_differences(launch, executes=False) == []
    counters = _time(launch).result.counters
    assert min(counters[f"{unit}_busy_cycles"] for unit in ("gemm", "alu")) >= BLOCK
    assert min(counters[f"{unit}_port_cycles"] for unit in ("alu", "dma")) > 0


@pytest.mark.parametrize(
    "text",
    [
        "gemm uop=0..1 iter=2/1 src=255/0\nfinish",
        "gemm uop=0..1 iter=3/200 dst=1/1 src=0/1\nalu add uop=0..1 iter=1/9 overlap\nfinish",
        "alu add uop=250..300 iter=2/2\nstore out y=1 x=30 * 9\nfinish",
        "load inp y=1 x=1 sram=256\nload wgt y=1 x=9\nload acc y=1 x=9\nfinish",
        "load inp y=9 x=9 stride=9\nload inp y=1 x=1 sram=256\nload wgt y=1 x=9\nfinish",
        "store out y=1 x=9\nstore out y=1 x=9 ypad=1/0\nstore out y=1 x=9\nfinish push_next",
        "alu req uop=0..1 iter=1/1 imm=1\nfinish",
        "load inp y=1 x=1 * 40\nunknown 0x7\nfinish",
    ],
)
def test_faults_in_the_midst_of_work(text):
    assert timing_differences(_launch(text)) == []


def test_a_timeline_is_given_on_request_only():
    launch = _launch("load inp y=3 x=3 stride=3\nload acc y=1 x=4\nstore out y=1 x=4\nfinish")
    without, with_one = _time(launch), _time(launch, timeline=True)
    assert without.result.timeline is None
    assert with_one.result.timeline is not None
    assert without.result == replace(with_one.result, timeline=None)
    assert without.executed.tolist() == with_one.executed.tolist()
    assert sorted(without.executed.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"insn_base": 8}, "multiple of 16"),
        ({"insn_base": -16}, "multiple of 16"),
        ({"bases": {MemType.INP: 100}}, "multiple of 4096"),
        ({"latency": 0}, "at least 1 cycle"),
        ({"dram_limit": 9 * PAGE}, "DRAM_LIMIT"),
    ],
)
def test_launches_that_no_machine_has_are_refused(options, message):
    with pytest.raises(ProgramError, match=message):
        _time(_launch("finish"), **options)


def test_memory_that_timing_may_read_is_not_written(rng):
    launch = _launch("load acc y=1 x=9\nstore out y=1 x=9\nfinish")
    dram = rng.integers(0, 256, PAGE).astype(np.uint8)
    dram.flags.writeable = False
    time_program(TINY, from_stream(launch.stream), dram, insn_base=0)


# -- timings that are kept ------------------------------------------------------------------------


@pytest.fixture
def timed(monkeypatch):
    """Counts how often a program is timed anew."""
    calls = []

    def counting(*args, **options):
        calls.append(args)
        return time_program(*args, **options)

    monkeypatch.setattr(cached, "time_program", counting)
    monkeypatch.setattr(cached, "_kept", cached.OrderedDict())
    return calls


def test_a_program_is_timed_anew_when_its_time_may_differ(timed, rng):
    dram = rng.integers(0, 256, PAGE).astype(np.uint8)
    words = from_stream(_stream("load uop dram=4 y=2 x=2 stride=5\nalu add uop=0..9 iter=3/3"))
    first = timing_of(TINY, words, dram, insn_base=0)
    assert timing_of(TINY, words.copy(), dram, insn_base=2 * PAGE) is first
    other = dram.copy()
    other[[15, 24, 26, 35, 44]] ^= 255  # beside what is read
    assert timing_of(TINY, words, other, insn_base=0) is first
    assert len(timed) == 1
    changed = dram.copy()
    changed[36] ^= 1  # the first byte of the second row
    for arguments in (
        (TINY, words, changed, 0),
        (TINY, words, np.append(dram, np.uint8(0)), 0),
        (TINY, words, dram, 16),
        (TINY.override(["DRAM_LATENCY=99"]), words, dram, 0),
        (TINY, words[:1], dram, 0),
    ):
        config, chosen, memory, base = arguments
        kept = timing_of(config, chosen, memory, insn_base=base)
        anew = time_program(config, chosen, memory, insn_base=base)
        assert kept.result == anew.result
    assert len(timed) == 6


def test_timings_with_a_timeline_are_not_kept(timed):
    words = from_stream(_stream("finish"))
    dram = np.zeros(PAGE, np.uint8)
    for _ in range(2):
        assert timing_of(TINY, words, dram, insn_base=0, timeline=True).result.timeline is not None
    assert timing_of(TINY, words, dram, insn_base=0).result.timeline is None
    assert len(timed) == 3


def test_the_oldest_timing_is_forgotten(timed, monkeypatch):
    monkeypatch.setattr(cached, "_KEPT_MAX", 2)
    dram = np.zeros(PAGE, np.uint8)
    streams = [from_stream(_stream("finish\n" * (count + 1))) for count in range(3)]
    for index in (0, 1, 0, 2, 0, 1):
        timing_of(TINY, streams[index], dram, insn_base=0)
    assert len(timed) == 4
