"""Puts the rounds of a pooling kernel between the products of the kernel before it.

A round loads, works on the ALU, and stores. The ALU has little to do while a convolution
multiplies, and as soon as the tiles that a round reads are stored it can run beside a later tile's
products: ``G1 G2 G3 G4 | REQ store`` -> ``G1 load G2 G3 MAX store G4 | REQ store``.

Its loads go behind a tile's first products, its other instructions behind later ones, which wait
for the loads so that the ALU need not. A round works in the half of ACC where these products are
not, or GEMM would keep the ALU from its slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.passes.insert_tokens import Access, conflict
from compiler.passes.interleave_tails import is_product
from compiler.passes.last_touches import LastTouches
from compiler.passes.split_products import PIECES_BESIDE
from compiler.passes.zero_by_loads import is_zeroing
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Load, Store

_FIRST = "the kernel before"


def run_beside(
    first: Sequence[Access],
    second: Sequence[Access],
    sizes: Mapping[str, int],
    config: VtaConfig,
) -> list[Access]:
    """Both kernels' instructions; each stays behind all that it conflicts with.

    Rounds that find no tile are left behind. `sizes` as for `insert_tokens`.
    """
    history = LastTouches(sizes)
    for number, access in enumerate(first):
        history.note(_FIRST, access.reads, access.writes, number)
    merged = _Merged(first)
    tiles = iter(_tiles(first, config))
    rounds = _rounds(second)
    for number, accesses in enumerate(rounds):
        ready = max(history.conflict(_FIRST, a.reads, a.writes, -1) for a in accesses)
        half = _half(accesses, config)
        tile = next((tile for tile in tiles if tile.takes(half, ready)), None)
        if tile is None:
            return merged.stream() + [a for left in rounds[number:] for a in left]
        merged.put(accesses, tile)
    return merged.stream()


@dataclass(frozen=True)
class _Tile:
    """A tile's products: their half of ACC, and their places.

    `least` is where the products of the tile before begin: what is needed must be older.
    """

    half: int
    least: int
    places: list[int]

    def takes(self, half: int | None, ready: int) -> bool:
        return half == 1 - self.half and ready < self.least


def gate_of(pieces: int) -> int:
    """Which of a tile's products waits for a round's loads."""
    return max(2, pieces // 2)


class _Merged:
    """The first kernel's instructions with others between them."""

    def __init__(self, first: Sequence[Access]) -> None:
        self.first = first
        self.behind: dict[int, list[Access]] = {}
        self.moved: set[int] = set()

    def put(self, accesses: Sequence[Access], tile: _Tile) -> None:
        """Add a round: its loads behind the first products, so that some stand between them and
        those that wait for them; the rest behind these."""
        gate = gate_of(len(tile.places))
        loads = [a for a in accesses if isinstance(a.insn, Load)]
        # Those that read DRAM first: they take longer than filling, which runs beside the next.
        for number, access in enumerate(sorted(loads, key=is_zeroing)):
            self._put(tile.places[min(number, gate - 2)], access)
        self._zero_early(tile, gate)
        for access in accesses:
            if not isinstance(access.insn, Load):
                self._put(tile.places[gate], access)

    def stream(self) -> list[Access]:
        """All instructions so far."""
        out = []
        for number, access in enumerate(self.first):
            if number not in self.moved:
                out.append(access)
            out += self.behind.get(number, ())
        return out

    def _put(self, place: int, access: Access) -> None:
        self.behind.setdefault(place, []).append(access)

    def _zero_early(self, tile: _Tile, gate: int) -> None:
        """Zero the next tile's accumulators before the round's operations.

        They are in one half of ACC, of which the ALU leaves no slots. What still uses them, the
        operations and the store of the tile before, stays before it.
        """
        for number in range(tile.places[-1] + 1, len(self.first)):
            access, place = self.first[number], number - 1
            if not is_zeroing(access):
                break
            while place > tile.places[gate - 1] and not conflict(access, self.first[place]):
                place -= 1
            self.moved.add(number)
            self._put(place, access)


def _tiles(stream: Sequence[Access], config: VtaConfig) -> list[_Tile]:
    """Runs of products in one half of ACC."""
    runs: list[tuple[int | None, list[int]]] = []
    for number, access in enumerate(stream):
        if is_product(access):
            half = _half([access], config)
            if not runs or runs[-1][0] != half:
                runs.append((half, []))
            runs[-1][1].append(number)
    tiles = []
    for (_, earlier), (half, places) in zip(runs, runs[1:], strict=False):
        if half is not None and len(places) >= PIECES_BESIDE:
            tiles.append(_Tile(half, earlier[0], places))
    return tiles


def _rounds(stream: Sequence[Access]) -> list[list[Access]]:
    """The instructions, cut where loads follow a store."""
    rounds: list[list[Access]] = [[]]
    for access in stream:
        last = rounds[-1][-1].insn if rounds[-1] else None
        if isinstance(last, Store) and isinstance(access.insn, Load):
            rounds.append([])
        rounds[-1].append(access)
    return rounds


def _half(accesses: Sequence[Access], config: VtaConfig) -> int | None:
    """The half of ACC in which all writes are; None if they are in both."""
    size = config.depth(MemType.ACC) // 2
    halves = {
        place // size
        for access in accesses
        for touch in access.writes
        if touch.memory == "acc"
        for place in (touch.first, touch.last)
    }
    return halves.pop() if len(halves) == 1 else None
