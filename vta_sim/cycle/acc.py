"""The slots of the two halves of ACC: who is granted one in which cycle (rule G2)."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.semantics import IntArray
from vta_sim.cycle.filling import Filling
from vta_sim.cycle.loops import Work
from vta_sim.cycle.plans import Slots, User


@dataclass(slots=True)
class _Beats:
    """Beats of one burst for the acc loader, and where they lie among those of their LOAD."""

    first: int
    last: int
    index: int
    offset: int
    halves: Callable[[], list[int]]


class _Padding:
    """What the acc loader fills: where it lies is worked out only if someone else is there."""

    def __init__(
        self,
        filling: Filling,
        places: Callable[[], IntArray],
        finish: Callable[[int], None],
        top: int,
    ) -> None:
        self.filling = filling
        self.start = filling.start
        self.finish = finish
        self._total = filling.left
        self._places = places
        self._top = top
        self._slots: Slots | None = None

    @property
    def ended(self) -> bool:
        """Whether all vectors are filled."""
        return not self.filling.left

    @property
    def known(self) -> int:
        """All that are left."""
        return self.filling.left

    def plan(self, n: int, taken: list[int]) -> Sequence[int]:
        """As `User.plan` says; no beats must arrive in these cycles (L4)."""
        if self._slots is None:
            self._slots = Slots((1 << (self._places() >> self._top)).tolist())
        return self._slots.fit(self._total - self.filling.left, n, taken)

    def grant(self, cycles: Sequence[int]) -> None:
        """The next vectors are filled in these cycles."""
        self.filling.fill(cycles)


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
        self._padding = _Padding(filling, places, finish, self._top)

    @property
    def _users(self) -> list[User]:
        """Those that ask, or will ask, for slots, in the order of G2."""
        users: tuple[User | None, ...] = (self._gemm, self._alu, self._padding)
        return [user for user in users if user is not None]

    @property
    def busy(self) -> bool:
        """Whether a unit asks, or will ask, for slots that it has not been granted."""
        return bool(self._gemm or self._alu or self._padding)

    def advance(self, end: int) -> bool:
        """Go on to cycle `end`, or past the first in which a unit ends; whether one did."""
        while self._cycle < end and self.busy:
            n, stop, asking = self._cycle, end, list[User]()
            for user in self._users:
                if user.start <= n:
                    asking.append(user)
                else:
                    stop = min(stop, user.start)
            if asking:
                if len(asking) > 1 or self._beats_in(n):
                    stop = self._share(asking, n, stop)
                else:
                    stop = self._run(asking[0], n, stop)
            self._cycle = stop
            if self._end(asking, stop - 1):
                return True
        return False

    def _beats_in(self, n: int) -> bool:
        """Whether beats arrive in cycle n that GEMM or ALU could meet."""
        while self._beats and self._beats[0].last < n:
            self._beats.popleft()
        return bool(self._beats and self._beats[0].first <= n and (self._gemm or self._alu))

    def _run(self, user: User, n: int, end: int) -> int:
        """Only one asks from n to before `end`: grant it all; the end, or where it ended."""
        if isinstance(user, Work):
            if self._beats:
                end = min(end, self._beats[0].first)
            user.run(n, end)
            return user.granted.end + 1 if user.ended else end
        assert self._padding is not None
        filling = self._padding.filling
        filling.cycle = n
        last = filling.run(end)
        return end if filling.left else last + 1

    def _share(self, users: list[User], n: int, end: int) -> int:
        """Several ask from n to before `end`, or beats arrive: the end, or where one ended.

        What one is granted depends on those who go before alone. So they plan one after the other,
        each for all these cycles with what the others left. The plans are carried out up to where
        the first of them ends: what comes after is not known.
        """
        beats = self._beats_in(n)
        if beats:
            users = [user for user in users if user is not self._padding]  # L4
            taken = self._taken_by_beats(n, end)
        else:
            if self._beats:
                end = min(end, self._beats[0].first)
            # The first gets all it asks for: it ends no later than this.
            taken = [0] * min(end - n, users[0].known)
        plans = [user.plan(n, taken) for user in users]
        end = n + len(taken)
        for user, cycles in zip(users, plans, strict=True):
            user.grant(cycles[: bisect_left(cycles, end)])
        return end

    def _taken_by_beats(self, n: int, end: int) -> list[int]:
        """The halves taken by the beats of the present burst, from cycle n to before `end`."""
        beats = self._beats[0]
        if beats.index != self._load:
            self._load, self._load_halves = beats.index, beats.halves()
        begin = beats.offset + n - beats.first
        return self._load_halves[begin : begin + min(end, beats.last + 1) - n]

    def _end(self, users: list[User], n: int) -> bool:
        """Take leave of the users that have ended in cycle n; whether one has."""
        ended = [user for user in users if user.ended]
        for user in ended:
            if user is self._gemm:
                self._gemm = None
            elif user is self._alu:
                self._alu = None
            else:
                self._padding = None
            user.finish(n)
        return bool(ended)
