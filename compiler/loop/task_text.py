"""One instruction of the lowest loop IR level as text."""

from __future__ import annotations

from dataclasses import fields

from compiler.loop.nodes import Task


def task_text(task: Task) -> str:
    """Name, the fields that are not at their default, the DRAM operand and the micro-op count."""
    insn = task.insn
    parts = [type(insn).__name__.lower()]
    for item in fields(insn):
        value = getattr(insn, item.name)
        if item.name != "opcode" and value != item.default:
            parts.append(item.name if value is True else f"{item.name}={int(value)}")
    if task.operand is not None:
        parts.append(f"@{task.operand.name}")
    if task.uops:
        parts.append(f"({len(task.uops)} micro-ops)")
    return " ".join(parts)
