"""The command line: exit statuses, messages, files, JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.graph.lower_qnn import NUMERICS
from runtime.device import device_names
from runtime.package import Package
from tests.models import DIGITS, REPO
from tests.runtime import networks
from vta.cli import main
from vta_hw.spec import isa
from vta_hw.spec.config import MemType, VtaConfig, named_configs
from vta_sim.hazards import PAIRS_MAX

CONFIG = VtaConfig.load("default")


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """The JSON object on the last line of standard output."""
        record: dict[str, Any] = json.loads(self.out.splitlines()[-1])
        return record


Vta = Callable[..., Said]


@pytest.fixture
def vta(capfd: pytest.CaptureFixture[str]) -> Vta:
    def run(*arguments: object) -> Said:
        capfd.readouterr()
        status = main([str(a) for a in arguments])
        text = capfd.readouterr()
        return Said(status, text.out, text.err)

    return run


def _is_complaint(said: Said) -> bool:
    """One line on standard error, nothing else."""
    return said.status == 2 and said.err.count("\n") == 1 and said.err.startswith("vta: ")


@pytest.fixture(scope="module")
def made() -> Package:
    return networks.package(CONFIG, "uint8")


@pytest.fixture
def net(made: Package, tmp_path: Path) -> Path:
    path = tmp_path / "net.vta"
    made.save(path)
    return path


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.vta"
    assert main(["compile", str(DIGITS), "-o", str(path)]) == 0
    return path


def _x(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, networks.SHAPE, np.uint8)


# -- run ------------------------------------------------------------------------------------------


def test_run_reads_and_writes_arrays(
    vta: Vta, net: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = _x(rng)
    np.save(tmp_path / "x.npy", x)
    said = vta("run", net, "--input", f"in={tmp_path / 'x.npy'}", "--output-dir", tmp_path / "o")
    assert said.status == 0 and said.err == ""
    np.testing.assert_array_equal(np.load(tmp_path / "o" / "out.npy"), networks.expected(x, 2))
    assert said.out.splitlines()[0].startswith("out: uint8[1x2x3x20] = [")
    assert sorted(os.listdir(tmp_path / "o")) == ["out.npy", "tensors.json"]


def test_run_of_a_folder_gives_all_tensors(
    vta: Vta, net: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    x = _x(rng)
    np.save(tmp_path / "in.npy", x)
    out = tmp_path / "deep" / "o"
    said = vta("run", net, "--inputs", tmp_path, "--output-dir", out, "--outputs", "all")
    assert said.status == 0
    index = json.loads((out / "tensors.json").read_text())
    assert list(index) == ["in", "out", "mid1"]
    for steps, name in enumerate(("in", "mid1", "out")):
        array = np.load(out / index[name]["file"])
        np.testing.assert_array_equal(array, networks.expected(x, steps))
        assert index[name]["dtype"] == "uint8" and index[name]["shape"] == list(networks.SHAPE)


def test_run_json(vta: Vta, net: Path, made: Package) -> None:
    said = vta("run", net, "--json")
    record = said.record
    assert said.status == 0
    assert record["status"] == "ok" and record["fault"] is None and record["cycles"] is None
    assert record["instructions"] == 10 and record["macs"] == 0
    assert record["host_macs"] == 7 and record["host_operators"] == ["pack", "unpack"]
    assert record["host_code"] == "native"
    assert record["wall_s"] > 0
    assert record["counters"]["store_out_bytes"] == 2 * made.tensors["in.packed"].size_bytes
    assert record["input"] == "random (seed 0)"


def test_run_on_a_device_of_other_timing(vta: Vta, net: Path) -> None:
    said = vta("run", net, "--set", "DRAM_LATENCY=1", "--json")
    assert said.status == 0 and said.record["config"] == "default*"


def test_run_without_input_is_random_and_says_so(vta: Vta, net: Path, tmp_path: Path) -> None:
    results = {}
    for label, seed in (("a", 0), ("b", 0), ("c", 5)):
        said = vta("run", net, "--seed", seed, "--output-dir", tmp_path / label)
        assert said.err == f"no --input given: the input is random (seed {seed})\n"
        results[label] = np.load(tmp_path / label / "out.npy")
    np.testing.assert_array_equal(results["a"], results["b"])
    assert (results["a"] != results["c"]).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "in=missing.npy"], "cannot be read: No such file"),
        (["--input", "x.npy"], "must have the form NAME=FILE.npy"),
        (["--input", "other=x.npy"], "the model's inputs 'in'"),
        (["--input", "in=text.npy"], "no readable .npy array"),
        (["--input", "in=zip.npz"], "holds several arrays"),
        (["--input", "in=float.npy"], "must be uint8 of shape 1x2x3x20, not float32"),
        (["--input", "in=short.npy"], "must be uint8 of shape 1x2x3x20, not uint8 of shape 3"),
        (["--input", "in=object.npy"], "no readable .npy array"),
        (["--input", "in=good.npy", "--input", "in=good.npy"], "given twice"),
        (["--inputs", "nowhere"], "is no folder"),
        (["--inputs", "."], "lacks 'in.npy' for input 'in'"),
        (["--inputs", ".", "--input", "in=good.npy"], "not both"),
        (["--device", "warp"], "device must be one of functional"),
        (["--config", "pynq"], "the device has 'pynq'"),
        (["--config", "nothing"], "neither a file nor one of"),
        (["--set", "LOG_INP_BUFF_SIZE=14"], "the device has 'default*'"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--outputs", "some"], "some"),
        (["--input", "in=good.npy", "--output-dir", "text.npy"], "cannot be made"),
    ],
)
def test_run_complaints(
    vta: Vta,
    net: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    good = np.zeros(networks.SHAPE, np.uint8)
    np.save("good.npy", good)
    np.save("float.npy", good.astype(np.float32))
    np.save("short.npy", np.zeros(3, np.uint8))
    np.save("object.npy", np.array([{}]), allow_pickle=True)
    np.savez("zip.npz", a=good)
    Path("text.npy").write_text("hello")
    before = sorted(os.listdir())
    said = vta("run", net, *arguments)
    complaint = said.err.replace("no --input given: the input is random (seed 0)\n", "")
    assert _is_complaint(Said(said.status, said.out, complaint)), said
    assert words in complaint
    assert sorted(os.listdir()) == before


def test_run_of_damaged_files(vta: Vta, net: Path, tmp_path: Path) -> None:
    data = net.read_bytes()
    for name, content in (
        ("cut", data[: len(data) // 2]),
        ("flipped", data[:500] + bytes([data[500] ^ 4]) + data[501:]),
        ("empty", b""),
        ("foreign", b"not a package at all"),
    ):
        path = tmp_path / f"{name}.vta"
        path.write_bytes(content)
        for command in ("run", "info"):
            said = vta(command, path)
            assert _is_complaint(said) and str(path) in said.err, said
    assert _is_complaint(vta("run", tmp_path / "absent.vta"))


@pytest.mark.parametrize(
    ("damage", "status", "word"),
    [(networks.broken, 3, "fault"), (networks.deadlocked, 4, "deadlock")],
)
def test_faults_have_their_exit_status(
    vta: Vta,
    made: Package,
    tmp_path: Path,
    damage: Callable[[Package], Package],
    status: int,
    word: str,
) -> None:
    damage(made).save(tmp_path / "bad.vta")
    said = vta("run", tmp_path / "bad.vta", "--json", "--output-dir", tmp_path / "o")
    assert said.status == status
    assert said.record["status"] == word
    assert said.record["fault"]["text"]
    assert f"ended with {word}" in said.err
    assert not (tmp_path / "o").exists()


# -- exec -----------------------------------------------------------------------------------------


def _copy_first_vector(dram_base: int = 1) -> list[isa.Instruction]:
    return [
        isa.Load(memory_type=MemType.ACC_8BIT, y_size=1, x_size=1, x_stride=1, push_next=True),
        isa.Store(
            memory_type=MemType.OUT,
            dram_base=dram_base,
            y_size=1,
            x_size=1,
            x_stride=1,
            pop_prev=True,
            push_prev=True,
        ),
        isa.Finish(pop_next=True),
    ]


def _exec(vta: Vta, folder: Path, stream: bytes, image: bytes, *more: object) -> Said:
    (folder / "I.bin").write_bytes(stream)
    (folder / "IN.bin").write_bytes(image)
    return vta(
        "exec",
        *("--insns", folder / "I.bin", "--dram", folder / "IN.bin", "--out", folder / "OUT.bin"),
        *more,
    )


def test_exec(vta: Vta, tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, 48, np.uint8).tobytes()
    stream = isa.encode_all(_copy_first_vector(2), CONFIG)
    said = _exec(vta, tmp_path, stream, image, "--json", "--config", "default")
    assert said.status == 0 and said.err == ""
    assert (tmp_path / "OUT.bin").read_bytes() == image[:32] + image[:16]
    assert (tmp_path / "IN.bin").read_bytes() == image
    record = said.record
    assert record["status"] == "ok" and record["fault"] is None and record["cycles"] is None
    assert record["instructions"] == 3 and record["macs"] == 0
    assert record["counters"]["load_acc_8bit_bytes"] == 16
    assert record["wall_s"] >= 0


def test_exec_fault_keeps_completed_stores(vta: Vta, tmp_path: Path) -> None:
    """DRAM_LIMIT is the image's size; what was stored before the fault is written."""
    image = bytes(range(32))
    twice = [*_copy_first_vector()[:2], *_copy_first_vector(2)]
    said = _exec(vta, tmp_path, isa.encode_all(twice, CONFIG), image, "--json")
    assert said.status == 3
    assert said.record["status"] == "fault"
    assert said.record["fault"]["class"] == "dram_range" and said.record["fault"]["index"] == 3
    assert "dram" in said.err.lower()
    assert (tmp_path / "OUT.bin").read_bytes() == image[:16] * 2


@pytest.mark.parametrize(
    ("stream", "status", "word"),
    [
        (b"", 3, "no_finish"),
        (bytes(16), 3, "no_finish"),
        (b"\xff" * 16, 3, "fault"),
        (isa.encode_all([isa.Finish(pop_prev=True)], CONFIG), 4, "deadlock"),
        (isa.encode_all([isa.Finish(), isa.Finish()], CONFIG), 3, "finish_not_drained"),
    ],
)
def test_exec_verdicts(vta: Vta, tmp_path: Path, stream: bytes, status: int, word: str) -> None:
    said = _exec(vta, tmp_path, stream, bytes(64), "--json")
    assert (said.status, said.record["status"]) == (status, word)
    assert len((tmp_path / "OUT.bin").read_bytes()) == 64


def test_exec_garbage_never_fails_otherwise(
    vta: Vta, tmp_path: Path, rng: np.random.Generator
) -> None:
    for name in named_configs():
        for _ in range(4):
            stream = rng.integers(0, 256, 16 * int(rng.integers(1, 30)), np.uint8).tobytes()
            said = _exec(vta, tmp_path, stream, bytes(4096), "--config", name, "--json")
            assert said.status in (0, 3, 4), said
            assert said.record["status"] and "Traceback" not in said.err


def test_exec_complaints(vta: Vta, tmp_path: Path) -> None:
    said = _exec(vta, tmp_path, bytes(17), bytes(64))
    assert _is_complaint(said) and "multiple of 16 bytes long, not 17" in said.err
    assert not (tmp_path / "OUT.bin").exists()
    said = _exec(vta, tmp_path, bytes(16), bytes(64), "--set", "LOG_BLOCK")
    assert _is_complaint(said) and "KEY=VALUE" in said.err
    said = vta("exec", "--insns", tmp_path / "no", "--dram", tmp_path / "no", "--out", "x")
    assert _is_complaint(said) and "cannot be read" in said.err
    said = vta("exec", "--insns", tmp_path / "I.bin")
    assert _is_complaint(said) and "--dram" in said.err
    (tmp_path / "I.bin").write_bytes(bytes(16))
    said = vta(
        "exec",
        *("--insns", tmp_path / "I.bin", "--dram", tmp_path / "IN.bin"),
        *("--out", tmp_path / "no" / "folder.bin"),
    )
    assert _is_complaint(said) and "existing folder" in said.err


def test_exec_reports_uninitialised_reads(vta: Vta, tmp_path: Path) -> None:
    stream = isa.encode_all(
        [
            isa.Store(memory_type=MemType.OUT, y_size=1, x_size=1, x_stride=1, push_prev=True),
            isa.Finish(pop_next=True),
        ],
        CONFIG,
    )
    assert _exec(vta, tmp_path, stream, bytes(64), "--json").record["notes"] == []
    said = _exec(vta, tmp_path, stream, bytes(64), "--json", "--report-uninitialised")
    assert said.status == 0 and len(said.record["notes"]) == 1


# -- disasm and info ------------------------------------------------------------------------------


def test_disasm_of_a_stream(vta: Vta, tmp_path: Path) -> None:
    path = tmp_path / "I.bin"
    path.write_bytes(isa.encode_all(_copy_first_vector(), CONFIG))
    said = vta("disasm", path)
    assert said.status == 0
    assert [line.split()[1] for line in said.out.splitlines()] == ["load", "store", "finish"]
    assert vta("disasm", path, "--config", "tiny").status == 0
    path.write_bytes(bytes(20))
    assert _is_complaint(vta("disasm", path))


def test_disasm_of_a_package(vta: Vta, net: Path) -> None:
    said = vta("disasm", net)
    assert said.status == 0
    assert "; program 1 of 2, 5 instructions" in said.out
    assert "uops+0x0" in said.out
    assert vta("disasm", net, "--config", "default", "--set", "DRAM_LATENCY=7").status == 0
    said = vta("disasm", net, "--config", "mac64")
    assert _is_complaint(said) and "does not match" in said.err


def test_info(vta: Vta, net: Path) -> None:
    said = vta("info", net)
    assert said.status == 0
    for words in (
        "model increment, numerics litert-ref, exact",
        "input in: uint8[1x2x3x20] NHWC",
        "2 VTA programs, 10 instructions",
        "host operators: pack, unpack; 7 MACs",
        "host: by hand",
    ):
        assert words in said.out
    record = vta("info", net, "--json").record
    assert record["host_operators"] == ["pack", "unpack"]
    assert [row["where"] for row in record["layers"]] == ["vta", "host"]
    assert record["inputs"]["in"] == {
        "dtype": "uint8",
        "shape": [1, 2, 3, 20],
        "layout": "NHWC",
        "scale": [],
        "zero_point": [],
    }


def test_info_of_configurations(vta: Vta) -> None:
    said = vta("info")
    assert said.status == 0 and all(name in said.out for name in named_configs())
    said = vta("info", "default", "--set", "DRAM_LATENCY=77")
    assert said.status == 0 and "DRAM_LATENCY = 77" in said.out
    assert "GEMM 1x16x16: 256 MACs per cycle" in said.out
    assert vta("info", "mac64", "--json").record["LOG_BLOCK"] == 3
    assert _is_complaint(vta("info", "nothing"))
    said = vta("info", "tiny", "--set", "LOG_ACC_BUFF_SIZE=15")
    assert _is_complaint(said) and "overlap" in said.err


# -- compile --------------------------------------------------------------------------------------


def test_compile_and_run_the_digits_network(vta: Vta, digits: Path, tmp_path: Path) -> None:
    said = vta("info", digits, "--json")
    assert said.record["numerics"] == "ort" and said.record["exact"]
    image = np.zeros((1, 1, 8, 8), np.float32)
    np.save(tmp_path / "image.npy", image)
    said = vta("run", digits, "--inputs", tmp_path, "--output-dir", tmp_path / "o", "--json")
    assert said.status == 0 and said.record["macs"] > 0
    logits = np.load(tmp_path / "o" / "logits.npy")
    assert logits.dtype == np.float32 and logits.shape == (1, 10)
    np.save(tmp_path / "image.npy", image.astype(np.float64))
    said = vta("run", digits, "--inputs", tmp_path)
    assert _is_complaint(said) and "must be float32" in said.err


def test_compile_for_another_batch(vta: Vta, tmp_path: Path) -> None:
    target, dump = tmp_path / "four.vta", tmp_path / "dump"
    said = vta("compile", DIGITS, "-o", target, "--batch", 4, "--dump", dump)
    assert said.status == 0
    assert any("graph-rebatch" in name for name in os.listdir(dump))
    assert "logits: float32[4x10]" in vta("run", target).out


def test_compile_says_what_it_does(vta: Vta, tmp_path: Path) -> None:
    target = tmp_path / "d.vta"
    said = vta(
        *("compile", DIGITS, "-o", target, "--timing", "--dump", tmp_path / "dump"),
        *("--config", "mac64", "--set", "DRAM_LATENCY=9"),
    )
    assert said.status == 0
    for words in ("time per pass", "lower_schedule", "total", "on the host: ", f"wrote {target}: "):
        assert words in said.out
    assert any((tmp_path / "dump").iterdir())
    assert Package.load(target).config.dram_latency == 9


def test_compile_says_that_nothing_runs_on_vta(vta: Vta, tmp_path: Path) -> None:
    said = vta("compile", DIGITS, "-o", tmp_path / "d.vta", "--config", "rect")
    assert said.status == 0
    reason = "the compiler needs a config whose BLOCK_IN equals BLOCK_OUT"
    assert f"note: nothing runs on VTA: {reason}" in " ".join(said.out.split())
    assert "nothing runs" not in vta("compile", DIGITS, "-o", tmp_path / "d.vta").out


def test_help_names_what_there_is(vta: Vta) -> None:
    def text(command: str) -> str:
        return " ".join(vta(command, "--help").out.split())

    *runtimes, ties_up = NUMERICS
    assert f"runtime to be equal to: {', '.join(runtimes)}; or {ties_up}" in text("compile")
    for command in ("run", "exec"):
        assert f"what runs the programs: {', '.join(device_names())}" in text(command)
    assert str(PAIRS_MAX) in text("check")
    assert f"({PAIRS_MAX} per program)" in (REPO / "docs" / "running.md").read_text()


def test_compile_for_another_machine(vta: Vta, tmp_path: Path) -> None:
    target = tmp_path / "d.vta"
    triple = "aarch64-unknown-linux-gnu"
    assert vta("compile", DIGITS, "-o", target, "--host", triple).status == 0
    assert vta("info", target, "--json").record["host_triple"] == triple
    if "aarch64" not in os.uname().machine:
        said = vta("run", target, "--host-code", "native")
        assert said.status == 2 and "compile the model with --host" in said.err
        said = vta("run", target, "--json")
        assert said.status == 0 and said.record["host_code"] == "numpy"
        assert "host operators run in numpy: the host code is for 'aarch64-" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compile", "missing.tflite", "-o", "x.vta"], "missing.tflite"),
        (["compile", "text.onnx", "-o", "x.vta"], "text.onnx"),
        (["compile", "cut.onnx", "-o", "x.vta"], "cut.onnx"),
        (["compile", str(DIGITS), "-o", "no/folder/x.vta"], "existing folder"),
        (["compile", str(DIGITS), "-o", "x.vta", "--numerics", "exactly"], "exactly"),
        (["compile", str(DIGITS), "-o", "x.vta", "--config", "nothing"], "nothing"),
        (["compile", str(DIGITS), "-o", "x.vta", "--batch", "0"], "at least 1, not 0"),
        (["compile", str(DIGITS), "-o", "x.vta", "--host", "z80-cpm"], "z80-cpm"),
        (["compile", str(DIGITS), "-o", "x.vta", "--dump", "text.onnx"], "text.onnx"),
        (["compile", str(DIGITS)], "--output"),
        (["complie"], "complie"),
        (["run", "--bogus"], "--bogus"),
    ],
)
def test_compile_complaints(
    vta: Vta,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.onnx").write_text("hello")
    Path("cut.onnx").write_bytes(DIGITS.read_bytes()[:3000])
    said = vta(*arguments)
    assert _is_complaint(said), said
    assert words in said.err
    assert sorted(os.listdir()) == ["cut.onnx", "text.onnx"]


# -- as a process ---------------------------------------------------------------------------------


def _process(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vta.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=False, **more)


def test_help_and_status_of_the_process(tmp_path: Path) -> None:
    done = _process("--help")
    assert done.returncode == 0
    for command in ("compile", "run", "exec", "disasm", "info"):
        assert command in done.stdout
    assert _process().stdout == done.stdout
    done = _process("run", tmp_path / "nothing.vta")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("vta: package")


def test_a_reader_may_stop_early(digits: Path) -> None:
    command = f"{sys.executable} -m vta.cli disasm {digits} | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=REPO
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_import_vta_imports_little() -> None:
    script = "import sys, vta; print({'numpy', 'compiler', 'llvmlite', 'runtime'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPO)
    assert done.stdout == "set()\n", done.stderr
