"""The serial link of a board: the one definition of what goes over the wire.

The host sends requests, the board answers each one once and in order. Both are *contents* in
*frames*::

    frame    FLAG  stuffed(content, CRC-32 of the content, low byte first)  FLAG
    request  sequence:16  op:8  address:32  count:16  data
    answer   sequence:16  op|ANSWER:8  data  status:8

Numbers have their low byte first. In what is stuffed, FLAG and ESCAPE are sent as ESCAPE followed
by the byte with `ESCAPE_XOR`; so a FLAG on the wire always ends one frame and begins the next, and
whoever has lost the thread finds it at the next FLAG. Nothing between two FLAGs is no frame, and
neither is a CRC without content. The status of an answer comes last because it is known last: a
read that fails has sent part of its data.

What the ops take and give back is in `OP_DOCS`, what the board does with a request that it cannot
follow in `STATUS_DOCS`. A frame that is cut, too long, or whose CRC does not match is dropped
without an answer; the host sends the request again with the same sequence number.

Requests of `ONCE` are carried out once. When one of them has the sequence number of the request
just before it, and that was of `ONCE` too, it is a repeat: the board gives the same status again
and does nothing. IDENTIFY makes the board forget the number, so a host may start with any. All
other requests can be carried out twice without harm, and a host may have many of them under way as
long as the board's buffer holds them (`buffered_bytes`, `Greeting.buffer_bytes`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

from vta_hw.spec.registers import ADDRESS_BITS

VERSION = 1
"""Of everything here but the frame, IDENTIFY, and the first two fields of its answer."""

FLAG = 0x7E
ESCAPE = 0x7D
ESCAPE_XOR = 0x20

CRC_POLYNOMIAL = 0xEDB88320
"""CRC-32 as in Ethernet and zlib, low bit first."""
CRC_INIT = 0xFFFFFFFF
"""The register before the first byte, and what is added (XOR) to it after the last one."""
CRC_RESIDUE = 0xDEBB20E3
"""The register after a content and its CRC."""
CRC_BYTES = 4

BLOCK_BYTES = 1024
"""Most bytes of memory in one request or answer."""
REGISTER_SPACE_BYTES = 1 << ADDRESS_BITS

RUN_LIMIT_BITS = 24
DEFAULT_RUN_LIMIT_MS = 10_000
"""A run that takes longer is ended by a reset of the core, until SET_RUN_LIMIT says otherwise."""
STALL_MS = 50
"""A frame in which nothing arrives for as long is dropped."""

MAGIC = b"VTAL"
BOARD_NAME_BYTES = 16

ANSWER = 0x80
"""Set in the op of an answer: a line that echoes does not pass for a board."""


class Op(IntEnum):
    """What a request asks for."""

    IDENTIFY = 0x01
    READ_REGISTER = 0x02
    WRITE_REGISTER = 0x03
    READ_MEMORY = 0x04
    WRITE_MEMORY = 0x05
    RESET = 0x06
    STATISTICS = 0x07
    SET_RUN_LIMIT = 0x08


OP_DOCS = {
    Op.IDENTIFY: "count 0; answered with a `Greeting`",
    Op.READ_REGISTER: "address: offset of the core's register; count 4; answered with its value",
    Op.WRITE_REGISTER: "address: offset of the core's register; count 4; data: its value",
    Op.READ_MEMORY: f"address, count 1 to {BLOCK_BYTES}; answered with these bytes of memory",
    Op.WRITE_MEMORY: f"address, count 1 to {BLOCK_BYTES}; data goes to these bytes of memory",
    Op.RESET: "count 0; resets the core, not the memory",
    Op.STATISTICS: "count 0; answered with `Statistics`",
    Op.SET_RUN_LIMIT: "count 0; address: milliseconds that a run may take; 0 for any time",
}

ONCE = frozenset({Op.WRITE_REGISTER, Op.RESET})
"""Requests that must not be carried out twice: a write may launch a run."""

CARRIES_DATA = frozenset({Op.WRITE_REGISTER, Op.WRITE_MEMORY})
"""Requests with `count` bytes of data; the others have none."""


class Status(IntEnum):
    """How a request went."""

    OK = 0
    BUSY = 1
    BAD_ADDRESS = 2
    BAD_REQUEST = 3
    BUS_ERROR = 4


STATUS_DOCS = {
    Status.OK: "done",
    Status.BUSY: "the core runs: memory is not touched",
    Status.BAD_ADDRESS: "memory ends before address + count, or there is no such register",
    Status.BAD_REQUEST: "no such op, or a count, a size or a limit that the op does not take",
    Status.BUS_ERROR: "memory answered with an error, or something did not answer in time and the "
    "core was reset",
}

REQUEST_FIELDS = {"sequence": 16, "op": 8, "address": 32, "count": 16}
"""Of a request before its data: bits of each, in the order in which they are sent."""
_FORMATS = {8: "B", 16: "H", 32: "I"}
_HEADER = struct.Struct("<" + "".join(_FORMATS[bits] for bits in REQUEST_FIELDS.values()))
HEADER_BYTES = _HEADER.size
ANSWER_FIELDS = ("sequence", "op")
"""Of an answer before its data."""
SEQUENCE_BITS = REQUEST_FIELDS["sequence"]
_ANSWER_HEADER = struct.Struct("<" + "".join(_FORMATS[REQUEST_FIELDS[n]] for n in ANSWER_FIELDS))
ANSWER_BYTES = _ANSWER_HEADER.size + 1
"""Of an answer without data."""
CONTENT_BYTES = HEADER_BYTES + BLOCK_BYTES
"""Of the longest content, which is a request."""

RECORD_BYTES = 2
"""What the board keeps with every request that waits in its buffer: how long it is."""


class FrameError(ValueError):
    """Bytes that are no frame, no request or no answer."""


@dataclass(frozen=True)
class Request:
    """A request; `decode` and `encode` are inverse to each other."""

    sequence: int
    op: int
    address: int = 0
    count: int = 0
    data: bytes = b""

    def encode(self) -> bytes:
        """The content of its frame."""
        return _HEADER.pack(self.sequence, self.op, self.address, self.count) + self.data

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The request with this content, which need not make sense."""
        if len(content) < HEADER_BYTES:
            raise FrameError(f"a request has {HEADER_BYTES} bytes or more, not {len(content)}")
        sequence, op, address, count = _HEADER.unpack_from(content)
        return cls(sequence, op, address, count, content[HEADER_BYTES:])

    @property
    def buffered_bytes(self) -> int:
        """What it takes of the board's buffer until it has been answered."""
        return HEADER_BYTES + len(self.data) + RECORD_BYTES


@dataclass(frozen=True)
class Answer:
    """The answer to a request, whose `sequence` and `op` it has."""

    sequence: int
    op: int
    status: Status
    data: bytes = b""

    def encode(self) -> bytes:
        """The content of its frame."""
        header = _ANSWER_HEADER.pack(self.sequence, self.op | ANSWER)
        return header + self.data + bytes([self.status])

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """The answer with this content."""
        if len(content) < ANSWER_BYTES:
            raise FrameError(f"an answer has {ANSWER_BYTES} bytes or more, not {len(content)}")
        sequence, op = _ANSWER_HEADER.unpack_from(content)
        if not op & ANSWER:
            raise FrameError(f"op {op:#04x} is that of a request")
        if content[-1] not in set(Status):
            raise FrameError(f"there is no status {content[-1]}")
        return cls(sequence, op & ~ANSWER, Status(content[-1]), content[_ANSWER_HEADER.size : -1])


@dataclass(frozen=True)
class Greeting:
    """What IDENTIFY is answered with; `magic` and `version` stay where they are in all versions.

    `block_bytes` is `BLOCK_BYTES` of the board. Of requests under way, `Request.buffered_bytes` may
    add up to `buffer_bytes`. Memory has `memory_bytes`, from address 0 on.
    """

    magic: bytes
    version: int
    block_bytes: int
    buffer_bytes: int
    memory_bytes: int
    clock_hz: int
    board: str

    def encode(self) -> bytes:
        """The data of the answer."""
        return _GREETING.pack(
            self.magic, self.version, self.block_bytes, self.buffer_bytes, self.memory_bytes,
            self.clock_hz, self.board.encode("ascii"),
        )  # fmt: skip

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The greeting in an answer's data. Raises `FrameError` for that of another version."""
        if len(data) != _GREETING.size:
            raise FrameError(f"a greeting has {_GREETING.size} bytes, not {len(data)}")
        magic, version, block, buffer, memory, clock_hz, board = _GREETING.unpack(data)
        name = board.rstrip(b"\0").decode("ascii", "replace")
        return cls(magic, version, block, buffer, memory, clock_hz, name)

    @staticmethod
    def version_of(data: bytes) -> int | None:
        """The version of the protocol of whoever gave this greeting; None: it is none."""
        magic, version = struct.unpack_from("<4sH", data.ljust(6, b"\0"))
        return version if magic == MAGIC else None


_GREETING = struct.Struct(f"<{len(MAGIC)}sHHHII{BOARD_NAME_BYTES}s")
GREETING_BYTES = _GREETING.size


@dataclass(frozen=True)
class Statistics:
    """What the board has counted since its power-up, modulo 2^`COUNTER_BITS`."""

    frames_good: int = 0
    """Frames that held a request."""
    frames_bad: int = 0
    """Frames that were cut, too long, did not match their CRC, or had a byte without stop bit."""
    frames_stalled: int = 0
    """Frames that stopped for `STALL_MS`."""
    frames_overrun: int = 0
    """Frames that found the buffer full."""
    repeats: int = 0
    """Requests of `ONCE` that were not carried out again."""
    watchdog_resets: int = 0
    """Resets of the core because a run took too long or something did not answer."""

    def encode(self) -> bytes:
        """The data of the answer to STATISTICS."""
        return _STATISTICS.pack(*(getattr(self, name) for name in STATISTICS))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The statistics in an answer's data."""
        if len(data) != _STATISTICS.size:
            raise FrameError(f"statistics have {_STATISTICS.size} bytes, not {len(data)}")
        return cls(*_STATISTICS.unpack(data))


STATISTICS = tuple(field.name for field in fields(Statistics))
"""Their names, in the order in which they are sent."""
COUNTER_BITS = 16
_STATISTICS = struct.Struct(f"<{len(STATISTICS)}{_FORMATS[COUNTER_BITS]}")
STATISTICS_BYTES = _STATISTICS.size


def frame(content: bytes) -> bytes:
    """The bytes that carry `content`, both FLAGs included."""
    checked = content + zlib.crc32(content).to_bytes(CRC_BYTES, "little")
    for byte in (ESCAPE, FLAG):
        escaped = bytes([ESCAPE, byte ^ ESCAPE_XOR])
        checked = checked.replace(bytes([byte]), escaped)
    return bytes([FLAG, *checked, FLAG])


def unstuff(stuffed: bytes) -> bytes:
    """The content of a frame without its FLAGs; raises `FrameError` unless it is whole."""
    first, *escaped = stuffed.split(bytes([ESCAPE]))
    parts = [first]
    for part in escaped:
        byte = part[0] ^ ESCAPE_XOR if part else None
        if byte not in (FLAG, ESCAPE):
            raise FrameError("ESCAPE stands before a byte that needs none")
        parts += [bytes([byte]), part[1:]]
    checked = b"".join(parts)
    content, crc = checked[:-CRC_BYTES], checked[-CRC_BYTES:]
    # The CRC of nothing is 0, so a line that idles low would pass for frames without content.
    if len(checked) <= CRC_BYTES:
        raise FrameError(f"a frame has more than {CRC_BYTES} bytes, not {len(checked)}")
    if zlib.crc32(content) != int.from_bytes(crc, "little"):
        raise FrameError("the CRC does not match")
    return content


class Deframer:
    """Cuts a stream of bytes into contents.

    `bad` counts what lay between two FLAGs and was no frame; `pending` is whether something has
    come since the last FLAG. What comes before the first one is the rest of something older.
    """

    def __init__(self) -> None:
        self.bad = 0
        self._open = b""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The contents of the frames that end in `data`, the bytes after all those before."""
        *ended, rest = data.split(bytes([FLAG]))
        for part in ended:
            stuffed, begun = self._open + part, self._begun
            self._open, self._begun = b"", True
            if stuffed and begun:
                try:
                    content = unstuff(stuffed)
                except FrameError:
                    self.bad += 1
                    continue
                yield content
        self._open += rest

    def drop(self) -> None:
        """Forget what has come since the last FLAG, and what comes up to the next one."""
        self._open, self._begun = b"", False

    @property
    def pending(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._open) and self._begun
