"""The micro-ops of GEMM and ALU instructions as sequences of ACC slots (G3, G4, A1 to A3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from vta_hw.spec import machine
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, Gemm, unpack_uops
from vta_hw.spec.semantics import IntArray
from vta_sim.cycle.spans import Spans

_BLOCK = 1 << 15  # micro-ops whose indices are held at once
_LONG_AGO = -(1 << 30)


class Indices:
    """The indices that a GEMM or ALU instruction computes, by number of the micro-op executed."""

    def __init__(self, insn: Gemm | Alu, words: IntArray, config: VtaConfig) -> None:
        """`words` are the micro-ops uop_bgn .. uop_end - 1, as far as there are any."""
        self._insn = insn
        self._config = config
        self._uops = unpack_uops(words, config)
        self._per_round = insn.uop_end - insn.uop_bgn
        runs = insn.iter_out and insn.iter_in and self._per_round > 0
        self.count = insn.iter_out * insn.iter_in * self._per_round if runs else 0

    def of(self, name: str, begin: int, end: int) -> IntArray:
        """Index `name` (dst, src, wgt) of the micro-ops begin .. end - 1; all must exist."""
        rounds, place = np.divmod(np.arange(begin, end), self._per_round)
        outer, inner = np.divmod(rounds, self._insn.iter_in)
        steps = outer * getattr(self._insn, f"{name}_factor_out")
        steps += inner * getattr(self._insn, f"{name}_factor_in")
        found: IntArray = self._uops[name][place] + steps
        return found

    def first_bad(self) -> int:
        """The number of the first micro-op with an index out of range, `count` if none has one."""
        known = len(self._uops["dst"])
        # Beyond the end of their memory there are no micro-ops; the first round ends there.
        limit = known if known < self._per_round else self.count
        for begin in range(0, min(limit, self.count), _BLOCK):
            end = min(limit, begin + _BLOCK)
            bad = np.zeros(end - begin, bool)
            for name, depth in self._depths().items():
                bad |= self.of(name, begin, end) >= depth
            if bad.any():
                return begin + int(bad.argmax())
        return min(limit, self.count)

    def _depths(self) -> dict[str, int]:
        config, insn = self._config, self._insn
        acc = config.depth(MemType.ACC)
        if isinstance(insn, Alu):
            return {"dst": acc, "src": acc - slots_of_source(insn) + 1}
        if insn.reset:
            return {"dst": acc}
        return {"dst": acc, "src": config.depth(MemType.INP), "wgt": config.depth(MemType.WGT)}


def slots_of_source(insn: Alu) -> int:
    """ACC elements that the second operand takes (A1)."""
    return machine.REQ_PARAMETERS if insn.alu_opcode == AluOp.REQ else 1


class Work(ABC):
    """The slots that one instruction asks for, one after the other, and those granted so far."""

    def __init__(self, start: int, granted: Spans, finish: Callable[[int], None]) -> None:
        """It asks from cycle `start` on; `granted` takes down the cycles of its grants."""
        self.start = start
        self.granted = granted
        self.finish = finish

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether all slots have been granted."""

    @abstractmethod
    def half(self, n: int) -> int:
        """The half, as a bit, of the slot that it asks for in cycle n; 0 if for none (A3)."""

    @abstractmethod
    def grant(self, n: int) -> None:
        """The slot is granted in cycle n."""

    @abstractmethod
    def run(self, begin: int, end: int) -> None:
        """All that it asks for is granted from cycle `begin` to before `end`, or to its end."""


class PlainWork(Work):
    """One slot per micro-op, acc[dst], without hazards: GEMM, and ALU with an immediate."""

    def __init__(
        self,
        start: int,
        granted: Spans,
        finish: Callable[[int], None],
        indices: Indices,
        count: int,
        config: VtaConfig,
    ) -> None:
        super().__init__(start, granted, finish)
        self._indices = indices
        self._count = count
        self._at = 0
        self._top = config.depth_bits(MemType.ACC) - 1
        self._halves: list[int] = []
        self._block = -1

    @property
    def ended(self) -> bool:
        """Whether all slots have been granted."""
        return self._at == self._count

    def half(self, n: int) -> int:
        """The half of the next micro-op's acc[dst]."""
        block, place = divmod(self._at, _BLOCK)
        if block != self._block:
            begin = block * _BLOCK
            dst = self._indices.of("dst", begin, min(self._count, begin + _BLOCK))
            self._halves = (1 << (dst >> self._top)).tolist()
            self._block = block
        return self._halves[place]

    def grant(self, n: int) -> None:
        """The next micro-op has its slot."""
        self.granted.add(n, n)
        self._at += 1

    def run(self, begin: int, end: int) -> None:
        """One micro-op per cycle."""
        steps = min(end - begin, self._count - self._at)
        self.granted.add(begin, begin + steps - 1)
        self._at += steps


class HazardWork(Work):
    """ALU with reads of sources and with elements that must not be asked for too soon."""

    def __init__(
        self,
        start: int,
        granted: Spans,
        finish: Callable[[int], None],
        insn: Alu,
        indices: Indices,
        count: int,
        config: VtaConfig,
    ) -> None:
        super().__init__(start, granted, finish)
        self._insn = insn
        self._indices = indices
        self._count = count
        self._top = config.depth_bits(MemType.ACC) - 1
        self._next_block = 0
        self._before = (-1, -1)  # dst and src of the micro-op before the block
        self._tail = np.full((2, machine.ACC_HAZARD - 1), -1)  # element, is dst: slots before it
        self._times = [_LONG_AGO] * (machine.ACC_HAZARD - 1)  # of the last grants
        self._refill()

    def _refill(self) -> None:
        """Lay out the slots of the next block of micro-ops."""
        begin, end = self._next_block, min(self._count, self._next_block + _BLOCK)
        self._next_block = end
        elements, is_dst = self._slots(begin, end)
        gaps = self._gaps(elements, is_dst)
        self._halves: list[int] = (1 << (elements >> self._top)).tolist()
        self._gap: list[int] = gaps.tolist()
        self._stops: list[int] = [*np.flatnonzero(gaps).tolist(), len(elements)]
        self._stop = 0
        self._at = 0
        self._size = len(elements)

    def _slots(self, begin: int, end: int) -> tuple[IntArray, IntArray]:
        """The elements that the micro-ops ask for, in order, and which of them are acc[dst]."""
        insn = self._insn
        dst = self._indices.of("dst", begin, end)
        if insn.use_imm:
            return dst, np.ones(len(dst), np.int64)
        src = self._indices.of("src", begin, end)
        # A2: the first, a changed source, one that the micro-op before has overwritten.
        reads = np.diff(src, prepend=self._before[1]) != 0
        if insn.alu_opcode != AluOp.REQ:
            reads |= np.concatenate(([self._before[0]], dst[:-1])) == src
        self._before = int(dst[-1]), int(src[-1])
        sources = slots_of_source(insn)
        places = np.cumsum(reads * sources + 1) - 1
        elements = np.empty(int(places[-1]) + 1, np.int64)
        is_dst = np.zeros(len(elements), np.int64)
        elements[places], is_dst[places] = dst, 1
        for part in range(sources):  # A1
            elements[places[reads] - sources + part] = src[reads] + part
        return elements, is_dst

    def _gaps(self, elements: IntArray, is_dst: IntArray) -> IntArray:
        """Per slot that A3 holds for: how many slots ago the same element was an acc[dst].

        0 where that is none of the last ACC_HAZARD - 1.
        """
        size, reach = len(elements), machine.ACC_HAZARD - 1
        joined = np.concatenate((self._tail, np.stack((elements, is_dst))), axis=1)
        self._tail = joined[:, -reach:]
        held = np.ones(size, bool)
        if self._insn.alu_opcode in machine.FORWARDED_OPS:
            held = is_dst == 0
        gaps = np.zeros(size, np.int64)
        for gap in range(reach, 0, -1):
            earlier = joined[:, reach - gap : reach - gap + size]
            gaps[held & (earlier[0] == elements) & (earlier[1] == 1)] = gap
        return gaps

    @property
    def ended(self) -> bool:
        """Whether all slots have been granted."""
        return self._at == self._size and self._next_block == self._count

    def _earliest(self) -> int:
        """The first cycle in which A3 lets the next slot be asked for."""
        gap = self._gap[self._at]
        return self._times[-gap] + machine.ACC_HAZARD if gap else _LONG_AGO

    def half(self, n: int) -> int:
        """The half of the next slot, if it is asked for."""
        return self._halves[self._at] if n >= self._earliest() else 0

    def grant(self, n: int) -> None:
        """The next slot is granted."""
        self._granted(n, 1)

    def _granted(self, n: int, count: int) -> None:
        self.granted.add(n, n + count - 1)
        self._times += range(n + max(0, count - len(self._times)), n + count)
        del self._times[: 1 - machine.ACC_HAZARD]
        if self._at == self._stops[self._stop]:
            self._stop += 1
        self._at += count
        if self._at == self._size and self._next_block < self._count:
            self._refill()

    def run(self, begin: int, end: int) -> None:
        """One slot per cycle, but for those that A3 puts off."""
        n = begin
        while n < end and not self.ended:
            if self._at < self._stops[self._stop]:
                count = min(end - n, self._stops[self._stop] - self._at)
                self._granted(n, count)
                n += count
                continue
            n = max(n, self._earliest())
            if n < end:
                self._granted(n, 1)
                n += 1
