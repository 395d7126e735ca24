"""The configuration of one VTA instance: sizes, extensions, everything derived, all validation.

A configuration is JSON in upstream's format (``vta_config.json``: sizes are log2) plus the kit's
own keys. Named ones live in ``vta_hw/spec/configs``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from importlib import resources
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from vta_hw.spec.errors import ConfigError


class MemType(IntEnum):
    """Memory type ids of LOAD and STORE (upstream HW_VER 0.0.2)."""

    UOP = 0
    WGT = 1
    INP = 2
    ACC = 3
    OUT = 4
    ACC_8BIT = 5


EXTENSIONS: Mapping[str, str] = {
    "requant": "ALU opcodes RDHM, RSR and REQ",
    "pad_min": "LOAD can pad with the least value of the type instead of zero",
    "overlap": "GEMM, ALU and compute-DMA may run beside each other where an instruction says so",
}

BYTE_BITS_LOG = 3
UOP_BITS = 32
INSN_BITS = 128
INSN_BYTES = INSN_BITS // 8
WORD_BITS = 64
PAGE_BYTES = 4096
"""Allocation alignment; makes the division of an address by an element size exact."""

# Only these scalar widths exist in this kit (upstream's other widths were never tested).
_FIXED_WIDTHS = {"LOG_INP_WIDTH": 3, "LOG_WGT_WIDTH": 3, "LOG_ACC_WIDTH": 5}

ACC_LANE_BITS = 1 << _FIXED_WIDTHS["LOG_ACC_WIDTH"]
"""Bits of one lane of an ACC element."""

_OWN_DEFAULTS: dict[str, Any] = {
    "EXTENSIONS": [],
    "LOG_BUS_WIDTH": 6,
    "LOG_CMD_QUEUE": 9,
    "DRAM_LATENCY": 32,
    "MAX_READS": 64,
}
# key -> (least, greatest) legal value
_RANGES = {
    "LOG_BATCH": (0, 6),
    "LOG_BLOCK": (0, 8),
    "LOG_BLOCK_IN": (0, 8),
    "LOG_BLOCK_OUT": (0, 8),
    "LOG_UOP_BUFF_SIZE": (3, 24),
    "LOG_INP_BUFF_SIZE": (1, 24),
    "LOG_WGT_BUFF_SIZE": (1, 24),
    "LOG_ACC_BUFF_SIZE": (1, 24),
    "LOG_BUS_WIDTH": (5, 9),
    "LOG_CMD_QUEUE": (2, 16),
    "DRAM_LATENCY": (1, 65535),
    "MAX_READS": (1, 1024),
}
_TEXT_KEYS = ("TARGET", "HW_VER")
# Keys that say how fast, not what: a program runs unchanged when they differ.
_TIMING_KEYS = ("TARGET", "HW_VER", "LOG_BUS_WIDTH", "LOG_CMD_QUEUE", "DRAM_LATENCY", "MAX_READS")
_REQUIRED = ("LOG_UOP_BUFF_SIZE", "LOG_INP_BUFF_SIZE", "LOG_WGT_BUFF_SIZE", "LOG_ACC_BUFF_SIZE")


@dataclass(frozen=True)
class VtaConfig:
    """One validated VTA instance. Build it with `load`, `from_dict` or `override`.

    All ``log_*`` values are log2; buffer sizes are in bytes, scalar widths in bits.
    """

    log_batch: int
    log_block_in: int
    log_block_out: int
    log_uop_buff: int
    log_inp_buff: int
    log_wgt_buff: int
    log_acc_buff: int
    extensions: frozenset[str] = frozenset()
    log_bus_width: int = 6
    log_cmd_queue: int = 9
    dram_latency: int = 32
    max_reads: int = 64
    name: str = "unnamed"
    target: str = "sim"
    hw_ver: str = "0.0.2"

    log_inp_width: int = 3
    log_wgt_width: int = 3
    log_acc_width: int = 5

    def __post_init__(self) -> None:
        _check_geometry(self)
        from vta_hw.spec import isa  # the layouts need the class above

        isa.check_layouts(self)

    # -- construction ---------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], name: str = "unnamed") -> VtaConfig:
        """Build from upstream's JSON keys; unknown keys and values out of range are refused."""
        known = config_keys()
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"config {name!r} has the unknown key {brief(key)}; known keys are "
                    f"{', '.join(sorted(known))}"
                )
        merged = {**_OWN_DEFAULTS, **_FIXED_WIDTHS, **values}
        _check_values(merged, name)
        return cls(
            log_batch=merged.get("LOG_BATCH", 0),
            log_block_in=merged["LOG_BLOCK_IN" if "LOG_BLOCK_IN" in merged else "LOG_BLOCK"],
            log_block_out=merged["LOG_BLOCK_OUT" if "LOG_BLOCK_OUT" in merged else "LOG_BLOCK"],
            log_uop_buff=merged["LOG_UOP_BUFF_SIZE"],
            log_inp_buff=merged["LOG_INP_BUFF_SIZE"],
            log_wgt_buff=merged["LOG_WGT_BUFF_SIZE"],
            log_acc_buff=merged["LOG_ACC_BUFF_SIZE"],
            extensions=frozenset(merged["EXTENSIONS"]),
            log_bus_width=merged["LOG_BUS_WIDTH"],
            log_cmd_queue=merged["LOG_CMD_QUEUE"],
            dram_latency=merged["DRAM_LATENCY"],
            max_reads=merged["MAX_READS"],
            name=name,
            target=merged.get("TARGET", "sim"),
            hw_ver=merged.get("HW_VER", "0.0.2"),
        )

    @classmethod
    def load(cls, name_or_path: str | Path) -> VtaConfig:
        """Load a named configuration, or a JSON file."""
        text = str(name_or_path)
        if text in named_configs():
            source = resources.files("vta_hw.spec") / "configs" / f"{text}.json"
            return cls.from_dict(json.loads(source.read_text()), text)
        path = Path(text)
        if not path.is_file():
            raise ConfigError(
                f"config {text!r} is neither a file nor one of {', '.join(named_configs())}"
            )
        try:
            values = json.loads(path.read_text())
        except RecursionError as error:
            raise ConfigError(f"config file {text!r} is nested too deep") from error
        except (ValueError, OSError) as error:
            raise ConfigError(f"config file {text!r} is not readable JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"config file {text!r} must hold one JSON object")
        return cls.from_dict(values, path.stem)

    def override(self, settings: Iterable[str]) -> VtaConfig:
        """Apply ``KEY=VALUE`` settings (the command line's ``--set``) and validate again."""
        if isinstance(settings, str):
            raise ConfigError(
                f"settings must be a list of KEY=VALUE texts, not the text {settings!r}; put it "
                f"into a list"
            )
        values = self.to_dict()
        changed = False
        for setting in settings:
            if not isinstance(setting, str):
                raise ConfigError(f"setting {setting!r} must be text of the form KEY=VALUE")
            key, equals, value = setting.partition("=")
            if not equals:
                raise ConfigError(f"setting {setting!r} must have the form KEY=VALUE")
            if key == "LOG_BLOCK":
                values.pop("LOG_BLOCK_IN", None)
                values.pop("LOG_BLOCK_OUT", None)
            values[key] = _parse_setting(key, value)
            changed = True
        return VtaConfig.from_dict(values, self.name + "*") if changed else self

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, in upstream's names; `from_dict` gives an equal config."""
        square = self.log_block_in == self.log_block_out
        block = (
            {"LOG_BLOCK": self.log_block_in}
            if square
            else {"LOG_BLOCK_IN": self.log_block_in, "LOG_BLOCK_OUT": self.log_block_out}
        )
        return {
            "TARGET": self.target,
            "HW_VER": self.hw_ver,
            **_FIXED_WIDTHS,
            "LOG_BATCH": self.log_batch,
            **block,
            "LOG_UOP_BUFF_SIZE": self.log_uop_buff,
            "LOG_INP_BUFF_SIZE": self.log_inp_buff,
            "LOG_WGT_BUFF_SIZE": self.log_wgt_buff,
            "LOG_ACC_BUFF_SIZE": self.log_acc_buff,
            "EXTENSIONS": sorted(self.extensions),
            "LOG_BUS_WIDTH": self.log_bus_width,
            "LOG_CMD_QUEUE": self.log_cmd_queue,
            "DRAM_LATENCY": self.dram_latency,
            "MAX_READS": self.max_reads,
        }

    # -- derived --------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """Rows of one INP, ACC and OUT element."""
        return 1 << self.log_batch

    @property
    def block_in(self) -> int:
        """Input channels of one GEMM step."""
        return 1 << self.log_block_in

    @property
    def block_out(self) -> int:
        """Output channels of one GEMM step."""
        return 1 << self.log_block_out

    @property
    def macs_per_cycle(self) -> int:
        """Size of the MAC array."""
        return self.batch * self.block_in * self.block_out

    @property
    def cmd_queue_depth(self) -> int:
        """Entries of each stage's command queue."""
        return 1 << self.log_cmd_queue

    def log_elem_bytes(self, memory: MemType) -> int:
        """log2 of the bytes that one element of `memory` takes in DRAM."""
        return self._log_elem_bytes[memory]

    @cached_property
    def _log_elem_bytes(self) -> Mapping[MemType, int]:
        acc_lanes = self.log_batch + self.log_block_out
        return {
            MemType.UOP: 5 - BYTE_BITS_LOG,
            MemType.WGT: self.log_block_in + self.log_block_out + self.log_wgt_width - 3,
            MemType.INP: self.log_batch + self.log_block_in + self.log_inp_width - 3,
            MemType.ACC: acc_lanes + self.log_acc_width - 3,
            MemType.OUT: acc_lanes + self.log_inp_width - 3,
            MemType.ACC_8BIT: acc_lanes + self.log_inp_width - 3,
        }

    def elem_bytes(self, memory: MemType) -> int:
        """Bytes of one element of `memory` in DRAM."""
        return 1 << self.log_elem_bytes(memory)

    def depth_bits(self, memory: MemType) -> int:
        """log2 of the entries of `memory`; OUT and ACC_8BIT address the ACC scratchpad."""
        if memory in (MemType.OUT, MemType.ACC_8BIT):
            memory = MemType.ACC
        buffer = {
            MemType.UOP: self.log_uop_buff,
            MemType.WGT: self.log_wgt_buff,
            MemType.INP: self.log_inp_buff,
            MemType.ACC: self.log_acc_buff,
        }[memory]
        return buffer - self.log_elem_bytes(memory)

    def depth(self, memory: MemType) -> int:
        """Entries of `memory`."""
        return 1 << self.depth_bits(memory)

    def has(self, extension: str) -> bool:
        """Whether the extension is present."""
        return extension in self.extensions

    @cached_property
    def hash(self) -> str:
        """16 hex digits over every key: equal hashes mean equal machines, timing included."""
        return _digest(self.to_dict())

    @cached_property
    def program_hash(self) -> str:
        """16 hex digits over the keys that a program's meaning depends on, not those of timing."""
        return _digest({k: v for k, v in self.to_dict().items() if k not in _TIMING_KEYS})


def named_configs() -> tuple[str, ...]:
    """Names that `VtaConfig.load` knows."""
    folder = resources.files("vta_hw.spec") / "configs"
    return tuple(sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json")))


def config_keys() -> Mapping[str, str]:
    """Every key that a configuration may have, with the values it takes, as text."""
    return {
        **dict.fromkeys(_TEXT_KEYS, "text"),
        **{key: str(fixed) for key, fixed in _FIXED_WIDTHS.items()},
        **{key: f"{least}..{greatest}" for key, (least, greatest) in _RANGES.items()},
        "EXTENSIONS": f"any of {', '.join(EXTENSIONS)}",
    }


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _parse_setting(key: str, value: str) -> Any:
    if key in _TEXT_KEYS:
        return value
    if key == "EXTENSIONS":
        return [part for part in value.split(",") if part]
    try:
        return int(value, 0)
    except ValueError:
        raise ConfigError(f"setting {f'{key}={value}'!r}: the value must be an integer") from None


def _check_values(values: Mapping[str, Any], name: str) -> None:
    for key in _REQUIRED:
        if key not in values:
            raise ConfigError(f"config {name!r} lacks the key {key!r}; add it")
    if "LOG_BLOCK" not in values and not {"LOG_BLOCK_IN", "LOG_BLOCK_OUT"} <= values.keys():
        raise ConfigError(f"config {name!r} needs LOG_BLOCK, or LOG_BLOCK_IN and LOG_BLOCK_OUT")
    for key, (least, greatest) in _RANGES.items():
        value = values.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f"config {name!r}: {key} must be an integer, not {brief(value)}")
        if not least <= value <= greatest:
            raise ConfigError(
                f"config {name!r}: {key} must be within {least}..{greatest}, not {brief(value)}"
            )
    for key, fixed in _FIXED_WIDTHS.items():
        if values[key] != fixed:
            raise ConfigError(
                f"config {name!r}: {key} must be {fixed} (the only supported scalar width), "
                f"not {brief(values[key])}"
            )
    for key in _TEXT_KEYS:
        if not isinstance(values.get(key, ""), str):
            raise ConfigError(f"config {name!r}: {key} must be text, not {brief(values[key])}")
    extensions = values["EXTENSIONS"]
    if not isinstance(extensions, list):
        raise ConfigError(f"config {name!r}: EXTENSIONS must be a list, not {brief(extensions)}")
    for extension in extensions:
        if not isinstance(extension, str) or extension not in EXTENSIONS:
            raise ConfigError(
                f"config {name!r}: unknown extension {brief(extension)}; known are "
                f"{', '.join(EXTENSIONS)}"
            )


def _check_geometry(config: VtaConfig) -> None:
    for memory in (MemType.UOP, MemType.WGT, MemType.INP, MemType.ACC):
        elem, bits = config.elem_bytes(memory), config.depth_bits(memory)
        if elem > PAGE_BYTES:
            raise ConfigError(
                f"config {config.name!r}: one {memory.name} element is {elem} bytes, more than a "
                f"page of {PAGE_BYTES}; make the block or the batch smaller"
            )
        if bits < 1:
            raise ConfigError(
                f"config {config.name!r}: the {memory.name} buffer holds fewer than 2 elements of "
                f"{elem} bytes; enlarge LOG_{memory.name}_BUFF_SIZE"
            )
