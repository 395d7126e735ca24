"""A short, seeded run of the fuzzer, and what longer ones have found.

``python -m tests.fuzz --minutes N`` runs longer, from another seed each time.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.errors import FrontendError
from compiler.frontend.flatcheck import check_model
from compiler.frontend.model import import_model
from runtime.npy import read_npy
from runtime.package import Package, PackageError
from tests.fuzz import runner, targets
from tests.fuzz.mutate import mutate_bytes, mutate_json
from tests.fuzz.runner import Failure, attempt, fuzz
from tests.fuzz.targets import TARGETS, BrokenPromise, Target
from vta import cli
from vta.api import UsageError
from vta.files import read_npy as read_file
from vta_hw.spec import isa
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.errors import ConfigError, ProgramError
from vta_hw.spec.program import Program

CASES = 15
SECONDS = 0.7


@pytest.mark.parametrize("name", TARGETS)
def test_readers_accept_or_refuse(name: str, request: pytest.FixtureRequest) -> None:
    seed = int(request.config.getoption("--seed"))
    print("seed", seed)
    tally, failures = fuzz(name, seed, cases=CASES)
    _, more = fuzz(name, seed + 1, seconds=SECONDS)
    failures += more
    shown = "\n".join(f"{f.text}saved as {f.save()}" for f in failures[:3])
    assert not failures, shown
    assert tally.cases == CASES
    # Whatever an instruction stream says, it ends in a verdict.
    assert tally.accepted if name == "stream" else tally.refused, tally


@pytest.mark.parametrize("name", TARGETS)
def test_cases_depend_on_the_seed_alone(name: str) -> None:
    def some(seed: int) -> list[bytes]:
        return [TARGETS[name].make(np.random.default_rng([seed, i])) for i in range(4)]

    assert some(3) == some(3)
    assert some(3) != some(4)


def test_mutations_change_and_leave_the_source_alone(rng: np.random.Generator) -> None:
    data, value = bytes(range(200)), {"a": [1, 2, {"b": "c"}], "d": 5}
    text = repr(value)
    assert len({mutate_bytes(data, rng) for _ in range(50)}) > 45
    assert len({repr(mutate_json(value, rng)) for _ in range(50)}) > 30
    assert repr(value) == text


def test_the_fuzzer_finds_what_it_looks_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hangs(data: bytes, folder: Path) -> bool:
        while True:
            pass

    def crashes(data: bytes, folder: Path) -> bool:
        raise KeyError(data)

    def rambles(data: bytes, folder: Path) -> bool:
        def read() -> None:
            raise UsageError("one line\nand another")

        return targets._accepted(read)

    monkeypatch.setattr(runner, "CASE_SECONDS_MAX", 0.2)
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path))
    for check, text in (
        (hangs, "took more than 0.2 s"),
        (crashes, "KeyError: b'x'"),
        (rambles, "a message of 20 characters"),
    ):
        monkeypatch.setitem(TARGETS, "test", Target(lambda rng: b"x", check))
        failure = attempt("test", b"x")
        assert isinstance(failure, Failure) and text in failure.text
        assert failure.save().read_bytes() == b"x"


def test_long_runs_are_a_command() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--minutes", "0.02", "--seed", "5"]
    run = subprocess.run(
        [*command, "--target", "config"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    assert lines[0] == "seed 5" and lines[-1] == "0 broken promises, 0 different"


def test_a_broken_promise_is_no_refusal() -> None:
    with pytest.raises(BrokenPromise, match="a package that was changed is accepted"):
        targets._check_package(targets._packages()[0], Path())


# -- what it has found ----------------------------------------------------------------------------


def test_configs_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"deep.json' is nested too deep$"):
        VtaConfig.load(path)


def test_extensions_that_are_no_text() -> None:
    values = {**VtaConfig.load("tiny").to_dict(), "EXTENSIONS": [["requant"]]}
    with pytest.raises(ConfigError, match=r"unknown extension \['requant'\]; known are"):
        VtaConfig.from_dict(values)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it is no .npy file"),
        (b"\x93NUMPY\x07\0v\0", "format version 7 is unknown"),
        (b"\x93NUMPY\x01\0\xff\xff{}", "header is cut off or too long"),
        # numpy falls back to a tokenizer here, which raises an exception of its own.
        (b"\x93NUMPY\x01\0\x03\0{'a", "its header is malformed"),
        (b"\x93NUMPY\x01\0\x02\0{}", "its header is malformed"),
    ],
)
def test_headers_of_arrays(data: bytes, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        read_npy(data)
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(UsageError, match=rf"no readable .npy array of numbers \(.*{text}"):
        read_file(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("descr", "shape", "text"),
    [
        ("|O", "(1,)", "its elements are no numbers"),
        ("<U4", "(1,)", "its elements are no numbers"),
        ("<i4,<i4", "(1,)", "its elements are no numbers"),
        # A letter that numpy warns of.
        ("a1", "(8,)", "its elements are no numbers"),
        ("<i4", "(-1,)", "its header is malformed"),
        ("<i4", "(1.0,)", "its header is malformed"),
        # numpy would allocate this before it looks at the contents.
        ("<i4", "(1000000000000,)", "8 bytes are no int32 of shape"),
    ],
)
def test_arrays_that_are_not_what_they_say(descr: str, shape: str, text: str) -> None:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".encode()
    data = b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(8)
    with pytest.raises(ValueError, match=text):
        read_npy(data)


def test_archives_that_quote_themselves() -> None:
    """A damaged directory made the message as long as the file."""
    data = targets._packages()[0]
    name = b"manifest.json"
    second = data.rindex(name)
    # The name's length in the archive's directory, which ends 18 bytes before the name.
    longer = data[: second - 18] + (30_000).to_bytes(2, "little") + data[second - 16 :]
    rng = np.random.default_rng(0)
    for broken in (longer, *(targets._resealed(data, rng) for _ in range(30))):
        sealed = targets.sealed_again(broken)
        try:
            Package.from_bytes(sealed)
        except PackageError as error:
            assert len(str(error)) < 400


def _program(**changes: object) -> Program:
    """The first program of a small package with its header changed."""
    package = Package.from_bytes(targets._packages()[0])
    members = package.programs[0].to_members()
    header = json.loads(members["program.json"])
    members["program.json"] = json.dumps({**header, **changes}).encode()
    return Program.from_members(members, package.config)


def test_source_maps_that_lead_nowhere() -> None:
    assert _program().source(0) == "increment"
    for source_of in ([9] * 5, [-1] * 5):
        with pytest.raises(ProgramError, match="^the source map refers to source .*, the program"):
            _program(source_of=source_of)


def test_symbols_of_negative_size() -> None:
    with pytest.raises(ProgramError, match="'in' must have a size of at least 0 bytes, not -4$"):
        _program(symbols=[{"name": "in", "size": -4}], relocations=[])


def test_addresses_of_memory_that_does_not_exist() -> None:
    good = _program()
    load = good.instructions[0]
    assert isinstance(load, isa.Load)
    bad = (replace(load, memory_type=7), *good.instructions[1:])
    with pytest.raises(ProgramError, match="^instruction 0 is of memory type 7, which has no"):
        replace(good, instructions=bad)


def test_infinity_in_a_manifest() -> None:
    with pytest.raises(ProgramError, match="the program in the package is malformed: OverflowErr"):
        _program(source_of=[float("inf")] * 5)


def test_values_of_any_length_are_quoted_in_part() -> None:
    values = {**VtaConfig.load("tiny").to_dict(), "LOG_INP_WIDTH": ["x" * 1000] * 50}
    with pytest.raises(ConfigError) as caught:
        VtaConfig.from_dict(values)
    assert "LOG_INP_WIDTH must be 3" in str(caught.value) and len(str(caught.value)) < 400


def test_settings_with_line_breaks() -> None:
    with pytest.raises(ConfigError, match=r"^setting 'LOG\\nBATCH=x': the value must be an int"):
        VtaConfig.load("tiny").override(["LOG\nBATCH=x"])


def test_names_that_cannot_be_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = replace(Package.from_bytes(targets._packages()[0]), model="\ud800x", notes=("\udfff",))
    odd.save(tmp_path / "net.vta")
    for encoding in ("utf-8", "ascii"):
        out = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, "stdout", out)
        assert cli.main(["info", str(tmp_path / "net.vta")]) == 0
        written = out.buffer.getvalue()
        assert written.startswith(b"model \\ud800x, numerics") and b"note: \\udfff" in written


def test_operators_named_by_line_breaks(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(targets._models()["qdq"])
    model.graph.node[1].op_type = "two\n\nlines"
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FrontendError, match="two lines") as caught:
        import_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_constants_quantised_by_no_scale(scale: float, tmp_path: Path) -> None:
    make, array = onnx.helper, onnx.numpy_helper.from_array
    constants = [
        array(np.ones(3, np.float32), "x"),
        array(np.array(scale, np.float32), "scale"),
        array(np.array(0, np.int8), "zero"),
    ]
    node = make.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    given = make.make_tensor_value_info("in", onnx.TensorProto.FLOAT, [3])
    result = make.make_tensor_value_info("y", onnx.TensorProto.INT8, [3])
    path = tmp_path / "net.onnx"
    graph = make.make_graph([node], "g", [given], [result], constants)
    path.write_bytes(make.make_model(graph).SerializeToString())
    with pytest.raises(FrontendError, match="scales must be a number or a list, positive and fin"):
        import_model(path)


def test_field_lists_of_odd_length() -> None:
    """The readers look at an entry that the end of the list cuts in two."""
    # A file of one table, whose list claims the first half of an entry for field 1 (a vector).
    table, entry = 12, 2
    vtable = (7).to_bytes(2, "little") + (8).to_bytes(2, "little")
    fields = bytes(2) + entry.to_bytes(2, "little")
    head = (20).to_bytes(4, "little") + b"TFL3" + bytes(4)
    data = head + vtable + fields + (20 - table).to_bytes(4, "little") + bytes(4)
    with pytest.raises(FrontendError, match="^field 1 of Model lies outside its table$"):
        check_model(data)
