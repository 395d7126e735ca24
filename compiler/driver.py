"""From a model file to a package: every level of the compiler, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler.assemble import assemble
from compiler.context import CompileContext
from compiler.errors import GraphError
from compiler.frontend.model import import_model
from compiler.graph.canonicalise import canonicalise
from compiler.graph.fold import fold_constants
from compiler.graph.fuse import Kernel, fuse
from compiler.graph.ir import Graph
from compiler.graph.lower_qnn import default_numerics, lower_qnn
from compiler.graph.partition import Placed, partition
from compiler.graph.rebatch import rebatch
from compiler.graph.unfold_narrow import unfold_narrow
from compiler.topi.conv2d_tiling import ConvTiling
from compiler.topi.host import HOST_OPS
from compiler.topi.select import select
from runtime.package import Package
from vta_hw.spec.config import VtaConfig


@dataclass(frozen=True)
class CompileResult:
    """The package, the core-operator graph that it implements, and seconds per step, in order."""

    package: Package
    graph: Graph
    timings: tuple[tuple[str, float], ...]


def compile_model(
    path: str | Path,
    config: VtaConfig,
    *,
    numerics: str | None = None,
    dump_dir: Path | None = None,
    host_triple: str | None = None,
    batch: int | None = None,
    tilings: Mapping[str, ConvTiling] | None = None,
) -> CompileResult:
    """Compile a TFLite or ONNX file for `config`.

    `numerics` names the runtime whose results are wanted (default: the format's own); `dump_dir`
    gets every intermediate form; `host_triple` is the machine of the host operators; `batch` is the
    number of images at once (default: the model's). `tilings` are tuned choices by workload.
    """
    context = CompileContext(config, dump_dir)
    with context.step("import"):
        graph = import_model(path)
    return compile_graph(graph, context, numerics, host_triple, batch, tilings)


def compile_graph(
    graph: Graph,
    context: CompileContext,
    numerics: str | None = None,
    host_triple: str | None = None,
    batch: int | None = None,
    tilings: Mapping[str, ConvTiling] | None = None,
) -> CompileResult:
    """Compile an imported graph (quantised operators, not lowered yet)."""
    network = place_graph(graph, context, numerics, batch)
    package = assemble(
        network.graph, network.placed, network.numerics, context, host_triple, tilings
    )
    return CompileResult(package, network.core, tuple(context.seconds.items()))


@dataclass(frozen=True)
class Network:
    """What comes before schedules: `placed` are the kernels of `graph` and where they run.

    `core` is the graph of core operators that `graph` implements.
    """

    core: Graph
    graph: Graph
    placed: tuple[Placed, ...]
    numerics: str


def place_graph(
    graph: Graph, context: CompileContext, numerics: str | None = None, batch: int | None = None
) -> Network:
    """Lower an imported graph to core operators, and decide what runs where."""
    chosen = numerics or default_numerics(graph)
    _dump(context, "import", graph)
    if batch is not None:
        with context.step("rebatch"):
            graph = rebatch(graph, batch)
        _dump(context, "rebatch", graph)
    for name, step in (
        ("lower_qnn", lambda g: lower_qnn(g, chosen)),
        ("fold_constants", fold_constants),
        ("canonicalise", canonicalise),
    ):
        with context.step(name):
            graph = step(graph)
        _dump(context, name, graph)
    with context.step("unfold_narrow"):
        unfolded = unfold_narrow(graph, context.config)
    _dump(context, "unfold_narrow", unfolded)
    with context.step("fuse"):
        kernels = fuse(unfolded, lambda k: _reject(k, unfolded, context.config) is None)
    context.dump("graph", "fuse", lambda: _kernels_text(kernels))
    with context.step("partition"):
        placed = partition(unfolded, kernels, lambda k: _reject(k, unfolded, context.config))
        _refuse_homeless(placed)
    context.dump("graph", "partition", lambda: _placement_text(placed))
    return Network(graph, unfolded, placed, chosen)


def _reject(kernel: Kernel, graph: Graph, config: VtaConfig) -> str | None:
    chosen = select(kernel, graph, config)
    return chosen if isinstance(chosen, str) else None


def _refuse_homeless(placed: tuple[Placed, ...]) -> None:
    """Operators that neither VTA nor the host has stop the compilation, all named at once."""
    lost = [
        f"{node.name!r} ({node.op}; VTA: {item.reason})"
        for item in placed
        if item.where == "host"
        for node in item.kernel.nodes
        if node.op not in HOST_OPS
    ]
    if lost:
        raise GraphError(
            f"{len(lost)} operators can run neither on VTA nor on the host: {'; '.join(lost)}; "
            f"choose another config or change the model"
        )


def _dump(context: CompileContext, step: str, graph: Graph) -> None:
    context.dump("graph", step, lambda: str(graph))


def _kernels_text(kernels: tuple[Kernel, ...]) -> str:
    """Per kernel what it reads and makes, then its operators, the anchor marked."""
    lines = []
    for kernel in kernels:
        lines.append(
            f"kernel {kernel.name} ({', '.join(kernel.inputs)}) -> {', '.join(kernel.outputs)}"
        )
        for node in kernel.nodes:
            mark = "*" if node is kernel.anchor else " "
            lines.append(f"  {mark} {node.op} {node.name} -> {', '.join(node.outputs)}")
    return "\n".join(lines) + "\n"


def _placement_text(placed: tuple[Placed, ...]) -> str:
    rows = [f"{p.level} {p.where:4} {p.kernel.name}  {p.reason}" for p in placed]
    return "\n".join(rows) + "\n"
