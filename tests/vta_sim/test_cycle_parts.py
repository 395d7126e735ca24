"""Parts of the cycle simulator against plain ways to say the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from vta_hw.spec import isa, machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, Load, MicroOp
from vta_sim.cycle import loops
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
        assert [burst.beats for burst in row_bursts(start, length, bus, window)] == expected


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


class _Slot(NamedTuple):
    element: int
    is_held: bool
    is_dst: bool


def _alu_slots(insn: Alu, words: np.ndarray) -> list[_Slot]:
    """Rules A1 and A2, micro-op by micro-op; `is_held` are those that A3 is about."""
    uops = [isa.decode_uop(int(word), TINY) for word in words]
    slow = insn.alu_opcode in (AluOp.MUL, AluOp.RDHM, AluOp.RSR, AluOp.REQ)
    stale: set[int] = set()
    last_src = None
    slots = []
    for outer in range(insn.iter_out):
        for inner in range(insn.iter_in):
            for uop in uops:
                dst = uop.dst + inner * insn.dst_factor_in
                src = uop.src + outer * insn.src_factor_out
                overwritten = src in stale and insn.alu_opcode != AluOp.REQ
                if not insn.use_imm and (src != last_src or overwritten):
                    for part in range(3 if insn.alu_opcode == AluOp.REQ else 1):
                        slots.append(_Slot(src + part, True, False))
                    stale.discard(src)
                last_src = src
                slots.append(_Slot(dst, slow, True))
                stale.add(dst)
    return slots


Grants = list[list[int]]
"""Of each user, the cycles in which it is granted slots."""


def _expected_grants(
    users: Sequence[Sequence[_Slot]],
    starts: Sequence[int],
    beats: Mapping[int, int] | None = None,
) -> Grants:
    """Rules G2 and A3, cycle by cycle.

    The users come in their order; the last of three fills. `beats` are the halves that beats take,
    by cycle.
    """
    beats = beats or {}
    grants: Grants = [[] for _ in users]
    written: list[dict[int, int]] = [{} for _ in users]
    n = 0
    while any(len(granted) < len(slots) for granted, slots in zip(grants, users, strict=True)):
        taken = beats.get(n, 0)
        for user, slots in enumerate(users):
            number = len(grants[user])
            if n < starts[user] or number == len(slots) or (user == 2 and n in beats):
                continue
            slot = slots[number]
            half = 2 if slot.element >= TINY.depth(MemType.ACC) // 2 else 1
            if taken & half or (slot.is_held and n < written[user].get(slot.element, -99) + 5):
                continue
            taken |= half
            grants[user].append(n)
            if slot.is_dst:
                written[user][slot.element] = n
        n += 1
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
            (expected,) = _expected_grants([_alu_slots(insn, words)], [7])
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


class _Scene:
    """GEMM, ALU, beats and a filling at once, on few elements."""

    def __init__(self, rng: np.random.Generator, most: int) -> None:
        """Loops and fillings have up to `most` times as many steps as the least."""
        self.gemm_words = _words(rng, int(rng.integers(1, 9)), 8)
        self.gemm = Gemm(
            uop_end=len(self.gemm_words),
            iter_out=int(rng.integers(1, 5 * most)),
            iter_in=3,
            dst_factor_in=int(rng.integers(0, 4)),
            reset=True,
        )
        self.alu, self.words = _alu(rng, AluOp(int(rng.integers(0, 8))), False)
        if most > 1:
            self.alu = replace(self.alu, iter_in=int(rng.integers(1, 9 * most)))
        self.starts: list[int] = rng.integers(0, 20, 3).tolist()
        self.first = int(rng.integers(5, 30))
        self.beats: list[int] = rng.integers(0, 4, 9).tolist()
        count = 6 * most
        self.places = np.sort(rng.choice(np.arange(128 - count, 128 + count), count, replace=False))

    def play(self, step: int) -> Grants:
        """The grants, if the port looks so many cycles ahead."""
        port, ends = AccPort(TINY), [-1, -1, -1]
        granted = [Spans(), Spans(), Spans()]

        def finish(user: int) -> Callable[[int], None]:
            return lambda n: ends.__setitem__(user, n)

        indices = Indices(self.gemm, self.gemm_words, TINY)
        work: Work = PlainWork(self.starts[0], granted[0], finish(0), indices, indices.count, TINY)
        port.start_gemm(work)
        indices = Indices(self.alu, self.words, TINY)
        work = HazardWork(
            self.starts[1], granted[1], finish(1), self.alu, indices, indices.count, TINY
        )
        port.start_alu(work)
        first = self.first
        arrivals = deque([(first, first + 4), (first + 8, first + 11)])
        filling = Filling(self.starts[2], len(self.places), arrivals, granted[2])
        port.fill(filling, lambda: self.places, finish(2))
        port.expect(first, first + 4, 1, 0, lambda: self.beats)
        port.expect(first + 8, first + 11, 1, 5, lambda: self.beats)
        n = 0
        while port.busy:
            n += step
            while port.advance(n):
                pass
        grants = [[n for a, b in spans for n in range(a, b + 1)] for spans in granted]
        assert ends == [cycles[-1] for cycles in grants]
        return grants

    def expected(self) -> Grants:
        """The grants, cycle by cycle."""
        dst = Indices(self.gemm, self.gemm_words, TINY)
        users = [
            [_Slot(element, False, True) for element in dst.of("dst", 0, dst.count).tolist()],
            _alu_slots(self.alu, self.words),
            [_Slot(place, False, False) for place in self.places.tolist()],
        ]
        cycles = [*range(self.first, self.first + 5), *range(self.first + 8, self.first + 12)]
        return _expected_grants(users, self.starts, dict(zip(cycles, self.beats, strict=True)))


@pytest.mark.parametrize(("most", "scenes"), [(1, 40), (5, 8)])
@pytest.mark.parametrize("block", [1 << 15, 7])
def test_slots_are_granted_by_the_rules(
    most: int, scenes: int, block: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However far one looks ahead, and however many micro-ops are laid out at once."""
    monkeypatch.setattr(loops, "_BLOCK", block)
    for _ in range(scenes):
        scene = _Scene(rng, most)
        expected = scene.expected()
        for step in (1, 3, 1 << 20):
            assert scene.play(step) == expected
