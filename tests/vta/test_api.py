"""The Python API does what the commands do."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vta
from tests.models import DIGITS
from tests.runtime import networks
from vta.api import UsageError
from vta.files import file_stem, read_folder, read_named, write_folder
from vta_hw.spec import asm, isa

CONFIG = vta.config("default")


def test_every_public_name_exists() -> None:
    for name in vta.__all__:
        assert getattr(vta, name) is not None
    assert set(vta.__all__) <= set(dir(vta))
    assert vta.__all__ == sorted(vta.__all__)
    name = "nothing"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(vta, name)


def test_compile_load_run() -> None:
    compiled = vta.compile(DIGITS, config="mac64", settings=["DRAM_LATENCY=5"])
    assert compiled.package.config.dram_latency == 5
    assert dict(compiled.timings)["import"] > 0
    network = vta.load(compiled.package)
    inputs = vta.random_inputs(compiled.package, seed=3)
    outcome = network.run(inputs)
    assert outcome.result.ok and outcome.outputs["logits"].shape == (1, 10)
    again = vta.load(compiled.package, config=vta.config("mac64")).run(inputs)
    np.testing.assert_array_equal(again.outputs["logits"], outcome.outputs["logits"])


def test_load_of_a_file(tmp_path: Path) -> None:
    networks.package(CONFIG).save(tmp_path / "n.vta")
    network = vta.load(tmp_path / "n.vta")
    x = np.ones(networks.SHAPE, np.int8)
    np.testing.assert_array_equal(network.run({"in": x}).outputs["out"], x + 2)


def test_execute_leaves_its_input_alone() -> None:
    stream = isa.encode_all([isa.Finish()], CONFIG)
    image = np.arange(64, dtype=np.uint8)
    done = vta.execute(stream, image, config=CONFIG)
    assert done.result.ok and done.dram is not image
    np.testing.assert_array_equal(done.dram, image)
    assert vta.execute(stream, bytes(8)).dram.size == 8
    with pytest.raises(UsageError, match="must be bytes or a uint8 array"):
        vta.execute(stream, np.zeros(4, np.int32))


def test_disassemble_takes_anything(tmp_path: Path) -> None:
    package = networks.package(CONFIG)
    package.save(tmp_path / "n.vta")
    text = vta.disassemble(package)
    assert vta.disassemble(tmp_path / "n.vta") == text
    assert vta.disassemble(package.to_bytes()) == text
    assert vta.disassemble(package.programs[0]) in text
    stream = isa.encode_all([isa.Finish()], CONFIG)
    assert vta.disassemble(stream) == asm.disassemble(stream, CONFIG)


def test_random_inputs_cover_the_type() -> None:
    package = networks.package(CONFIG, "uint8")
    first, second = vta.random_inputs(package, 1), vta.random_inputs(package, 1)
    np.testing.assert_array_equal(first["in"], second["in"])
    assert first["in"].dtype == np.uint8 and int(np.ptp(first["in"])) > 200
    signed = vta.random_inputs(networks.package(CONFIG), 1)["in"]
    assert signed.dtype == np.int8 and signed.min() < -100 and signed.max() > 100


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    arrays = {"a/b:0": np.zeros(1), "a_b_0": np.ones(2), "a b?0": np.ones(3), "": np.ones(4)}
    write_folder(tmp_path, arrays)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["_.npy", "a_b_0.npy", "a_b_0_2.npy", "a_b_0_3.npy", "tensors.json"]
    assert np.load(tmp_path / "a_b_0_2.npy").size == 2
    assert file_stem("../x") == ".._x"


def test_inputs_by_name_and_by_file_name(tmp_path: Path) -> None:
    plain = networks.package(CONFIG)
    tensor = replace(plain.tensors["in"], name="in=put:0")
    tensors = {**{k: v for k, v in plain.tensors.items() if k != "in"}, "in=put:0": tensor}
    package = replace(plain, tensors=tensors, inputs=("in=put:0",), plan=())
    np.save(tmp_path / "in_put_0.npy", np.arange(3))
    assert list(read_folder(package, tmp_path)) == ["in=put:0"]
    for setting in ("in=put:0", "in_put_0"):
        arrays = read_named(package, [f"{setting}={tmp_path / 'in_put_0.npy'}"])
        assert arrays["in=put:0"].tolist() == [0, 1, 2]
