"""A kernel's template as text, the form used by dumps."""

from __future__ import annotations

from compiler.te.schedule import Stage
from compiler.topi.kernel import KernelTemplate


def template_text(template: KernelTemplate) -> str:
    """Parameters, constants and schedule choices, then each stage: expression, place and loops."""
    knobs = ", ".join(f"{name}={value}" for name, value in template.knobs.items())
    exact = "exact" if template.is_exact else "within one unit per requantisation"
    lines = [f"template {template.name}: {template.macs:,} macs, {exact}, {knobs or 'no knobs'}"]
    for param in template.params:
        kind = "constant" if param.name in template.constants else "param"
        lines.append(f"{kind} {param.name}: {param.dtype}{list(param.shape)}")
    for stage in template.schedule.stages:
        lines += _stage_lines(stage)
    return "\n".join(lines) + "\n"


def _stage_lines(stage: Stage) -> list[str]:
    indices = ", ".join(axis.name for axis in stage.axes)
    lines = [f"stage {stage.name}[{indices}] = {stage.body}"]
    if stage.is_inline:
        return [*lines, "  inlined"]
    place = f"  in {stage.scope}"
    if stage.attach is not None:
        consumer, axis = stage.attach
        place += f", computed at {consumer.name}.{axis.name}"
    if stage.is_double_buffered:
        place += ", double-buffered"
    lines.append(place)
    for axis in stage.leaves:
        kind = stage.kinds.get(axis)
        note = f" [{kind}]" if kind else ""
        if stage.intrin is not None and stage.intrin[0] is axis:
            note += f" [tensorize {stage.intrin[1].name}]"
        lines.append(f"  loop {axis.name}{note}")
    return lines
