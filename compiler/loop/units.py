"""Tensor units as the interpreter knows them: what one `Apply` does to numpy blocks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.loop.nodes import Unit
from vta_hw.spec import semantics
from vta_hw.spec.isa import AluOp

GEMM = "vta.gemm"
RESET = "vta.reset"
ALU = "vta.alu"
ALU_IMM = "vta.alu_imm"
REQ = "vta.req"


def _gemm(dst: np.ndarray, srcs: tuple[np.ndarray, ...], attrs: Mapping[str, int]) -> np.ndarray:
    inp, wgt = srcs
    return semantics.wrap32(dst.astype(np.int64) + inp.astype(np.int64) @ wgt.astype(np.int64).T)


def _alu(dst: np.ndarray, srcs: tuple[np.ndarray, ...], attrs: Mapping[str, int]) -> np.ndarray:
    return semantics.ALU[AluOp(attrs["op"])].apply(dst, srcs[0])


def _alu_imm(dst: np.ndarray, srcs: tuple[np.ndarray, ...], attrs: Mapping[str, int]) -> np.ndarray:
    return semantics.ALU[AluOp(attrs["op"])].apply(dst, np.full_like(dst, attrs["imm"]))


def _req(dst: np.ndarray, srcs: tuple[np.ndarray, ...], attrs: Mapping[str, int]) -> np.ndarray:
    bias, multiplier, packed = srcs
    return semantics.req(dst, bias, multiplier, packed, attrs["imm"])


UNITS: Mapping[str, Unit] = {
    GEMM: _gemm,
    RESET: lambda dst, srcs, attrs: np.zeros_like(dst),
    ALU: _alu,
    ALU_IMM: _alu_imm,
    REQ: _req,
}
"""The units of VTA by the `op` of their steps; an `Apply` of another unit carries its own."""
