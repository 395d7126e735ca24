"""Writes the ISA page from the tables: ``python -m vta_hw.spec.docgen [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from string import Template
from typing import Any

from vta_hw.spec import isa_prose as prose
from vta_hw.spec.arith import ALU
from vta_hw.spec.asm import format_insn
from vta_hw.spec.config import EXTENSIONS, MemType, VtaConfig, config_keys, named_configs
from vta_hw.spec.isa import (
    REQUANT_OPS,
    TOKEN_FLAGS,
    TOKEN_MAX,
    Alu,
    AluOp,
    FaultClass,
    Finish,
    Gemm,
    Instruction,
    Load,
    MicroOp,
    Opcode,
    Rounding,
    Stage,
    Store,
    layout,
)
from vta_hw.spec.semantics import req_imm

DEFAULT_PATH = Path("docs", "isa.md")

_ELEMENTS = {
    MemType.UOP: "one micro-op",
    MemType.WGT: "block_out x block_in int8",
    MemType.INP: "batch x block_in int8",
    MemType.ACC: "batch x block_out int32",
    MemType.OUT: "batch x block_out int8",
    MemType.ACC_8BIT: "batch x block_out int8",
}
_USES = {
    MemType.UOP: "LOAD, compute stage",
    MemType.WGT: "LOAD, load stage",
    MemType.INP: "LOAD, load stage",
    MemType.ACC: "LOAD, compute stage",
    MemType.OUT: "STORE, store stage",
    MemType.ACC_8BIT: "LOAD, compute stage",
}
_EXAMPLES: tuple[Instruction, ...] = (
    Load(
        memory_type=MemType.INP,
        sram_base=0x123,
        dram_base=0xABCDEF,
        y_size=5,
        x_size=7,
        x_stride=14,
        y_pad_0=1,
        y_pad_1=2,
        x_pad_0=3,
        x_pad_1=4,
        push_next=True,
    ),
    Gemm(uop_bgn=16, uop_end=72, iter_out=14, iter_in=3, dst_factor_out=1, wgt_factor_in=1),
    Alu(alu_opcode=AluOp.SHR, uop_end=1, iter_out=1, iter_in=196, use_imm=True, imm=8),
    Alu(alu_opcode=AluOp.REQ, uop_end=4, iter_out=1, iter_in=1, imm=req_imm(-128, Rounding.DOUBLE)),
    Store(memory_type=MemType.OUT, y_size=1, x_size=16, x_stride=16, pop_prev=True),
    Finish(pop_next=True),
)


def generate() -> str:
    """The text of the page."""
    configs = [VtaConfig.load(name) for name in named_configs()]
    common = {item.name for item in fields(Finish)}
    tables = {
        "common": _format(Finish, configs[:1]),
        "opcodes": ", ".join(f"{op.name} {op.value}" for op in Opcode),
        "memory_format": _format(Store, configs[:1], without=common),
        "load_extra": _load_extensions(),
        "gemm_format": _format(Gemm, configs, without=common),
        "alu_format": _format(Alu, configs, without=common),
        "uop_format": _format(MicroOp, configs),
        "memories": _memories(),
        "alu_ops": _alu_ops(),
        "roundings": _table(
            ("mode", "name", "y"),
            [(m.value, m.name.lower(), prose.ROUNDING_MEANINGS[m.name]) for m in Rounding],
        ),
        "tokens": _tokens(),
        "token_max": str(TOKEN_MAX),
        "faults": _table(
            ("class", "code", "meaning"),
            [(f"`{f.text}`", f.value, prose.FAULT_MEANINGS[f.name]) for f in FaultClass],
        ),
        "extensions": _table(
            ("name", "meaning", "encoding"),
            [(f"`{n}`", text, prose.EXTENSION_ENCODINGS[n]) for n, text in EXTENSIONS.items()],
        ),
        "keys": _table(
            ("key", "values", "meaning"),
            [(f"`{k}`", v, prose.CONFIG_KEY_MEANINGS[k]) for k, v in config_keys().items()],
        ),
        "configs": _configs(configs),
        "example": "\n".join("    " + format_insn(insn) for insn in _EXAMPLES),
    }
    return Template(prose.PAGE).substitute(tables)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _format(
    form: type[Any], configs: Sequence[VtaConfig], without: Iterable[str] = frozenset()
) -> str:
    """Bit positions of a format, one column per group of configs that agree on all of them."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for config in configs:
        positions = tuple(
            (slot.name, str(slot.low) if slot.width == 1 else f"{slot.high}:{slot.low}")
            for slot in layout(form, config)
        )
        groups.setdefault(positions, []).append(config.name)
    columns = [dict(positions) for positions in groups]
    heads = [", ".join(names) for names in groups.values()] if len(configs) > 1 else ["bits"]
    rows = []
    for item in fields(form):
        cells = [column.get(item.name, "-") for column in columns]
        if item.name not in without and set(cells) != {"-"}:
            rows.append([f"`{item.name}`", *cells, item.metadata["doc"]])
    return _table(["field", *heads, "meaning"], rows)


def _load_extensions() -> str:
    texts = [
        f"bit {item.metadata['at']} `{item.name}` with the extension "
        f"`{item.metadata['extension']}` ({item.metadata['doc']})"
        for item in fields(Load)
        if item.metadata["extension"]
    ]
    return f"LOAD has further {'; '.join(texts)}. Positions are the same in every configuration."


def _memories() -> str:
    rows = [(m.value, m.name, _ELEMENTS[m], _USES[m]) for m in MemType]
    return _table(("type", "name", "element", "used by"), rows)


def _alu_ops() -> str:
    rows = []
    for op, rule in ALU.items():
        needs = "`requant`" if op in REQUANT_OPS else ""
        rows.append((op.value, op.name, rule.meaning, needs))
    head = ("opcode", "name", "result of a = acc[dst], b = second operand", "extension")
    return _table(head, rows)


def _tokens() -> str:
    flags = ("pop_prev", "pop_next", "push_prev", "push_next")
    rows = []
    for stage in Stage:
        queues = [TOKEN_FLAGS[stage].get(flag) for flag in flags]
        names = [f"`{queue.name.lower()}`" if queue is not None else "illegal" for queue in queues]
        rows.append([stage.name.lower(), *names])
    return _table(("stage", *flags), rows)


def _configs(configs: Sequence[VtaConfig]) -> str:
    memories = (MemType.UOP, MemType.INP, MemType.WGT, MemType.ACC)
    rows = []
    for c in configs:
        extensions = ", ".join(sorted(c.extensions)) or "none"
        shape = f"{c.batch} x {c.block_in} x {c.block_out}"
        depths = [c.depth(memory) for memory in memories]
        rows.append((c.name, shape, *depths, 1 << c.log_bus_width, extensions))
    heads = [f"{memory.name} elements" for memory in memories]
    return _table(("name", "batch x in x out", *heads, "bus bits", "extensions"), rows)


def main(arguments: Sequence[str]) -> None:
    """Write the page to the file named by the first argument, or to `DEFAULT_PATH`."""
    path = Path(arguments[0]) if arguments else DEFAULT_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(generate())


if __name__ == "__main__":
    main(sys.argv[1:])
