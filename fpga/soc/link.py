"""The board's side of the serial link: from two pins to memory and the core's registers."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fpga.protocol import BLOCK_BYTES, BOARD_NAME_BYTES, MAGIC, VERSION, Greeting
from fpga.soc.link_commands import COUNTERS, LinkCommands
from fpga.soc.link_rx import BUFFER_BYTES, LinkRx
from fpga.soc.link_tx import LinkTx
from fpga.soc.link_watchdog import LinkWatchdog
from fpga.soc.uart import UartReceiver, UartTransmitter
from vta_hw.rtl.control_port import AxiLite
from vta_hw.rtl.read_channel import AxiRead
from vta_hw.rtl.signatures import ADDRESS_BITS
from vta_hw.rtl.write_channel import AxiWrite
from vta_hw.spec.config import VtaConfig

SHOWN_MS = 63
"""How long the lamps stay on."""


class Link(wiring.Component):
    """Answers requests (`fpga.protocol`) that come over a serial line.

    A request is buffered whole, and its CRC checked, before anything of it is done. Several may
    wait in the buffer. What is on the buses is one transaction at a time, of one beat.

    Parameters
    ----------
    config
        Gives the width of the bus to memory.
    clock_hz, baud
        Of the domain ``sync`` and of the line; their ratio is kept exactly.
    board, memory_bytes
        What IDENTIFY answers; `memory_bytes` is also where memory ends.

    Members
    -------
    rx, tx : In(1), Out(1)
        The pins; `rx` need not be synchronous.
    memory_read, memory_write : Out(AxiRead), Out(AxiWrite)
        To memory: single beats, strobes for one byte, RREADY and BREADY always high.
    control : Out(AxiLite)
        To the core's registers.
    running : In(1)
        The core runs: memory is not touched.
    settle, settled : Out(1), In(1)
        Before each write of a register, `settle` is high up to and including the first cycle in
        which `settled` is high. In the very next cycle AWVALID and WVALID rise, always both.
    core_reset : Out(1)
        Resets the core, and with it what answers on the three buses; they may drop what is under
        way, or answer it before `core_reset` ends. High on RESET, when a run has taken too long,
        and when a bus or `settled` has not answered in time.
    active, error : Out(1)
        A request has come, a frame went wrong, in the last `SHOWN_MS`.
    """

    def __init__(
        self,
        config: VtaConfig,
        *,
        clock_hz: int,
        baud: int,
        board: str = "ulx3s",
        memory_bytes: int = 1 << 25,
    ) -> None:
        name = board.encode("ascii")
        if not 0 < len(name) <= BOARD_NAME_BYTES:
            raise ValueError(f"board must be a name of 1 to {BOARD_NAME_BYTES} letters")
        if not BLOCK_BYTES <= memory_bytes < 1 << ADDRESS_BITS:
            raise ValueError(f"memory_bytes must be in [{BLOCK_BYTES}, 2^{ADDRESS_BITS})")
        self._config, self._clock_hz, self._baud = config, clock_hz, baud
        self._greeting = Greeting(
            magic=MAGIC,
            version=VERSION,
            block_bytes=BLOCK_BYTES,
            buffer_bytes=BUFFER_BYTES,
            memory_bytes=memory_bytes,
            clock_hz=clock_hz,
            board=board,
        )
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "memory_read": Out(AxiRead(config)),
                "memory_write": Out(AxiWrite(config)),
                "control": Out(AxiLite()),
                "running": In(1),
                "settle": Out(1),
                "settled": In(1),
                "core_reset": Out(1),
                "active": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Line, frames, commands, and what watches over them."""
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._clock_hz, self._baud)
        m.submodules.transmitter = transmitter = UartTransmitter(self._clock_hz, self._baud)
        m.submodules.frames_in = frames_in = LinkRx()
        m.submodules.frames_out = frames_out = LinkTx()
        m.submodules.commands = commands = LinkCommands(self._config, self._greeting)
        m.submodules.watchdog = watchdog = LinkWatchdog(self._clock_hz)
        wiring.connect(m, frames_in.bytes, commands.requests)
        wiring.connect(m, commands.answers, frames_out.content)
        wiring.connect(m, frames_out.bytes, transmitter.bytes)
        for name in ("memory_read", "memory_write", "control"):
            wiring.connect(m, getattr(commands, name), wiring.flipped(getattr(self, name)))
        m.d.comb += [
            receiver.line.eq(self.rx),
            self.tx.eq(transmitter.line),
            frames_in.valid.eq(receiver.valid),
            frames_in.data.eq(receiver.data),
            frames_in.error.eq(receiver.error),
            frames_in.tick.eq(watchdog.tick),
            commands.running.eq(self.running),
            commands.core_reset.eq(watchdog.core_reset),
            commands.settled.eq(self.settled),
            self.settle.eq(commands.settle),
            watchdog.running.eq(self.running),
            watchdog.limit_ms.eq(commands.limit_ms),
            watchdog.waiting.eq(commands.waiting),
            watchdog.reset.eq(commands.reset),
            self.core_reset.eq(watchdog.core_reset),
        ]
        counters = Signal(COUNTERS)
        m.d.comb += commands.counters.eq(counters)
        events = {
            "frames_good": frames_in.good,
            "frames_bad": frames_in.bad,
            "frames_stalled": frames_in.stalled,
            "frames_overrun": frames_in.overrun,
            "repeats": commands.repeat,
            "watchdog_resets": watchdog.fired,
        }
        for name in COUNTERS.members:
            with m.If(events[name]):
                m.d.sync += counters[name].eq(counters[name] + 1)
        wrong = frames_in.bad | frames_in.stalled | frames_in.overrun
        self._lamp(m, watchdog.tick, frames_in.good, self.active)
        self._lamp(m, watchdog.tick, wrong, self.error)
        return m

    def _lamp(self, m: Module, tick: Signal, event: Any, lamp: Signal) -> None:
        left = Signal(range(SHOWN_MS + 1))
        m.d.sync += lamp.eq(left != 0)
        with m.If(event):
            m.d.sync += left.eq(SHOWN_MS)
        with m.Elif(tick & (left != 0)):
            m.d.sync += left.eq(left - 1)
