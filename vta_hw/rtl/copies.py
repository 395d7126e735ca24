"""Registers that hold the same, each for a part of those who need it."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Signal, Value

COPIES = 4


def register_copies(
    m: Module, name: str, value: Value, *, enable: Value | None = None
) -> list[Signal]:
    """`COPIES` registers of `value`, for control signals that all bits of all lanes need.

    With `enable`, they take it in cycles in which that is high.

    A single one would be far from most of them. Synthesis tools merge registers that are equal;
    what a reset makes of them tells these apart, so nothing may depend on it.
    """
    ones = (1 << len(value)) - 1
    found = [
        Signal(len(value), name=f"{name}_{i}", init=(i & 1) * ones, reset_less=i > 1)
        for i in range(COPIES)
    ]
    with m.If(Const(1) if enable is None else enable):
        m.d.sync += [copy.eq(value) for copy in found]
    return found
