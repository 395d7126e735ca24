"""The checker finds each violation of AXI that it is there for."""

from __future__ import annotations

import pytest

from tests.rtl.axi_checker import AxiViolation, ReadChecker, WriteChecker

FULL = 0xFF


def _idle(checker):
    return dict.fromkeys(checker.signals, 0)


def _address(channel, address, beats, **changes):
    fields = {"valid": 1, "ready": 1, "addr": address, "len": beats - 1, "size": 3, "burst": 1}
    return {channel + name: value for name, value in (fields | changes).items()}


def _beat(channel, last, **changes):
    fields = {"valid": 1, "ready": 1, "last": last}
    if channel == "w":
        fields["strb"] = FULL
    return {channel + name: value for name, value in (fields | changes).items()}


RESPONSE = {"bvalid": 1, "bready": 1}


def _run(checker, steps):
    for values in steps:
        checker.step(_idle(checker) | values)
    checker.finish()


def test_good_reads():
    checker = ReadChecker(8, max_open=2)
    steps = [
        _address("ar", 0x1000, 2, ready=0),
        _address("ar", 0x1000, 2),
        _address("ar", 0xFF8, 1) | _beat("r", 0),
        _beat("r", 1, ready=0),
        _beat("r", 1),
        {},
        _beat("r", 1),
    ]
    _run(checker, steps)
    assert checker.beats == 3 and len(checker.bursts) == 2


def test_good_writes():
    checker = WriteChecker(8, max_open=2)
    steps = [
        _address("aw", 0x10, 3, ready=0) | _beat("w", 0, strb=0xF0),
        _address("aw", 0x10, 3) | _beat("w", 0),
        _beat("w", 1, strb=0x0F),
        _address("aw", 0x40, 1) | _beat("w", 1) | RESPONSE,
        RESPONSE,
    ]
    _run(checker, steps)
    assert checker.beats == 4


def test_data_before_address():
    checker = WriteChecker(8)
    steps = [
        _address("aw", 0, 1, ready=0) | _beat("w", 1),
        _address("aw", 0, 1),
        _address("aw", 8, 2) | _beat("w", 0) | RESPONSE,
        _beat("w", 1),
        RESPONSE,
    ]
    _run(checker, steps)


BAD_READS = {
    "fell before": [_address("ar", 0, 1, ready=0), {}],
    "changed while": [_address("ar", 0, 1, ready=0), _address("ar", 8, 1)],
    "not INCR": [_address("ar", 0, 1, burst=0)],
    "not the bus": [_address("ar", 0, 1, size=2)],
    "lock": [_address("ar", 0, 1, lock=1)],
    "crosses 4 KiB": [_address("ar", 0xFF8, 2)],
    "without an open burst": [_beat("r", 1)],
    "rlast": [_address("ar", 0, 2), _beat("r", 1)],
    "too many": [_address("ar", 0, 1), _address("ar", 8, 1), _address("ar", 16, 1)],
    "open at the end": [_address("ar", 0, 1)],
}
BAD_WRITES = {
    "before its address": [_beat("w", 1)],
    "wlast": [_address("aw", 0, 2), _beat("w", 1)],
    "has gaps": [_address("aw", 0, 3), _beat("w", 0), _beat("w", 0, strb=0x7F)],
    "without any strobe": [_address("aw", 0, 1), _beat("w", 1, strb=0)],
    "response without": [_address("aw", 0, 1), RESPONSE],
    "its address is presented": [
        _address("aw", 0, 1, ready=0) | _beat("w", 1),
        _address("aw", 0, 1, ready=0) | _beat("w", 1),
    ],
    "too many": [_address("aw", 0, 1), _address("aw", 8, 1), _address("aw", 16, 1)],
    "wstrb|wdata|changed": [
        _address("aw", 0, 1) | _beat("w", 1, ready=0),
        _beat("w", 1, strb=1),
    ],
    "open at the end": [_address("aw", 0, 1), _beat("w", 1)],
}


@pytest.mark.parametrize("text", BAD_READS)
def test_bad_reads(text):
    with pytest.raises(AxiViolation, match=text):
        _run(ReadChecker(8, max_open=2), BAD_READS[text])


@pytest.mark.parametrize("text", BAD_WRITES)
def test_bad_writes(text):
    with pytest.raises(AxiViolation, match=text):
        _run(WriteChecker(8, max_open=2), BAD_WRITES[text])
