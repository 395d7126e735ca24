"""The way to memory for reads: arbitration, the AXI4 read channels, beats to their clients."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import Component, In, Out, Signature

from vta_hw.rtl.signatures import ADDRESS_BITS, LENGTH_BITS, READ_CLIENTS, ReadPort, bus_bits
from vta_hw.spec.config import VtaConfig

BURST_INCR = 0b01
CACHE_NORMAL = 0b0011
"""Normal memory, not cacheable, bufferable."""


class AxiRead(Signature):
    """AR and R of AXI4, seen from the master."""

    def __init__(self, config: VtaConfig) -> None:
        super().__init__(
            {
                "arid": Out(1),
                "araddr": Out(ADDRESS_BITS),
                "arlen": Out(LENGTH_BITS),
                "arsize": Out(3),
                "arburst": Out(2),
                "arlock": Out(1),
                "arcache": Out(4),
                "arprot": Out(3),
                "arqos": Out(4),
                "arvalid": Out(1),
                "arready": In(1),
                "rid": In(1),
                "rdata": In(bus_bits(config)),
                "rresp": In(2),
                "rlast": In(1),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )


class ReadChannel(Component):
    """Grants the clients' bursts and hands them their beats (rules C1 to C3).

    Members
    -------
    fetch, uop, acc, inp, wgt : In(ReadPort)
        The clients, by falling priority. Grants are combinational.
    axi : Out(AxiRead)
        A burst granted in n has its ARVALID from n + 1 on. RREADY is always high. Beats that come
        while no burst is open, those of bursts from before a reset, are dropped.
    moving : Out(1)
        A burst is granted or open, or a beat arrives.
    read_burst, read_beat : Out(1)
        A burst is granted; a beat of an open one is on the bus.
    """

    def __init__(self, config: VtaConfig) -> None:
        self._config = config
        super().__init__(
            {
                **{name: In(ReadPort(config)) for name in READ_CLIENTS},
                "axi": Out(AxiRead(config)),
                "moving": Out(1),
                "read_burst": Out(1),
                "read_beat": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """One register holds the address, another the beat that arrives."""
        m = Module()
        clients: list[Any] = [getattr(self, name) for name in READ_CLIENTS]
        axi = self.axi
        open_bursts = Signal(range(self._config.max_reads + 1))
        # One more than are ever in it: its output register does not count as room.
        owners = SyncFIFOBuffered(width=len(clients), depth=self._config.max_reads + 1)
        m.submodules.owners = owners

        free = (open_bursts < self._config.max_reads) & (~axi.arvalid | axi.arready)
        grants = Signal(len(clients))
        taken = 0
        for client, grant in zip(clients, grants, strict=True):
            m.d.comb += [
                client.request.ready.eq(free & ~taken),
                grant.eq(client.request.valid & client.request.ready),
            ]
            taken = taken | client.request.valid
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        for client, grant in zip(clients, grants, strict=True):
            with m.If(grant):
                m.d.sync += [
                    axi.arvalid.eq(1),
                    axi.araddr.eq(client.request.payload.address),
                    axi.arlen.eq(client.request.payload.length),
                ]
        closed = self.read_beat & axi.rlast
        m.d.comb += [
            self.read_beat.eq(axi.rvalid & (open_bursts != 0)),
            self.read_burst.eq(grants.any()),
            owners.w_en.eq(self.read_burst),
            owners.w_data.eq(grants),
            owners.r_en.eq(closed),
        ]
        m.d.sync += open_bursts.eq(open_bursts + self.read_burst - closed)
        arriving = self._beats(m, clients, owners.r_data)
        m.d.comb += self.moving.eq(self.read_burst | (open_bursts != 0) | arriving.any())
        self._constants(m)
        return m

    def _beats(self, m: Module, clients: list[Any], owner: Signal) -> Signal:
        axi = self.axi
        arriving = Signal(len(clients))
        beat = Signal.like(axi.rdata)
        last, error = Signal(), Signal()
        m.d.sync += arriving.eq(Mux(self.read_beat, owner, 0))
        with m.If(self.read_beat):
            m.d.sync += [beat.eq(axi.rdata), last.eq(axi.rlast), error.eq(axi.rresp != 0)]
        for client, arrives in zip(clients, arriving, strict=True):
            m.d.comb += [
                client.beat.eq(arrives),
                client.data.eq(beat),
                client.last.eq(last),
                client.error.eq(error),
            ]
        return arriving

    def _constants(self, m: Module) -> None:
        axi = self.axi
        m.d.comb += [
            axi.arsize.eq(self._config.log_bus_width - 3),
            axi.arburst.eq(BURST_INCR),
            axi.arcache.eq(CACHE_NORMAL),
            axi.rready.eq(1),
        ]
