"""The ALU at work: immediates, other elements, and REQ."""

from __future__ import annotations

import numpy as np

from vta.bench.programs import Array, Draft, Job, bytes_of_acc, loop, random_bytes
from vta_hw.spec.arith import pack_req_shift, req_imm
from vta_hw.spec.config import MemType, VtaConfig
from vta_hw.spec.isa import Alu, AluOp, MicroOp, Rounding

_ELEMENTS = 512
_SOURCES = 3
_IMM_MAX = (1 << 15) - 1
_SHIFT_MAX = 3
_BYTE_BITS = 8
_WIDE_BITS = 12
"""By so many bits the numbers that REQ begins with are longer than those that it gives."""


def _acc_elements(config: VtaConfig) -> int:
    return min(_ELEMENTS, config.depth(MemType.ACC) // (1 + _SOURCES))


def immediate(config: VtaConfig, op: AluOp, count: int) -> Job:
    """One operation with immediates that change from instruction to instruction."""
    elements = _acc_elements(config)
    draft = Draft(config)
    acc = draft.elements(MemType.ACC, elements)
    draft.load(MemType.ACC, acc, elements)
    uop = draft.uops([MicroOp()])
    rng = np.random.default_rng(int(op))
    if op is AluOp.SHR:
        # There and back, so that all but a few bits of the numbers stay.
        ways = rng.integers(1, _SHIFT_MAX, count // 2, endpoint=True) * rng.choice((-1, 1))
        immediates = np.stack((ways, -ways), axis=1).reshape(-1)
    else:
        immediates = rng.integers(-_IMM_MAX, _IMM_MAX, count)
    for number, imm in enumerate(immediates.tolist()):
        last = number + 1 == len(immediates)
        draft.add(
            Alu(alu_opcode=op, use_imm=True, imm=imm, **uop, **loop(elements), push_next=last)
        )
    output = draft.store_bytes_of_acc(elements)

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        random_bytes(rng, acc.of(image))

    def expected(image: Array) -> Array:
        x = acc.of(image, "<i4")
        if op is AluOp.ADD:
            return bytes_of_acc(x + immediates.sum())
        if op is AluOp.MAX:
            return bytes_of_acc(np.maximum(x, immediates.max()))
        for imm in immediates.tolist():
            x = x >> imm if imm >= 0 else (x.view(np.uint32) << -imm).view(np.int32)
        return bytes_of_acc(x)

    title = f"ALU immediate, {op.name}, {elements} elements"
    work = len(immediates) * elements * config.batch * config.block_out
    return draft.job((f"alu_imm_{op.name.lower()}", title, "lane-op"), work, fill, expected, output)


def register(config: VtaConfig, count: int) -> Job:
    """ADD of elements that lie elsewhere in ACC, another one for each destination."""
    elements = _acc_elements(config)
    draft = Draft(config)
    acc = draft.elements(MemType.ACC, (1 + _SOURCES) * elements)
    draft.load(MemType.ACC, acc, (1 + _SOURCES) * elements)
    uops = [draft.uops([MicroOp(src=(1 + s) * elements)]) for s in range(_SOURCES)]
    choices = np.random.default_rng(0).integers(0, _SOURCES, count)
    for number, choice in enumerate(choices.tolist()):
        last = number + 1 == count
        draft.add(Alu(alu_opcode=AluOp.ADD, **uops[choice], **loop(elements), push_next=last))
    output = draft.store_bytes_of_acc(elements)

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        random_bytes(rng, acc.of(image))

    def expected(image: Array) -> Array:
        x, *sources = acc.of(image, "<i4").reshape(1 + _SOURCES, -1).astype(np.int64)
        times = np.bincount(choices, minlength=_SOURCES)
        return bytes_of_acc(x + sum(n * y for n, y in zip(times, sources, strict=True)))

    title = f"ALU register, ADD, {elements} elements, src changes"
    work = count * elements * config.batch * config.block_out
    return draft.job(("alu_reg_add", title, "lane-op"), work, fill, expected, output)


# -- REQ ------------------------------------------------------------------------------------------


def requant(config: VtaConfig, rounding: Rounding, steps: int) -> Job:
    """Requantise again and again, each time by other parameters, and store what comes out."""
    room = config.depth(MemType.ACC)
    steps = min(steps, (room - 1) // 3)
    elements = min(1920, room - 3 * steps)
    lanes = config.batch * config.block_out
    draft = Draft(config)
    acc = draft.elements(MemType.ACC, elements + 3 * steps)
    output = draft.elements(MemType.OUT, elements * steps)
    draft.load(MemType.ACC, acc, elements + 3 * steps)
    zero_points = np.random.default_rng(int(rounding)).integers(-128, 127, steps, endpoint=True)
    for step, zero_point in enumerate(zero_points.tolist()):
        uop = draft.uops([MicroOp(src=elements + 3 * step)])
        draft.add(
            Alu(
                alu_opcode=AluOp.REQ,
                imm=req_imm(zero_point, rounding),
                **uop,
                **loop(elements, dst_factor_in=1),
                pop_next=step > 0,
                push_next=True,
            )
        )
        draft.store(output, elements, first=step * elements)

    def fill(rng: np.random.Generator, image: Array) -> None:
        draft.put_uops(image)
        numbers = acc.of(image, "<i4")
        random_bytes(rng, numbers)
        for step in range(steps):
            bias, scale, packed = numbers.reshape(-1, lanes)[elements + 3 * step :][:3]
            # The first step takes numbers of 20 bits, the others what the one before gave.
            bias[:] = rng.integers(-40, 40, lanes)
            scale[:], packed[:] = _parameters(rng, rounding, lanes, 0 if step else _WIDE_BITS)
        numbers[: elements * lanes] >>= 32 - _BYTE_BITS - _WIDE_BITS

    def expected(image: Array) -> Array:
        numbers = acc.of(image, "<i4").reshape(-1, lanes).astype(np.int64)
        x, stored = numbers[:elements], []
        for step, zero_point in enumerate(zero_points):
            x = _requantised(rounding, x, numbers[elements + 3 * step :][:3], int(zero_point))
            stored.append(x.reshape(-1))
        return np.concatenate(stored).astype(np.uint8)

    title = f"ALU REQ, {rounding.name.lower()}, {elements} elements, parameters held"
    work = steps * elements * lanes
    key = f"req_{rounding.name.lower()}"
    return draft.job((key, title, "lane-op"), work, fill, expected, output)


def _parameters(
    rng: np.random.Generator, rounding: Rounding, lanes: int, shorten: int
) -> tuple[Array, Array]:
    """Multipliers and third parameters that scale by about -1 or 1, over 2^`shorten`."""
    factor = rng.uniform(0.6, 1.2, lanes) * rng.choice((-1, 1), lanes)
    right, left = rng.integers(3, 8, lanes), np.zeros(lanes, np.int64)
    if rounding is Rounding.FLOAT:
        multiplier = (factor / (1 << shorten)).astype(np.float32).view(np.int32)
    else:
        left, right = right + 1, right + shorten
        multiplier = np.rint(factor * (1 << 30)).astype(np.int32)
    low, high = rng.integers(-128, -90, lanes), rng.integers(90, 128, lanes)
    return multiplier, pack_req_shift(right, left, low, high)


def _requantised(rounding: Rounding, x: Array, parameters: Array, zero_point: int) -> Array:
    """REQ of small numbers, of which none wraps, in int64."""
    bias, multiplier, packed = parameters
    right, left = packed & 63, packed >> 8 & 31
    low, high = packed << 40 >> 56, packed << 32 >> 56
    shifted = x + bias << left
    if rounding is Rounding.FLOAT:
        scale = multiplier.astype(np.int32).view(np.float32)
        scaled = np.rint(shifted.astype(np.float32) * scale).astype(np.int64)
    else:
        product = (shifted * multiplier + (1 << 30)) // (1 << 31)
        half = (1 << right) // 2
        scaled = np.sign(product) * (np.abs(product) + half >> right)
    return np.minimum(np.maximum(scaled + zero_point, low), high)
