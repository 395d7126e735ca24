"""The slots of the two halves of ACC: who is granted one in which cycle (rule G2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.semantics import IntArray
from vta_sim.cycle.filling import Filling
from vta_sim.cycle.loops import Work


@dataclass(slots=True)
class _Beats:
    """Beats of one burst for the acc loader, and where they lie among those of their LOAD."""

    first: int
    last: int
    index: int
    offset: int
    halves: Callable[[], list[int]]


@dataclass(slots=True)
class _Padding:
    """What the acc loader fills: halves are worked out only if someone else is there."""

    filling: Filling
    places: Callable[[], IntArray]
    finish: Callable[[int], None]
    halves: list[int] | None = None


class AccPort:
    """Carries GEMM, ALU and the filling of ACC forward, up to where one of them ends.

    Nothing that happens elsewhere in a cycle is of effect here in the same one: an instruction asks
    for slots two cycles after its issue, beats arrive more than two after their grant.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._top = config.depth_bits(MemType.ACC) - 1
        self._cycle = 0  # the first that nothing is decided about
        self._gemm: Work | None = None
        self._alu: Work | None = None
        self._padding: _Padding | None = None
        self._beats: deque[_Beats] = deque()
        self._load = -1
        self._load_halves: list[int] = []

    def expect(
        self, first: int, last: int, index: int, offset: int, halves: Callable[[], list[int]]
    ) -> None:
        """Beats of LOAD `index` will arrive; its beat `offset` is the first of them.

        `halves` gives, for all beats of the LOAD, the halves that they take, as bits.
        """
        while self._beats and self._beats[0].last < self._cycle:
            self._beats.popleft()
        self._beats.append(_Beats(first, last, index, offset, halves))

    def start_gemm(self, work: Work) -> None:
        """GEMM begins to ask for slots."""
        self._gemm = work

    def start_alu(self, work: Work) -> None:
        """The ALU begins to ask for slots."""
        self._alu = work

    def fill(
        self, filling: Filling, places: Callable[[], IntArray], finish: Callable[[int], None]
    ) -> None:
        """The acc loader begins to fill; `places` are the indices in order."""
        self._padding = _Padding(filling, places, finish)

    @property
    def busy(self) -> bool:
        """Whether a unit asks, or will ask, for slots that it has not been granted."""
        return bool(self._gemm or self._alu or self._padding)

    def advance(self, end: int) -> bool:
        """Go on to cycle `end`, or past the first in which a unit ends; whether one did."""
        while self._cycle < end and self.busy:
            n, stop, active = self._cycle, end, 0
            for start in self._starts():
                if start <= n:
                    active += 1
                else:
                    stop = min(stop, start)
            if not active:
                self._cycle = stop
                continue
            if active > 1 or self._beats_in(n):
                self._step(n)
                stop = n + 1
            else:
                stop = self._run(n, stop)
            self._cycle = stop
            if self._end(stop - 1):
                return True
        return False

    def _starts(self) -> list[int]:
        starts = [work.start for work in (self._gemm, self._alu) if work is not None]
        if self._padding is not None:
            starts.append(self._padding.filling.start)
        return starts

    def _beats_in(self, n: int) -> bool:
        """Whether beats arrive in cycle n that GEMM or ALU could meet."""
        while self._beats and self._beats[0].last < n:
            self._beats.popleft()
        return bool(self._beats and self._beats[0].first <= n and (self._gemm or self._alu))

    def _run(self, n: int, end: int) -> int:
        """Only one unit asks from n to before `end`: grant it all; the end, or where it ended."""
        padding = self._padding
        if padding and padding.filling.start <= n:
            padding.filling.cycle = n
            last = padding.filling.run(end)
            return end if padding.filling.left else last + 1
        if self._beats:
            end = min(end, self._beats[0].first)
        work = self._gemm if self._gemm and self._gemm.start <= n else self._alu
        assert work is not None
        work.run(n, end)
        return work.granted.end + 1 if work.ended else end

    def _step(self, n: int) -> None:
        """One cycle in which there are several that may ask."""
        taken = self._taken_by_beats(n)
        for work in (self._gemm, self._alu):
            if work is not None and n >= work.start:
                half = work.half(n)
                if half and not taken & half:
                    taken |= half
                    work.grant(n)
        padding = self._padding
        if padding is not None and n >= padding.filling.start and padding.filling.is_free(n):
            if padding.halves is None:
                padding.halves = (1 << (padding.places() >> self._top)).tolist()
            if not taken & padding.halves[-padding.filling.left]:
                padding.filling.fill(n)

    def _taken_by_beats(self, n: int) -> int:
        """The halves that the beat arriving in cycle n takes; 0 without one."""
        if not self._beats_in(n):
            return 0
        beats = self._beats[0]
        if beats.index != self._load:
            self._load, self._load_halves = beats.index, beats.halves()
        return self._load_halves[beats.offset + n - beats.first]

    def _end(self, n: int) -> bool:
        """Take leave of the units that have ended in cycle n; whether one has."""
        ended = False
        for work in (self._gemm, self._alu):
            if work is not None and work.ended:
                work.finish(n)
                ended = True
        if self._gemm is not None and self._gemm.ended:
            self._gemm = None
        if self._alu is not None and self._alu.ended:
            self._alu = None
        if self._padding is not None and not self._padding.filling.left:
            finish, self._padding = self._padding.finish, None
            finish(n)
            ended = True
        return ended
