"""A core in the same chip: files stand for its registers, its memory and what the kernel tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fpga.driver import mmio
from fpga.driver.device import BoardDevice
from fpga.driver.mmio import MappedTransport, PynqBuffer, Window
from runtime.device import DeviceError
from runtime.executor import Executor
from tests.fpga.mapped_core import PHYSICAL, MappedCore
from tests.models import REPO
from tests.runtime import networks
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import CORE_ID, Register

CONFIG = VtaConfig.load("ulx3s")


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MappedCore:
    core = MappedCore(tmp_path, CONFIG)
    monkeypatch.setattr(mmio, "SYSFS", core.sysfs)
    return core


def _attributes(core: MappedCore) -> dict[str, str]:
    names = ("sync_offset", "sync_size", "sync_direction")
    return {name: (core.attributes / name).read_text() for name in names}


def test_registers_and_memory_are_the_files(core: MappedCore) -> None:
    transport = MappedTransport.open(core.spec)
    assert transport.base_address == PHYSICAL
    assert transport.identity.memory_bytes == 1 << 20 and transport.identity.board == "mmio"
    assert transport.read_register(Register.ID) == CORE_ID
    transport.write_register(Register.INSN_BASE, 0xFFFF_FFF0)
    assert core.registers.read_bytes()[12:16] == b"\xf0\xff\xff\xff"
    transport.write_memory(100, np.arange(7, dtype=np.uint8))
    assert core.memory.read_bytes()[100:107] == bytes(range(7))
    np.testing.assert_array_equal(transport.read_memory(99, 3), [0, 0, 1])
    with pytest.raises(DeviceError, match=r"bytes 1048575\.\.1048577 lie outside the buffer"):
        transport.read_memory((1 << 20) - 1, 2)
    transport.close()


def test_caches_are_cared_for(core: MappedCore) -> None:
    transport = MappedTransport.open(core.spec)
    transport.write_memory(4096, np.zeros(64, np.uint8))
    assert (core.attributes / "sync_for_device").read_text() == "1"
    assert not (core.attributes / "sync_for_cpu").exists()
    assert _attributes(core) == {"sync_offset": "4096", "sync_size": "64", "sync_direction": "0"}
    transport.read_memory(8192, 32)
    assert (core.attributes / "sync_for_cpu").read_text() == "1"
    assert _attributes(core)["sync_offset"] == "8192"


def test_a_network_runs(core: MappedCore, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, networks.SHAPE, np.uint8)
    package = networks.package(CONFIG, "uint8")
    with core:
        device = BoardDevice(CONFIG, MappedTransport.open(core.spec), timeout_s=10)
        outcome = Executor(package, device).run({"in": x})
    np.testing.assert_array_equal(outcome.outputs["out"], networks.expected(x, 2))
    # Everything that the core was told is physical.
    words = np.frombuffer(core.registers.read_bytes(), "<u4")
    for register in (Register.UOP_BASE, Register.OUT_BASE):
        assert words[register // 4] == PHYSICAL
    assert words[Register.DRAM_LIMIT // 4] > words[Register.OUT_BASE // 4]
    assert words[Register.INSN_BASE // 4] > words[Register.DRAM_LIMIT // 4]


class _Allocated(np.ndarray):
    """What `pynq.allocate` gives, as far as it is used."""

    physical_address = PHYSICAL
    calls: list[str]

    def flush(self) -> None:
        self.calls.append("flush")

    def invalidate(self) -> None:
        self.calls.append("invalidate")


def test_a_buffer_of_pynq(core: MappedCore) -> None:
    allocated = np.zeros((4, 1024), np.uint32).view(_Allocated)
    allocated.calls = []
    transport = MappedTransport(Window(core.registers), PynqBuffer(allocated), clock_hz=100_000_000)
    assert transport.base_address == PHYSICAL and transport.identity.memory_bytes == 16384
    transport.write_memory(4, np.array([1, 2, 3, 4], np.uint8))
    assert allocated[0, 1] == 0x04030201 and allocated.calls == ["flush"]
    allocated[3, 1023] = 7
    np.testing.assert_array_equal(transport.read_memory(16380, 4), [7, 0, 0, 0])
    assert allocated.calls == ["flush", "invalidate"]


def test_reset_needs_a_way_to_stop_the_core(core: MappedCore) -> None:
    transport = MappedTransport.open(core.spec)
    transport.write_register(Register.INSN_BASE, 64)
    transport.reset()
    assert transport.read_register(Register.INSN_BASE) == 0
    transport.write_register(Register.CONTROL, 1)
    with pytest.raises(DeviceError, match="still runs and cannot be reset from here"):
        transport.reset()
    words = np.memmap(core.registers, np.uint32)

    def stop() -> None:
        words[0] = 0

    buffer = mmio.DmaBuffer(core.memory)
    MappedTransport(Window(core.registers), buffer, resetter=stop).reset()
    assert words[0] == 0


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("/dev/uio0", Window(Path("/dev/uio0"))),
        ("/dev/mem@0xA0000000", Window(Path("/dev/mem"), 0xA0000000)),
        ("/dev/mem@1073741824", Window(Path("/dev/mem"), 1 << 30)),
    ],
)
def test_where_registers_are(text: str, window: Window) -> None:
    assert Window.parse(text) == window


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{uio}", "needs registers and memory, as in mmio:/dev/uio0,/dev/udmabuf0"),
        ("{uio},{folder}/other", "is no buffer of u-dma-buf: there is no folder"),
        ("{folder}/uio7,{memory}", "uio7' cannot be used: No such file or directory; see that"),
        ("{uio}@12,{memory}", "must lie at a multiple of 0x1000"),
        ("{uio}@here,{memory}", "must be a device file, with @ and an address for /dev/mem"),
    ],
)
def test_what_cannot_be_opened(core: MappedCore, spec: str, words: str) -> None:
    folder = core.registers.parent
    with pytest.raises(DeviceError) as caught:
        MappedTransport.open(spec.format(uio=core.registers, memory=core.memory, folder=folder))
    assert words in str(caught.value)


def test_the_older_name_of_the_kernel_module(core: MappedCore) -> None:
    older = core.sysfs / "class" / "udmabuf"
    core.attributes.parent.rename(older)
    transport = MappedTransport.open(core.spec)
    transport.write_memory(0, np.zeros(1, np.uint8))
    assert (older / "udmabuf0" / "sync_for_device").read_text() == "1"


def test_attributes_that_are_no_numbers(core: MappedCore) -> None:
    (core.attributes / "size").write_text("much\n")
    with pytest.raises(DeviceError, match="size' cannot be used: invalid literal"):
        MappedTransport.open(core.spec)


# What a board's processor has: Python and numpy. The rest is as if it were not installed.
_ALONE = """
import sys
import numpy
sys.path = [p for p in sys.path if "site-packages" not in p and "dist-packages" not in p]
repository, sysfs, *arguments = sys.argv[1:]
sys.path.insert(0, repository)
from pathlib import Path
import fpga.driver.device
import fpga.driver.mmio as mmio
from vta.board import main
mmio.SYSFS = Path(sysfs)
status = main(arguments)
own = {"numpy", "fpga", "runtime", "vta", "vta_hw", "vta_sim", "__main__", "__mp_main__"}
loaded = {name.partition(".")[0] for name in sys.modules}
foreign = loaded - own - set(sys.stdlib_module_names)
print("foreign", *sorted(n for n in foreign if not n.startswith("_")))
sys.exit(status)
"""


def _alone(core: MappedCore, *arguments: object) -> str:
    command = [sys.executable, "-c", _ALONE, REPO, core.sysfs, *arguments]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_board_needs_nothing_but_numpy(
    core: MappedCore, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = rng.integers(0, 256, networks.SHAPE, np.uint8)
    networks.package(CONFIG, "uint8").save(tmp_path / "net.vta")
    (tmp_path / "inputs").mkdir()
    np.save(tmp_path / "inputs" / "in.npy", x)
    options = ("--device", f"mmio:{core.spec}", "--inputs", tmp_path / "inputs")
    with core:
        out = _alone(core, "run", tmp_path / "net.vta", *options, "--output-dir", tmp_path / "out")
    got = np.load(tmp_path / "out" / "out.npy")
    np.testing.assert_array_equal(got, networks.expected(x, 2))
    assert "ok: " in out and out.endswith("foreign\n")
