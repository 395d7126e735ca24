"""Cuts the end of a kernel in parts: its last requantisation and its last store.

Elsewhere a store runs beside the next tile's products. Behind the last tile nothing else does: so
one part is stored while the next is requantised, and the next kernel can load the first rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.loop.nodes import Task
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Alu, Store, altered, pack_uops, unpack_uops

_PARTS_MOST = 4


def split_last_tail(tasks: Sequence[Task], config: VtaConfig) -> list[Task]:
    """The tasks of a kernel; unchanged unless they end with one ALU operation and its stores."""
    end = len(tasks)
    while end and isinstance(tasks[end - 1].insn, Store):
        end -= 1
    stores = tasks[end:]
    if end < 2 or not stores or isinstance(tasks[end - 2].insn, Alu | Store):
        return list(tasks)
    operation = tasks[end - 1]
    if len(stores) == 1:
        stores = _cut(stores[0], operation)
    parts = _parts(operation, stores, config)
    if parts == 1:
        return list(tasks)
    out = list(tasks[: end - 1])
    each = len(stores) // parts
    for part in range(parts):
        out.append(_operation(operation, part, parts, config))
        out += stores[part * each : (part + 1) * each]
    return out


def _cut(store: Task, operation: Task) -> Sequence[Task]:
    """A store in as many parts as it is worth, if the operation's outer loop cuts it evenly."""
    alu, move = operation.insn, store.insn
    assert isinstance(move, Store)
    if not isinstance(alu, Alu) or _length(move) % alu.iter_out:
        return [store]
    parts = next(n for n in range(_PARTS_MOST, 0, -1) if alu.iter_out % n == 0)
    return [_store(store, part, parts) for part in range(parts)]


def _parts(operation: Task, stores: Sequence[Task], config: VtaConfig) -> int:
    """Into how many parts the operation can be cut, so that each store needs one of them only."""
    alu = operation.insn
    if not isinstance(alu, Alu) or len(operation.uops) != 1 or alu.iter_out % len(stores):
        return 1
    if alu.dst_factor_out != alu.iter_in or (alu.iter_in > 1 and alu.dst_factor_in != 1):
        return 1
    first = int(unpack_uops(np.array(operation.uops, np.uint32), config)["dst"][0])
    size = alu.iter_out // len(stores) * alu.iter_in
    for number, store in enumerate(stores):
        move = store.insn
        assert isinstance(move, Store)
        if move.sram_base != first + number * size or move.y_size * move.x_size != size:
            return 1
    return next(n for n in range(_PARTS_MOST, 0, -1) if len(stores) % n == 0)


def _operation(task: Task, part: int, parts: int, config: VtaConfig) -> Task:
    insn = task.insn
    assert isinstance(insn, Alu)
    rounds = insn.iter_out // parts
    fields = unpack_uops(np.array(task.uops, np.uint32), config)
    fields["dst"] = fields["dst"] + part * rounds * insn.dst_factor_out
    fields["src"] = fields["src"] + part * rounds * insn.src_factor_out
    return task.with_insn(altered(insn, iter_out=rounds), tuple(pack_uops(fields, config).tolist()))


def _store(task: Task, part: int, parts: int) -> Task:
    insn = task.insn
    assert isinstance(insn, Store)
    count = _length(insn) // parts
    step = (1, 1) if insn.y_size == 1 else (insn.x_size, insn.x_stride)
    sram, dram = (part * count * size for size in step)
    size = {"x_size" if insn.y_size == 1 else "y_size": count}
    moved = altered(insn, sram_base=insn.sram_base + sram, dram_base=insn.dram_base + dram, **size)
    return task.with_insn(moved, task.uops)


def _length(insn: Store) -> int:
    """What a store is cut along: its rows, or its only row."""
    return insn.x_size if insn.y_size == 1 else insn.y_size
