"""Zeroing of accumulators by LOADs of padding, early enough to run beside the last tile's products.

GEMM's own reset keeps the unit of the products busy. A LOAD ACC without rows, of padding alone,
does the same in the unit for transfers, whenever ACC has a free slot. With the extension `pad_min`
it can as well bring the -128 that a maximum begins with. The LOADs move up behind the
newest products before them, unless something in between still uses their elements. So do LOADs of
micro-ops, which that unit would otherwise begin behind the zeroing.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.loop.nodes import Task
from compiler.passes.insert_tokens import Access, conflict
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import PAD_MAX, Alu, AluOp, Gemm, Load, MicroOp, Store, altered, layout

_LEAST = (int(AluOp.ADD), True, -128)
_REACH = 64
"""Instructions that one may move past."""


def zero_by_loads(tasks: Sequence[Task], config: VtaConfig) -> list[Task]:
    """Tasks with resets of consecutive elements as LOADs; unchanged without `overlap`."""
    if not config.has("overlap"):
        return list(tasks)
    out: list[Task] = []
    reset: tuple[int, int] | None = None  # by the task before
    for task in tasks:
        span = _span(task, config)
        if span is not None and isinstance(task.insn, Gemm):
            out.append(task.with_insn(_fill(*span)))
            reset = span
            continue
        if span is not None and span == reset and config.has("pad_min"):
            out[-1] = out[-1].with_insn(altered(_fill(*span, MemType.ACC_8BIT), pad_min=True))
        else:
            out.append(task)
        reset = None
    return out


def _span(task: Task, config: VtaConfig) -> tuple[int, int] | None:
    """First element and count of a reset, or of an addition of the least int8 number, that goes
    through ACC without a gap; else None."""
    insn = task.insn
    if len(task.uops) != 1 or not (
        (isinstance(insn, Gemm) and insn.reset)
        or (isinstance(insn, Alu) and (insn.alu_opcode, insn.use_imm, insn.imm) == _LEAST)
    ):
        return None
    slot = next(slot for slot in layout(MicroOp, config) if slot.name == "dst")
    first = task.uops[0] >> slot.low & slot.mask
    count = 1
    for extent, step in (
        (insn.iter_in, insn.dst_factor_in),
        (insn.iter_out, insn.dst_factor_out),
    ):
        if extent > 1 and step != count:
            return None
        count *= extent
    return first, count


def _fill(first: int, count: int, memory: MemType = MemType.ACC) -> Load:
    """A LOAD of padding alone: rows above and below nothing."""
    rows = next(r for r in range(2 * PAD_MAX, 0, -1) if count % r == 0)
    above = min(rows, PAD_MAX)
    return Load(
        memory_type=int(memory),
        sram_base=first,
        x_size=count // rows,
        y_pad_0=above,
        y_pad_1=rows - above,
    )


def hoist_zeroing(stream: Sequence[Access], config: VtaConfig) -> list[Access]:
    """The instructions with LOADs of padding moved up, behind the products of the tile before."""
    if not config.has("overlap"):
        return list(stream)
    out: list[Access] = []
    for access in stream:
        place = len(out)
        if is_zeroing(access):
            place -= _height(access, out)
        elif _is_micro_ops(access):
            place -= _free(access, out)
        out.insert(place, access)
    return out


def is_zeroing(access: Access) -> bool:
    """Whether an instruction is a LOAD of padding into ACC alone."""
    insn = access.insn
    if not isinstance(insn, Load) or insn.y_size:
        return False
    return insn.memory_type in (MemType.ACC, MemType.ACC_8BIT)


def _is_micro_ops(access: Access) -> bool:
    insn = access.insn
    return isinstance(insn, Load) and insn.memory_type == MemType.UOP


def _free(access: Access, earlier: Sequence[Access]) -> int:
    """How many instructions micro-ops move past: up to the newest products, or to a conflict."""
    passed = 0
    for other in reversed(earlier):
        if isinstance(other.insn, Gemm) or conflict(access, other):
            break
        passed += 1
    return passed


def _height(access: Access, earlier: Sequence[Access]) -> int:
    """How many instructions it moves past: up to the newest products, or not at all."""
    for passed in range(min(_REACH, len(earlier))):
        other = earlier[-1 - passed]
        if isinstance(other.insn, Gemm) or is_zeroing(other):
            return passed
        if isinstance(other.insn, Alu | Store | Load) and conflict(access, other):
            return 0
    return 0
