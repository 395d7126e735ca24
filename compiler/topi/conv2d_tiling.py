"""The choices of the convolution template, and the facts of a layer that they depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

NOTHING, WEIGHTS, INPUTS = "nothing", "weights", "inputs"
KEPT = (NOTHING, WEIGHTS, INPUTS)
"""What can stay on the chip while other things change, see `ConvTiling`."""


@dataclass(frozen=True)
class ConvTiling:
    """How a convolution is cut into tiles and what stays on the chip from one to the next.

    A tile is `co` blocks of output channels by `h` rows by `w` columns; each step of it takes `ci`
    blocks of input channels and `kh` rows of the window (None: all). `kept` names what is loaded
    whole and used by many tiles: "weights" of blocks of output channels, whose places are visited
    one after the other; "inputs" of a place, whose blocks of output channels are; or "nothing".
    `co_threads` and `h_threads` are virtual threads. Where there are two `halves` of a buffer (of
    inputs, of weights, of accumulators and parameters), rounds use them in turn.
    """

    co: int
    ci: int
    h: int
    w: int
    co_threads: int = 1
    h_threads: int = 1
    inp_halves: int = 1
    wgt_halves: int = 1
    acc_halves: int = 1
    kept: str = NOTHING
    kh: int | None = None

    @property
    def threads(self) -> int:
        """Virtual threads in all."""
        return self.co_threads * self.h_threads

    def knobs(self) -> dict[str, int | str]:
        """The choices by name."""
        sizes = ("co", "ci", "h", "w", "kh")
        chosen = {k: v for k, v in asdict(self).items() if v is not None}
        return {f"tile_{k}" if k in sizes else k: v for k, v in chosen.items()}

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.knobs().items())


@dataclass(frozen=True)
class ConvShape:
    """What a tiling depends on: extents in blocks, window, strides, padding (as in `Conv2d`).

    What follows the sums needs in ACC: `params` vectors per output block, `fixed` vectors that
    serve all blocks, `buffers` tiles in use at once. Its work is as in `TailWork`, with `passes`
    the cycles and `operands` the loads. `group` and `is_diagonal`: see GroupedWeights.
    """

    n: int
    ci: int
    co: int
    h: int
    w: int
    kh: int
    kw: int
    sh: int
    sw: int
    pads: tuple[int, int, int, int]
    params: int
    fixed: int
    buffers: int
    operations: int
    passes: int
    operands: int
    group: int
    is_diagonal: bool

    @property
    def workload(self) -> str:
        """All of it as text: equal texts mean the same tilings, and programs that take as long."""
        return "conv2d " + " ".join(f"{name}={_text(v)}" for name, v in vars(self).items())

    @classmethod
    def of_workload(cls, text: str) -> ConvShape:
        """The shape whose `workload` is this text; a `ValueError` or `TypeError` for others."""
        kind, *parts = text.split()
        if kind != "conv2d":
            raise ValueError(f"{text!r} is no workload of convolutions")
        values: dict[str, Any] = {}
        for part in parts:
            name, _, value = part.partition("=")
            numbers = tuple(map(int, value.split(",")))
            values[name] = numbers if len(numbers) > 1 else numbers[0]
        shape = cls(**values)
        return replace(shape, is_diagonal=bool(shape.is_diagonal))


def _text(value: int | tuple[int, ...]) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(int(value))
