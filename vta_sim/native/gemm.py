"""GEMM: dot products of INP and WGT elements, added to ACC."""

from __future__ import annotations

from typing import Any

from vta_sim.lang.kinds import Array, Vec, i8, i16, i32, i64, inline, kernel, u8
from vta_sim.lang.ops import (
    at,
    bits_as,
    convert,
    dot2,
    dot4,
    interleave,
    load,
    part,
    reinterpret,
    several,
    splat,
    store,
    unroll,
)
from vta_sim.native.engine import (
    BLOCK_IN,
    BLOCK_OUT,
    BYTES_GROUP,
    BYTES_OFFSET,
    GROUP,
    LANE_BITS,
    ROWS,
    Engine,
)
from vta_sim.native.gemm_plan import GemmSet
from vta_sim.native.table import Insn

_VECTOR_BYTES = 16
_REGISTERS_BYTES = 512
"""A WGT element of more does not fit into the registers of any CPU."""


@kernel
def run_gemm(e: Engine, insn: Insn) -> None:
    """What a legal GEMM without reset does."""
    plan = e.plans[insn.plan]
    for outer in range(plan.outer.count):
        for inner in range(plan.inner.count):
            acc = outer * plan.outer.acc + inner * plan.inner.acc
            inp = outer * plan.outer.inp + inner * plan.inner.inp
            wgt = outer * plan.outer.wgt + inner * plan.inner.wgt
            for number in range(plan.set_count):
                run_set(e, e.sets[plan.sets + number], acc, inp, wgt)


@kernel
def run_set(e: Engine, group: GemmSet, acc: i64, inp: i64, wgt: i64) -> None:
    """Add all terms to all rows of a set; indices are those of its block."""
    offset = splat(i32, BLOCK_OUT, 0)
    for number in range(group.term_count):
        element = wgt + e.terms[group.terms + number].wgt
        if not e.is_packed[element]:
            pack(e, element)
        if GROUP == BYTES_GROUP:
            offset = offset + load(e.sums, element * BLOCK_OUT, BLOCK_OUT)
    row = 0
    if group.distinct:
        while row + ROWS <= group.row_count:
            add_rows(e, group, row, acc, inp, wgt, offset, ROWS)
            row += ROWS
    while row < group.row_count:
        add_rows(e, group, row, acc, inp, wgt, offset, 1)
        row += 1


@inline
def add_rows(
    e: Engine, group: GemmSet, row: int, acc: int, inp: int, wgt: int, offset: Vec, count: int
) -> None:
    """Add all terms to `count` rows, whose accumulators stay in registers meanwhile."""
    totals = several(count)
    inputs = several(count)
    for r in unroll(count):
        item = e.rows[group.rows + row + r]
        totals[r] = load(e.acc, (acc + item.acc) * BLOCK_OUT, BLOCK_OUT) + offset
        inputs[r] = (inp + item.inp) * BLOCK_IN
    for number in range(group.term_count):
        term = e.terms[group.terms + number]
        further = term.inp * BLOCK_IN
        packed = (wgt + term.wgt) * BLOCK_IN * BLOCK_OUT
        for step in unroll(BLOCK_IN // GROUP):
            weights = packed_weights(e, packed + step * GROUP * BLOCK_OUT)
            for r in unroll(count):
                given = spread_inputs(e, inputs[r] + further + step * GROUP)
                totals[r] = dot(totals[r], weights, given)
    for r in unroll(count):
        store(e.acc, (acc + e.rows[group.rows + row + r].acc) * BLOCK_OUT, totals[r])


@inline
def packed_weights(e: Engine, place: int) -> Vec:
    """GROUP weights for each lane."""
    if GROUP == BYTES_GROUP:
        weights = load(e.packed_bytes, place, GROUP * BLOCK_OUT)
    else:
        weights = load(e.packed_words, place, GROUP * BLOCK_OUT)
    return weights


@inline
def spread_inputs(e: Engine, place: int) -> Vec:
    """GROUP inputs, the same for every lane."""
    if GROUP == BYTES_GROUP:
        four = reinterpret(i32, at(e.inp_bytes, place))[0]
        inputs = bits_as(u8, splat(i32, BLOCK_OUT, four))
    elif GROUP == 2:
        two = reinterpret(i32, at(e.inp_words, place))[0]
        inputs = bits_as(i16, splat(i32, BLOCK_OUT, two))
    else:
        inputs = splat(i16, BLOCK_OUT, e.inp_words[place])
    return inputs


@inline
def dot(total: Vec, weights: Vec, inputs: Vec) -> Vec:
    """GROUP products more per lane."""
    if GROUP == BYTES_GROUP:
        result = dot4(total, weights, inputs)
    elif GROUP == 2:
        result = dot2(total, weights, inputs)
    else:
        result = total + convert(i32, weights) * convert(i32, inputs)
    return result


# -- packing --------------------------------------------------------------------------------------


@kernel
def pack(e: Engine, element: i64) -> None:
    """Rearrange a WGT element: for each group of inputs the weights of all lanes together."""
    size = BLOCK_IN * BLOCK_OUT
    source = at(e.wgt, element * size)
    if size <= _REGISTERS_BYTES:
        transpose_registers(e, source, element * size)
    else:
        ordered = transposed(e, source)
        for place in range(0, size, _VECTOR_BYTES):
            put_weights(e, element * size + place, load(ordered, place, _VECTOR_BYTES))
    if GROUP == BYTES_GROUP:
        target = at(e.packed_bytes, element * size)
        ones = splat(u8, GROUP * BLOCK_OUT, 1)
        sums = splat(i32, BLOCK_OUT, 0)
        for step in unroll(BLOCK_IN // GROUP):
            weights = load(target, step * GROUP * BLOCK_OUT, GROUP * BLOCK_OUT)
            sums = dot4(sums, weights, ones)
        store(e.sums, element * BLOCK_OUT, sums * -BYTES_OFFSET)
    e.is_packed[element] = 1


@inline
def put_weights(e: Engine, place: int, weights: Vec) -> None:
    """Rearranged weights in the form in which products want them."""
    if GROUP == BYTES_GROUP:
        store(e.packed_bytes, place, weights)
    else:
        store(e.packed_words, place, weights)


@inline
def transpose_registers(e: Engine, source: Array[i8], target: int) -> None:
    """Exchange lane and group of a small WGT element, by repeatedly interleaving its two halves.

    Each pass turns the bits of an index round by one place; after as many passes as the number of a
    lane has bits, lane and group have changed places.
    """
    size = BLOCK_IN * BLOCK_OUT
    width = min(size // GROUP, _VECTOR_BYTES // GROUP)
    count = size // GROUP // width
    if GROUP == 1:
        units = reinterpret(i8, source)
    elif GROUP == 2:
        units = reinterpret(i16, source)
    else:
        units = reinterpret(i32, source)
    vectors = several(count)
    for number in unroll(count):
        vectors[number] = load(units, number * width, width)
    for _turn in unroll(LANE_BITS):
        turned = several(count)
        if count == 1:
            half = width // 2
            turned[0] = interleave(part(vectors[0], 0, half), part(vectors[0], half, half))
        else:
            for number in unroll(count // 2):
                both = interleave(vectors[number], vectors[count // 2 + number])
                turned[2 * number] = part(both, 0, width)
                turned[2 * number + 1] = part(both, width, width)
        vectors = turned
    for number in unroll(count):
        weights = bits_as(i8, vectors[number])
        put_weights(e, target + number * width * GROUP, weights)


@kernel
def transposed(e: Engine, source: Array[i8]) -> Array[i8]:
    """The same for a large WGT element, through memory."""
    size = BLOCK_IN * BLOCK_OUT
    lanes = BLOCK_OUT
    place = 0
    while lanes > 1:
        target = at(e.scratch, place)
        if GROUP == 1:
            shuffle(target, source, i8)
        elif GROUP == 2:
            shuffle(target, source, i16)
        else:
            shuffle(target, source, i32)
        source = target
        place = size - place
        lanes = lanes >> 1
    return source


@inline
def shuffle(target: Array[i8], source: Array[i8], unit: Any) -> None:
    """Interleave the halves of an element, whose units have the size of a group."""
    half = BLOCK_IN * BLOCK_OUT // GROUP // 2
    width = _VECTOR_BYTES // GROUP
    into = reinterpret(unit, target)
    units = reinterpret(unit, source)
    for first in range(0, half, width):
        left = load(units, first, width)
        right = load(units, half + first, width)
        store(into, 2 * first, interleave(left, right))
