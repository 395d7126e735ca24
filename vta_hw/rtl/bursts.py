"""Cuts the rows of a transfer into bursts (rule B1)."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from vta_hw.rtl.signatures import ADDRESS_BITS, LENGTH_BITS
from vta_hw.spec import machine
from vta_hw.spec.config import VtaConfig


def row_job(most_bytes: int) -> data.StructLayout:
    """A transfer: `rows` rows of `row_bytes`, at most `most_bytes`, from `address` on."""
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "stride": ADDRESS_BITS,
            "rows": 16,
            "row_bytes": range(most_bytes + 1),
        }
    )


def row_burst(config: VtaConfig) -> data.StructLayout:
    """One burst of a row.

    `address` is that of its first beat (a multiple of the bus) and `length` its beats less 1; data
    begin at byte `begin` of its first beat and end with byte `end` of its last.
    """
    byte_bits = config.log_bus_width - 3
    return data.StructLayout(
        {
            "address": ADDRESS_BITS,
            "length": LENGTH_BITS,
            "begin": byte_bits,
            "end": byte_bits,
            "first": 1,  # of its row
            "last": 1,  # of its row
            "final": 1,  # of the transfer
        }
    )


class RowBursts(wiring.Component):
    """Gives the bursts of one transfer after the other, one per cycle.

    Parameters
    ----------
    config
        Gives the bus.
    most_bytes
        The most that a row has; a row has at least 1.

    Members
    -------
    start : In(stream of row_job)
        Ready while no burst is left, so not yet in the cycle that takes the last one. A transfer
        without rows has no bursts.
    burst : Out(stream of row_burst)
        The first is there in the cycle after the start, each other one in the cycle after the one
        before was taken.
    """

    def __init__(self, config: VtaConfig, most_bytes: int) -> None:
        self._config = config
        self._job = row_job(most_bytes)
        super().__init__(
            {
                "start": In(stream.Signature(self._job)),
                "burst": Out(stream.Signature(row_burst(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the row's next beat and how many are left, one step ahead of the consumer."""
        m = Module()
        byte_bits = self._config.log_bus_width - 3
        last_byte = machine.bus_bytes(self._config) - 1
        window = machine.burst_window(self._config) >> byte_bits
        row_bytes_bits = self._job["row_bytes"].width
        last_bits = max(row_bytes_bits, byte_bits) + 1
        job, burst = self.start.payload, self.burst.payload

        stride, row_bytes = Signal(ADDRESS_BITS), Signal(row_bytes_bits)
        rows_left = Signal(16)
        left = Signal()  # rows_left != 0
        row_address = Signal(ADDRESS_BITS)
        beat = Signal(ADDRESS_BITS - byte_bits)
        # Of the row, those of this burst included, less 1.
        beats_left = Signal(last_bits - byte_bits)
        first = Signal(init=1)
        begin, end = Signal(byte_bits), Signal(byte_bits)

        def begin_row(address: ValueLike, size: ValueLike) -> None:
            start = Signal(ADDRESS_BITS, name="row_start")
            last = Signal(last_bits, name="row_last")
            m.d.comb += [start.eq(address), last.eq(start[:byte_bits] + size - 1)]
            m.d.sync += [
                row_address.eq(start),
                beat.eq(start[byte_bits:]),
                beats_left.eq(last[byte_bits:]),
                begin.eq(start[:byte_bits]),
                end.eq(last[:byte_bits]),
                first.eq(1),
            ]

        to_window_end = Signal(range(window))
        m.d.comb += [
            self.start.ready.eq(~left),
            self.burst.valid.eq(left),
            to_window_end.eq(~beat[: to_window_end.shape().width]),
            burst.address.eq(beat << byte_bits),
            burst.first.eq(first),
            burst.last.eq(beats_left <= to_window_end),
            burst.final.eq(burst.last & (rows_left == 1)),
            burst.length.eq(Mux(burst.last, beats_left, to_window_end)),
            burst.begin.eq(Mux(first, begin, 0)),
            burst.end.eq(Mux(burst.last, end, last_byte)),
        ]
        with m.If(self.start.valid & self.start.ready):
            m.d.sync += [
                stride.eq(job.stride),
                row_bytes.eq(job.row_bytes),
                rows_left.eq(job.rows),
                left.eq(job.rows != 0),
            ]
            begin_row(job.address, job.row_bytes)
        with m.If(self.burst.valid & self.burst.ready):
            m.d.sync += [
                beat.eq(beat + to_window_end + 1),
                beats_left.eq(beats_left - to_window_end - 1),
                first.eq(0),
            ]
            with m.If(burst.last):
                m.d.sync += [rows_left.eq(rows_left - 1), left.eq(rows_left != 1)]
                begin_row(row_address + stride, row_bytes)
        return m
