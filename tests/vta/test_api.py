"""The Python API does what the commands do."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

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


def _checked_names() -> dict[str, str]:
    """Name -> where it comes from, of the imports that only type checkers see."""
    homes: dict[str, str] = {}
    for node in ast.parse(Path(str(vta.__file__)).read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                for name in line.names:
                    homes[name.asname or name.name] = f"{line.module}:{name.name}"
    return homes


def test_the_lists_of_public_names_agree() -> None:
    homes = {}
    for name, home in vta._HOMES.items():
        module, colon, original = home.partition(":")
        if colon and not original:
            module, _, original = module.rpartition(".")
        homes[name] = f"{module}:{original or name}"
    assert _checked_names() == homes
    assert sorted(homes) == vta.__all__


def test_load_with_settings() -> None:
    package = networks.package(CONFIG)
    assert vta.load(package, settings=["DRAM_LATENCY=7"]).device.config.dram_latency == 7
    config = CONFIG.override(["DRAM_LATENCY=9"])
    loaded = vta.load(package, config=config, settings=["MAX_READS=3"]).device.config
    assert (loaded.dram_latency, loaded.max_reads) == (9, 3)


def test_settings_in_one_text_are_refused() -> None:
    text: Any = "LOG_CMD_QUEUE=3"
    package = networks.package(CONFIG)
    for call in (
        lambda: vta.config("default", text),
        lambda: vta.compile(DIGITS, settings=text),
        lambda: vta.load(package, settings=text),
    ):
        with pytest.raises(vta.VtaKitError, match="^settings must be a list of KEY=VALUE texts"):
            call()


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


def _with_inputs(*names: str) -> vta.Package:
    plain = networks.package(CONFIG)
    tensors = {n: t for n, t in plain.tensors.items() if n != "in"}
    tensors |= {n: replace(plain.tensors["in"], name=n) for n in names}
    return replace(plain, tensors=tensors, inputs=names, plan=())


def test_outputs_with_long_or_similar_names_are_read_back(tmp_path: Path) -> None:
    names = ("x" * 300, "x" * 299 + "y", "a/b", "a_b", "layer/" * 60)
    arrays = {name: np.full(3, index) for index, name in enumerate(names)}
    write_folder(tmp_path, arrays)
    again = read_folder(_with_inputs(*names), tmp_path)
    assert {n: a.tolist() for n, a in again.items()} == {n: a.tolist() for n, a in arrays.items()}
    assert max(len(path.name) for path in tmp_path.iterdir()) < 130


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
