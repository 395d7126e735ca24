"""Assembler and disassembler: one instruction or micro-op per line, derived from the isa tables.

A line is the task, the memory type or ALU operation, then every field that is not at its default::

    load inp sram=0x123 dram=0xabcdef y=5 x=7 stride=14 ypad=1/2 xpad=3/4 pop_next
    gemm uop=16..72 iter=14/3 dst=1/0 src=1/1 wgt=0/1 pop_prev push_prev
    alu shr uop=72..73 iter=1/196 dst=0/1 src=0/1 imm=8 push_next
    alu req uop=0..4 iter=1/1 zero=-128 round=double
    uop dst=3 src=1 wgt=2

Pairs are outer/inner, first/last or begin..end. ``imm`` implies the immediate form; ``param`` is
the same field without it. A type that does not exist is written as its number, a word whose opcode
does not exist as ``unknown`` and its 32 hex digits. ``;`` starts a comment, a leading ``12:`` is
skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np

from vta_hw.spec.arith import INT8_MAX, INT8_MIN, req_imm, req_mode
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.errors import EncodingError
from vta_hw.spec.isa import (
    FORMATS,
    IMM_BITS,
    Alu,
    AluOp,
    Instruction,
    Load,
    MicroOp,
    Rounding,
    Store,
    Unknown,
    decode,
    decode_all,
    decode_uop,
    encode,
    encode_uop,
)
from vta_hw.spec.program import Program

_KINDS: Mapping[str, type[IntEnum]] = {"memory_type": MemType, "alu_opcode": AluOp}
_PAIRS = (("_0", "_1", "/"), ("_out", "_in", "/"), ("_bgn", "_end", ".."))
_FORMS: Mapping[str, type[Any]] = {
    **{form.__name__.lower(): form for form in FORMATS.values()},
    "uop": MicroOp,
}
# These are written together, by `_immediate`.
_IMMEDIATE = ("use_imm", "imm")


@dataclass(frozen=True)
class _Item:
    """How one field, or two that belong together, are written."""

    label: str
    names: tuple[str, ...]
    separator: str = ""
    flag: bool = False
    hexadecimal: bool = False


def _items(form: type[Any]) -> tuple[_Item, ...]:
    names = [item.name for item in fields(form)]
    flags = {item.name for item in fields(form) if item.default is False}
    items, late = [], []
    for name in names:
        if name == "opcode" or name in _KINDS or name in _IMMEDIATE:
            continue
        if name in flags:
            late.append(_Item(name, (name,), flag=True))
            continue
        for first, second, separator in _PAIRS:
            stem = name.removesuffix(first)
            if stem != name:
                items.append(_Item(_label(stem), (name, stem + second), separator))
                break
        else:
            if not any(name in item.names for item in items):
                items.append(_Item(_label(name), (name,), hexadecimal=name.endswith("_base")))
    return (*items, *late)


def _label(name: str) -> str:
    short = re.sub("_(base|size|factor)$", "", name)
    return "stride" if short == "x_stride" else short.replace("_", "")


_ITEMS: Mapping[type[Any], tuple[_Item, ...]] = {form: _items(form) for form in _FORMS.values()}


def _kind_field(form: type[Any]) -> str | None:
    return next((item.name for item in fields(form) if item.name in _KINDS), None)


# -- writing --------------------------------------------------------------------------------------


def format_insn(insn: Instruction | MicroOp) -> str:
    """The line of one instruction or micro-op."""
    return " ".join(_words(insn, {}))


def disassemble(stream: bytes, config: VtaConfig) -> str:
    """The lines of an instruction stream, each with its index."""
    return _listing(format_insn(insn) for insn in decode_all(stream, config))


def disassemble_uops(words: Iterable[int] | np.ndarray, config: VtaConfig) -> str:
    """The lines of micro-op words, each with its index."""
    return _listing(format_insn(decode_uop(int(word), config)) for word in words)


def disassemble_program(program: Program) -> str:
    """The lines of a program: DRAM addresses as symbol+offset (in elements), sources as comments.

    A comment stands wherever the source of the instructions changes.
    """
    symbols = {relocation.index: relocation.symbol for relocation in program.relocations}
    lines, last = [], ""
    for index, insn in enumerate(program.instructions):
        source = program.source(index)
        if source and source != last:
            lines.append(f"; {source}")
        last = source
        words = {}
        if index in symbols:
            assert isinstance(insn, Load | Store)
            words["dram"] = f"dram={symbols[index]}+{insn.dram_base:#x}"
        lines.append(f"{index:6}: {' '.join(_words(insn, words))}")
    return "".join(line + "\n" for line in lines)


def _listing(lines: Iterable[str]) -> str:
    return "".join(f"{index:6}: {line}\n" for index, line in enumerate(lines))


def _words(insn: Instruction | MicroOp, replaced: Mapping[str, str]) -> Iterator[str]:
    if isinstance(insn, Unknown):
        yield from ("unknown", f"{insn.word:#034x}")
        return
    form = type(insn)
    yield "uop" if form is MicroOp else form.__name__.lower()
    if kind := _kind_field(form):
        number = getattr(insn, kind)
        known = number in tuple(_KINDS[kind])
        yield _KINDS[kind](number).name.lower() if known else str(number)
    flags = []
    for item in _ITEMS[form]:
        values = [int(getattr(insn, name)) for name in item.names]
        if item.label in replaced:
            yield replaced[item.label]
        elif item.flag:
            flags += [item.label] if values[0] else []
        elif any(values) or form is MicroOp:
            texts = [hex(value) if item.hexadecimal else str(value) for value in values]
            yield f"{item.label}={item.separator.join(texts)}"
    if isinstance(insn, Alu):
        yield from _immediate(insn)
    yield from flags


def _immediate(insn: Alu) -> Iterator[str]:
    if insn.use_imm:
        yield f"imm={insn.imm}"
    elif insn.alu_opcode == AluOp.REQ and insn.imm in _REQ_IMMEDIATES:
        zero_point = ((insn.imm & 0xFF) ^ 0x80) - 0x80
        yield from (f"zero={zero_point}", f"round={Rounding(req_mode(insn.imm)).name.lower()}")
    elif insn.imm:
        yield f"param={insn.imm & ((1 << IMM_BITS) - 1):#x}"


_REQ_IMMEDIATES = frozenset(
    req_imm(zero_point, mode) for zero_point in range(INT8_MIN, INT8_MAX + 1) for mode in Rounding
)


# -- reading --------------------------------------------------------------------------------------


def assemble(text: str, config: VtaConfig) -> list[Instruction]:
    """The instructions of a text; an error names the line and what to write instead."""
    return list(_assemble(text, config, uops=False))


def assemble_uops(text: str, config: VtaConfig) -> list[MicroOp]:
    """The micro-ops of a text; an error names the line and what to write instead."""
    return list(_assemble(text, config, uops=True))


def _assemble(text: str, config: VtaConfig, *, uops: bool) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"^\s*\d+:", "", line.partition(";")[0]).split()
        if not words:
            continue
        try:
            yield _parse(words, config, uops)
        except EncodingError as error:
            raise EncodingError(f"line {number}: {error}") from None


def _parse(words: list[str], config: VtaConfig, uops: bool) -> Instruction | MicroOp:
    task = words.pop(0)
    if task == "unknown" and not uops:
        return _parse_unknown(words, config)
    legal = ["uop"] if uops else [*(name for name in _FORMS if name != "uop"), "unknown"]
    if task not in legal:
        raise EncodingError(f"{task!r} must be one of {', '.join(legal)}")
    form = _FORMS[task]
    values: dict[str, Any] = {}
    if kind := _kind_field(form):
        values[kind] = _parse_kind(words.pop(0) if words else "", _KINDS[kind])
    for word in words:
        new = _parse_word(word, form)
        if repeated := new.keys() & values.keys():
            raise EncodingError(f"{word!r} gives {min(repeated)} twice; leave one out")
        values |= new
    _merge_req(values)
    made: Instruction | MicroOp = form(**values)
    if isinstance(made, MicroOp):
        encode_uop(made, config)  # refuses what does not fit
    else:
        encode(made, config)
    return made


def _parse_unknown(words: list[str], config: VtaConfig) -> Instruction:
    word = _number(words[0]) if len(words) == 1 else -1
    if not 0 <= word < 1 << 128:
        raise EncodingError("'unknown' must be followed by one 128-bit word, such as 0x7")
    insn = decode(word, config)
    if not isinstance(insn, Unknown):
        raise EncodingError(
            f"{words[0]} is the known instruction '{format_insn(insn)}'; write that"
        )
    return insn


def _parse_kind(word: str, kinds: type[IntEnum]) -> int:
    names = {kind.name.lower(): int(kind) for kind in kinds}
    if word in names:
        return names[word]
    if re.fullmatch(r"\d+", word):
        return int(word)
    raise EncodingError(f"{word!r} must be one of {', '.join(names)}, or a number")


def _parse_word(word: str, form: type[Any]) -> dict[str, Any]:
    label, equals, text = word.partition("=")
    if form is Alu and equals and label in _ALU_WORDS:
        return _parse_immediate(label, text)
    for item in _ITEMS[form]:
        if item.label != label or item.flag == bool(equals):
            continue
        if item.flag:
            return {label: True}
        parts = text.split(item.separator) if item.separator else [text]
        if len(parts) != len(item.names):
            raise EncodingError(f"{word!r} must have the form {label}=A{item.separator}B")
        return dict(zip(item.names, map(_number, parts), strict=True))
    known = [item.label if item.flag else item.label + "=" for item in _ITEMS[form]]
    known += [name + "=" for name in _ALU_WORDS] if form is Alu else []
    raise EncodingError(f"{word!r} must be one of {', '.join(known)}")


_ALU_WORDS = ("imm", "param", "zero", "round")


def _parse_immediate(label: str, text: str) -> dict[str, Any]:
    if label == "round":
        modes = {mode.name.lower(): mode for mode in Rounding}
        if text not in modes:
            raise EncodingError(f"rounding {text!r} must be one of {', '.join(modes)}")
        return {"round": modes[text]}
    number = _number(text)
    match label:
        case "imm":
            return {"imm": number, "use_imm": True}
        case "param":
            sign = 1 << (IMM_BITS - 1)
            return {"imm": (number ^ sign) - sign if 0 <= number < 1 << IMM_BITS else number}
        case _:
            return {"zero": number}


def _merge_req(values: dict[str, Any]) -> None:
    if not values.keys() & {"zero", "round"}:
        return
    if values["alu_opcode"] != AluOp.REQ or "imm" in values:
        raise EncodingError("zero= and round= must stand in an alu req without imm= and param=")
    values["imm"] = req_imm(values.pop("zero", 0), values.pop("round", Rounding.DOUBLE))


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise EncodingError(f"{text!r} must be a number, such as 12, -3 or 0x1f") from None
