"""The operators of a network, each compiled alone."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.context import CompileContext
from compiler.driver import compile_graph
from compiler.graph.fuse import fuse
from compiler.graph.ir import Graph
from runtime.package import Package
from vta_hw.spec.config import VtaConfig


def operators(graph: Graph, config: VtaConfig, numerics: str) -> Iterator[Package]:
    """A package per operator, those of the host included, in the order of the graph."""
    for kernel in fuse(graph):
        part = graph.subgraph(kernel.nodes, kernel.anchor.name)
        yield compile_graph(part, CompileContext(config), numerics).package
