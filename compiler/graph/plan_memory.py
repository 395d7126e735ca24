"""Static memory plan: offsets in one arena, shared by tensors whose lifetimes do not meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Lifetime:
    """A tensor of `size_bytes` that must keep its contents from step `first` to step `last`."""

    name: str
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offset of every tensor and the size of the arena."""

    offsets: Mapping[str, int]
    arena_bytes: int


def plan_memory(lifetimes: Sequence[Lifetime], align: int) -> MemoryPlan:
    """Place large tensors first, each at the lowest aligned offset free during its lifetime."""
    offsets: dict[str, int] = {}
    placed: list[Lifetime] = []
    for tensor in sorted(lifetimes, key=lambda t: (-t.size_bytes, t.first, t.name)):
        taken = sorted(
            (offsets[other.name], offsets[other.name] + other.size_bytes)
            for other in placed
            if other.first <= tensor.last and tensor.first <= other.last
        )
        offset = 0
        for begin, end in taken:
            if offset + tensor.size_bytes <= begin:
                break
            offset = max(offset, -(-end // align) * align)
        offsets[tensor.name] = offset
        placed.append(tensor)
    ends = [offsets[t.name] + t.size_bytes for t in placed]
    return MemoryPlan(offsets, -(-max(ends, default=0) // align) * align)
