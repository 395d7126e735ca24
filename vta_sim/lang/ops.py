"""Operations that only compiled functions can do: on vectors, on memory.

Here they have names and meanings for the reader and for mypy; `vta_sim.lang.intrinsics` makes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vta_sim.lang.kinds import Array, NotInCompiledCodeError, Vec


def convert(kind: Any, value: Any) -> Any:
    """A number in another type: cut, extended, or (float to integer) rounded towards zero."""
    raise NotInCompiledCodeError


def bits_as(kind: Any, value: Any) -> Any:
    """The same bits, read as another type; of a vector, as many lanes as they make."""
    raise NotInCompiledCodeError


def unroll(count: int) -> Iterable[int]:
    """As ``range(count)``, but written out: the loop's variable is a constant in each round."""
    raise NotInCompiledCodeError


def load(array: Array[Any], index: int, lanes: int) -> Vec:
    """`lanes` elements from `index` on."""
    raise NotInCompiledCodeError


def store(array: Array[Any], index: int, value: Vec) -> None:
    """Put all lanes from element `index` on."""
    raise NotInCompiledCodeError


def splat(kind: Any, lanes: int, value: Any) -> Vec:
    """Equal lanes."""
    raise NotInCompiledCodeError


def select(mask: Any, yes: Any, no: Any) -> Any:
    """Lane by lane, one of two."""
    raise NotInCompiledCodeError


def rint(value: Any) -> Any:
    """To the nearest integer, ties to even, as a float."""
    raise NotInCompiledCodeError


def part(value: Vec, first: int, lanes: int, step: int = 1) -> Vec:
    """Lanes first, first + step, .. of a vector."""
    raise NotInCompiledCodeError


def repeat(value: Vec, times: int) -> Vec:
    """The whole vector, several times one after the other."""
    raise NotInCompiledCodeError


def dot4(total: Vec, weights: Vec, inputs: Vec) -> Vec:
    """Per lane of `total` (int32) plus four products of uint8 `inputs` and int8 `weights`."""
    raise NotInCompiledCodeError


def dot2(total: Vec, weights: Vec, inputs: Vec) -> Vec:
    """Per lane of `total` (int32) plus two products of int16."""
    raise NotInCompiledCodeError


def several(count: int) -> Any:
    """So many local variables, told apart by a constant index, as one of `unroll`."""
    raise NotInCompiledCodeError


def interleave(left: Vec, right: Vec) -> Vec:
    """Lanes of both by turns: left[0], right[0], left[1], ..."""
    raise NotInCompiledCodeError


def at(array: Array[Any], index: int) -> Any:
    """The array that begins with element `index`."""
    raise NotInCompiledCodeError


def reinterpret(kind: Any, array: Any) -> Any:
    """The same memory as an array of another type, or a structure as an array of it."""
    raise NotInCompiledCodeError


def copy(target: Array[Any], source: Array[Any], size_bytes: int) -> None:
    """Copy bytes between places that do not overlap."""
    raise NotInCompiledCodeError


def fill(target: Array[Any], byte: int, size_bytes: int) -> None:
    """Set bytes."""
    raise NotInCompiledCodeError


def resize(array: Array[Any], count: int) -> Any:
    """The array moved to where `count` elements fit; memory of its own, which `release` frees."""
    raise NotInCompiledCodeError


def release(array: Array[Any]) -> None:
    """Free what `resize` gave."""
    raise NotInCompiledCodeError
