"""Parts of wide values, chosen by static trees of multiplexers."""

from __future__ import annotations

from amaranth.hdl import Mux, Value


def part(value: Value, index: Value) -> Value:
    """Part number `index` of `value`, cut into as many equal parts as `index` has values."""
    for bit in reversed(range(len(index))):
        half = len(value) // 2
        value = Mux(index[bit], value[half:], value[:half])
    return value


def move_up(value: Value, places: Value, place: int) -> Value:
    """`value` moved up by `places` of `place` bits each; as wide as before."""
    width = len(value)
    for bit in range(len(places)):
        distance = place << bit
        assert distance < width, "it stays in the value"
        value = Mux(places[bit], value << distance, value)[:width]
    return value
