"""The programs that ``vta bench simulator`` times.

Each has inputs that are drawn anew for every run, and says what it must leave in DRAM: worked out
in numpy from the meaning of the operations, not by any simulator. Sizes are those of a layer of
ResNet where the configuration has room for it, and smaller where it has not.
"""

from __future__ import annotations

from collections.abc import Iterator

from vta.bench import alu, gemm, transfers
from vta.bench.programs import Job
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import AluOp, Rounding

_GEMM_STEPS = 32
_ALU_INSTRUCTIONS = 1024
_REQ_STEPS = 8
_MOVED_BYTES = 1 << 26
_QUICK = 32


def jobs(config: VtaConfig, quick: bool = False) -> Iterator[Job]:
    """All programs for a configuration; `quick` ones do very little."""
    less = _QUICK if quick else 1
    yield gemm.convolution(config, _GEMM_STEPS // less)
    yield gemm.dense(config, _GEMM_STEPS // less)
    for op in (AluOp.ADD, AluOp.MAX, AluOp.SHR):
        yield alu.immediate(config, op, _ALU_INSTRUCTIONS // less)
    yield alu.register(config, _ALU_INSTRUCTIONS // less)
    if config.has("requant"):
        for rounding in (Rounding.DOUBLE, Rounding.FLOAT):
            yield alu.requant(config, rounding, _REQ_STEPS)
    for memory in (MemType.INP, MemType.WGT, MemType.ACC):
        yield transfers.load(config, memory, _MOVED_BYTES // less)
    yield transfers.store(config, _MOVED_BYTES // less)
