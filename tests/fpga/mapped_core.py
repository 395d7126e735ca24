"""Device files of a core in this chip, and the core itself in a thread: a fake Zynq."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from tests.fpga.fake_board import FakeBoard
from vta_hw.spec import registers
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import READ_ONLY, Register

PHYSICAL = 0x1F40_0000
_LAUNCH = 1 << registers.CONTROL_LAUNCH


class MappedCore:
    """Files below `folder`: registers ``uio0``, memory ``udmabuf0``, and the kernel's ``sys``.

    In its block a thread does the runs that are launched through the registers.
    """

    def __init__(self, folder: Path, config: VtaConfig, memory_bytes: int = 1 << 20) -> None:
        self.registers, self.memory, self.sysfs = (folder / n for n in ("uio0", "udmabuf0", "sys"))
        self.registers.write_bytes(bytes(1 << registers.ADDRESS_BITS))
        self.memory.write_bytes(bytes(memory_bytes))
        self.attributes = self.sysfs / "class" / "u-dma-buf" / "udmabuf0"
        self.attributes.mkdir(parents=True)
        (self.attributes / "phys_addr").write_text(f"{PHYSICAL:#010x}\n")
        (self.attributes / "size").write_text(f"{memory_bytes}\n")
        self.spec = f"{self.registers},{self.memory}"
        memory = np.frombuffer(self._map(self.memory), np.uint8)
        self._words = np.frombuffer(self._map(self.registers), np.uint32)
        self._board = FakeBoard(config, memory, base_address=PHYSICAL, polls=0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="core")
        self._show()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @staticmethod
    def _map(path: Path) -> mmap.mmap:
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), 0)

    def _serve(self) -> None:
        while not self._stop.wait(0.001):
            if self._words[Register.CONTROL // 4] & _LAUNCH:
                for register in Register:
                    if register not in READ_ONLY | {Register.CONTROL, Register.IRQ_STATUS}:
                        self._board.write_register(register, int(self._words[register // 4]))
                self._board.write_register(Register.CONTROL, _LAUNCH)
                self._show()

    def _show(self) -> None:
        """Put the registers into the file, CONTROL last: it says that the others are there."""
        shown = [r for r in range(0, len(self._words) * 4, 4) if r in self._board.known()]
        for offset in [*shown[1:], Register.CONTROL]:
            self._words[offset // 4] = self._board.read_register(offset)
