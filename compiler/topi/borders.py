"""Border classes: output positions whose windows overlap the padding in the same way.

Along one axis the windows of a padded operator fall into a few classes (3 for a 3-wide kernel).
Each class is a run of neighbouring positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.loop.expr import Const, Expr, both, compare, select


@dataclass(frozen=True)
class Borders:
    """Classes along one axis: class k starts at position `starts[k]` and sees taps `taps[k]`."""

    starts: tuple[int, ...]
    taps: tuple[range, ...]

    def index(self, position: Expr) -> Expr:
        """The class of an output position, as an index expression."""
        out: Expr = Const(0)
        for start in self.starts[1:]:
            out = out + select(compare(">=", position, start), Const(1), Const(0))
        return out

    def __len__(self) -> int:
        return len(self.starts)


def borders(size: int, out_size: int, kernel: int, stride: int, pad: int) -> Borders:
    """Classes of `out_size` windows over an axis of `size` elements, padded by `pad` in front."""
    starts: list[int] = []
    taps: list[range] = []
    for position in range(out_size):
        first = position * stride - pad
        valid = range(max(0, -first), max(0, min(kernel, size - first)))
        if not taps or taps[-1] != valid:
            starts.append(position)
            taps.append(valid)
    return Borders(tuple(starts), tuple(taps))


def inside_image(
    row: Expr, column: Expr, height: int, width: int, pads: tuple[int, int, int, int]
) -> Expr:
    """Whether a position of a padded image (pads: top, left, bottom, right) is not padding."""
    top, left, bottom, right = pads
    return both(
        *([compare(">=", row, top)] if top else []),
        *([compare("<", row, height + top)] if bottom else []),
        *([compare(">=", column, left)] if left else []),
        *([compare("<", column, width + left)] if right else []),
    )


NO_BORDERS = Borders((0,), (range(0),))
"""One class for every position."""
