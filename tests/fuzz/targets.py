"""Everything that reads what a user hands in, each with a generator of broken input.

A target's `make` gives bytes, and its `check` feeds them to a reader. True means accepted, False
refused; what breaks the promise (another exception than `VtaKitError`, or a message of more than
one line) is raised. `check` depends on the bytes alone, so that a saved input can be replayed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import zlib
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tflite

import vta
from compiler.context import CompileContext
from compiler.driver import compile_graph, compile_model
from compiler.frontend.model import import_model
from fpga.driver.recording import ReplayTransport
from runtime.container import seal, unseal
from runtime.executor import Executor
from runtime.package import Package
from tests.compiler.frontend.test_onnx import qdq_network, qlinear_network
from tests.compiler.frontend.test_tflite import convolution
from tests.fpga.test_recording import RECORDINGS, run_network
from tests.fuzz.mutate import Rng, mutate_bytes, mutate_json, noise
from tests.gen_programs import legal_program
from tests.models import DIGITS
from tests.runtime import networks
from vta import cli, files
from vta_hw.spec import asm, isa
from vta_hw.spec.config import VtaConfig, named_configs
from vta_hw.spec.errors import VtaKitError
from vta_sim import functional

# Names are quoted whole, however long they are.
MESSAGE_CHARS_MAX = 10_000
_DIGEST_CHARS = 64
_TRAILER_BYTES = len(b"vta-package 0001 sha256=") + _DIGEST_CHARS
# Bounds on what is run for a test's sake: legal programs may ask for years of work.
WORK_MAX = 20_000
RUN_BYTES_MAX = 1 << 24
"""A package that asks for more memory than this is only read, not run."""


class BrokenPromise(Exception):
    """A reader that neither accepted its input nor refused it as it should."""


@dataclass(frozen=True)
class Target:
    """A reader: where broken input comes from, and what happens to it."""

    make: Callable[[Rng], bytes]
    check: Callable[[bytes, Path], bool]


def _accepted(read: Callable[[], object]) -> bool:
    """Whether `read` goes through; its refusals must be of one sentence."""
    try:
        read()
    except VtaKitError as error:
        text = str(error)
        if not text or "\n" in text or len(text) > MESSAGE_CHARS_MAX:
            raise BrokenPromise(f"a message of {len(text)} characters: {text[:300]!r}") from error
        return False
    return True


def _rng_of(data: bytes) -> Rng:
    return np.random.default_rng(zlib.crc32(data))


# -- models ---------------------------------------------------------------------------------------


@cache
def _models() -> Mapping[str, bytes]:
    rng = np.random.default_rng(7)
    return {
        "tflite": convolution(
            rng, size=(5, 5), channels=(3, 4), kernel=(3, 3), strides=(1, 1),
            padding=tflite.Padding.SAME, activation=1,
        ),
        "qdq": qdq_network(rng, "uint8").SerializeToString(),
        "qlinear": qlinear_network(rng, "int8", gemm=True).SerializeToString(),
        "digits": DIGITS.read_bytes(),
    }  # fmt: skip


def _make_model(*kinds: str) -> Callable[[Rng], bytes]:
    def make(rng: Rng) -> bytes:
        source = _models()[str(rng.choice(kinds))]
        if rng.random() < 0.05:
            return source[:8] + noise(rng)
        return mutate_bytes(source, rng)

    return make


def _check_model(data: bytes, folder: Path) -> bool:
    path = folder / "model"
    path.write_bytes(data)
    config = VtaConfig.load("mac64")

    def read() -> None:
        graph = import_model(path)
        if sum(t.type.size_bytes for t in graph.tensors.values()) < 1 << 20:
            compile_graph(graph, CompileContext(config))

    return _accepted(read)


# -- packages -------------------------------------------------------------------------------------


@cache
def _packages() -> tuple[bytes, ...]:
    small = networks.package(VtaConfig.load("default"), "uint8")
    return small.to_bytes(), compile_model(DIGITS, VtaConfig.load("default")).package.to_bytes()


def _some_package(rng: Rng) -> bytes:
    return _packages()[int(rng.random() < 0.3)]


def _make_package(rng: Rng) -> bytes:
    source = _some_package(rng)
    while (changed := mutate_bytes(source, rng)) in _packages():
        pass
    return changed


def _check_package(data: bytes, folder: Path) -> bool:
    if _accepted(lambda: Package.from_bytes(data)):
        raise BrokenPromise("a package that was changed is accepted")
    return False


def _make_sealed(rng: Rng) -> bytes:
    """A package with nonsense in it, and a checksum that fits the nonsense."""
    data = _some_package(rng)
    if rng.random() < 0.2:
        return _resealed(data, rng)
    members = unseal(data, "package")
    names = ["manifest.json", *(n for n in members if rng.random() < 0.05)]
    for name in names:
        if name.endswith(".json"):
            members[name] = json.dumps(mutate_json(json.loads(members[name]), rng)).encode()
        else:
            members[name] = mutate_bytes(members[name], rng)
    if rng.random() < 0.1:
        del members[str(rng.choice(list(members)))]
    return seal(members)


def _resealed(data: bytes, rng: Rng) -> bytes:
    """The archive's own structure damaged, its checksum put right."""
    end = len(data) - _TRAILER_BYTES
    # The archive's directory stands at its end.
    start = end - 400 if rng.random() < 0.7 else 0
    return sealed_again(data[:start] + mutate_bytes(data[start:end], rng) + data[end:])


def sealed_again(data: bytes) -> bytes:
    """A package with the checksum of what it holds now."""
    body, trailer = data[:-_TRAILER_BYTES], data[-_TRAILER_BYTES:]
    return body + trailer[:-_DIGEST_CHARS] + hashlib.sha256(body).hexdigest().encode()


def _check_sealed(data: bytes, folder: Path) -> bool:
    def read() -> None:
        package = Package.from_bytes(data)
        vta.disassemble(package)
        host = sum(t.size_bytes for t in package.tensors.values())
        programs = sum(s.size_bytes for p in package.programs for s in p.symbols.values())
        if max(host, programs, package.arena_bytes) > RUN_BYTES_MAX:
            return
        if sum(_work(i) for p in package.programs for i in p.instructions) > 100 * WORK_MAX:
            return
        # Object code would do what it says, whatever the manifest says: only numpy can refuse.
        executor = Executor(package, host="numpy")
        executor.run(vta.random_inputs(package), "all" if data[-1] % 2 else "model")

    return _accepted(read)


# -- configurations -------------------------------------------------------------------------------


def _make_config(rng: Rng) -> bytes:
    values = VtaConfig.load(str(rng.choice(named_configs()))).to_dict()
    if rng.random() < 0.1:
        return b"[" * 100_000
    if rng.random() < 0.7:
        return json.dumps(mutate_json(values, rng)).encode()
    return mutate_bytes(json.dumps(values).encode(), rng)


def _check_config(data: bytes, folder: Path) -> bool:
    path = folder / "config.json"
    path.write_bytes(data)
    text = data.decode("latin-1")
    named = VtaConfig.load("tiny")
    _accepted(lambda: named.override([text[:40], f"LOG_BATCH={text[-3:]}"]))

    def read() -> None:
        config = VtaConfig.load(path)
        if VtaConfig.from_dict(config.to_dict()).hash != config.hash:
            raise BrokenPromise("a configuration that is not what it says")

    return _accepted(read)


# -- instructions ---------------------------------------------------------------------------------


def _work(insn: isa.Instruction) -> int:
    if not isinstance(insn, isa.Gemm | isa.Alu):
        return 0
    return insn.iter_out * insn.iter_in * max(0, insn.uop_end - insn.uop_bgn)


_STREAM_HEAD = 5


def _make_stream(rng: Rng) -> bytes:
    """A configuration's number, the seed of a DRAM image, instructions of bearable work."""
    names = named_configs()
    chosen, seed = int(rng.integers(len(names))), int(rng.integers(1, 1 << 32))
    config = VtaConfig.load(names[chosen])
    if rng.random() < 0.6:
        stream = legal_program(config, seed).stream
        stream = _bits_flipped(stream, rng) if rng.random() < 0.7 else mutate_bytes(stream, rng)
    else:
        stream = b"".join(_random_word(rng, config) for _ in range(int(rng.integers(1, 40))))
    kept = bytearray()
    for at in range(0, len(stream) - 15, 16):
        word = stream[at : at + 16]
        if _work(isa.decode(int.from_bytes(word, "little"), config)) <= WORK_MAX:
            kept += word
    tail = stream[len(stream) // 16 * 16 :] if rng.random() < 0.05 else b""
    return bytes([chosen]) + seed.to_bytes(4, "little") + bytes(kept) + tail


def _split_stream(data: bytes) -> tuple[VtaConfig, int, bytes]:
    data = data.ljust(_STREAM_HEAD, b"\0")
    names = named_configs()
    seed = int.from_bytes(data[1:_STREAM_HEAD], "little")
    return VtaConfig.load(names[data[0] % len(names)]), seed, data[_STREAM_HEAD:]


def _bits_flipped(stream: bytes, rng: Rng) -> bytes:
    changed = bytearray(stream)
    for bit in rng.integers(0, 8 * len(stream), int(rng.integers(1, 4))):
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _random_word(rng: Rng, config: VtaConfig) -> bytes:
    word = int.from_bytes(rng.bytes(16), "little")
    # Sparse words have small fields, which more often are legal.
    for _ in range(int(rng.integers(0, 5))):
        word &= int.from_bytes(rng.bytes(16), "little")
    return (word & ~7 | int(rng.integers(0, 8))).to_bytes(16, "little")


def _check_stream(data: bytes, folder: Path) -> bool:
    config, seed, stream = _split_stream(data)
    rng = _rng_of(data)

    def read() -> None:
        text = asm.disassemble(stream, config)
        again = isa.encode_all(asm.assemble(text, config), config)
        if asm.disassemble(again, config) != text:
            raise BrokenPromise("a listing that assembles to another stream")
        image = np.frombuffer(legal_program(config, seed).dram, np.uint8).copy()
        if rng.random() < 0.3:
            image = rng.integers(0, 256, int(2 ** rng.uniform(0, 17)), np.uint8)
        result = functional.run(
            config,
            stream,
            image,
            interleave=rng if rng.random() < 0.3 else None,
            report_uninitialised=bool(rng.random() < 0.3),
        )
        if (result.fault is None) != result.ok:
            raise BrokenPromise(f"a verdict that is none: {result}")

    return _accepted(read)


def _make_text(rng: Rng) -> bytes:
    data = _make_stream(rng)
    config, _, stream = _split_stream(data)
    text = asm.disassemble(stream[: len(stream) // 16 * 16], config)
    return data[:_STREAM_HEAD] + mutate_bytes(text.encode(), rng)


def _check_text(data: bytes, folder: Path) -> bool:
    config, _, encoded = _split_stream(data)
    text = encoded.decode("latin-1")
    _accepted(lambda: asm.assemble_uops(text, config))

    def read() -> None:
        instructions = asm.assemble(text, config)
        if isa.decode_all(isa.encode_all(instructions, config), config) != instructions:
            raise BrokenPromise("instructions that change by being encoded")

    return _accepted(read)


def _make_array(rng: Rng) -> bytes:
    buffer = io.BytesIO()
    shape = tuple(int(v) for v in rng.integers(0, 5, rng.integers(0, 4)))
    np.save(buffer, np.zeros(shape, str(rng.choice(["int8", "float32", "bool"]))))
    return mutate_bytes(buffer.getvalue(), rng)


def _check_array(data: bytes, folder: Path) -> bool:
    path = folder / "x.npy"
    path.write_bytes(data)
    return _accepted(lambda: files.read_npy(path))


# -- recorded sessions ----------------------------------------------------------------------------


def _make_recording(rng: Rng) -> bytes:
    data = (RECORDINGS / "run.jsonl").read_bytes()
    if rng.random() < 0.4:
        return mutate_bytes(data, rng)
    lines = data.splitlines()
    for at in rng.integers(0, len(lines), int(rng.integers(1, 4))) * int(rng.random() < 0.8):
        lines[at] = json.dumps(mutate_json(json.loads(lines[at]), rng)).encode()
    return b"\n".join(lines)


def _check_recording(data: bytes, folder: Path) -> bool:
    path = folder / "session.jsonl"
    path.write_bytes(data)
    return _accepted(lambda: run_network(ReplayTransport(path)))


# -- the commands ---------------------------------------------------------------------------------

_COMMANDS: tuple[tuple[str, Callable[[Rng], bytes]], ...] = (
    ("info F", _make_sealed),
    ("info F.json", _make_config),
    ("disasm F", _make_sealed),
    ("check F --json", _make_sealed),
    ("disasm F --config tiny", _make_stream),
    ("run F --host-code numpy --json", _make_package),
    ("compile F -o O --timing --config mac64", _make_model("tflite", "qlinear")),
    ("exec --insns S --dram F --out O --json --config F.json", _make_config),
)


def _make_command(rng: Rng) -> bytes:
    chosen = int(rng.integers(len(_COMMANDS)))
    return bytes([chosen]) + _COMMANDS[chosen][1](rng)


def _check_command(data: bytes, folder: Path) -> bool:
    if not data:
        return False
    command, contents = _COMMANDS[data[0] % len(_COMMANDS)][0], data[1:]
    for name in ("F", "F.json"):
        (folder / name).write_bytes(contents)
    (folder / "S").write_bytes(isa.encode_all([isa.Finish()], VtaConfig.load("default")))
    places = {name: str(folder / name) for name in ("F", "F.json", "S", "O")}
    words = [places.get(word, word) for word in shlex.split(command)]
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = cli.main(words)
    complaints = [line for line in err.getvalue().splitlines() if line.startswith("vta: ")]
    if status not in (0, 2, 3, 4) or (status == 2) != (len(complaints) == 1):
        raise BrokenPromise(f"{command}: exit status {status}, {err.getvalue()!r}")
    if status == 2 and not err.getvalue().rstrip("\n").endswith(complaints[0]):
        raise BrokenPromise(f"{command}: more than one line: {err.getvalue()!r}")
    return status == 0


TARGETS: Mapping[str, Target] = {
    "tflite": Target(_make_model("tflite"), _check_model),
    "onnx": Target(_make_model("qdq", "qlinear"), _check_model),
    "digits": Target(_make_model("digits"), _check_model),
    "package": Target(_make_package, _check_package),
    "sealed": Target(_make_sealed, _check_sealed),
    "config": Target(_make_config, _check_config),
    "stream": Target(_make_stream, _check_stream),
    "text": Target(_make_text, _check_text),
    "array": Target(_make_array, _check_array),
    "recording": Target(_make_recording, _check_recording),
    "command": Target(_make_command, _check_command),
}
"""Every reader by name."""
