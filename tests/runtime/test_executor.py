import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtime.buffers import pack, unpack
from runtime.device import DeviceError, open_device
from runtime.executor import Executor, InputError, ProgramFaultError
from runtime.package import HostCall, Package, TensorInfo
from tests.runtime import networks
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.result import Status

CONFIGS = ("default", "batch4")


@pytest.fixture(scope="module", params=CONFIGS)
def config(request: pytest.FixtureRequest) -> VtaConfig:
    return VtaConfig.load(request.param)


@pytest.fixture(scope="module")
def made(config: VtaConfig) -> Package:
    return networks.package(config, steps=3)


def _input(rng: np.random.Generator, dtype: str = "int8") -> np.ndarray:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, networks.SHAPE, dtype, endpoint=True)


def test_outputs_and_totals(made: Package, rng: np.random.Generator) -> None:
    executor = Executor(made)
    for _ in range(3):
        x = _input(rng)
        outcome = executor.run({"in": x})
        assert list(outcome.outputs) == ["out"]
        np.testing.assert_array_equal(outcome.outputs["out"], networks.expected(x, 3))
    assert outcome.result.ok and outcome.result.instructions == 15
    assert outcome.result.cycles is None
    size = made.tensors["in.packed"].size_bytes
    assert outcome.result.counters["store_out_bytes"] == 3 * size
    assert outcome.host_macs == 7
    assert outcome.host_operators == ("pack", "unpack")
    assert outcome.wall_s > 0


def test_all_tensors_under_the_models_names(made: Package, rng: np.random.Generator) -> None:
    executor = Executor(made)
    x = _input(rng)
    outcome = executor.run({"in": x}, outputs="all")
    assert sorted(outcome.outputs) == ["in", "mid1", "mid2", "out"]
    for steps, name in enumerate(("in", "mid1", "mid2", "out")):
        np.testing.assert_array_equal(outcome.outputs[name], networks.expected(x, steps))
    # The planned arena, in which mid2 overwrites the input, still gives the same result.
    np.testing.assert_array_equal(executor.run({"in": x}).outputs["out"], outcome.outputs["out"])


def test_uint8_outside_int8_inside(config: VtaConfig, rng: np.random.Generator) -> None:
    executor = Executor(networks.package(config, "uint8"))
    x = _input(rng, "uint8")
    outcome = executor.run({"in": x}, outputs="all")
    for steps, name in enumerate(("in", "mid1", "out")):
        assert outcome.outputs[name].dtype == np.uint8
        np.testing.assert_array_equal(outcome.outputs[name], networks.expected(x, steps))
    with pytest.raises(InputError, match="must be uint8 of shape 1x2x3x20, not int8"):
        executor.run({"in": x.view(np.int8)})


def test_an_alias_shares_memory(made: Package, rng: np.random.Generator) -> None:
    base = made.tensors["mid1.packed"]
    view = replace(base, name="view", view_of="seen", alias_of="mid1.packed")
    aliased = replace(made, tensors={**made.tensors, "view": view})
    x = _input(rng)
    outputs = Executor(aliased).run({"in": x}, outputs="all").outputs
    np.testing.assert_array_equal(outputs["seen"], outputs["mid1"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"^input 'in' is missing; give an array of int8 of shape 1x2x3x20$"),
        ({"in": np.zeros(networks.SHAPE, np.float32)}, r"must be int8 .*, not float32"),
        ({"in": np.zeros(networks.SHAPE, np.int16)}, r"must be int8 .*, not int16"),
        ({"in": np.zeros((1, 2, 3), np.int8)}, r"not int8 of shape 1x2x3; convert it first$"),
        (
            {"in": np.zeros(networks.SHAPE, np.int8), "inn": np.zeros(1)},
            r"^the model has no input 'inn'; its inputs are 'in'$",
        ),
    ],
)
def test_wrong_inputs(made: Package, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Executor(made).run(inputs)


def test_outputs_must_be_named_rightly(made: Package) -> None:
    x = np.zeros(networks.SHAPE, np.int8)
    with pytest.raises(InputError, match="^outputs must be 'model' or 'all', not 'every'$"):
        Executor(made).run({"in": x}, outputs="every")  # type: ignore[arg-type]


def test_inputs_need_not_be_contiguous(made: Package, rng: np.random.Generator) -> None:
    x = np.asfortranarray(_input(rng))
    np.testing.assert_array_equal(
        Executor(made).run({"in": x}).outputs["out"], networks.expected(x, 3)
    )


def test_a_fault_is_no_silent_result(made: Package, rng: np.random.Generator) -> None:
    x = _input(rng)
    with pytest.raises(ProgramFaultError, match=r"ended with fault at instruction 3 \(increment\)"):
        Executor(networks.broken(made)).run({"in": x})
    with pytest.raises(ProgramFaultError) as caught:
        Executor(networks.deadlocked(made)).run({"in": x})
    assert caught.value.result.status is Status.DEADLOCK


def test_another_machines_code_is_refused(made: Package) -> None:
    foreign = replace(made, host_triple="riscv64-unknown-linux-gnu")
    with pytest.raises(DeviceError, match=r"is for 'riscv64-.*compile the model with --host"):
        Executor(foreign, host="native")
    lacking = replace(made, plan=(HostCall("nobody", ("in",), ("in.packed",)),))
    with pytest.raises(DeviceError, match="lacks the function 'nobody'"):
        Executor(lacking).run({"in": np.zeros(networks.SHAPE, np.int8)})
    with pytest.raises(DeviceError, match="^the package's host code is no object file"):
        Executor(replace(made, host_object=b"no code"))


@pytest.mark.parametrize("triple", ["", "riscv64-unknown-linux-gnu"])
def test_numpy_instead_of_host_code(made: Package, triple: str, rng: np.random.Generator) -> None:
    x = _input(rng)
    wanted = Executor(made, host="native").run({"in": x})
    assert wanted.host_code == "native"
    package = replace(made, host_triple=triple, host_object=b"") if triple else made
    executor = Executor(package, host="auto" if triple else "numpy")
    assert (executor.host_code, bool(executor.host_reason)) == ("numpy", bool(triple))
    outcome = executor.run({"in": x})
    assert outcome.host_code == "numpy"
    np.testing.assert_array_equal(outcome.outputs["out"], wanted.outputs["out"])


def test_numpy_without_llvmlite(made: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    executor = Executor(made)
    assert executor.host_code == "numpy" and "needs llvmlite" in executor.host_reason
    with pytest.raises(DeviceError, match="not installed; install llvmlite or use --host-code"):
        Executor(made, host="native")


def test_numpy_alone_loads_no_llvmlite(made: Package, tmp_path: Path) -> None:
    made.save(tmp_path / "net.vta")
    code = (
        "import sys; from runtime.package import Package; from runtime.executor import Executor\n"
        f"Executor(Package.load({str(tmp_path / 'net.vta')!r}), host='numpy')\n"
        "print('llvmlite' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_host_choices_and_forms_are_named(made: Package) -> None:
    with pytest.raises(DeviceError, match="^host code must be one of auto, native, numpy, not 'x'"):
        Executor(made, host="x")  # type: ignore[arg-type]
    strange = replace(made, plan=(HostCall("f", ("in",), ("in.packed",), "fft"),))
    with pytest.raises(DeviceError, match="'f' is the operator 'fft', which has no numpy form"):
        Executor(strange, host="numpy")
    twice = replace(made, plan=(HostCall("f", ("in",), ("in.packed", "out"), "pack"),))
    with pytest.raises(DeviceError, match="^host call 'f' must have one output, not 2"):
        Executor(twice, host="numpy")
    wrong = replace(made, plan=(HostCall("f", ("in",), ("out",), "softmax", {"mode": "new"}),))
    with pytest.raises(DeviceError, match="operator 'softmax' of call 'f' is malformed: attribute"):
        Executor(wrong, host="numpy").run({"in": np.zeros(networks.SHAPE, np.int8)})


def test_config_of_the_device_must_match(made: Package) -> None:
    slower = made.config.override(["DRAM_LATENCY=99"])
    Executor(made, open_device("functional", slower))
    with pytest.raises(DeviceError, match="is for config .*, the device has 'pynq'"):
        Executor(made, open_device("functional", VtaConfig.load("pynq")))


def test_reading_before_writing_is_refused(made: Package) -> None:
    backwards = replace(made, plan=(HostCall("pack_in", ("out",), ("in.packed",)),))
    with pytest.raises(DeviceError, match="reads tensor 'out' before anything writes it"):
        Executor(backwards).run({"in": np.zeros(networks.SHAPE, np.int8)})


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((5, 7), "NC"), ((5, 7), ""), ((3, 4, 5, 18), "NHWC"), ((3, 18, 4, 5), "NCHW")],
)
def test_pack_and_unpack(
    config: VtaConfig, shape: tuple[int, ...], layout: str, rng: np.random.Generator
) -> None:
    tensor = TensorInfo(
        name="x",
        dtype="int8",
        shape=shape,
        layout=layout,
        storage="device",
        batch=config.batch,
        block=config.block_in,
    )
    x = rng.integers(-128, 128, shape).astype(np.int8)
    packed = pack(x, tensor)
    assert packed.shape == tensor.packed_shape
    np.testing.assert_array_equal(unpack(packed, tensor), x)
    axes = tensor.axes
    for index in [tuple(int(rng.integers(e)) for e in shape) for _ in range(20)]:
        at = dict.fromkeys("NCHW", 0) | dict(zip(axes, index, strict=True))
        n, c = at["N"], at["C"]
        b, k = config.batch, config.block_in
        assert packed[n // b, c // k, at["H"], at["W"], n % b, c % k] == x[index]
    assert packed.astype(int).sum() == x.astype(int).sum()
