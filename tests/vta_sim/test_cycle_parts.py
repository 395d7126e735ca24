"""Parts of the cycle simulator against plain ways to say the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from vta_hw.spec import isa, machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, Load, MicroOp
from vta_sim.cycle.acc import AccPort
from vta_sim.cycle.bursts import acc_halves, filled_places, row_bursts, transfer_bursts
from vta_sim.cycle.filling import Filling
from vta_sim.cycle.loops import HazardWork, Indices, PlainWork, Work
from vta_sim.cycle.memory import WriteChannel
from vta_sim.cycle.spans import Spans
from vta_sim.cycle.states import Painter, rows

TINY = VtaConfig.load("tiny")
WIDE = VtaConfig.load("rect").override(["LOG_BUS_WIDTH=8"])


def test_bursts_hold_every_byte_once(rng: np.random.Generator) -> None:
    for _ in range(200):
        bus = 1 << int(rng.integers(2, 7))
        window = min(256 * bus, 4096)
        start, length = int(rng.integers(0, 3 * window)), int(rng.integers(1, 3 * window))
        beats = sorted({byte // bus for byte in range(start, start + length)})
        windows = [beat * bus // window for beat in beats]
        expected = [windows.count(w) for w in sorted(set(windows))]
        assert row_bursts(start, length, bus, window) == expected


def test_rows_are_apart(rng: np.random.Generator) -> None:
    for stride in (0, 3, 128, 512, 700):
        insn = Load(memory_type=MemType.INP, y_size=5, x_size=7, x_stride=stride)
        address = 4 * int(rng.integers(0, 1000))
        expected = [
            beats
            for row in range(5)
            for beats in row_bursts(address + row * stride * 4, 28, 8, 2048)
        ]
        assert transfer_bursts(insn, address, 5, TINY) == expected


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
@pytest.mark.parametrize("memory", [MemType.ACC, MemType.ACC_8BIT])
def test_halves_are_those_of_completed_elements(
    config: VtaConfig, memory: MemType, rng: np.random.Generator
) -> None:
    half, size = config.depth(MemType.ACC) // 2, config.elem_bytes(memory)
    bus = machine.bus_bytes(config)
    for _ in range(50):
        insn = Load(
            memory_type=memory,
            sram_base=half - int(rng.integers(0, 30)),
            y_size=int(rng.integers(1, 4)),
            x_size=int(rng.integers(1, 12)),
            x_stride=int(rng.integers(0, 20)),
            x_pad_0=int(rng.integers(0, 3)),
            y_pad_0=int(rng.integers(0, 3)),
        )
        address = size * int(rng.integers(0, 100))
        expected: list[int] = []
        for row in range(insn.y_size):
            start = address + row * insn.x_stride * size
            taken: dict[int, int] = {
                byte // bus: 0 for byte in range(start, start + insn.x_size * size)
            }
            for column in range(insn.x_size):
                place = insn.sram_base + (insn.y_pad_0 + row) * insn.sram_shape[1]
                place += insn.x_pad_0 + column
                taken[(start + (column + 1) * size - 1) // bus] |= 2 if place >= half else 1
            expected += taken.values()
        assert acc_halves(insn, address, insn.y_size, config) == expected


def test_filled_places() -> None:
    insn = Load(
        memory_type=MemType.INP, sram_base=10, y_size=2, x_size=2, y_pad_0=1, x_pad_0=1, x_pad_1=1
    )
    # Rows of 4 elements: the first is all padding, the others begin and end with it.
    assert filled_places(insn).tolist() == [10, 11, 12, 13, 14, 17, 18, 21]
    copies = Load(memory_type=MemType.ACC, sram_base=10, y_size=4, x_size=1)
    assert filled_places(copies).tolist() == [11, 12, 13]


def test_filling_leaves_out_beats() -> None:
    arrivals, filled = deque([(5, 6), (9, 9)]), Spans()
    filling = Filling(3, 5, arrivals, filled)
    assert filling.least_end() == 10
    assert (filling.run(8), filling.left) == (7, 2)
    arrivals.append((10, 12))
    assert filling.least_end() == 13
    assert (filling.run(100), filling.left) == (13, 0)
    assert list(filled) == [(3, 4), (7, 8), (13, 13)]


def test_open_write_bursts_are_limited() -> None:
    # T3: responses 12 after the last read; the third burst waits for the first one's.
    channel = WriteChannel(10, 2)
    assert channel.write(20, [2, 1, 1]) == (34, 34 + 13)
    assert list(channel.reads) == [(20, 22), (34, 34)]
    assert list(channel.bus) == [(22, 24), (36, 36)]


def test_painted_cycles(rng: np.random.Generator) -> None:
    for _ in range(50):
        cycles = int(rng.integers(1, 60))
        layers, masks = {}, {}
        for name in "abc":
            first = rng.integers(0, 70, 6)
            spans = rows([(int(n), int(n + rng.integers(-1, 9))) for n in first])
            layers[name] = spans
            masks[name] = [any(a <= n <= b for a, b in spans) for n in range(cycles)]
        painter = Painter(cycles, layers)
        firsts = [next((name for name in "bca" if masks[name][n]), "none") for n in range(cycles)]
        assert painter.count("bca", "none") == {n: firsts.count(n) for n in [*"bca", "none"]}
        assert painter.total("a") == sum(masks["a"])
        apart = [masks["a"][n] and not masks["b"][n] for n in range(cycles)]
        assert painter.without([("a", "b")]) == sum(apart)


# -- slots ----------------------------------------------------------------------------------------


def _words(rng: np.random.Generator, count: int, span: int) -> np.ndarray:
    """Micro-ops whose indices are few, so that they meet, on both sides of ACC's middle."""
    uops = [
        MicroOp(dst=128 - span + int(rng.integers(2 * span)), src=int(rng.integers(126, 130)))
        for _ in range(count)
    ]
    return np.array([isa.encode_uop(uop, TINY) for uop in uops], np.uint32)


def _alu(rng: np.random.Generator, op: AluOp, immediate: bool) -> tuple[Alu, np.ndarray]:
    words = _words(rng, int(rng.integers(1, 5)), 3)
    insn = Alu(
        alu_opcode=op,
        use_imm=immediate,
        uop_end=len(words),
        iter_out=int(rng.integers(1, 4)),
        iter_in=int(rng.integers(1, 5)),
        dst_factor_in=int(rng.integers(0, 2)),
        src_factor_out=int(rng.integers(0, 2)),
    )
    return insn, words


def _expected_grants(insn: Alu, words: np.ndarray, start: int) -> list[int]:
    """Rules A1 to A3, micro-op by micro-op."""
    uops = [isa.decode_uop(int(word), TINY) for word in words]
    slow = insn.alu_opcode in (AluOp.MUL, AluOp.RDHM, AluOp.RSR, AluOp.REQ)
    written: dict[int, int] = {}
    stale: set[int] = set()
    last_src = None
    now, grants = start, []

    def grant(element: int, hazard: bool) -> None:
        nonlocal now
        if hazard:
            now = max(now, written.get(element, -99) + 5)
        grants.append(now)
        now += 1

    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            for uop in uops:
                dst = uop.dst + inner * insn.dst_factor_in
                src = uop.src + outer * insn.src_factor_out
                overwritten = src in stale and insn.alu_opcode != AluOp.REQ
                if not insn.use_imm and (src != last_src or overwritten):
                    for part in range(3 if insn.alu_opcode == AluOp.REQ else 1):
                        grant(src + part, True)
                    stale.discard(src)
                last_src = src
                grant(dst, slow)
                written[dst] = grants[-1]
                stale.add(dst)
    return grants


@pytest.mark.parametrize("immediate", [False, True])
def test_alu_alone(immediate: bool, rng: np.random.Generator) -> None:
    for op in AluOp:
        if op is AluOp.REQ and immediate:
            continue
        for _ in range(20):
            insn, words = _alu(rng, op, immediate)
            granted = Spans()
            ends: list[int] = []
            indices = Indices(insn, words, TINY)
            work = HazardWork(7, granted, ends.append, insn, indices, indices.count, TINY)
            port = AccPort(TINY)
            port.start_alu(work)
            assert port.advance(1 << 30) and not port.busy
            expected = _expected_grants(insn, words, 7)
            assert [n for a, b in granted for n in range(a, b + 1)] == expected
            assert ends == [expected[-1]]


def test_first_bad_micro_op(rng: np.random.Generator) -> None:
    for _ in range(100):
        words = _words(rng, 4, 100)
        insn = Gemm(
            uop_end=4, iter_out=5, iter_in=3, dst_factor_out=int(rng.integers(0, 30)), reset=True
        )
        fields = isa.unpack_uops(words, TINY)
        dst = [
            int(fields["dst"][u]) + o * insn.dst_factor_out
            for o in range(5)
            for _ in range(3)
            for u in range(4)
        ]
        expected = next((n for n, index in enumerate(dst) if index >= 256), len(dst))
        assert Indices(insn, words, TINY).first_bad() == expected


def test_micro_ops_end_with_their_memory() -> None:
    insn = Gemm(uop_bgn=254, uop_end=258, iter_out=2, iter_in=1, reset=True)
    assert Indices(insn, np.zeros(2, np.uint32), TINY).first_bad() == 2


Start = Callable[[AccPort, dict[str, Spans], dict[str, int]], None]


def _scene(rng: np.random.Generator) -> Start:
    """GEMM, ALU, beats and a filling at once, on few elements."""
    gemm_words = _words(rng, 4, 8)
    gemm = Gemm(uop_end=4, iter_out=int(rng.integers(1, 5)), iter_in=3, dst_factor_in=1, reset=True)
    insn, words = _alu(rng, AluOp(int(rng.integers(0, 8))), False)
    starts = rng.integers(0, 20, 3).tolist()
    first = int(rng.integers(5, 30))
    beats = rng.integers(0, 4, 9).tolist()
    places = np.sort(rng.choice(np.arange(120, 136), 6, replace=False))

    def start(port: AccPort, granted: dict[str, Spans], ends: dict[str, int]) -> None:
        for name in ("gemm", "alu", "fill"):
            granted[name] = Spans()

        def finish(name: str) -> Callable[[int], None]:
            return lambda n: ends.__setitem__(name, n)

        indices = Indices(gemm, gemm_words, TINY)
        work: Work = PlainWork(
            starts[0], granted["gemm"], finish("gemm"), indices, indices.count, TINY
        )
        port.start_gemm(work)
        indices = Indices(insn, words, TINY)
        work = HazardWork(
            starts[1], granted["alu"], finish("alu"), insn, indices, indices.count, TINY
        )
        port.start_alu(work)
        filling = Filling(
            starts[2],
            len(places),
            deque([(first, first + 4), (first + 8, first + 11)]),
            granted["fill"],
        )
        port.fill(filling, lambda: places, finish("fill"))
        port.expect(first, first + 4, 1, 0, lambda: beats)
        port.expect(first + 8, first + 11, 1, 5, lambda: beats)

    return start


def test_slots_do_not_depend_on_how_far_one_looks(rng: np.random.Generator) -> None:
    for _ in range(60):
        start = _scene(rng)
        seen = []
        for step in (1, 3, 1 << 20):
            port, granted, ends = AccPort(TINY), dict[str, Spans](), dict[str, int]()
            start(port, granted, ends)
            n = 0
            while port.busy:
                n += step
                while port.advance(n):
                    pass
            seen.append(({name: list(spans) for name, spans in granted.items()}, ends))
        assert seen[0] == seen[1] == seen[2]
