"""Puts what follows a tile's products between the next tile's, one operation before each piece.

Instructions of the compute stage issue in order, and an ALU operation waits for the one before it.
So a tail of several operations, left in one place, holds up the next tile's products until its
last operation issues. Between the pieces of those products (`split_products`) it runs beside them:
``G1 G2 | A B C store | H1 H2 H3 H4`` -> ``G1 G2 | A H1 B H2 C store H3 H4``.

What a tail reads from outside, operands and parameters, is loaded early, behind the first piece of
its own tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.passes.insert_tokens import Access, conflict
from compiler.passes.last_touches import LastTouches
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, Gemm, Load

SPREAD = (2, 3)
"""The part of the next tile's pieces in which a tail ends, so that its store ends with them."""


def interleave_tails(
    stream: Sequence[Access], sizes: Mapping[str, int], config: VtaConfig
) -> list[Access]:
    """The instructions with tails between products; unchanged without the extension `overlap`.

    `sizes` as for `insert_tokens`.
    """
    if not config.has("overlap"):
        return list(stream)
    stream = _hoist_operands(stream)
    products = [is_product(access) for access in stream]
    left = _pieces_left(stream, products)
    out: list[Access] = []
    tail = _Tail(sizes)
    follows = False  # a tail that follows no products would only be delayed
    for place, access in enumerate(stream):
        if isinstance(access.insn, Alu) and follows:
            tail.add(access)
            continue
        meets = tail.meets(access)
        if products[place]:
            count = len(tail.left) if meets else _share(tail.left, left[place])
            out += tail.take(count)
        elif meets and not isinstance(access.insn, Load):
            tail.add(access)
            continue
        elif meets:
            out += tail.take(len(tail.left))
            follows = False
        follows = follows or products[place]
        out.append(access)
    return out + tail.left


_HELD = "held back"


class _Tail:
    """What is held back of a tail, oldest first."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.left: list[Access] = []
        self._touches = LastTouches(sizes)
        self._taken = 0  # the instructions are numbered in the order in which they are held back

    def add(self, access: Access) -> None:
        number = self._taken + len(self.left)
        self._touches.note(_HELD, access.reads, access.writes, number)
        self.left.append(access)

    def take(self, count: int) -> list[Access]:
        """The oldest ones, which are held back no longer."""
        taken = self.left[:count]
        del self.left[:count]
        self._taken += count
        return taken

    def meets(self, access: Access) -> bool:
        """Whether an instruction conflicts with one that is held back."""
        gone = self._taken - 1
        return self._touches.conflict(_HELD, access.reads, access.writes, gone) > gone


def is_product(access: Access) -> bool:
    """Whether an instruction multiplies (a reset does not)."""
    return isinstance(access.insn, Gemm) and not access.insn.reset


def _pieces_left(stream: Sequence[Access], products: Sequence[bool]) -> list[int]:
    """How many products there are from each place to the next ALU operation."""
    left, count = [0] * len(stream), 0
    for place in range(len(stream) - 1, -1, -1):
        if products[place]:
            count += 1
        elif isinstance(stream[place].insn, Alu):
            count = 0
        left[place] = count
    return left


def _share(tail: Sequence[Access], left: int) -> int:
    """How much of the tail goes before a product, with `left` of them to come, itself included."""
    operations = [n for n, access in enumerate(tail) if isinstance(access.insn, Alu)]
    if not operations:
        return len(tail)
    places = max(1, left * SPREAD[0] // SPREAD[1])
    count = -(-len(operations) // places)
    return operations[count] if count < len(operations) else len(tail)


def _hoist_operands(stream: Sequence[Access]) -> list[Access]:
    out: list[Access] = []
    for access in stream:
        place = len(out)
        if _is_operand(access):
            place -= _height(access, out)
        out.insert(place, access)
    return out


def _is_operand(access: Access) -> bool:
    insn = access.insn
    if not isinstance(insn, Load) or not insn.y_size:
        return False
    return insn.memory_type in (MemType.ACC, MemType.ACC_8BIT)


def _height(access: Access, earlier: Sequence[Access]) -> int:
    """How many instructions it moves past: up to the first product of its tile, or not at all."""
    height = 0
    for passed, other in enumerate(reversed(earlier)):
        if is_product(other):
            height = passed
        elif (height and isinstance(other.insn, Alu)) or conflict(access, other):
            break
    return height
