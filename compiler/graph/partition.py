"""Decide for each kernel where it runs, and group the VTA ones into regions.

A region is a set of VTA kernels that one instruction stream can run: no host operator stands on a
path between two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compiler.graph.canonicalise import is_view
from compiler.graph.fuse import Kernel
from compiler.graph.ir import Graph


@dataclass(frozen=True)
class Placed:
    """A kernel with its place: "vta", "host" or "view" (an alias, nothing runs), and the reason.

    `level` counts the changes of place on the longest path to it: kernels of one level and place
    depend on each other only within that level. It begins with 0 for VTA, and with -1 for the host,
    whose work on the network's inputs comes before all of VTA's.
    """

    kernel: Kernel
    where: str
    reason: str
    level: int


def partition(
    graph: Graph, kernels: Sequence[Kernel], reject: Callable[[Kernel], str | None]
) -> tuple[Placed, ...]:
    """Kernels in execution order. `reject` says why VTA cannot run a kernel, or None."""
    placed: list[Placed] = []
    made: dict[str, Placed] = {}
    for kernel in kernels:
        sources = [made[name] for name in kernel.inputs if name in made]
        where, reason = _place(graph, kernel, sources, reject)
        level = max(
            (s.level + (_side(s) != where and where != "view") for s in sources),
            default=-1 if where == "host" else 0,
        )
        item = Placed(kernel, where, reason, level)
        placed.append(item)
        for name in kernel.outputs:
            made[name] = item
    # Stable: kernels of one level keep their topological order; the host's come first.
    return tuple(sorted(placed, key=lambda p: (p.level, p.where == "vta" or p.where == "view")))


def _side(item: Placed) -> str:
    return "vta" if item.where == "view" else item.where


def _place(
    graph: Graph,
    kernel: Kernel,
    sources: Sequence[Placed],
    reject: Callable[[Kernel], str | None],
) -> tuple[str, str]:
    if is_view(graph, kernel.anchor) and sources and all(_side(s) == "vta" for s in sources):
        return "view", "same bytes in packed layout"
    reason = reject(kernel)
    return ("vta", "") if reason is None else ("host", reason)
