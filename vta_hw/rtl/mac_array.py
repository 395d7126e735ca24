"""The array of multipliers: one step of GEMM per cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.fabric import Fabric, fabric_of
from vta_hw.rtl.signatures import element_bits
from vta_hw.spec.config import ACC_LANE_BITS, MemType, VtaConfig

DELAY = 3
"""Cycles from two elements to their sums."""

_FACTOR_BITS = 8
_PRODUCT_BITS = 2 * _FACTOR_BITS
_HALF = 1 << (_PRODUCT_BITS - 1)


class MacArray(wiring.Component):
    """Sum over k of inp(b, k) * wgt(c, k) for every lane (b, c), in lanes of ACC.

    Members
    -------
    inp, wgt: one element each, taken in cycles with `enable`.
    sums: of a cycle with `enable`, `DELAY` cycles later; they stay until the next ones.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                "inp": In(element_bits(config, MemType.INP)),
                "wgt": In(element_bits(config, MemType.WGT)),
                "enable": In(1),
                "sums": Out(element_bits(config, MemType.ACC)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """A register before the multipliers, one behind them, one behind the adders.

        Block RAM is slow, and may be far from the multipliers.
        """
        m = Module()
        config = self._config
        row_bits = config.block_in * _FACTOR_BITS
        # With neither reset nor enable, so that they can become part of the multipliers.
        inp = Signal.like(self.inp, reset_less=True)
        wgt = Signal.like(self.wgt, reset_less=True)
        taken, multiplied = Signal(), Signal()
        m.d.sync += [taken.eq(self.enable), multiplied.eq(taken)]
        m.d.sync += [inp.eq(self.inp), wgt.eq(self.wgt)]
        sums = []
        for row in range(config.batch):
            first = _factors(inp.word_select(row, row_bits))
            for channels, products in self._shares(fabric_of(platform)):
                second = [_factors(wgt.word_select(channel, row_bits)) for channel in channels]
                names = [f"{row}_{channel}" for channel in channels]
                sums += self._dot_products(m, products, taken, first, second, names)
        with m.If(multiplied):
            m.d.sync += self.sums.eq(Cat(sums))
        return m

    def _shares(self, fabric: Fabric) -> list[tuple[Sequence[int], type[_Products]]]:
        """Output channels in their order, one or two at a time, and how their products are made."""
        channels = range(self._config.block_out)
        if fabric.wide_multipliers and len(channels) > 1:
            return [(channels[n : n + 2], _PairedProducts) for n in channels[::2]]
        return [([channel], _Products) for channel in channels]

    def _dot_products(
        self,
        m: Module,
        kind: type[_Products],
        enable: Value,
        first: Sequence[Value],
        second: Sequence[Sequence[Value]],
        names: Sequence[str],
    ) -> list[Value]:
        """A sum per sequence of `second`."""
        products = kind(self._config.block_in, names[0])
        with m.If(enable):
            for k, factor in enumerate(first):
                m.d.sync += products.take(k, factor, [factors[k] for factors in second])
        totals = []
        for number, name in enumerate(names):
            total = Signal(signed(ACC_LANE_BITS), name=f"total_{name}")
            terms = [products.term(k, number) for k in range(self._config.block_in)]
            m.d.comb += total.eq(_tree(terms))
            totals.append(total)
        return totals


class _Products:
    """The register behind the multipliers of one output channel."""

    bits = _PRODUCT_BITS
    attributes: Mapping[str, str] = {}

    def __init__(self, count: int, name: str) -> None:
        layout = data.ArrayLayout(signed(self.bits), count)
        self._products = Signal(layout, name=f"products_{name}", attrs=dict(self.attributes))

    def take(self, k: int, first: Value, second: Sequence[Value]) -> Any:
        """Register number k takes the product of a factor with one each of the channels."""
        return self._products[k].eq(first * second[0])

    def term(self, k: int, number: int) -> Value:
        """What register k has of channel `number`."""
        return self._products[k]


class _PairedProducts(_Products):
    """The same for two channels; the multiplier has both factors on one side.

    With a, b and x in -128..127, x * (a + b * 2^16) + 2^15 has x * b in its upper bits and
    x * a + 2^15 in its lower 16: that is never negative, so nothing is borrowed from above.
    """

    bits = 2 * _PRODUCT_BITS + 1
    # Vivado would else build products of 8 bits from LUTs as it likes.
    attributes = {"use_dsp": "yes"}

    def take(self, k: int, first: Value, second: Sequence[Value]) -> Any:
        low, high = second
        both = low + Cat(Const(0, _PRODUCT_BITS), high).as_signed()
        return self._products[k].eq(first * both + _HALF)

    def term(self, k: int, number: int) -> Value:
        product = self._products[k]
        if number:
            return product[_PRODUCT_BITS : 2 * _PRODUCT_BITS].as_signed()
        return Cat(product[: _PRODUCT_BITS - 1], ~product[_PRODUCT_BITS - 1]).as_signed()


def _factors(row: Value) -> list[Value]:
    return [
        row.word_select(k, _FACTOR_BITS).as_signed() for k in range(len(row) // _FACTOR_BITS)
    ]  # fmt: skip


def _tree(terms: Sequence[Value]) -> Value:
    """The sum of 2^n terms, n adders deep."""
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]
