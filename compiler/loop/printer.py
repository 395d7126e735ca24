"""Loop IR as text, the form used by dumps and golden tests."""

from __future__ import annotations

from compiler.loop.nodes import (
    Access,
    Alloc,
    Apply,
    Copy,
    For,
    Func,
    If,
    Region,
    Seq,
    Stmt,
    Store,
    Task,
)


def to_text(func: Func) -> str:
    """The whole function, one statement a line."""
    params = ", ".join(str(p) for p in func.params)
    return "\n".join([f"func {func.name}({params}):", *_lines(func.body, 1)]) + "\n"


def _lines(stmt: Stmt, depth: int) -> list[str]:
    pad = "  " * depth
    match stmt:
        case Seq(stmts):
            return [line for part in stmts for line in _lines(part, depth)]
        case For(var, extent, body, kind, intrin):
            note = "" if kind == "serial" else f" [{kind}]"
            note += f" [tensorize {intrin.name}]" if intrin is not None else ""
            return [f"{pad}for {var.name} in {extent}{note}:", *_lines(body, depth + 1)]
        case If(cond, then):
            return [f"{pad}if {cond}:", *_lines(then, depth + 1)]
        case Alloc(buffer, body):
            return [f"{pad}alloc {buffer}", *_lines(body, depth)]
        case Store(buffer, indices, value):
            return [f"{pad}{buffer.name}[{', '.join(map(str, indices))}] = {value}"]
        case Copy(dst, src, _, fill, clips):
            note = "" if fill is None else f" pad {fill}"
            note += "".join(f" axis {a} from {low} to {high}" for a, low, high in clips)
            return [f"{pad}copy {_region(dst)} <- {_region(src)}{note}"]
        case Apply(op, dst, srcs, attrs):
            parts = [*map(_access, srcs), *(f"{k}={v}" for k, v in attrs)]
            return [f"{pad}{_access(dst)} <- {op}({', '.join(parts)})"]
        case Task():
            from compiler.loop.task_text import task_text

            return [pad + task_text(stmt)]
    raise TypeError(f"no statement: {stmt!r}")


def _region(region: Region) -> str:
    parts = [
        str(b) if e == 1 else f"{b} :+ {e}"
        for b, e in zip(region.begin, region.extent, strict=True)
    ]
    return f"{region.buffer.name}[{', '.join(parts)}]"


def _access(access: Access) -> str:
    return f"{access.buffer.name}[{', '.join(map(str, access.indices))}]"
