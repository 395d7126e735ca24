"""Ways to spoil bytes, texts and JSON values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rng = np.random.Generator

_NASTY_BYTES = (b"", b"\0", b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"PK\3\4", b"\n" * 9)
_NASTY_VALUES: Sequence[Any] = (
    None, True, False, -1, 0, 1, 2, 255, 1 << 16, 1 << 31, 1 << 32, 1 << 63, -(1 << 63), 10**30,
    0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "int8", "NHWC", "\ud800", "a\nb",
    "0" * 300, [], {}, [[]], [0], ["x"], {"x": 0}, [1] * 100,
)  # fmt: skip


def noise(rng: Rng, most: int = 400) -> bytes:
    """Some random bytes, or few different ones."""
    size = int(rng.integers(0, most))
    if rng.random() < 0.3:
        return rng.choice(np.frombuffer(b"\0\1\2\x7f\x80\xff", np.uint8), size).tobytes()
    return rng.integers(0, 256, size, np.uint8).tobytes()


def mutate_bytes(data: bytes, rng: Rng) -> bytes:
    """The bytes with one to four small or large damages."""
    for _ in range(int(rng.integers(1, 5))):
        data = _BYTE_DAMAGES[int(rng.integers(len(_BYTE_DAMAGES)))](data, rng)
    return data


def _place(data: bytes, rng: Rng) -> int:
    return int(rng.integers(len(data) + 1))


def _piece(data: bytes, rng: Rng) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + int(2 ** rng.uniform(0, 10)))


def _flip(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, max(1, len(data)), int(rng.integers(1, 6))):
        if data:
            changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _set(data: bytes, rng: Rng) -> bytes:
    at, value = _place(data, rng), int(rng.integers(256))
    return data[:at] + bytes([value]) + data[at + 1 :]


def _overwrite(data: bytes, rng: Rng) -> bytes:
    at, new = _place(data, rng), _NASTY_BYTES[int(rng.integers(len(_NASTY_BYTES)))]
    return data[:at] + new + data[at + len(new) :]


def _cut(data: bytes, rng: Rng) -> bytes:
    return data[: _place(data, rng)]


def _remove(data: bytes, rng: Rng) -> bytes:
    start, end = _piece(data, rng)
    return data[:start] + data[end:]


def _repeat(data: bytes, rng: Rng) -> bytes:
    start, end = _piece(data, rng)
    return data[:end] + data[start:end] * int(rng.integers(1, 4)) + data[end:]


def _move(data: bytes, rng: Rng) -> bytes:
    start, end = _piece(data, rng)
    rest, at = data[:start] + data[end:], _place(data[: len(data) - end + start], rng)
    return rest[:at] + data[start:end] + rest[at:]


def _insert(data: bytes, rng: Rng) -> bytes:
    at = _place(data, rng)
    return data[:at] + noise(rng, 60) + data[at:]


_BYTE_DAMAGES: Sequence[Callable[[bytes, Rng], bytes]] = (
    _flip, _flip, _set, _overwrite, _cut, _remove, _repeat, _move, _insert,
)  # fmt: skip


def mutate_json(value: Any, rng: Rng) -> Any:
    """A copy of the value with one to three of its parts changed, removed or doubled."""
    changed = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        changed = _change_part(changed, rng)
    return changed


def _change_part(root: Any, rng: Rng) -> Any:
    holders = [value for value in _containers(root) if value]
    if not holders or rng.random() < 0.01:
        return _nasty(rng)
    # Deep parts are many; a random depth gives the few at the top their turn.
    holder = holders[int(len(holders) * rng.random() ** 2)]
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = keys[int(rng.integers(len(keys)))]
    old = holder[key]
    match int(rng.integers(6)):
        case 0:
            del holder[key]
        case 1:
            if isinstance(holder, list):
                holder.insert(int(rng.integers(len(holder) + 1)), copy.deepcopy(old))
            else:
                holder[f"{key}_"] = copy.deepcopy(old)
        case 2:
            other = holders[int(rng.integers(len(holders)))]
            holder[key] = copy.deepcopy(other)
        case 3 if isinstance(old, int) and not isinstance(old, bool):
            holder[key] = old + int(rng.choice([-1, 1, 16, -16, old, -2 * old]))
        case _:
            holder[key] = _nasty(rng)
    return root


def _nasty(rng: Rng) -> Any:
    return copy.deepcopy(_NASTY_VALUES[int(rng.integers(len(_NASTY_VALUES)))])


def _containers(value: Any) -> list[Any]:
    """All lists and objects, those near the root first."""
    found, queue = [], [value]
    while queue:
        item = queue.pop(0)
        if isinstance(item, dict | list):
            found.append(item)
            queue.extend(item.values() if isinstance(item, dict) else item)
    return found
