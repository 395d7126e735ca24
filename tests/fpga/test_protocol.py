"""The link's frames: golden bytes, round trips, and what damage can do to them."""

from __future__ import annotations

import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga import protocol
from fpga.protocol import (
    BLOCK_BYTES,
    ESCAPE,
    FLAG,
    Answer,
    Deframer,
    FrameError,
    Greeting,
    Op,
    Request,
    Statistics,
    Status,
    frame,
    unstuff,
)
from tests.models import REPO

CONTENTS = st.binary(min_size=1, max_size=60) | st.lists(
    st.sampled_from([FLAG, ESCAPE, FLAG ^ 0x20, ESCAPE ^ 0x20, 0, 255]), min_size=1, max_size=60
).map(bytes)


def contents(*parts: bytes) -> list[bytes]:
    deframer = Deframer()
    return [content for part in parts for content in deframer.feed(part)]


# Worked out by hand; CRCs are the published check value, or from the trailer that gzip writes.
GOLDEN = [
    (b"123456789", "7e 313233343536373839 2639f4cb 7e"),
    (b"\x7e", "7e 7d5e b6b3bf65 7e"),
    (b"\x7d\x5d", "7e 7d5d5d 0d3892ce 7e"),
    (Request(0x0201, Op.IDENTIFY).encode(), "7e 0102 01 00000000 0000 240c2015 7e"),
    (
        Request(0x1234, Op.WRITE_REGISTER, 0x5C, 4, b"\x01\0\0\0").encode(),
        "7e 3412 03 5c000000 0400 01000000 ec977031 7e",
    ),
    (Answer(0x1234, Op.WRITE_REGISTER, Status.BAD_ADDRESS).encode(), "7e 3412 83 02 506d0fbf 7e"),
    (Answer(7, Op.READ_MEMORY, Status.OK, b"\x7e").encode(), "7e 0700 84 7d5e 00 29cc8223 7e"),
]


@pytest.mark.parametrize(("content", "expected"), GOLDEN)
def test_golden_frames(content: bytes, expected: str):
    assert frame(content).hex() == expected.replace(" ", "")
    assert contents(bytes.fromhex(expected)) == [content]


def test_crc_is_that_of_zlib():
    register = protocol.CRC_INIT
    for byte in b"123456789" + bytes.fromhex("2639f4cb"):
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (protocol.CRC_POLYNOMIAL if register & 1 else 0)
    assert register == protocol.CRC_RESIDUE
    assert zlib.crc32(b"123456789") == 0xCBF43926


@settings(deadline=None)
@given(st.lists(CONTENTS, max_size=5), st.data())
def test_frames_round_trip_however_they_are_cut(sent: list[bytes], data: st.DataObject):
    line = b"".join(map(frame, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=6)))
    parts = [line[a:b] for a, b in zip([0, *cuts], [*cuts, len(line)], strict=True)]
    assert contents(*parts) == sent


@settings(deadline=None)
@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFF),
    st.binary(max_size=40),
)
def test_requests_round_trip(sequence: int, op: int, address: int, count: int, data: bytes):
    request = Request(sequence, op, address, count, data)
    assert Request.decode(request.encode()) == request
    assert request.buffered_bytes == len(request.encode()) + 2


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), st.integers(0, 0x7F), st.sampled_from(Status), st.binary())
def test_answers_round_trip(sequence: int, op: int, status: Status, data: bytes):
    answer = Answer(sequence, op, status, data)
    assert Answer.decode(answer.encode()) == answer


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame, and what is left of it after some damage of each kind."""
    whole = bytearray(frame(draw(CONTENTS)))
    hurt = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        if not hurt:
            break
        at = draw(st.integers(0, len(hurt) - 1))
        match draw(st.sampled_from(["flip", "flag", "lose", "insert", "twice", "cut"])):
            case "flip":
                hurt[at] ^= draw(st.integers(1, 255))
            case "flag":
                hurt[at] = FLAG
            case "lose":
                del hurt[at : at + draw(st.integers(1, 4))]
            case "insert":
                hurt[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "twice":
                hurt[at:at] = hurt[at : at + draw(st.integers(1, 4))]
            case "cut":
                del hurt[at:]
    return bytes(whole), bytes(hurt)


@pytest.mark.parametrize("zeros", range(1, 8))
def test_zeros_are_no_frame(zeros: int):
    """Four of them are the CRC of no content."""
    assert contents(bytes([FLAG]), bytes(zeros), frame(b"\0")) == [b"\0"]


@settings(max_examples=700, deadline=None)
@given(damaged(), CONTENTS)
def test_damage_is_seen_and_the_next_frame_is_not_lost(frames: tuple[bytes, bytes], after: bytes):
    whole, hurt = frames
    found = contents(bytes([FLAG]), hurt, frame(after))
    assert found[-1] == after
    assert found[:-1] in ([], contents(whole))


def test_what_comes_before_the_first_flag_is_not_held_against_the_line():
    deframer = Deframer()
    assert list(deframer.feed(b"rest of something" + frame(b"good"))) == [b"good"]
    assert deframer.bad == 0
    assert list(deframer.feed(b"noise" + frame(b"good"))) == [b"good"]
    assert deframer.bad == 1 and not deframer.pending


@pytest.mark.parametrize("text", ["", "00", "7d", "7d7d00", "7d00", "0000000000", "7d20"])
def test_what_is_no_frame_is_refused(text: str):
    with pytest.raises(FrameError):
        unstuff(bytes.fromhex(text))


@pytest.mark.parametrize("content", [b"", b"\1\0\x84", b"\1\0\4\0", b"\1\0\x84\5"])
def test_what_is_no_answer_is_refused(content: bytes):
    with pytest.raises(FrameError):
        Answer.decode(content)


def test_greetings_and_statistics_round_trip():
    greeting = Greeting(protocol.MAGIC, protocol.VERSION, 1024, 4080, 1 << 25, 64_000_000, "ulx3s")
    assert Greeting.decode(greeting.encode()) == greeting
    assert Greeting.version_of(greeting.encode()) == protocol.VERSION
    assert Greeting.version_of(protocol.MAGIC + b"\7\0 whatever") == 7
    assert Greeting.version_of(b"VTA") is None
    statistics = Statistics(1, 2, 3, 4, 5, 0xFFFF)
    assert Statistics.decode(statistics.encode()) == statistics
    for kind in (Greeting, Statistics):
        with pytest.raises(FrameError):
            kind.decode(b"short")


def test_everything_has_its_words():
    assert set(protocol.OP_DOCS) == set(Op)
    assert set(protocol.STATUS_DOCS) == set(Status)
    assert all(op < protocol.ANSWER for op in Op)
    assert len(frame(b"\x7e" * protocol.CONTENT_BYTES)) > 2 * BLOCK_BYTES


def test_the_page_says_what_the_tables_say():
    page = (REPO / "docs" / "link.md").read_text()
    words = re.sub(r"\s+", " ", page)
    for kind, docs in (("op", protocol.OP_DOCS), ("status", protocol.STATUS_DOCS)):
        for code, text in docs.items():
            assert f"| {code:#04x} | {code.name} | {text} |" in words, (kind, code)
    for name in protocol.STATISTICS:
        assert f"`{name}`" in page
    figures = {
        "version": protocol.VERSION,
        "flag": f"{FLAG:#04x}",
        "escape": f"{ESCAPE:#04x}",
        "XOR": f"{protocol.ESCAPE_XOR:#04x}",
        "polynomial": f"{protocol.CRC_POLYNOMIAL:#010x}",
        "block": f"{BLOCK_BYTES} bytes",
        "run limit": f"{protocol.DEFAULT_RUN_LIMIT_MS} ms",
        "stall": f"{protocol.STALL_MS} ms",
        "header": f"{protocol.HEADER_BYTES} bytes",
    }
    for name, value in figures.items():
        assert f"| {name} | {value} |" in page, name
