"""The operators of a network, each compiled alone."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.context import CompileContext
from compiler.driver import compile_graph
from compiler.graph.fuse import Kernel, fuse
from compiler.graph.ir import Graph
from compiler.topi.select import select
from runtime.package import Package
from vta_hw.spec.config import VtaConfig


def operators(
    graph: Graph, config: VtaConfig, numerics: str, *, whole_kernels: bool = False
) -> Iterator[Package]:
    """A package per operator, those of the host included, in the order of the graph.

    With `whole_kernels` operators that the network computes in one kernel stay together.
    """

    def accepts(kernel: Kernel) -> bool:
        return whole_kernels and not isinstance(select(kernel, graph, config), str)

    for kernel in fuse(graph, accepts):
        part = graph.subgraph(kernel.nodes, kernel.anchor.name)
        yield compile_graph(part, CompileContext(config), numerics).package
