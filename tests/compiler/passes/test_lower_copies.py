"""Box copies as LOAD and STORE instructions: the interpreter does the same with both."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compiler.loop.expr import Const
from compiler.loop.interp import run
from compiler.loop.nodes import Buffer, Copy, Func, Region
from compiler.loop.scopes import Place
from compiler.passes.lower_copies import Transfer
from tests.compiler.passes.shorthand import TINY, refused
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.isa import Instruction, Load, Store
from vta_hw.spec.semantics import Scratchpads, execute

ZEROS = (Const(0), Const(0))


def load_of(
    dram: tuple[int, ...],
    begin: tuple[int, ...],
    extent: tuple[int, ...],
    pad: int | None = None,
    scope: str = "inp",
) -> Copy:
    """A load of a box of x (elements of tiny's `scope`) into a buffer of just that size."""
    element = {"inp": (1, 4), "acc": (1, 4), "wgt": (4, 4)}[scope]
    dtype = "int32" if scope == "acc" else "int8"
    source = Buffer("x", (*dram, *element), "int8")
    target = Buffer("y", (*extent, *element), dtype, scope)
    return Copy(
        Region(target, (*(Const(0) for _ in extent), *ZEROS), target.shape),
        Region(source, (*map(Const, begin), *ZEROS), (*extent, *element)),
        tuple(range(len(extent) + 2)),
        pad,
        loc="copy",
    )


def lowered(copy: Copy, sram_base: int = 0, config: VtaConfig = TINY) -> list[Instruction]:
    begins = [[int(str(b)) for b in region.begin] for region in (copy.dst, copy.src)]
    transfer = Transfer(copy, Place(sram_base), config)
    on_dram = copy.src if copy.src.buffer.scope == "dram" else copy.dst
    assert transfer.operand is on_dram.buffer
    return transfer.instructions(*begins)


@pytest.mark.parametrize("scope", ["inp", "acc", "wgt"])
def test_random_loads(scope: str, rng: np.random.Generator) -> None:
    counts = []
    for _ in range(150):
        rank = int(rng.integers(1, 5))
        dram = tuple(int(v) for v in rng.integers(1, 5, rank))
        extent = [int(rng.integers(1, size + 1)) for size in dram]
        begin = [int(rng.integers(0, size - e + 1)) for size, e in zip(dram, extent, strict=True)]
        pad = None
        if rank > 1 and rng.random() < 0.6:
            pad = int(rng.choice([0, -128]))
            for axis in (rank - 2, rank - 1):
                low, high = (int(v) for v in rng.integers(0, 3, 2))
                begin[axis], extent[axis] = -low, dram[axis] + low + high
        copy = load_of(dram, tuple(begin), tuple(extent), pad, scope)
        if int(np.prod(extent)) > 50:
            continue
        insns = lowered(copy, sram_base=7)
        counts.append(len(insns))
        x = rng.integers(-128, 128, copy.src.buffer.shape).astype(np.int8)
        y = np.zeros(copy.dst.buffer.shape, copy.dst.buffer.dtype)
        run(Func("f", (copy.src.buffer, copy.dst.buffer), copy), {"x": x, "y": y})
        pads = Scratchpads(TINY)
        for insn in insns:
            assert execute(insn, pads, x.reshape(-1).view(np.uint8), TINY) is None
        memory = {"inp": pads.inp, "acc": pads.acc, "wgt": pads.wgt}[scope]
        flat = y.reshape(-1, *y.shape[-2:])
        np.testing.assert_array_equal(memory[7 : 7 + len(flat)], flat, str(copy))
    assert len(counts) > 60
    assert max(counts) > 1


def test_random_stores(rng: np.random.Generator) -> None:
    for _ in range(150):
        rank = int(rng.integers(1, 5))
        dram = tuple(int(v) for v in rng.integers(1, 5, rank))
        extent = tuple(int(rng.integers(1, size + 1)) for size in dram)
        begin = [int(rng.integers(0, size - e + 1)) for size, e in zip(dram, extent, strict=True)]
        target = Buffer("x", (*dram, 1, 4), "int8")
        source = Buffer("y", (*extent, 1, 4), "int32", "acc")
        copy = Copy(
            Region(target, (*map(Const, begin), *ZEROS), source.shape),
            Region(source, (*(Const(0) for _ in extent), *ZEROS), source.shape),
            tuple(range(rank + 2)),
            loc="copy",
        )
        x = np.full(target.shape, 55, np.int8)
        y = rng.integers(-999, 999, source.shape).astype(np.int32)
        expected = x.copy()
        run(Func("f", (target, source), copy), {"x": expected, "y": y})
        pads = Scratchpads(TINY)
        flat = y.reshape(-1, 1, 4)
        pads.acc[: len(flat)] = flat
        for insn in lowered(copy):
            assert isinstance(insn, Store)
            assert execute(insn, pads, x.reshape(-1).view(np.uint8), TINY) is None
        np.testing.assert_array_equal(x, expected, str(copy))


def test_neighbouring_rows_are_one_transfer() -> None:
    (insn,) = lowered(load_of((4, 5, 6), (1, 0, 0), (2, 5, 6)))
    assert (insn.y_size, insn.x_size, insn.dram_base) == (1, 60, 30)  # type: ignore[attr-defined]


def test_apart_rows_are_one_transfer_with_a_pitch() -> None:
    (insn,) = lowered(load_of((4, 5, 6), (0, 1, 0), (1, 3, 2)))
    shape = (insn.y_size, insn.x_size, insn.x_stride, insn.dram_base)  # type: ignore[attr-defined]
    assert shape == (3, 2, 6, 6)


def test_a_third_axis_takes_several_transfers() -> None:
    insns = lowered(load_of((4, 5, 6), (0, 1, 0), (3, 3, 2)))
    bases = [(insn.sram_base, insn.dram_base) for insn in insns]  # type: ignore[attr-defined]
    assert bases == [(0, 6), (6, 36), (12, 66)]


def test_rows_of_padding_alone() -> None:
    """A box above the image: all rows are padding, which needs no address in DRAM."""
    (insn,) = lowered(load_of((4, 4), (-3, 0), (2, 4), 0))
    assert isinstance(insn, Load)
    assert (insn.y_size, insn.y_pad_0 + insn.y_pad_1, insn.dram_base) == (0, 2, 0)


@pytest.mark.parametrize(("low", "high"), list(product((0, 2), repeat=2)))
def test_pads_go_to_the_side_they_are_on(low: int, high: int) -> None:
    (insn,) = lowered(load_of((3, 3), (-low, -high), (3 + low + high, 3 + low + high), 0))
    assert isinstance(insn, Load)
    assert (insn.y_pad_0, insn.y_pad_1, insn.x_pad_0, insn.x_pad_1) == (low, high, high, low)


# -- refusals --------------------------------------------------------------


@pytest.mark.parametrize(
    ("pad", "config", "text"),
    [
        (7, TINY, "pads with 7; config 'tiny' can pad with 0 or -128"),
        (-128, VtaConfig.load("pynq"), "pads with -128; config 'pynq' can pad with 0"),
    ],
)
def test_pad_values(pad: int, config: VtaConfig, text: str) -> None:
    element = (config.batch, config.block_in)
    source, target = Buffer("x", (4, *element), "int8"), Buffer("y", (5, *element), "int8", "inp")
    copy = Copy(
        Region(target, (Const(0), *ZEROS), target.shape),
        Region(source, (Const(-1), *ZEROS), target.shape),
        (0, 1, 2),
        pad,
        loc="copy",
    )
    with refused(f"DMA of 'copy' {text}"):
        lowered(copy, config=config)


def test_wide_accumulators_pad_with_their_own_least_value() -> None:
    source = Buffer("x", (4, 1, 4), "int32")
    target = Buffer("y", (5, 1, 4), "int32", "acc")
    for pad, fits in ((-(1 << 31), True), (-128, False)):
        copy = Copy(
            Region(target, (Const(0), *ZEROS), target.shape),
            Region(source, (Const(-1), *ZEROS), target.shape),
            (0, 1, 2),
            pad,
            loc="copy",
        )
        if fits:
            assert lowered(copy)[0].pad_min  # type: ignore[attr-defined]
        else:
            with refused(
                "DMA of 'copy' pads with -128; config 'tiny' can pad with 0 or -2147483648"
            ):
                lowered(copy)


def test_pads_are_small() -> None:
    (insn,) = lowered(load_of((3, 3), (-15, 0), (18, 3), 0))
    assert insn.y_pad_0 == 15  # type: ignore[attr-defined]
    with refused(
        "DMA of 'copy' pads 16 elements at one end, more than the 15 of an instruction; "
        "use another tile size"
    ):
        lowered(load_of((3, 3), (-16, 0), (19, 3), 0))


def test_columns_of_padding_alone() -> None:
    with refused("DMA of 'copy': a transfer of padding columns only"):
        lowered(load_of((4, 4), (0, -3), (4, 2), 0))


def test_two_axes_can_be_padded() -> None:
    with refused("DMA of 'copy' pads more than the two innermost axes of the transfer"):
        lowered(load_of((3, 3, 3), (-1, 0, 0), (4, 2, 2), 0))


def test_a_store_stays_inside_its_tensor() -> None:
    target, source = Buffer("x", (4, 1, 4), "int8"), Buffer("y", (5, 1, 4), "int32", "acc")
    copy = Copy(
        Region(target, (Const(0), *ZEROS), source.shape),
        Region(source, (Const(0), *ZEROS), source.shape),
        (0, 1, 2),
        loc="copy",
    )
    with refused("DMA of 'copy': a store would write outside 'x' of shape [4, 1, 4]"):
        lowered(copy)


@pytest.mark.parametrize(
    ("scope", "dtype", "direction"),
    [
        ("inp", "int32", "loaded into"),
        ("wgt", "uint8", "loaded into"),
        ("acc", "uint8", "loaded into"),
        ("acc", "int32", "stored from"),
        ("inp", "int8", "stored from"),
    ],
)
def test_types_that_no_transfer_converts(scope: str, dtype: str, direction: str) -> None:
    element = (4, 4) if scope == "wgt" else (1, 4)
    dram = Buffer("x", (2, *element), dtype)
    chip = Buffer("y", (2, *element), "int8", scope)
    begin = (Const(0), *ZEROS)
    regions = (Region(chip, begin, chip.shape), Region(dram, begin, dram.shape))
    dst, src = regions if direction == "loaded into" else regions[::-1]
    with refused(f"DMA of 'copy': {dtype} cannot be {direction} '{scope}'"):
        lowered(Copy(dst, src, (0, 1, 2), loc="copy"))


def test_elements_are_moved_whole() -> None:
    dram, chip = Buffer("x", (2, 1, 8), "int8"), Buffer("y", (2, 1, 4), "int8", "inp")
    copy = Copy(
        Region(chip, (Const(0), *ZEROS), (2, 1, 4)),
        Region(dram, (Const(0), *ZEROS), (2, 1, 4)),
        (0, 1, 2),
        loc="copy",
    )
    with refused(
        "DMA of 'copy': 'x' of shape [2, 1, 8] must end in whole elements [1, 4] of 'inp'"
    ):
        lowered(copy)
