"""LOAD and STORE at work: long rows between DRAM and the memories on the chip."""

from __future__ import annotations

import numpy as np

from vta.bench.programs import Array, Draft, Job, Region, bytes_of_acc, loop, random_bytes
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Gemm, MicroOp

_REGION_BYTES = 1 << 20


def load(config: VtaConfig, memory: MemType, moved_bytes: int) -> Job:
    """Fill a memory by long rows from places in DRAM that change, half of it at a time.

    What stays there is looked at: ACC as it is; INP and WGT by what GEMM makes of each element and
    one that is odd everywhere, so that no single wrong byte goes unnoticed.
    """
    depth, elem_bytes = config.depth(memory), config.elem_bytes(memory)
    row = max(1, depth // 2)
    places = max(2, _REGION_BYTES // (row * elem_bytes))
    count = max(2, moved_bytes // (row * elem_bytes))
    draft = Draft(config)
    source = draft.elements(memory, places * row)
    halves = max(1, depth // row)
    order = np.random.default_rng(int(memory)).permutation(count) % places
    for number, place in enumerate(order.tolist()):
        last = number + 1 == count
        base = number % halves * row
        draft.load(memory, source, row, first=place * row, sram_base=base, push_next=last)
    kept = {number % halves: int(order[number]) for number in range(count - halves, count)}

    def held(image: Array) -> Array:
        """The elements that the memory holds at the end."""
        elements = source.of(image, np.uint8).reshape(places, row, elem_bytes)
        return np.concatenate([elements[kept[half]] for half in range(halves)])

    if memory is MemType.ACC:
        output = draft.store_bytes_of_acc(halves * row)

        def expected(image: Array) -> Array:
            return bytes_of_acc(held(image).view("<i4"))
    else:
        odd, output = _look(draft, memory, halves * row)

        def expected(image: Array) -> Array:
            batch, block_in, block_out = config.batch, config.block_in, config.block_out
            inp, wgt = held(image).view(np.int8), odd.of(image)
            if memory is MemType.WGT:
                inp, wgt = wgt, inp
            inp, wgt = inp.reshape(-1, batch, block_in), wgt.reshape(-1, block_out, block_in)
            # Sums of bytes times bytes are exact in doubles.
            product = np.einsum("ebk,eok->ebo", inp.astype(float), wgt.astype(float), optimize=True)
            return product.astype(np.int64).astype(np.uint8).reshape(-1)

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        random_bytes(rng, source.of(image))
        if memory is not MemType.ACC:
            odd.of(image)[:] = rng.integers(-64, 64, odd.size) * 2 + 1

    title = f"LOAD {memory.name}, rows of {row * elem_bytes} bytes"
    work = count * row * elem_bytes
    key = f"load_{memory.name.lower()}"
    return draft.job((key, title, "byte"), work, fill, expected, output)


def _look(draft: Draft, memory: MemType, count: int) -> tuple[Region, Region]:
    """GEMM of each element of INP or WGT with an odd one of the other, and where results go."""
    other = MemType.INP if memory is MemType.WGT else MemType.WGT
    odd = draft.elements(other, 1)
    output = draft.elements(MemType.OUT, count)
    draft.load(other, odd, 1, push_next=True)
    room = min(count, draft.config.depth(MemType.ACC))
    zero = draft.uops([MicroOp()])
    step = "wgt_factor_in" if memory is MemType.WGT else "src_factor_in"
    for first in range(0, count, room):
        size = min(room, count - first)
        begin = MicroOp(wgt=first) if memory is MemType.WGT else MicroOp(src=first)
        loops = loop(size, **{"dst_factor_in": 1, step: 1})
        draft.add(
            Gemm(reset=True, **zero, **loop(size, dst_factor_in=1), pop_next=first > 0),
            Gemm(**draft.uops([begin]), **loops, pop_prev=first == 0, push_next=True),
        )
        draft.store(output, size, first=first)
    return odd, output


def store(config: VtaConfig, moved_bytes: int) -> Job:
    """Long rows from places in ACC that change to places in DRAM that change, half of ACC each."""
    depth, out_bytes = config.depth(MemType.ACC), config.elem_bytes(MemType.OUT)
    row = max(1, depth // 2)
    places = max(2, _REGION_BYTES // (row * out_bytes))
    count = max(places, moved_bytes // (row * out_bytes))
    draft = Draft(config)
    acc = draft.elements(MemType.ACC, depth)
    output = draft.elements(MemType.OUT, places * row)
    draft.load(MemType.ACC, acc, depth, push_next=True)
    rng = np.random.default_rng(0)
    targets = (rng.permutation(count) % places).tolist()
    bases = rng.integers(0, depth - row, count, endpoint=True).tolist()
    for number, (target, base) in enumerate(zip(targets, bases, strict=True)):
        last = number + 1 == count
        draft.store(
            output, row, first=target * row, sram_base=base, pop_prev=number == 0, push_prev=last
        )

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        random_bytes(rng, acc.of(image))

    def expected(image: Array) -> Array:
        low = acc.of(image, "<i4").astype(np.uint8).reshape(depth, out_bytes)
        stored = np.zeros((places, row, out_bytes), np.uint8)
        for target, base in zip(targets, bases, strict=True):
            stored[target] = low[base : base + row]
        return stored.reshape(-1)

    title = f"STORE, rows of {row * out_bytes} bytes"
    work = count * row * out_bytes
    return draft.job(("store", title, "byte"), work, fill, expected, output)
