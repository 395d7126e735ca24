"""Small programs whose cycles follow from single rules of docs/timing.md by arithmetic.

All run on `tiny` with a 64-bit bus, so 8 bytes per beat. An element of UOP, INP and OUT has 4
bytes, one of WGT, ACC 16; ACC has two halves of 128 elements. Unless a case says otherwise, the
latency L is 10. The micro-ops of `uops` lie at address 0, everything else in memory is zero.

Where every instruction comes with the first chunks and no queue is full, it is dispatched in
d(i) = L + 6 + 2 i: the first chunk is granted in 1, accepted in 2, its first beat comes in L + 2;
the last beat of instruction i comes in L + 3 + 2 i, arrives one later, and 2 later comes dispatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NEVER = -1

Cycles = Mapping[int, int]


@dataclass(frozen=True)
class Case:
    """A program, and what is known of it: cycles by instruction, and of the whole run."""

    program: str
    cycles: int | None = None
    dispatch: Cycles = field(default_factory=dict)
    issue: Cycles = field(default_factory=dict)
    retire: Cycles = field(default_factory=dict)
    verdict: str = "ok"
    fault_index: int | None = None
    latency: int = 10
    settings: tuple[str, ...] = ()
    uops: str = "uop dst=0"
    read_bus: tuple[tuple[int, int], ...] | None = None
    write_bus: tuple[tuple[int, int], ...] | None = None
    counters: Mapping[str, int] = field(default_factory=dict)


def _numbered(*cycles: int) -> dict[int, int]:
    return dict(enumerate(cycles))


# Issued in 21 = d(0) + 5; taken in 22, its burst granted in 23, the beat on the bus in 34; it
# arrives in 35; retired in 37. What follows in the compute stage can issue in 38.
_LOAD_UOPS = "load uop y=1 x=2\n"

# Two rows of 4 INP elements, 2 beats each. d(0) = 16, issued in 21, taken in 22. Bursts are
# requested and granted in 23 and 24, accepted in 24 and 25. The beats of the first come in
# 24 + 10 = 34 and 35. Those of the second could come from 35 on, and come in 36 and 37; the last
# arrives in 38. Retired in 40.
# FINISH: d(1) = 18, issued in 23, retired in 25. The run ends in 40 + 8.
_TWO_ROWS = Case(
    "load inp y=2 x=4 stride=64\nfinish",
    cycles=49,
    dispatch=_numbered(16, 18),
    issue=_numbered(21, 23),
    retire=_numbered(40, 25),
    read_bus=((12, 15), (34, 37)),
    counters={"read_bursts": 3, "read_beats": 8, "load_memory_cycles": 13, "load_busy_cycles": 4},
)

# Three LOADs of two bursts of one beat, one burst at a time. The first is taken in 22, its bursts
# are granted in 23 and, when that one's beat was on the bus in 34, in 35; the second beat comes in
# 36 + 10 = 46, arrives in 47.
# The second LOAD waits from 25 on. It is taken in 36, the cycle after the grant in 35; its bursts
# are granted in 47 and 59 (beat in 58), the second beat comes in 70, arrives in 71.
# The third is ready in 29; the waiting place is empty from 37 on. It is taken in 60, its bursts are
# granted in 71 and 83 (beat in 82), the last beat comes in 94, arrives in 95.
_ONE_READ = Case(
    "load inp y=2 x=2 stride=64\n" * 3,
    cycles=97 + 9,
    issue=_numbered(21, 25, 37),
    retire=_numbered(49, 73, 97),
    verdict="no_finish",
    settings=("MAX_READS=1",),
    read_bus=((12, 17), (34, 34), (46, 46), (58, 58), (70, 70), (82, 82), (94, 94)),
)

# Three STOREs. The first has 32 beats: d(0) = 16, issued in 21, taken in 22, read from
# max(23, 21 + 6) = 27 to 58, on the bus from 29 to 60; the response comes in 70, arrives in 71.
# The second waits from 25 on and is taken in 59. Its beat is read in max(60, 31), on the bus in 62;
# the response comes in 72, arrives in 73.
# The third is ready in 29; the waiting place is empty from 60 on. It is taken in 61, its beat read
# in max(62, 66), on the bus in 68; the response comes in 78, arrives in 79.
_THREE_STORES = Case(
    "store out y=1 x=64\nstore out y=1 x=2\nstore out y=1 x=2\nfinish",
    cycles=81 + 9,
    issue=_numbered(21, 25, 60, 27),
    retire=_numbered(73, 75, 81, 29),
    write_bus=((29, 60), (62, 62), (68, 68)),
    counters={"write_bursts": 3, "write_beats": 34, "store_busy_cycles": 34},
)

_BAD_GEMM = Case(
    # The second micro-op has dst 1 + 255. GEMM issues in 38, the slot of its first micro-op is
    # granted in 40; in 41 it is done and bad, in 43 it stops the stage. The LOAD issues before, in
    # 42; its 2 beats come in 55 and 56, arrive in 56 and 57. It never retires.
    _LOAD_UOPS + "gemm uop=0..1 iter=2/1 dst=255/0 reset\nload acc y=1 x=1 overlap\nfinish",
    cycles=57 + 9,
    issue=_numbered(21, 38, 42, NEVER),
    retire=_numbered(37, NEVER, NEVER, NEVER),
    verdict="index_range",
    fault_index=1,
    uops="uop dst=1",
    counters={"gemm_busy_cycles": 1, "compute_instructions": 1},
)

_SHORT_QUEUE = Case(
    # The queue holds 4. LOADs issue in 21, 25, 29, 33 and so on. Instruction 6 could be dispatched
    # in 28, when 6 have been and 2 have issued; it is in 30, after the issue in 29. Then it is full
    # again until the issue in 33: instruction 7 is dispatched in 34. FINISH, which could be
    # dispatched since 32, is the next.
    "load inp\n" * 8 + "finish",
    cycles=51 + 9,
    dispatch=_numbered(16, 18, 20, 22, 24, 26, 30, 34, 35),
    issue=_numbered(21, 25, 29, 33, 37, 41, 45, 49, 40),
    retire=_numbered(23, 27, 31, 35, 39, 43, 47, 51, 42),
    settings=("LOG_CMD_QUEUE=2",),
    counters={"fetch_busy_cycles": 9, "fetch_queue_full_cycles": 2 + 3},
)

RULES: Mapping[str, tuple[Case, ...]] = {
    "R1": (
        # No token is there at the start: nothing moves after the dispatch in 16.
        Case(
            "finish pop_prev",
            cycles=25,
            dispatch=_numbered(16),
            issue=_numbered(NEVER),
            verdict="deadlock",
            fault_index=0,
        ),
    ),
    "R2": (
        # Dispatched in 16, issued in 21, retired in 23: the last that moves. The run ends in 31.
        Case("finish", cycles=32, retire=_numbered(23)),
        # An open burst moves, however long it takes: the response arrives in
        # 206 + 5 + 6 + 2 + 200 + 1 = 420, the STORE retires in 422.
        Case(
            "store out y=1 x=1",
            cycles=422 + 9,
            retire=_numbered(422),
            latency=200,
            verdict="no_finish",
        ),
    ),
    "M1": (_TWO_ROWS,),
    "M2": (
        # Taken in 22, read in 27, on the bus in 29; the response comes in 39, arrives in 40.
        Case(
            "store out y=1 x=2",
            cycles=42 + 9,
            issue=_numbered(21),
            retire=_numbered(42),
            verdict="no_finish",
            write_bus=((29, 29),),
        ),
    ),
    "B1": (
        # Bytes 4 to 11 lie in two beats, 34 and 35; the second arrives in 36.
        Case(
            "load inp dram=1 y=1 x=2",
            cycles=38 + 9,
            retire=_numbered(38),
            verdict="no_finish",
            counters={"read_bursts": 2, "read_beats": 2 + 2},
        ),
        # Bytes 2040 to 2055: a window of 256 beats ends at 2048. The second burst is granted in 24,
        # its beat comes in 35, arrives in 36.
        Case(
            "load inp dram=510 y=1 x=4",
            cycles=38 + 9,
            retire=_numbered(38),
            verdict="no_finish",
            counters={"read_bursts": 3, "read_beats": 2 + 2},
        ),
    ),
    "B2": (
        # 18 instructions are 2 chunks, of 32 and 4 beats.
        Case(
            "load inp\n" * 17 + "finish",
            dispatch={15: 46, 16: 48, 17: 50},
            read_bus=((12, 47),),
            counters={"read_bursts": 2, "read_beats": 36},
        ),
    ),
    "C1": (
        _ONE_READ,
        # Eight bursts of WGT, 2 beats each, are granted from 23 on. INP issues in 25, is taken in
        # 26 and granted in 27 before WGT's fifth burst, whose grants end in 31. The bus is busy
        # from 34 on: 8 beats of WGT, one of INP, 8 of WGT, the last in 50. It arrives in 51.
        Case(
            "load wgt y=8 x=1 stride=2\nload inp y=1 x=2\nfinish",
            cycles=54 + 9,
            issue=_numbered(21, 25, 25),
            retire=_numbered(53, 54, 27),
            read_bus=((12, 17), (34, 50)),
        ),
    ),
    "C2": (_TWO_ROWS,),
    "C3": (_TWO_ROWS,),
    "F1": (
        # With a latency of 100 the first four chunks, 64 instructions, are granted in 1 to 4; their
        # beats come from 102 to 229. Instruction i is dispatched in 106 + 2 i, the sixteenth in
        # 136. The fifth chunk is requested in 137; its first beat comes in 138 + 100, instruction
        # 64 ends with the beat in 239, and is dispatched in 242.
        Case(
            "load inp\n" * 80,
            dispatch={0: 106, 15: 136, 63: 232, 64: 242, 65: 244},
            latency=100,
            verdict="no_finish",
            read_bus=((102, 229), (238, 269)),
        ),
    ),
    "F2": (Case("finish", dispatch=_numbered(16)),),
    "F3": (_SHORT_QUEUE,),
    "F4": (
        # It would be dispatched in 18. The LOAD before it retires in 23.
        Case(
            "load inp\nunknown 0x7\nfinish",
            cycles=32,
            dispatch=_numbered(16, NEVER, NEVER),
            retire=_numbered(23, NEVER, NEVER),
            verdict="bad_opcode",
            fault_index=1,
        ),
        # As F1, but in 136 the fetch stops, and the fifth chunk is not requested.
        Case(
            "load inp\n" * 15 + "unknown 0x7\n" + "load inp\n" * 64,
            dispatch={14: 134, 15: NEVER, 16: NEVER},
            latency=100,
            verdict="bad_opcode",
            fault_index=15,
            counters={"read_bursts": 4, "fetch_memory_cycles": 137 - 15},
        ),
    ),
    "S1": (
        # d(i) = 16, 18, 20: the first is ready 5 later, the others 4 after the issue before.
        Case("load inp\n" * 3, issue=_numbered(21, 25, 29), verdict="no_finish"),
    ),
    "S2": (
        # The token of the LOAD that retires in 23 is there in 24; FINISH is ready in 23.
        Case(
            "load inp push_next\nfinish pop_prev",
            cycles=26 + 9,
            issue=_numbered(21, 24),
            retire=_numbered(23, 26),
            counters={"compute_wait_load_to_compute_cycles": 1},
        ),
    ),
    "S3": (
        # Found bad at its issue in 21, it stops the stage in 23; what follows it never issues.
        Case(
            "load 6\nload inp\nfinish",
            cycles=27 + 9,
            issue=_numbered(21, NEVER, 25),
            retire=_numbered(NEVER, NEVER, 27),
            verdict="bad_memory_type",
            fault_index=0,
            counters={"load_drain_cycles": 36 - 22},
        ),
    ),
    "S4": (
        # All retire 2 after their issue. d(i) = 16, 18, 20, 22, 24.
        Case(
            "load inp y=3\nload wgt x=3\nstore out y=3\nstore out x=4\nfinish",
            cycles=31 + 9,
            issue=_numbered(21, 25, 25, 29, 29),
            retire=_numbered(23, 27, 27, 31, 31),
            counters={"read_bursts": 1, "write_bursts": 0},
        ),
    ),
    "S5": (
        # The beat of the first arrives in 35, it retires in 37. The second is done in 25.
        Case(
            "load inp y=1 x=2\nload inp\nfinish",
            issue=_numbered(21, 25, 25),
            retire=_numbered(37, 38, 27),
        ),
        # LOADs issue every 4 cycles, the last in 21 + 4 * 255 = 1041; it would retire in 1043, but
        # the counter is full. FINISH is dispatched in 16 + 2 * 556 = 1128, issues in 1133; the LOAD
        # retires in 1134. The last of the STOREs, the first of which issues in 16 + 512 + 5,
        # retires in 533 + 4 * 299 + 2 = 1731.
        Case(
            "load inp push_next\n" * 256 + "store out\n" * 300 + "finish pop_prev",
            cycles=1731 + 9,
            dispatch={556: 1128},
            issue={255: 1041, 556: 1133},
            retire={254: 1039, 255: 1134, 555: 1731, 556: 1135},
            counters={"load_token_full_cycles": 1134 - 1043},
        ),
    ),
    "S6": (_BAD_GEMM,),
    "L1": (
        _ONE_READ,
        # With a latency of 100: d(0) = 106, issued in 111, taken in 112, granted in 113; the beat
        # comes in 214, arrives in 215, the LOAD retires in 217. Seven others issue after it every 4
        # cycles; the ninth in the cycle after that retirement. They retire one by one.
        Case(
            "load inp y=1 x=2\n" + "load inp\n" * 8,
            issue={0: 111, 1: 115, 7: 139, 8: 218},
            retire={0: 217, 1: 218, 7: 224, 8: 225},
            latency=100,
            verdict="no_finish",
        ),
    ),
    "L2": (
        _ONE_READ,
        # The first is that of M1: last grant in 24, done in 38. The second, issued in 25, has
        # padding: it is taken in 39 and fills 3 vectors in 40 to 42.
        Case(
            "load inp y=2 x=4 stride=64\nload inp x=3 ypad=1/0",
            cycles=44 + 9,
            issue=_numbered(21, 25),
            retire=_numbered(40, 44),
            verdict="no_finish",
        ),
        # With a row besides: its burst is granted in 40, the beat comes in 51, arrives in 52.
        Case(
            "load inp y=2 x=4 stride=64\nload inp y=1 x=2 ypad=1/0",
            cycles=54 + 9,
            issue=_numbered(21, 25),
            retire=_numbered(40, 54),
            verdict="no_finish",
        ),
        # Without padding it is taken in 25 + 1; granted in 27, its beat follows the others in 38.
        Case(
            "load inp y=2 x=4 stride=64\nload inp y=1 x=2",
            cycles=41 + 9,
            issue=_numbered(21, 25),
            retire=_numbered(40, 41),
            verdict="no_finish",
        ),
    ),
    "L3": (_TWO_ROWS,),
    "L4": (
        # 30 vectors of padding: 12 are filled from 23 to 34, none in 35, when the beat arrives, 18
        # from 36 to 53.
        Case(
            "load inp y=1 x=2 ypad=15/0",
            cycles=55 + 9,
            retire=_numbered(55),
            verdict="no_finish",
            counters={"load_busy_cycles": 31},
        ),
    ),
    "L5": (
        # 2 vectors are filled in 23 and 24; the beat arrives in 35.
        Case(
            "load inp y=1 x=2 ypad=1/0",
            cycles=37 + 9,
            retire=_numbered(37),
            verdict="no_finish",
        ),
    ),
    "G1": (
        # The first GEMM issues in 38, the cycle after the LOAD's retirement; its slots are granted
        # in 40 to 43, it retires in 45. So the second issues in 46, retires in 53.
        Case(
            _LOAD_UOPS + "gemm uop=0..1 iter=4/1 dst=1/0 reset\n" * 2 + "finish",
            cycles=56 + 9,
            issue=_numbered(21, 38, 46, 54),
            retire=_numbered(37, 45, 53, 56),
        ),
        # An ALU instruction beside it issues in 42 = 38 + 4; its slots, in the other half, are
        # granted in 44 and 45, it retires in 47. The next with `overlap` is for GEMM, which is free
        # from 46 on.
        Case(
            _LOAD_UOPS
            + "gemm uop=0..1 iter=4/1 dst=1/0 reset\n"
            + "alu add uop=1..2 iter=2/1 dst=1/0 imm=1 overlap\n"
            + "gemm uop=0..1 iter=1/1 reset overlap\nfinish",
            cycles=53 + 9,
            issue=_numbered(21, 38, 42, 46, 51),
            retire=_numbered(37, 45, 47, 50, 53),
            uops="uop dst=0\nuop dst=128",
        ),
    ),
    "G2": (
        # GEMM is granted slots in 40 to 47. ALU, issued in 42, asks from 44 on: in the same half it
        # waits 4 cycles and is granted slots in 48 to 55.
        Case(
            _LOAD_UOPS
            + "gemm uop=0..1 iter=8/1 dst=1/0 reset\n"
            + "alu add uop=1..2 iter=8/1 dst=1/0 imm=1 overlap",
            cycles=57 + 9,
            issue=_numbered(21, 38, 42),
            retire=_numbered(37, 49, 57),
            verdict="no_finish",
            uops="uop dst=0\nuop dst=16",
            counters={"alu_port_cycles": 4, "gemm_port_cycles": 0, "alu_busy_cycles": 8},
        ),
        # In the other half it is granted slots in 44 to 51.
        Case(
            _LOAD_UOPS
            + "gemm uop=0..1 iter=8/1 dst=1/0 reset\n"
            + "alu add uop=1..2 iter=8/1 dst=1/0 imm=1 overlap",
            cycles=53 + 9,
            retire=_numbered(37, 49, 53),
            verdict="no_finish",
            uops="uop dst=0\nuop dst=128",
            counters={"alu_port_cycles": 0, "compute_busy_cycles": 1 + 12},
        ),
    ),
    "G3": (
        # Issued in 38 without micro-ops, it is done in 39, retires in 41. The next issues in 42;
        # slots in 44 to 49, retired in 51.
        Case(
            _LOAD_UOPS + "gemm uop=0..1\ngemm uop=0..2 iter=3/1 reset",
            cycles=51 + 9,
            issue=_numbered(21, 38, 42),
            retire=_numbered(37, 41, 51),
            verdict="no_finish",
        ),
    ),
    "G4": (_BAD_GEMM,),
    "A1": (
        # Each of 4 micro-ops has a source of its own: 8 slots, in 40 to 47.
        Case(
            _LOAD_UOPS + "alu add uop=0..1 iter=4/1 dst=1/0 src=1/0",
            cycles=49 + 9,
            retire=_numbered(37, 49),
            verdict="no_finish",
            uops="uop src=64",
            counters={"alu_busy_cycles": 8, "alu_ops": 4},
        ),
        # The parameters of REQ take 3 slots: 4 micro-ops and 2 sources have slots in 40 to 49.
        Case(
            _LOAD_UOPS + "alu req uop=0..1 iter=2/2 dst=1/2 src=3/0 zero=0 round=single",
            cycles=51 + 9,
            retire=_numbered(37, 51),
            verdict="no_finish",
            uops="uop src=64",
            counters={"alu_busy_cycles": 10},
        ),
        # acc[src + 2] of the first micro-op is beyond ACC: bad in 40, the stage stops in 42.
        Case(
            _LOAD_UOPS + "alu req uop=0..1 iter=1/1 zero=0 round=single",
            cycles=42 + 9,
            retire=_numbered(37, NEVER),
            verdict="index_range",
            fault_index=1,
            uops="uop src=254",
        ),
    ),
    "A2": (
        # The source is held: 1 + 4 slots, in 40 to 44.
        Case(
            _LOAD_UOPS + "alu max uop=0..1 iter=4/1 dst=1/0",
            cycles=46 + 9,
            retire=_numbered(37, 46),
            verdict="no_finish",
            uops="uop src=64",
        ),
        # The third micro-op, whose slot is granted in 43, writes the source acc[2]. It is read
        # again in 43 + 5 = 48; the last two have their slots in 49 and 50.
        Case(
            _LOAD_UOPS + "alu max uop=0..1 iter=5/1 dst=1/0",
            cycles=52 + 9,
            retire=_numbered(37, 52),
            verdict="no_finish",
            uops="uop src=2",
            counters={"alu_busy_cycles": 7, "alu_port_cycles": 4},
        ),
    ),
    "A3": (
        # MUL does not forward: acc[0] thrice, in 40, 45 and 50.
        Case(
            _LOAD_UOPS + "alu mul uop=0..1 iter=3/1 imm=3",
            cycles=52 + 9,
            retire=_numbered(37, 52),
            verdict="no_finish",
            counters={"alu_busy_cycles": 3, "alu_port_cycles": 8},
        ),
        # ADD does: in 40, 41 and 42.
        Case(
            _LOAD_UOPS + "alu add uop=0..1 iter=3/1 imm=3",
            cycles=44 + 9,
            retire=_numbered(37, 44),
            verdict="no_finish",
        ),
        # But not its source: acc[0] is read in 40, written by the grant in 41, read in 46, and so
        # on: the last is granted in 53.
        Case(
            _LOAD_UOPS + "alu add uop=0..1 iter=3/1",
            cycles=55 + 9,
            retire=_numbered(37, 55),
            verdict="no_finish",
        ),
    ),
    "D1": (
        # GEMM has 40 micro-ops and is granted slots from 40 on. LOAD issues in 42, is granted its
        # burst in 44; its 4 beats come from 55 on, and complete elements in 57 and 59. GEMM waits
        # in these two cycles: its last slot is in 81.
        Case(
            _LOAD_UOPS + "gemm uop=0..1 iter=40/1 dst=1/0 reset\nload acc sram=64 y=1 x=2 overlap",
            cycles=84 + 9,
            issue=_numbered(21, 38, 42),
            retire=_numbered(37, 83, 84),
            verdict="no_finish",
            counters={"gemm_port_cycles": 2, "gemm_busy_cycles": 40},
        ),
        # In the other half the beats cost GEMM nothing.
        Case(
            _LOAD_UOPS + "gemm uop=0..1 iter=40/1 dst=1/0 reset\nload acc sram=128 y=1 x=2 overlap",
            cycles=82 + 9,
            retire=_numbered(37, 81, 82),
            verdict="no_finish",
        ),
        # Vectors that are filled wait for GEMM, which has slots in 40 to 59: from 44 on, 16 cycles.
        # They are filled in 60 to 63.
        Case(
            _LOAD_UOPS + "gemm uop=0..1 iter=20/1 dst=1/0 reset\n"
            "load acc sram=64 x=4 ypad=1/0 overlap",
            cycles=65 + 9,
            issue=_numbered(21, 38, 42),
            retire=_numbered(37, 61, 65),
            verdict="no_finish",
            counters={"dma_port_cycles": 16, "dma_busy_cycles": 1 + 4},
        ),
    ),
    "D2": (
        # One element is read: its beats come in 34 and 35, the second arrives in 36. Four copies
        # are filled in 37 to 40.
        Case(
            "load acc y=5 x=1\nfinish",
            cycles=45 + 9,
            issue=_numbered(21, 43),
            retire=_numbered(42, 45),
            counters={"read_beats": 4 + 2, "load_acc_bytes": 80, "dma_busy_cycles": 6},
        ),
    ),
    "T1": (_THREE_STORES,),
    "T2": (_THREE_STORES,),
    "T3": (
        _THREE_STORES,
        # One burst at a time: read in 27, response in 27 + 2 + 10 = 39; the next in 40, response in
        # 52; the last in 53, response in 65. It arrives in 66.
        Case(
            "store out y=3 x=2 stride=2",
            cycles=68 + 9,
            retire=_numbered(68),
            verdict="no_finish",
            settings=("MAX_READS=1",),
            write_bus=((29, 29), (42, 42), (55, 55)),
        ),
    ),
    "T4": (_THREE_STORES,),
    "T5": (_THREE_STORES,),
}
"""Rule -> cases that hold the machine to it."""
