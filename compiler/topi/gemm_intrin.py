"""The GEMM unit as a tensor intrinsic: its meaning, and what it lowers to."""

from __future__ import annotations

from functools import lru_cache

from compiler import te
from compiler.errors import LoweringError
from compiler.loop.nodes import Access, Apply, Stmt
from compiler.loop.units import GEMM, RESET
from vta_hw.spec.config import VtaConfig


@lru_cache(maxsize=32)
def gemm_intrin(config: VtaConfig) -> te.TensorIntrin:
    """out[b, o] += sum over c of inp[b, c] * wgt[o, c], the step of one micro-op."""
    inp = te.placeholder((config.batch, config.block_in), "int8", "inp")
    wgt = te.placeholder((config.block_out, config.block_in), "int8", "wgt")
    c = te.reduce_axis(config.block_in, "c")

    def step(b: te.Var, o: te.Var) -> te.Expr:
        return te.sum(inp(b, c.var).astype("int32") * wgt(o, c.var).astype("int32"), [c])

    out = te.compute((config.batch, config.block_out), step, "out")
    return te.TensorIntrin("gemm", (inp, wgt), out, reset=_reset, update=_update)


def _reset(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
    _check_scopes((dst,), ("acc",))
    return Apply(RESET, dst)


def _update(dst: Access, srcs: tuple[Access, ...]) -> Stmt:
    _check_scopes((dst, *srcs), ("acc", "inp", "wgt"))
    return Apply(GEMM, dst, srcs)


def _check_scopes(operands: tuple[Access, ...], scopes: tuple[str, ...]) -> None:
    for operand, scope in zip(operands, scopes, strict=True):
        buffer = operand.buffer
        if buffer.scope != scope:
            raise LoweringError(
                f"GEMM operand {buffer.name!r} must be in memory {scope!r}, not in "
                f"{buffer.scope!r}; use cache_read or set_scope"
            )
