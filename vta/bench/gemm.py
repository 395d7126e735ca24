"""GEMM at work: a convolution, and a dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from vta.bench.programs import Array, Draft, Job, bytes_of_acc, loop, random_bytes
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Gemm, MicroOp

_KERNEL = 3


def convolution(config: VtaConfig, steps: int) -> Job:
    """Tiles of a convolution 3x3: weights are shared by all rows, as in the layers of ResNet.

    Every step loads another tile of the image and of the weights; all add to the same outputs.
    """
    side, blocks = _tile(config)
    wide, outputs = side + _KERNEL - 1, blocks * side * side
    inp_count, wgt_count = blocks * wide * wide, blocks * blocks * _KERNEL * _KERNEL
    draft = Draft(config)
    inp = draft.elements(MemType.INP, steps * inp_count)
    wgt = draft.elements(MemType.WGT, steps * wgt_count)
    loops = {
        **draft.uops(_convolution(side, blocks)),
        "iter_out": side,
        "dst_factor_out": side,
        "src_factor_out": wide,
        "iter_in": side,
        "dst_factor_in": 1,
        "src_factor_in": 1,
    }
    _reset(draft, outputs)
    for step in range(steps):
        draft.load(MemType.INP, inp, inp_count, first=step * inp_count, pop_next=step > 0)
        draft.load(MemType.WGT, wgt, wgt_count, first=step * wgt_count, push_next=True)
        _gemm(draft, loops, step, steps)
    output = draft.store_bytes_of_acc(outputs)

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        random_bytes(rng, inp.of(image))
        random_bytes(rng, wgt.of(image))

    def expected(image: Array) -> Array:
        shape = (config.batch, config.block_in)
        pixels = inp.of(image).reshape(steps, blocks, wide, wide, *shape).astype(float)
        weights = wgt.of(image).reshape(
            steps, blocks, blocks, _KERNEL, _KERNEL, config.block_out, config.block_in
        )
        total = np.zeros((blocks, side, side, config.batch, config.block_out))
        for y in range(_KERNEL):
            for x in range(_KERNEL):
                # All sums stay far below 2^53, so that doubles are exact.
                window = pixels[:, :, y : y + side, x : x + side]
                chosen = weights[:, :, :, y, x].astype(float)
                total += np.einsum("siyxbk,soick->oyxbc", window, chosen, optimize=True)
        return bytes_of_acc(total)

    title = f"GEMM, convolution {_KERNEL}x{_KERNEL}, {side}x{side} outputs, {wgt_count} micro-ops"
    work = steps * side * side * wgt_count * config.macs_per_cycle
    return draft.job(("gemm", title, "MAC"), work, fill, expected, output)


def _tile(config: VtaConfig) -> tuple[int, int]:
    """Outputs along each side, and blocks of channels, of the greatest tile that there is room for.

    On the default configuration it is that of ResNet-18's third stage.
    """
    for side, blocks in ((14, 4), (7, 4), (7, 2), (4, 2), (4, 1), (2, 1), (1, 1)):
        uses = {
            MemType.INP: blocks * (side + _KERNEL - 1) ** 2,
            MemType.WGT: blocks * blocks * _KERNEL * _KERNEL,
            MemType.ACC: blocks * side * side,
            MemType.UOP: blocks * blocks * _KERNEL * _KERNEL + 2,
        }
        if all(count <= config.depth(memory) for memory, count in uses.items()):
            break
    return side, blocks


def _convolution(side: int, blocks: int) -> list[MicroOp]:
    wide = side + _KERNEL - 1
    return [
        MicroOp(
            dst=o * side * side,
            src=(i * wide + y) * wide + x,
            wgt=((o * blocks + i) * _KERNEL + y) * _KERNEL + x,
        )
        for o in range(blocks)
        for i in range(blocks)
        for y in range(_KERNEL)
        for x in range(_KERNEL)
    ]


def _reset(draft: Draft, count: int) -> None:
    draft.add(Gemm(reset=True, **draft.uops([MicroOp()]), **loop(count, dst_factor_in=1)))


def _gemm(draft: Draft, loops: dict[str, Any], step: int, steps: int) -> None:
    """One of a series of GEMMs: after a LOAD, before the next one or at last a STORE."""
    last = step + 1 == steps
    draft.add(Gemm(**loops, pop_prev=True, push_prev=not last, push_next=last))


def dense(config: VtaConfig, steps: int) -> Job:
    """Dense layers of one image: every weight is loaded, used once, and replaced."""
    inputs = min(16, config.depth(MemType.INP), config.depth(MemType.WGT))
    outputs = min(63, config.depth(MemType.ACC), config.depth(MemType.WGT) // inputs)
    count = inputs * outputs
    draft = Draft(config)
    inp = draft.elements(MemType.INP, steps * inputs)
    wgt = draft.elements(MemType.WGT, steps * count)
    loops = {
        **draft.uops([MicroOp()]),
        "iter_out": inputs,
        "src_factor_out": 1,
        "wgt_factor_out": 1,
        "iter_in": outputs,
        "dst_factor_in": 1,
        "wgt_factor_in": inputs,
    }
    _reset(draft, outputs)
    for step in range(steps):
        draft.load(MemType.INP, inp, inputs, first=step * inputs, pop_next=step > 0)
        draft.load(MemType.WGT, wgt, count, first=step * count, push_next=True)
        _gemm(draft, loops, step, steps)
    output = draft.store_bytes_of_acc(outputs)

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        random_bytes(rng, inp.of(image))
        random_bytes(rng, wgt.of(image))

    def expected(image: Array) -> Array:
        given = inp.of(image).reshape(steps, inputs, config.batch, config.block_in)
        weights = wgt.of(image).reshape(steps, outputs, inputs, config.block_out, config.block_in)
        product = np.einsum(
            "sibk,soick->obc", given.astype(float), weights.astype(float), optimize=True
        )
        return bytes_of_acc(product)

    title = f"GEMM, dense, {count} weight blocks loaded for one use each"
    work = steps * count * config.macs_per_cycle
    return draft.job(("gemm_dense", title, "MAC"), work, fill, expected, output)
