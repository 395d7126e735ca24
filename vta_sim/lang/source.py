"""The source of functions, and the names around them."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

from vta_sim.lang.kinds import KernelError


@cache
def syntax_of(function: Callable[..., Any]) -> ast.FunctionDef:
    """The parsed source, with the line numbers of its file."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    ast.increment_lineno(tree, first - 1)
    found = tree.body[0]
    assert isinstance(found, ast.FunctionDef)
    return found


@cache
def assigned_once(function: Callable[..., Any]) -> frozenset[str]:
    """Names that one statement of a function sets: they are constants if they are set to one.

    A parameter has been set before.
    """
    counts: Counter[str] = Counter(list(inspect.signature(function).parameters))
    for node in ast.walk(syntax_of(function)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] += 1
    return frozenset(name for name, count in counts.items() if count == 1)


def as_read(node: ast.expr) -> ast.expr:
    """What is assigned to, as an expression."""
    # Only the outermost node knows that it is assigned to.
    read = copy.copy(node)
    read.ctx = ast.Load()  # type: ignore[attr-defined]
    return read


def namespace_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The names of the module that a function is in."""
    return vars(sys.modules[function.__module__])


def global_named(function: Callable[..., Any], name: str) -> Any:
    """What a name means outside a function."""
    names = namespace_of(function)
    if name in names:
        return names[name]
    builtin = {"min": min, "max": max, "abs": abs, "True": True, "False": False}
    if name in builtin:
        return builtin[name]
    raise KernelError(f"the name {name!r} is not known")
