"""Seeded random programs: legal ones that end well, and illegal ones of every kind.

A program's result does not depend on the interleaving of the stages (see `gen_builder`), and it
reads no SRAM that it did not write. ``python -m tests.gen_programs --config NAME --seed N DIR``
writes one in the form that ``vta exec`` reads: I.bin and IN.bin.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests import oracle_words as w
from tests.gen_moves import Moves
from tests.oracle import Bad
from tests.oracle_words import Geometry, Values
from vta_hw.spec.config import VtaConfig

FAULTS = (
    "bad_opcode",
    "bad_flags",
    "bad_memory_type",
    "bad_pad",
    "sram_range",
    "dram_range",
    "bad_alu_opcode",
    "uop_range",
    "index_range",
)
ILLEGAL = (*FAULTS, "deadlock", "finish_not_drained", "no_finish", "several", "short_queue")


@dataclass(frozen=True)
class Generated:
    """A program to run on `dram` (base registers 0); `tags` name what occurs in it."""

    config: VtaConfig
    seed: int
    stream: bytes
    dram: bytes
    tags: frozenset[str]

    def save(self, folder: Path) -> None:
        """Write I.bin and IN.bin."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "I.bin").write_bytes(self.stream)
        (folder / "IN.bin").write_bytes(self.dram)


def legal_program(config: VtaConfig, seed: int, long_loops: bool = False) -> Generated:
    """A program that ends `ok`, about 30 to 90 instructions long.

    GEMM and ALU take up to 36 steps each, with `long_loops` up to 1920.
    """
    rng = Random(seed)
    if rng.random() < 0.2:
        config = config.override(["LOG_CMD_QUEUE=2"])
    moves = Moves(Geometry.of(config), rng, long_loops)
    moves.prologue()
    for _ in range(rng.randint(8, 24)):
        moves.random_move()
    moves.store_everything()
    if rng.random() < 0.5:
        moves.builder.order_after(w.STAGE_COMPUTE, w.STAGE_STORE)
    moves.finish()
    return _generated(config, seed, moves)


def illegal_program(config: VtaConfig, seed: int, kind: str) -> Generated:
    """A program that contains `kind` (of `ILLEGAL`); what it ends as is for the oracle to say.

    Further instructions follow the bad one, so that the other stages have something to run on. A
    `short_queue` program is legal but for its order: its merge of the three stages' sequences
    needs longer queues than there are, more often than not.
    """
    rng = Random(seed)
    if kind == "short_queue" or rng.random() < 0.2:
        config = config.override(["LOG_CMD_QUEUE=2"])
    moves = Moves(Geometry.of(config), rng)
    moves.prologue()
    kinds = rng.sample(FAULTS[1:], rng.randint(2, 4)) if kind == "several" else [kind]
    for one in kinds:
        for _ in range(rng.randint(0, 5)):
            moves.random_move()
        _spoil(moves, one)
    for _ in range(rng.randint(2, 6)):
        moves.random_move()
    moves.store_everything()
    if kind != "no_finish":
        moves.finish()
    return _generated(config, seed, moves, kind == "short_queue")


def _generated(config: VtaConfig, seed: int, moves: Moves, remerge: bool = False) -> Generated:
    builder, rng = moves.builder, moves.rng
    insns = builder.insns
    if remerge or (rng.random() < 0.5 and len(insns) < moves.geometry.queue):
        insns = _remerged(insns, rng)
        builder.tags.add("remerged")
    words = (w.encode(insn, moves.geometry) for insn in insns)
    stream = b"".join(word.to_bytes(16, "little") for word in words)
    return Generated(config, seed, stream, bytes(builder.image), frozenset(builder.tags))


def _remerged(insns: list[Values], rng: Random) -> list[Values]:
    """Another merge of the three stages' sequences: the same program for queues this deep."""
    lanes: list[list[Values]] = [[], [], []]
    for insn in insns:
        # A bad opcode belongs to no stage; it stays before what followed it in the load stage.
        lanes[w.stage_of(insn) if insn["opcode"] <= w.ALU else 0].append(insn)
    out = []
    while any(lanes):
        lane = rng.choices(lanes, [len(lane) for lane in lanes])[0]
        out.append(lane.pop(0))
    return out


# -- faults -----------------------------------------------------------------------------------


def _spoil(moves: Moves, kind: str) -> None:
    rng, builder = moves.rng, moves.builder
    match kind:
        case "deadlock":
            builder.starve(rng.choice(((0, 1), (1, 0), (1, 2), (2, 1))))
        case "finish_not_drained":
            moves.finish()
            builder.noop(w.STAGE_COMPUTE)
        case "no_finish" | "short_queue":
            pass
        case "bad_opcode":
            builder.emit({"opcode": rng.choice((5, 6, 7)), "junk": rng.getrandbits(128)})
        case "uop_range" | "index_range" | "bad_alu_opcode":
            builder.emit(_bad_loops(moves, kind))
        case _:
            builder.emit(_bad_transfer(moves, kind))


def _bad_transfer(moves: Moves, kind: str) -> Values:
    """A transfer with the fault `kind`, and often others that are checked after it."""
    rng = moves.rng
    later = ["bad_flags", "bad_memory_type", "bad_pad", "sram_range", "dram_range"]
    later = later[later.index(kind) + 1 :]
    while True:
        insn = moves.make_store() if rng.random() < 0.4 else moves.make_load()
        if kind == "bad_flags" and rng.random() < 0.2:
            insn = moves.make_load(w.UOP)
        for defect in [kind, *rng.sample(later, rng.randint(0, len(later)))]:
            _add_defect(moves, insn, defect)
        if kind in ("bad_flags", "bad_memory_type") and rng.random() < 0.5:
            insn["x_size"] = 0
        try:
            moves.builder.core.check_transfer(insn)
        except Bad as bad:
            if str(bad) == kind:
                return insn


def _add_defect(moves: Moves, insn: Values, defect: str) -> None:
    rng, load = moves.rng, insn["opcode"] == w.LOAD
    memory = insn["memory_type"]
    match defect:
        case "bad_flags":
            flag = rng.choice(("pop_prev", "push_prev") if load else ("pop_next", "push_next"))
            if load and memory == w.UOP and "pad_min" in moves.geometry.extensions:
                flag = "pad_min"
            insn[flag] = 1
        case "bad_memory_type":
            types = (4, 6, 7) if load else (0, 1, 2, 3, 5, 6, 7)
            insn["memory_type"] = rng.choice(types)
        case "bad_pad":
            insn[rng.choice(("y_pad_0", "y_pad_1", "x_pad_0", "x_pad_1"))] = rng.randint(1, 15)
        case "sram_range":
            rows, columns = moves.builder.core.shape(insn)
            depth = moves.geometry.depth(memory if memory < 6 else w.ACC)
            excess = rng.choice((1, 1, 2, 50))
            insn["sram_base"] = min(65535, max(0, depth - rows * columns) + excess)
        case "dram_range":
            size = moves.geometry.elem_bytes[memory if memory < 6 else w.OUT]
            insn["y_size"] = max(1, insn["y_size"])
            rows = (insn["y_size"] - 1) * insn["x_stride"] + insn["x_size"]
            first = len(moves.builder.image) // size - rows + 1
            insn["dram_base"] = rng.choice((max(0, first), 0x10000000, 0xFFFFFFFF))


def _bad_loops(moves: Moves, kind: str) -> Values:
    rng, geometry = moves.rng, moves.geometry
    while True:
        if kind == "bad_alu_opcode":
            insn = moves.make_alu(rng.choice((w.ADD, w.REQ)))
            insn["alu_opcode"] = rng.choice((5, 6, 7))
            if "requant" in geometry.extensions:
                insn["alu_opcode"] = w.REQ
                insn.update(rng.choice(({"use_imm": 1}, {"imm": 0x300}, {"imm": 0x1000})))
            if rng.random() < 0.3:
                insn["iter_in"] = 0
        elif kind == "uop_range":
            insn = moves.make_loops_at_uop_end()
            insn["uop_end"] = geometry.depth(w.UOP) + rng.choice((1, 2, geometry.depth(w.UOP) - 1))
        elif "requant" in geometry.extensions and rng.random() < 0.3:
            insn = moves.make_req_at_acc_end()
        else:
            insn = rng.choice((moves.make_gemm, moves.make_alu))()
            _stretch(moves, insn)
        if moves.trial(insn) == kind:
            return insn


def _stretch(moves: Moves, insn: Values) -> None:
    """Make one factor so large that an index leaves its memory."""
    rng = moves.rng
    insn["iter_out"] = max(2, insn["iter_out"])
    names = ["dst", "src"] + (["wgt"] if insn["opcode"] == w.GEMM else [])
    name = rng.choice(names)
    memory = w.ACC
    if insn["opcode"] == w.GEMM:
        memory = {"dst": w.ACC, "src": w.INP, "wgt": w.WGT}[name]
    depth = moves.geometry.depth(memory)
    insn[f"{name}_factor_out"] = rng.randint(max(0, depth - 24), depth - 1)


def main(arguments: list[str]) -> None:
    """Write one program's I.bin and IN.bin."""
    parser = argparse.ArgumentParser(prog="python -m tests.gen_programs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--illegal", choices=ILLEGAL)
    options = parser.parse_args(arguments)
    config = VtaConfig.load(options.config)
    if options.illegal:
        program = illegal_program(config, options.seed, options.illegal)
    else:
        program = legal_program(config, options.seed)
    program.save(options.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
