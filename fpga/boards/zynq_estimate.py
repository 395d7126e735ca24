"""What a config takes of a board's part: found by Yosys, or at least, by counting.

``python -m fpga.boards.zynq_estimate [BOARD ...]`` synthesises the config of each board, of all of
them without names, and prints a table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fpga.boards.parts import LUT_MEMORY
from fpga.boards.zynq import BOARDS, BoardError, ZynqBoard, find_board
from vta_hw.rtl import resources
from vta_hw.rtl.resources import RESOURCES
from vta_hw.rtl.verilog import SHELL, hardware_config, verilog
from vta_hw.spec.config import INSN_BITS, MemType, VtaConfig
from vta_hw.spec.errors import VtaKitError

SHARE_MOST = 0.8
"""Of everything a part has, so that a tool can place and route and the interconnect fits too."""

_BLOCK_BITS = 36 * 1024
_LUT_MEMORY_CELLS = ("RAM32", "RAM64", "RAM128", "RAM256", "RAM512", "SRL")
_PRODUCTS_PER_WORD = {"plain": 3, "wide": 2, "requant": 4}
"""Multipliers of a lane's product: its low 32 bits, the same from wide ones, all 64 bits."""


@dataclass(frozen=True)
class Estimate:
    """What the shell takes of a part, without interconnect, place and route.

    `used` and `available` are by resource, those of `RESOURCES` and `LUT_MEMORY`.
    """

    board: str
    config: str
    used: Mapping[str, float]
    available: Mapping[str, int]
    tool: str

    @property
    def shares(self) -> dict[str, float]:
        """The part of each resource that is used; 1 is all of it."""
        return {name: self.used[name] / self.available[name] for name in self.used}

    @property
    def exceeded(self) -> list[str]:
        """The resources of which more than `SHARE_MOST` is used."""
        return [name for name, share in self.shares.items() if share > SHARE_MOST]


def estimate(board: ZynqBoard, config: VtaConfig, limit_seconds: float | None = None) -> Estimate:
    """Synthesise the shell of `config` for the board's part; minutes, unless it is in the cache.

    It does not refuse what does not fit: that is for who reads the figures.
    """
    yosys = resources.find_yosys()
    target = board.part.target
    text = verilog(hardware_config(config), SHELL, board.fabric)
    cells = resources.synthesise(text, target, yosys, limit_seconds=limit_seconds)
    used = resources.used(cells, target)
    used[LUT_MEMORY] = sum(
        n * target.cells[cell]["LUT"]
        for cell, n in cells.items()
        if cell.startswith(_LUT_MEMORY_CELLS)
    )
    available = {name: board.part.available[name] for name in (*RESOURCES, LUT_MEMORY)}
    return Estimate(board.name, config.name, used, available, yosys.version)


def least(board: ZynqBoard, config: VtaConfig) -> dict[str, int]:
    """Block RAM and multipliers that no synthesis can do without, for a config on a board.

    Counted are the bits of the memories, and the products of MAC array and ALU.
    """
    fabric = board.fabric
    bits = {memory: 8 * config.elem_bytes(memory) * config.depth(memory) for memory in MemType}
    if fabric.nine_bit_lanes:
        bus_bits = 1 << config.log_bus_width
        bits[MemType.WGT] = bits[MemType.WGT] // bus_bits * (bus_bits // 9 * 9)
    memories = [MemType.UOP, MemType.INP, MemType.WGT, MemType.ACC, MemType.OUT]
    if config.has("overlap"):
        memories.append(MemType.UOP)
    queues = sum(
        f"{stage}_queue" not in fabric.lut_memories for stage in ("load", "compute", "store")
    )
    total = sum(bits[memory] for memory in memories) + queues * config.cmd_queue_depth * INSN_BITS
    kind = "requant" if config.has("requant") else "wide" if fabric.wide_multipliers else "plain"
    lanes = config.batch * config.block_out
    pairs = fabric.wide_multipliers and config.block_out > 1
    return {
        "BRAM": total // _BLOCK_BITS,
        "DSP": config.macs_per_cycle // (1 + pairs) + lanes * _PRODUCTS_PER_WORD[kind],
    }


def refuse_what_cannot_fit(board: ZynqBoard, config: VtaConfig) -> None:
    """Raise for a config that needs more of something than the whole part has."""
    for resource, needed in least(board, config).items():
        available = board.part.available[resource]
        if needed > available:
            raise BoardError(
                f"config {config.name!r} does not fit {board.name}: it needs at least {needed} "
                f"{resource}, and the {board.part.name} has {available}; choose smaller buffers or "
                f"a smaller block, as in config {board.config!r}"
            )


def table(estimates: Iterable[Estimate]) -> str:
    """The estimates as a table in Markdown, with the share of the part behind each figure."""
    names = (*RESOURCES, LUT_MEMORY)
    lines = [
        f"| board | config | {' | '.join(names)} | by |",
        f"| --- | --- | {' | '.join(['---:'] * len(names))} | --- |",
    ]
    for one in estimates:
        figures = [
            f"{one.used[name]:,.1f}".removesuffix(".0") + f" ({one.shares[name]:.0%})"
            for name in names
        ]
        cells = (f"`{one.board}`", f"`{one.config}`", *figures, one.tool)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Print the table for the boards named."""
    boards = [find_board(name) for name in arguments or BOARDS]
    print(table(estimate(board, VtaConfig.load(board.config)) for board in boards), end="")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except VtaKitError as error:
        sys.exit(f"error: {error}")
