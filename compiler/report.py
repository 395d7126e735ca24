"""What became of each operator: the rows of a package's layer table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compiler.graph.fuse import Kernel
from compiler.graph.ir import Node
from compiler.graph.partition import Placed
from runtime.package import LayerRow
from vta_hw.spec.config import MemType
from vta_hw.spec.isa import Load, Store
from vta_hw.spec.program import Program


def host_row(node: Node, reason: str, macs: int) -> LayerRow:
    """An operator on the host, and why."""
    return LayerRow(name=node.name, op=node.op, where="host", reason=reason, macs=macs)


def view_row(item: Placed) -> LayerRow:
    """An operator that moves no data."""
    anchor = item.kernel.anchor
    return LayerRow(name=anchor.name, op=anchor.op, where="view", reason=item.reason)


def vta_rows(
    program: Program, kernels: Sequence[Kernel], macs: Sequence[int]
) -> Iterator[LayerRow]:
    """Operators of one program, with what their instructions move.

    Instructions that belong to no layer (waiting no-ops, FINISH) are in no row.
    """
    counts = {k.anchor.name: [0, 0, 0] for k in kernels}
    for index, insn in enumerate(program.instructions):
        count = counts.get(program.source(index).rpartition(": ")[0])
        if count is None:
            continue
        count[0] += 1
        if isinstance(insn, Load | Store):
            size = program.config.elem_bytes(MemType(insn.memory_type))
            if isinstance(insn, Load):
                count[1] += insn.y_size * insn.x_size * size
            else:
                count[2] += insn.y_size * insn.x_size * size
    for kernel, layer_macs in zip(kernels, macs, strict=True):
        name = kernel.anchor.name
        instructions, loaded, stored = counts[name]
        yield LayerRow(
            name=name,
            op="+".join(n.op for n in kernel.nodes),
            where="vta",
            macs=layer_macs,
            instructions=instructions,
            bytes_loaded=loaded,
            bytes_stored=stored,
        )
