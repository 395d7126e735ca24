import hashlib
import io
import json
import os
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vta
from runtime import container, host_code
from runtime.container import FORMAT_VERSION, seal, unseal
from runtime.package import (
    HostCall,
    LayerRow,
    Package,
    PackageError,
    TensorInfo,
    VtaCall,
    write_atomically,
)
from tests.runtime import networks
from vta_hw.spec.config import VtaConfig

CONFIG = VtaConfig.load("default")


@pytest.fixture(scope="module")
def made() -> Package:
    plain = networks.package(CONFIG)
    return replace(
        plain,
        host_constants={"table": np.arange(12, dtype=np.int32).reshape(3, 4)},
        notes=("one note",),
        exact=False,
    )


def test_load_gives_back_what_was_saved(made: Package, tmp_path: Path) -> None:
    path = tmp_path / "net.vta"
    made.save(path)
    back = Package.load(path)
    assert back.to_bytes() == made.to_bytes()
    for name in ("config", "tensors", "plan", "layers", "inputs", "outputs", "notes", "exact"):
        assert getattr(back, name) == getattr(made, name), name
    assert [p.instructions for p in back.programs] == [p.instructions for p in made.programs]
    assert back.programs[0].source(2) == "increment"
    np.testing.assert_array_equal(back.host_constants["table"], made.host_constants["table"])
    assert back.host_macs == 7
    assert back.host_operators == ("pack", "unpack")


def test_equal_packages_have_equal_bytes(made: Package) -> None:
    again = replace(
        networks.package(CONFIG),
        host_constants=made.host_constants,
        notes=made.notes,
        exact=made.exact,
    )
    assert again.to_bytes() == made.to_bytes()


def test_it_is_a_zip(made: Package, tmp_path: Path) -> None:
    path = tmp_path / "net.vta"
    made.save(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("manifest.json"))["model"] == "increment"


@pytest.mark.parametrize("seed", range(5))
def test_every_flipped_byte_is_found(made: Package, seed: int) -> None:
    data = made.to_bytes()
    rng = np.random.default_rng(seed)
    print("seed", seed)
    for at in rng.integers(0, len(data), 60):
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(PackageError) as caught:
            Package.from_bytes(bytes(broken), "net.vta")
        assert "net.vta" in str(caught.value)


def test_every_cut_is_found(made: Package) -> None:
    data = made.to_bytes()
    for end in [0, 1, 4, 100, len(data) // 2, len(data) - 65, len(data) - 1]:
        with pytest.raises(PackageError):
            Package.from_bytes(data[:end])
    with pytest.raises(PackageError, match="cut off, damaged or another kind of zip"):
        Package.from_bytes(data[:-1])
    with pytest.raises(PackageError):
        Package.from_bytes(data + b"\n")


def test_host_code_of_a_changed_file_is_never_loaded(
    made: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bytes] = []
    kept = host_code.HostCode.__init__

    def spy(self: host_code.HostCode, object_code: bytes, triple: str) -> None:
        loaded.append(object_code)
        kept(self, object_code, triple)

    monkeypatch.setattr(host_code.HostCode, "__init__", spy)
    path = tmp_path / "net.vta"
    made.save(path)
    vta.load(path)
    assert loaded == [made.host_object]
    data = bytearray(path.read_bytes())
    data[data.index(made.host_object) + len(made.host_object) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackageError, match="its SHA-256 does not match"):
        vta.load(path)
    assert len(loaded) == 1


def test_members_must_lie_side_by_side(made: Package) -> None:
    """What is compressed or overlaps could grow without bound when it is read."""
    plain, packed = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(plain, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    for stream, text in ((plain, "member 'a' is there twice"), (packed, "members must be stored")):
        body = stream.getvalue()[:-2] + (88).to_bytes(2, "little")
        seal_of = made.to_bytes()[-88:-64] + hashlib.sha256(body).hexdigest().encode()
        with pytest.raises(PackageError, match=text):
            Package.from_bytes(body + seal_of)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.vta"
    text.write_text("hello")
    with pytest.raises(PackageError, match=r"is no VTA package; give a file that `vta compile`"):
        Package.load(text)
    other = tmp_path / "b.vta"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(PackageError, match="another kind of zip"):
        Package.load(other)
    with pytest.raises(PackageError, match="cannot be read"):
        Package.load(tmp_path)


def test_a_future_version_is_named(made: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "FORMAT_VERSION", FORMAT_VERSION + 1)
    data = made.to_bytes()
    monkeypatch.undo()
    with pytest.raises(PackageError, match=r"has format version 2, this kit reads 1"):
        Package.from_bytes(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config_hash", "0" * 16),
        ("inputs", ["nobody"]),
        ("plan", [{"vta": 9}]),
        ("plan", [{"host": {"symbol": "f"}}]),
        ("placements", [{}, {}]),
        ("arena_bytes", 1),
        ("tensors", [{"name": "in", "dtype": "int7"}]),
        ("layers", [{"name": "x", "op": "y", "where": "moon"}]),
        ("programs", 3),
        ("host_constants", ["a", "b"]),
    ],
)
def test_sealed_nonsense_is_refused(made: Package, key: str, value: object) -> None:
    members = unseal(made.to_bytes(), "x")
    manifest = json.loads(members["manifest.json"])
    assert manifest[key] != value
    manifest[key] = value
    members["manifest.json"] = json.dumps(manifest).encode()
    with pytest.raises(PackageError, match="^package 'x' is malformed: "):
        Package.from_bytes(seal(members), "x")


def test_inconsistent_packages_cannot_be_built(made: Package) -> None:
    with pytest.raises(PackageError, match="runs program 5, which is absent"):
        replace(made, plan=(VtaCall(5),))
    with pytest.raises(PackageError, match="refers to tensor 'nobody'"):
        replace(made, plan=(HostCall("f", ("nobody",), ()),))
    with pytest.raises(PackageError, match="has no place in the arena"):
        replace(made, placements=({}, {}))
    with pytest.raises(PackageError, match="outside the arena"):
        replace(made, arena_bytes=16)
    with pytest.raises(PackageError, match="has two places"):
        replace(made, placements=(made.placements[0], {"mid1.packed": 0, "out.packed": 0}))
    with pytest.raises(PackageError, match="a program is for config"):
        replace(made, config=VtaConfig.load("pynq"))
    with pytest.raises(PackageError, match="filed under"):
        replace(made, tensors={**made.tensors, "other": made.tensors["in"]})


def test_tensor_refusals() -> None:
    with pytest.raises(PackageError, match="storage must be one of"):
        TensorInfo(name="x", dtype="int8", shape=(1,), storage="cloud")
    with pytest.raises(PackageError, match="element type must be one of"):
        TensorInfo(name="x", dtype="int3", shape=(1,))
    with pytest.raises(PackageError, match="needs a batch and a block"):
        TensorInfo(name="x", dtype="int8", shape=(1, 4), storage="device")
    with pytest.raises(PackageError, match="does not name the axes"):
        TensorInfo(name="x", dtype="int8", shape=(4,), storage="device", batch=1, block=16)
    with pytest.raises(PackageError, match="axes other than"):
        TensorInfo(
            name="x",
            dtype="int8",
            shape=(1, 2, 3),
            layout="NCD",
            storage="device",
            batch=1,
            block=1,
        )
    with pytest.raises(PackageError, match="as many zero points as scales, not 0 for 1$"):
        TensorInfo(name="x", dtype="int8", shape=(1,), scale=(0.5,))
    with pytest.raises(PackageError, match="at most 32 axes, none of them negative, not the shape"):
        TensorInfo(name="x", dtype="int8", shape=(2, -1))
    with pytest.raises(PackageError, match=f"takes {1 << 40} bytes, more than the {1 << 32} that"):
        TensorInfo(name="x", dtype="int8", shape=(1 << 20, 1 << 20))
    with pytest.raises(PackageError, match=r"shape of TensorInfo must be tuple\[int, ...\], not"):
        TensorInfo(name="x", dtype="int8", shape=("a",))  # type: ignore[arg-type]
    with pytest.raises(PackageError, match="must be placed on one of"):
        LayerRow(name="x", op="y", where="moon")


def test_an_alias_must_fit(made: Package) -> None:
    base = made.tensors["out.packed"]
    view = replace(base, name="view", view_of="flat", alias_of="out.packed")
    assert replace(made, tensors={**made.tensors, "view": view}).tensors["view"].alias_of
    with pytest.raises(PackageError, match="must be an alias of a tensor of its size"):
        small = replace(view, shape=(1, 1, 1, 1))
        replace(made, tensors={**made.tensors, "view": small})


def test_packed_shape() -> None:
    tensor = networks.device_tensor(VtaConfig.load("batch4"), "x")
    assert tensor.logical_nchw() == (1, 20, 2, 3)
    assert tensor.packed_shape == (1, 3, 2, 3, 4, 8)
    assert tensor.size_bytes == 3 * 2 * 3 * 4 * 8


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(PackageError, match="cannot write"):
        write_atomically(target, b"x")
    with pytest.raises(PackageError, match="name a file in an existing folder"):
        write_atomically(tmp_path / "no" / "file", b"x")
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(target) == []
