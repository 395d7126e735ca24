"""Tensor units that the kit does not know, declared by what one step of them means.

>>> a, b = placeholder((4,), "int32", "a"), placeholder((4,), "int32", "b")
>>> k = reduce_axis(1, "k")
>>> out = compute((4, 4), lambda i, j: sum(a(i) * b(j), [k]), "out")
>>> outer_product = declare_unit("outer", (a, b), out)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from compiler.errors import ScheduleError
from compiler.loop.expr import Const, Expr, Read, Reduce, binary, transform
from compiler.loop.interp import Interpreter
from compiler.loop.nodes import Access, Apply, Buffer, For, Stmt, Store, Unit, seq
from compiler.te.intrin import Rule, TensorIntrin
from compiler.te.tensor import Axis, Tensor

RULES = ("reset", "update", "compute")
_ACCUMULATE = {"sum": "+", "max": "max", "min": "min"}


def declare_unit(name: str, inputs: Sequence[Tensor], meaning: Tensor) -> TensorIntrin:
    """An intrinsic with all rules that its meaning allows, as steps ``name.reset``, ``name.update``
    and ``name.compute`` that the interpreter executes by evaluating the meaning.
    """

    def rule(kind: str) -> Rule:
        unit = behaviour(inputs, meaning, kind)
        return lambda dst, srcs: Apply(f"{name}.{kind}", dst, srcs, unit=unit)

    if not meaning.reduce_axes:
        return TensorIntrin(name, tuple(inputs), meaning, compute=rule("compute"))
    rules = {kind: rule(kind) for kind in RULES}
    return TensorIntrin(name, tuple(inputs), meaning, **rules)


def behaviour(inputs: Sequence[Tensor], meaning: Tensor, kind: str) -> Unit:
    """What a ``reset``, ``update`` or ``compute`` step does to numpy blocks, from the meaning."""
    buffers = {tensor: Buffer(tensor.name, tensor.shape, tensor.dtype) for tensor in inputs}
    target = Buffer(meaning.name, meaning.shape, meaning.dtype)
    body = _loops(meaning, target, buffers, kind)

    def unit(dst: np.ndarray, srcs: tuple[np.ndarray, ...], attrs: Mapping[str, int]) -> np.ndarray:
        machine = Interpreter(None)
        machine.arrays = dict(zip(buffers.values(), srcs, strict=False))
        machine.arrays[target] = dst.copy()
        machine.execute(body)
        return machine.arrays[target]

    return unit


def check_intrin(
    intrin: TensorIntrin,
    rng: np.random.Generator,
    scopes: Sequence[str] | None = None,
    rounds: int = 5,
) -> None:
    """Refuse an intrinsic of which a rule does, on random blocks, not what its meaning says.

    `scopes` are the memories of the destination and the inputs, where the rules ask for some.
    """
    tensors = (intrin.meaning, *intrin.inputs)
    places = ["dram"] * len(tensors) if scopes is None else list(scopes)
    buffers = [
        Buffer(t.name, t.shape, t.dtype, scope) for t, scope in zip(tensors, places, strict=True)
    ]
    dst, *srcs = (Access(buffer, ()) for buffer in buffers)
    rules = {"reset": intrin.reset, "update": intrin.update, "compute": intrin.compute}
    for kind, rule in rules.items():
        if rule is None:
            continue
        wanted = behaviour(intrin.inputs, intrin.meaning, kind)
        operands = () if kind == "reset" else tuple(srcs)
        step = rule(dst, operands)
        for _ in range(rounds):
            machine = Interpreter(None)
            machine.arrays = {buffer: _random(buffer, rng) for buffer in buffers}
            blocks = [machine.arrays[access.buffer] for access in operands]
            expected = wanted(machine.arrays[dst.buffer], tuple(blocks), {})
            machine.execute(step)
            _compare(intrin.name, kind, machine.arrays[dst.buffer], expected)


def _compare(name: str, kind: str, found: np.ndarray, expected: np.ndarray) -> None:
    if np.array_equal(found, expected):
        return
    at = tuple(int(n) for n in np.argwhere(found != expected)[0])
    raise ScheduleError(
        f"intrinsic {name!r}: its {kind} rule gives {found[at]} at {list(at)} of the destination, "
        f"but its meaning is {expected[at]}; one of them is wrong"
    )


def _loops(meaning: Tensor, target: Buffer, buffers: Mapping[Tensor, Buffer], kind: str) -> Stmt:
    """The meaning as a loop nest on `target`."""
    element = tuple(axis.var for axis in meaning.axes)

    def buffered(expr: Expr) -> Expr | None:
        if isinstance(expr, Read) and isinstance(expr.source, Tensor):
            if expr.source not in buffers:
                raise ScheduleError(
                    f"the meaning {meaning.name!r} reads {expr.source.name!r}, which is not among "
                    f"the inputs of its unit; add it"
                )
            return Read(buffers[expr.source], expr.indices)
        return None

    def nest(axes: Sequence[Axis], value: Expr) -> Stmt:
        out: Stmt = Store(target, element, value, loc=meaning.name)
        for axis in reversed(axes):
            assert axis.extent is not None
            out = For(axis.var, axis.extent, out)
        return out

    body = meaning.body
    assert body is not None
    if not isinstance(body, Reduce):
        return nest(meaning.axes, transform(body, buffered))
    reset = nest(meaning.axes, Const(body.init.value, body.init.type))
    step = binary(_ACCUMULATE[body.kind], Read(target, element), transform(body.body, buffered))
    update = nest((*meaning.axes, *body.axes), step)
    return {"reset": reset, "update": update, "compute": seq([reset, update])}[kind]


def _random(buffer: Buffer, rng: np.random.Generator) -> np.ndarray:
    if buffer.dtype.startswith("float"):
        return rng.standard_normal(buffer.shape).astype(buffer.dtype)
    info = np.iinfo(buffer.dtype)
    return rng.integers(info.min, info.max, buffer.shape, buffer.dtype, endpoint=True)
