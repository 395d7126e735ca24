"""Single programs through the public API: build, lower, run_program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vta
from compiler.loop.printer import to_text
from vta import te

CONFIG = vta.config("default")
SHAPE = (4, CONFIG.batch, CONFIG.block_out)


def double() -> tuple[te.Schedule, tuple[te.Tensor, ...]]:
    """out = low 8 bits of x + x"""
    x = te.placeholder(SHAPE, "int32", "x")
    twice = te.compute(SHAPE, lambda i, b, o: x(i, b, o) + x(i, b, o), "twice")
    out = te.compute(SHAPE, lambda i, b, o: twice(i, b, o).astype("int8"), "out")
    s = te.Schedule(out)
    s.cache_read(x, "acc", [twice])
    s[twice].set_scope("acc")
    return s, (x, out)


@pytest.fixture(scope="module")
def program() -> vta.Program:
    return vta.build(*double())


def arrays() -> dict[str, Any]:
    return {"x": np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE), "out": zeros()}


def zeros() -> np.ndarray:
    return np.zeros(SHAPE, np.int8)


def test_run(program: vta.Program) -> None:
    run = vta.run_program(program, arrays())
    assert run.result.ok
    np.testing.assert_array_equal(run.arrays["out"], (2 * arrays()["x"]).astype(np.int8))
    assert list(run.arrays) == ["x", "out"]


def test_configs_by_name_and_by_file(program: vta.Program, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(CONFIG.to_dict()))
    for config in ("default", CONFIG, path, str(path)):
        again = vta.build(*double(), config)
        assert again.instructions == program.instructions
        assert again.config.hash == CONFIG.hash
    with pytest.raises(vta.VtaKitError, match="^config 'nothing' is neither a file nor one of"):
        vta.build(*double(), "nothing")


def test_lower_gives_the_loop_nest() -> None:
    assert to_text(vta.lower(*double(), "nest")).startswith("func nest(x: ")


def test_build_dumps(tmp_path: Path) -> None:
    vta.build(*double(), "default", "n" * 300, str(tmp_path / "new" / "folder"))
    names = [path.name for path in (tmp_path / "new" / "folder").iterdir()]
    assert any(name.endswith("-lower_schedule.txt") for name in names)
    assert any(name.endswith("-emit.txt") for name in names)


def test_programs_know_their_parameters(program: vta.Program) -> None:
    known = {s.name: (s.dtype, s.shape) for s in program.symbols.values() if s.dtype}
    assert known == {"x": ("int32", SHAPE), "out": ("int8", SHAPE)}


WANTED = "int32 of shape " + "x".join(map(str, SHAPE))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": arrays()["x"].astype(np.float32)}, f"'x' must be {WANTED}, not float32 of shape"),
        ({"x": arrays()["x"].view(np.uint32)}, f"'x' must be {WANTED}, not uint32 of shape"),
        ({"x": arrays()["x"].ravel()}, f"'x' must be {WANTED}, not int32 of shape 64; convert it"),
        ({"x": [1, 2]}, f"'x' must be {WANTED}, not int64 of shape 2"),
        ({"x": [[1], [2, 3]]}, f"'x' must be {WANTED}, not rows of different lengths"),
        ({"x": np.int32(3)}, f"'x' must be {WANTED}, not int32 of shape scalar"),
        ({"z": zeros()}, "the program has no parameter 'z'; its parameters are 'x', 'out'$"),
        ({"kernel.constants": zeros()}, "the program has no parameter 'kernel.constants'"),
    ],
)
def test_other_arrays_are_refused(
    program: vta.Program, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(vta.UsageError, match=message):
        vta.run_program(program, {**arrays(), **change})


def test_missing_arrays_are_refused(program: vta.Program) -> None:
    with pytest.raises(vta.UsageError, match="^parameter 'out' is missing; give int8 of shape"):
        vta.run_program(program, {"x": arrays()["x"]})
    listed: Any = list(arrays().values())
    with pytest.raises(vta.UsageError, match="^arrays must be a dict .* not a list; name each"):
        vta.run_program(program, listed)


def test_programs_without_types_take_any_array_of_the_size(program: vta.Program) -> None:
    plain = {n: replace(s, dtype="", shape=()) for n, s in program.symbols.items()}
    untyped = replace(program, symbols=plain)
    run = vta.run_program(untyped, {**arrays(), "x": arrays()["x"].view(np.float32)})
    assert run.result.ok and run.arrays["x"].dtype == np.float32
    with pytest.raises(vta.UsageError, match="^parameter 'x' must be an array of 256 bytes, not"):
        vta.run_program(untyped, {**arrays(), "x": zeros()})
