"""`vta run` on folders of many inputs, and `stream` of what `vta.load` gives."""

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vta as api
from runtime.executor import Executor
from runtime.package import Package
from tests.runtime import networks
from vta.cli import main
from vta_hw.spec.config import VtaConfig

CONFIG = VtaConfig.load("default")
NAMES = ("a", "b", "c10", "c9", "d")


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return record


Vta = Callable[..., Said]


@pytest.fixture
def vta(capfd: pytest.CaptureFixture[str]) -> Vta:
    def run(*arguments: object) -> Said:
        capfd.readouterr()
        status = main([str(a) for a in arguments])
        text = capfd.readouterr()
        assert not [t for t in threading.enumerate() if t.name.startswith("vta-stream")]
        return Said(status, text.out, text.err)

    return run


@pytest.fixture(scope="module")
def made() -> Package:
    return networks.package(CONFIG, "uint8")


@pytest.fixture
def net(made: Package, tmp_path: Path) -> Path:
    made.save(tmp_path / "net.vta")
    return tmp_path / "net.vta"


Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays(rng: np.random.Generator) -> Arrays:
    return {name: rng.integers(0, 256, networks.SHAPE, np.uint8) for name in NAMES}


def _files(folder: Path, arrays: Arrays) -> Path:
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def _folders(folder: Path, arrays: Arrays) -> Path:
    for name, array in arrays.items():
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "in.npy", array)
    return folder


def _check_outputs(folder: Path, arrays: Arrays) -> None:
    assert sorted(os.listdir(folder)) == sorted(arrays)
    for name, array in arrays.items():
        assert sorted(os.listdir(folder / name)) == ["out.npy", "tensors.json"]
        np.testing.assert_array_equal(
            np.load(folder / name / "out.npy"), networks.expected(array, 2)
        )


@pytest.mark.parametrize("jobs", [1, 2, 99])
@pytest.mark.parametrize("layout", [_files, _folders])
def test_every_item_gets_its_results(
    vta: Vta, net: Path, tmp_path: Path, arrays: Arrays, layout, jobs: int
) -> None:
    source = layout(tmp_path / "in", arrays)
    (source / ".hidden").mkdir()
    out = tmp_path / "out"
    said = vta("run", net, "--inputs", source, "--output-dir", out, "--jobs", jobs, "--json")
    assert said.status == 0 and said.err == ""
    _check_outputs(out, arrays)
    record = said.record
    assert record["images"] == len(NAMES) and record["item"] is None
    assert record["images_per_s"] == pytest.approx(len(NAMES) / record["wall_s"], rel=1e-2)
    assert record["status"] == "ok" and record["cycles"] is None
    assert record["instructions"] == 10 * len(NAMES) and record["input"] == str(source)
    assert record["host_operators"] == ["pack", "unpack"]
    assert "\n5 images, " in said.out and said.out.splitlines()[-2].endswith(" images/s")


def test_cycles_are_summed(vta: Vta, net: Path, tmp_path: Path, arrays: Arrays) -> None:
    np.save(tmp_path / "x.npy", arrays["a"])
    one = vta("run", net, "--input", f"in={tmp_path / 'x.npy'}", "--device", "cycle", "--json")
    many = _files(tmp_path / "in", arrays)
    said = vta("run", net, "--inputs", many, "--device", "cycle", "--json")
    assert said.record["cycles"] == len(NAMES) * one.record["cycles"] > 0
    assert said.record["counters"] == {
        key: len(NAMES) * value for key, value in one.record["counters"].items()
    }


def test_every_tensor_of_every_item(vta: Vta, net: Path, tmp_path: Path, arrays: Arrays) -> None:
    source, out = _files(tmp_path / "in", arrays), tmp_path / "out"
    assert vta("run", net, "--inputs", source, "--output-dir", out, "--outputs", "all").status == 0
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(out / name / "in.npy"), array)
        np.testing.assert_array_equal(np.load(out / name / "mid1.npy"), networks.expected(array, 1))


def test_the_inputs_own_file_is_one_inference(
    vta: Vta, net: Path, tmp_path: Path, arrays: Arrays
) -> None:
    source = _files(tmp_path / "in", {**arrays, "in": arrays["a"]})
    _folders(source, {"sub": arrays["b"]})
    said = vta("run", net, "--inputs", source, "--output-dir", tmp_path / "out", "--json")
    assert said.status == 0 and "images" not in said.record
    np.testing.assert_array_equal(
        np.load(tmp_path / "out" / "out.npy"), networks.expected(arrays["a"], 2)
    )


def test_several_inputs_need_sub_folders(made: Package, vta: Vta, tmp_path: Path) -> None:
    second = replace(made.tensors["in"], name="second")
    both = replace(made, tensors={**made.tensors, "second": second}, inputs=("in", "second"))
    both.save(tmp_path / "two.vta")
    x = np.zeros(networks.SHAPE, np.uint8)
    said = vta("run", tmp_path / "two.vta", "--inputs", _files(tmp_path / "in", {"x": x}))
    assert said.status == 2 and "lacks 'in.npy' for input 'in'" in said.err
    for name in ("p", "q"):
        _files(tmp_path / "in" / name, {"in": x, "second": x})
    (tmp_path / "in" / "x.npy").unlink()
    said = vta("run", tmp_path / "two.vta", "--inputs", tmp_path / "in", "--json")
    assert said.status == 0 and said.record["images"] == 2


def _lacking(folder: Path) -> None:
    (folder / "c9" / "in.npy").unlink()


def _mixed(folder: Path) -> None:
    np.save(folder / "loose.npy", np.zeros(networks.SHAPE, np.uint8))


@pytest.mark.parametrize(
    ("damage", "words"),
    [(_lacking, "c9' lacks 'in.npy' for input 'in'"), (_mixed, "and also the file 'loose.npy'")],
)
def test_what_is_missing_is_refused_before_anything_runs(
    vta: Vta, net: Path, tmp_path: Path, arrays: Arrays, damage, words: str
) -> None:
    source = _folders(tmp_path / "in", arrays)
    damage(source)
    said = vta("run", net, "--inputs", source, "--output-dir", tmp_path / "out", "--jobs", 2)
    assert said.status == 2 and said.err.count("\n") == 1 and words in said.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros(3, np.uint8), "must be uint8 of shape 1x2x3x20, not uint8 of shape 3"),
        (np.zeros(networks.SHAPE, np.int8), "must be uint8 of shape 1x2x3x20, not int8"),
        (b"hello", "no readable .npy array"),
    ],
)
@pytest.mark.parametrize("layout", [_files, _folders])
def test_a_bad_file_is_named(
    vta: Vta, net: Path, tmp_path: Path, arrays: Arrays, layout, content, words: str, jobs: int
) -> None:
    source = layout(tmp_path / "in", arrays)
    path = source / "c9.npy" if layout is _files else source / "c9" / "in.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    out = tmp_path / "out"
    said = vta("run", net, "--inputs", source, "--output-dir", out, "--jobs", jobs)
    assert said.status == 2 and said.err.count("\n") == 1
    assert words in said.err and repr(str(path)) in said.err
    _check_outputs(out, {name: arrays[name] for name in ("a", "b", "c10")})


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(
    ("damage", "status", "word"),
    [(networks.broken, 3, "fault"), (networks.deadlocked, 4, "deadlock")],
)
def test_a_fault_names_its_item_and_keeps_earlier_results(
    vta: Vta,
    made: Package,
    net: Path,
    tmp_path: Path,
    arrays: Arrays,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Package], Package],
    status: int,
    word: str,
    jobs: int,
) -> None:
    bad, run = Executor(damage(made)), Executor.run

    def some(self: Executor, inputs: Arrays, outputs: Any = "model") -> api.Outcome:
        is_bad = np.array_equal(inputs["in"], arrays["c9"])
        return run(bad if is_bad else self, inputs, outputs)

    monkeypatch.setattr(Executor, "run", some)
    source, out = _files(tmp_path / "in", arrays), tmp_path / "out"
    said = vta(
        "run", net, "--inputs", source, "--output-dir", out, "--jobs", jobs, "--json"
    )  # fmt: skip
    assert said.status == status and said.err.count("\n") == 1
    assert said.err.startswith(f"vta: item 'c9': program 0 of 'increment' ended with {word}")
    assert said.record["status"] == word and said.record["item"] == "c9"
    assert said.record["images"] == 3
    _check_outputs(out, {name: arrays[name] for name in ("a", "b", "c10")})


def test_options_that_do_not_fit(vta: Vta, net: Path, tmp_path: Path, arrays: Arrays) -> None:
    source = _files(tmp_path / "in", arrays)
    said = vta("run", net, "--inputs", source, "--jobs", 0)
    assert said.status == 2 and "--jobs must be at least 1, not 0" in said.err
    trace = tmp_path / "t.json"
    said = vta("run", net, "--inputs", source, "--device", "cycle", "--trace", trace)
    assert said.status == 2 and "has input for 5; give the input of one" in said.err
    assert not trace.exists()


def test_a_terminal_sees_a_bar(
    vta: Vta, net: Path, tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    said = vta("run", net, "--inputs", _files(tmp_path / "in", arrays))
    assert said.status == 0 and "running increment" in said.err
    assert "running" not in said.out


def test_a_loaded_network_streams(made: Package, arrays: Arrays) -> None:
    network = api.load(made)
    outcomes = network.stream(({"in": array} for array in arrays.values()), workers=2)
    for outcome, array in zip(outcomes, arrays.values(), strict=True):
        np.testing.assert_array_equal(outcome.outputs["out"], networks.expected(array, 2))
