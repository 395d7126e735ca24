"""The array of multipliers: one step of GEMM per cycle."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.signatures import element_bits
from vta_hw.spec.config import ACC_LANE_BITS, MemType, VtaConfig

_FACTOR_BITS = 8
_PRODUCT_BITS = 2 * _FACTOR_BITS


class MacArray(wiring.Component):
    """Sum over k of inp(b, k) * wgt(c, k) for every lane (b, c), in lanes of ACC.

    Members
    -------
    inp, wgt: one element each, taken in cycles with `enable`.
    enable: products are registered, in the next cycle their sums.
    sums: of a cycle with `enable`, two cycles later; they stay until the next ones.
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
        """A register behind the multipliers, one behind the adders."""
        m = Module()
        config = self._config
        row_bits = config.block_in * _FACTOR_BITS
        multiplied = Signal()
        m.d.sync += multiplied.eq(self.enable)
        sums = []
        for row in range(config.batch):
            for channel in range(config.block_out):
                first = self.inp.word_select(row, row_bits)
                second = self.wgt.word_select(channel, row_bits)
                sums.append(self._dot_product(m, first, second, f"{row}_{channel}"))
        with m.If(multiplied):
            m.d.sync += self.sums.eq(Cat(sums))
        return m

    def _dot_product(self, m: Module, first: Value, second: Value, name: str) -> Value:
        layout = data.ArrayLayout(signed(_PRODUCT_BITS), self._config.block_in)
        products = Signal(layout, name=f"products_{name}")
        with m.If(self.enable):
            for k in range(self._config.block_in):
                factors = [
                    row.word_select(k, _FACTOR_BITS).as_signed() for row in (first, second)
                ]  # fmt: skip
                m.d.sync += products[k].eq(factors[0] * factors[1])
        total = Signal(signed(ACC_LANE_BITS), name=f"total_{name}")
        m.d.comb += total.eq(_tree([products[k] for k in range(self._config.block_in)]))
        return total


def _tree(terms: Sequence[Value]) -> Value:
    """The sum of 2^n terms, n adders deep."""
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]
