"""The functional simulator against the oracle, on random programs and on every edge of the ALU."""

from __future__ import annotations

import ast
import inspect
from functools import cache, partial
from itertools import cycle
from random import Random

import numpy as np
import pytest

from runtime.device import Device, open_device
from tests import oracle, oracle_arith
from tests import oracle_words as w
from tests.gen_programs import FAULTS, ILLEGAL, Generated, illegal_program, legal_program
from tests.gen_values import EDGES, req_lane
from tests.oracle import Outcome, execute
from tests.oracle_words import Geometry, Values
from vta_hw.spec import semantics
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.result import RunResult
from vta_sim.functional import run

# The named configurations have equally many INP and ACC elements; the last two do not.
CONFIGS = {
    "default": VtaConfig.load("default"),
    "mac64": VtaConfig.load("mac64"),
    "batch4": VtaConfig.load("batch4"),
    "tiny": VtaConfig.load("tiny"),
    "rect": VtaConfig.load("rect"),
    "pynq": VtaConfig.load("pynq"),
    "small_inp": VtaConfig.load("tiny").override(["LOG_INP_BUFF_SIZE=7"]),
    "small_acc": VtaConfig.load("tiny").override(["LOG_ACC_BUFF_SIZE=10"]),
}
ENGINES = ("functional", "cycle")
"""Devices whose compiled engines are held to the oracle too."""
LEGAL_PER_CONFIG = 40
ILLEGAL_PER_KIND = 16


@cache
def legal(name: str) -> list[Generated]:
    config = CONFIGS[name]
    first = 1000 * list(CONFIGS).index(name)
    return [legal_program(config, first + i) for i in range(LEGAL_PER_CONFIG)]


@cache
def illegal(kind: str) -> list[Generated]:
    first = 10000 + 1000 * ILLEGAL.index(kind)
    return [
        illegal_program(config, first + i, kind)
        for i, config in zip(range(ILLEGAL_PER_KIND), cycle(CONFIGS.values()), strict=False)
    ]


@cache
def judged(program: Generated) -> Outcome:
    return execute(program.config, program.stream, program.dram)


def simulate(
    config: VtaConfig, stream: bytes, dram: bytes, interleave: np.random.Generator | None = None
) -> Outcome:
    """The simulator's outcome in the oracle's form."""
    image = np.frombuffer(dram, np.uint8).copy()
    return in_oracles_form(run(config, stream, image, interleave=interleave), image)


def on_device(name: str, program: Generated) -> Outcome:
    """What a device, with its compiled engine, makes of a program."""
    image = np.frombuffer(program.dram, np.uint8).copy()
    return in_oracles_form(device(name, program.config).run_stream(program.stream, image), image)


@cache
def device(name: str, config: VtaConfig) -> Device:
    return open_device(name, config)


def in_oracles_form(result: RunResult, image: np.ndarray) -> Outcome:
    fault = result.fault
    kind, index = (fault.kind, fault.index) if fault else (None, None)
    return Outcome(str(result.status), kind, index, image.tobytes(), result.macs)


def differences(program: Generated, outcome: Outcome) -> list[str]:
    """What differs from the oracle, each with the seed that repeats it; DRAM by its first byte."""
    expected = judged(program)
    where = f"{program.config.name}, seed {program.seed}"
    out = []
    for name in ("status", "kind", "index"):
        got, want = getattr(outcome, name), getattr(expected, name)
        if got != want:
            out.append(f"{where}: {name} is {got!r}, not {want!r}")
    if outcome.dram != expected.dram:
        pairs = zip(outcome.dram, expected.dram, strict=True)
        first = next(i for i, (got, want) in enumerate(pairs) if got != want)
        out.append(f"{where}: DRAM differs from byte {first} on")
    if expected.status == "ok" and outcome.macs != expected.macs:
        out.append(f"{where}: {outcome.macs} MACs, not {expected.macs}")
    return out


@pytest.mark.parametrize("name", CONFIGS)
def test_legal_programs_give_the_oracles_memory(name: str) -> None:
    wrong: list[str] = []
    for program in legal(name):
        assert judged(program).status == "ok", f"seed {program.seed} is not legal"
        assert judged(program).dram != program.dram, f"seed {program.seed} stores nothing"
        wrong += differences(program, simulate(program.config, program.stream, program.dram))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ILLEGAL)
def test_illegal_programs_end_with_the_oracles_verdict(kind: str) -> None:
    wrong: list[str] = []
    for program in illegal(kind):
        wrong += differences(program, simulate(program.config, program.stream, program.dram))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CONFIGS)
def test_compiled_engines_give_the_oracles_memory(name: str, engine: str) -> None:
    wrong: list[str] = []
    for program in legal(name):
        wrong += differences(program, on_device(engine, program))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ILLEGAL)
def test_compiled_engines_end_with_the_oracles_verdict(kind: str, engine: str) -> None:
    wrong: list[str] = []
    for program in illegal(kind):
        wrong += differences(program, on_device(engine, program))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CONFIGS)
def test_legal_programs_do_not_depend_on_the_interleaving(name: str) -> None:
    wrong: list[str] = []
    for program in legal(name)[:20]:
        arguments = program.config, program.stream, program.dram
        wrong += differences(program, execute(*arguments, Random(program.seed)))
        for seed in (program.seed, program.seed + 1):
            wrong += differences(program, simulate(*arguments, np.random.default_rng(seed)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ILLEGAL)
def test_verdicts_do_not_depend_on_the_interleaving(kind: str) -> None:
    wrong: list[str] = []
    for program in illegal(kind):
        arguments = program.config, program.stream, program.dram
        wrong += differences(program, execute(*arguments, Random(program.seed)))
        for seed in (program.seed, program.seed + 1):
            wrong += differences(program, simulate(*arguments, np.random.default_rng(seed)))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CONFIGS)
def test_long_loops_give_the_oracles_memory(name: str) -> None:
    wrong: list[str] = []
    for seed in range(3):
        program = legal_program(CONFIGS[name], seed, long_loops=True)
        wrong += differences(program, simulate(program.config, program.stream, program.dram))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CONFIGS)
def test_loops_may_be_cut_anywhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops too long for one piece are executed in several; here every loop is."""
    monkeypatch.setattr(semantics, "micro_ops", partial(semantics.micro_ops, block=3))
    wrong: list[str] = []
    for program in legal(name)[:25]:
        wrong += differences(program, simulate(program.config, program.stream, program.dram))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("fill", [(-128,), (127, 125), (-128, 127, -1, 0)], ids=str)
def test_gemm_sums_stay_exact(name: str, fill: tuple[int, ...]) -> None:
    """Sums far beyond 2^24, and past 2^31, where they wrap."""
    config = CONFIGS[name]
    geometry = Geometry.of(config)
    rng = Random(len(name))
    count = 8
    sizes = [geometry.elem_bytes[memory] for memory in (w.INP, w.WGT, w.ACC)]
    pieces = [bytes(rng.choice(fill) & 255 for _ in range(count * size)) for size in sizes]
    pieces[2] = _words([2**31 - 2**22] * (count * sizes[2] // 4))
    fields = geometry.uop_fields()
    uops = [w.pack({"dst": i % 3, "src": i, "wgt": 7 - i}, fields, 32) for i in range(count)]
    page = 4096
    image = b"".join(piece.ljust(page, b"\0") for piece in (_words(uops), *pieces))
    starts = [i * page for i in range(4)]
    loads = [
        _transfer(w.LOAD, memory, 0, start // geometry.elem_bytes[memory], count)
        for memory, start in zip((w.UOP, w.INP, w.WGT, w.ACC), starts, strict=True)
    ]
    loads[2]["push_next"] = 1
    order = [loads[1], loads[2], loads[0], {**loads[3], "pop_prev": 1}]
    gemm = {"opcode": w.GEMM, "uop_end": count, "iter_out": 160, "iter_in": 2, "dst_factor_in": 4}
    out = len(image) // geometry.elem_bytes[w.OUT]
    insns = [*order, gemm, *_store_all_bits(count, out, uop=count), {"opcode": w.FINISH}]
    identity = _transfer(w.LOAD, w.UOP, count, count, 1)
    image += bytes(4 * count * sizes[2] // 4)
    _agree(_program(geometry, [identity, *insns]), image, config)


def test_generated_programs_cover_the_instruction_set() -> None:
    seen = {tag for name in CONFIGS for program in legal(name) for tag in program.tags}
    plain = ("MIN", "MAX", "ADD", "SHR", "MUL", "RDHM", "RSR")
    wanted = {f"{op} {form}" for op in plain for form in ("immediate", "register")}
    wanted |= {f"REQ {mode}" for mode in ("double", "single", "float")}
    wanted |= {"GEMM", "GEMM reset", "micro-ops reused", "overlap", "remerged"}
    for memory in ("UOP", "WGT", "INP", "ACC", "ACC_8BIT"):
        wanted |= {f"load {memory}", f"load {memory} padded", f"load {memory} strided"}
        wanted |= {f"load {memory} pad_min"} - {"load UOP pad_min"}
    wanted |= {"load of pads only", "store", "store strided"}
    wanted |= {f"compute {p}_{d}" for p in ("pop", "push") for d in ("prev", "next")}
    wanted |= {"load pop_next", "load push_next", "store pop_prev", "store push_prev"}
    wanted |= {"idle load", "idle store", "idle iter_out", "idle iter_in", "idle uop_end"}
    wanted |= {"FINISH pops"}
    assert wanted <= seen, f"never generated: {sorted(wanted - seen)}"


def test_generated_programs_cover_the_verdicts() -> None:
    verdicts = {judged(program).kind for kind in ILLEGAL for program in illegal(kind)}
    assert verdicts == {*FAULTS, "deadlock", "finish_not_drained", "no_finish"} | verdicts & {None}
    several = [judged(program) for program in illegal("several")]
    assert len({outcome.kind for outcome in several}) > 2
    # Queues of 4 entries must make a difference, but not always.
    short = {judged(program).status for program in illegal("short_queue")}
    assert "deadlock" in short


# -- every edge of the ALU ------------------------------------------------------------------------

_BASE = {"pop_prev": 0, "pop_next": 0, "push_prev": 0, "push_next": 0}


def _program(geometry: Geometry, insns: list[Values]) -> bytes:
    return b"".join(w.encode({**_BASE, **insn}, geometry).to_bytes(16, "little") for insn in insns)


def _words(values: list[int]) -> bytes:
    return b"".join((value & 0xFFFFFFFF).to_bytes(4, "little") for value in values)


def _transfer(opcode: int, memory: int, sram: int, dram: int, count: int) -> Values:
    return {
        "opcode": opcode,
        "memory_type": memory,
        "sram_base": sram,
        "dram_base": dram,
        "y_size": 1,
        "x_size": count,
        "x_stride": count,
    }


def _store_all_bits(count: int, out: int, uop: int) -> list[Values]:
    """Store the first `count` ACC elements byte by byte; `uop` is a micro-op of zeros."""
    insns: list[Values] = []
    for byte in range(4):
        shift: Values = {
            "opcode": w.ALU,
            "uop_bgn": uop,
            "uop_end": uop + 1,
            "iter_out": 1,
            "iter_in": count,
            "dst_factor_in": 1,
            "src_factor_in": 1,
            "alu_opcode": w.SHR,
            "use_imm": 1,
            "imm": 8 if byte else 0,
            "push_next": 1,
            "pop_next": int(byte > 0),
        }
        store = _transfer(w.STORE, w.OUT, 0, out + byte * count, count)
        insns += [shift, {**store, "pop_prev": 1, "push_prev": int(byte < 3)}]
    return insns


def _alu_run(vectors: list[list[int]], insn: Values) -> tuple[bytes, bytes, VtaConfig]:
    """Stream, image and config: `vectors` become ACC, then `insn` runs with src the second one.

    All 32 bits of what the first vector became are stored.
    """
    config = CONFIGS["default"]
    geometry = Geometry.of(config)
    lanes = geometry.elem_bytes[w.OUT]
    count = len(vectors[0]) // lanes
    uops = [
        w.pack({"dst": d, "src": s}, geometry.uop_fields(), 32) for d, s in ((0, count), (0, 0))
    ]
    data = b"".join(_words(vector) for vector in vectors)
    image = _words(uops).ljust(64, b"\0") + data + bytes(4 * count * lanes)
    out = (64 + len(data)) // lanes
    loop = {"opcode": w.ALU, "iter_out": 1, "iter_in": count, "dst_factor_in": 1}
    insns: list[Values] = [
        _transfer(w.LOAD, w.UOP, 0, 0, 2),
        _transfer(w.LOAD, w.ACC, 0, 1, count * len(vectors)),
        {**loop, "uop_bgn": 0, "uop_end": 1, **insn},
    ]
    insns += _store_all_bits(count, out, uop=1)
    insns.append({"opcode": w.FINISH})
    return _program(geometry, insns), image, config


def _agree(stream: bytes, image: bytes, config: VtaConfig, seed: int = 0) -> None:
    program = Generated(config, seed, stream, image, frozenset())
    assert judged(program).status == "ok"
    assert not differences(program, simulate(config, stream, image))


@pytest.mark.parametrize("op", range(7), ids=["MIN", "MAX", "ADD", "SHR", "MUL", "RDHM", "RSR"])
def test_alu_register_form_on_all_pairs_of_edge_values(op: int) -> None:
    edges = [*EDGES, 2**31 - 2, 2**30 - 1, -(2**30) - 1, 46341, -46341, 63, 64, 65, -63, -64, 255]
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [(0, 0)] * (-len(pairs) % 16)
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    _agree(*_alu_run([first, second], {"alu_opcode": op, "src_factor_in": 1}))


@pytest.mark.parametrize("op", range(7), ids=["MIN", "MAX", "ADD", "SHR", "MUL", "RDHM", "RSR"])
@pytest.mark.parametrize("imm", [0, 1, 5, 31, 32, 33, -1, -8, -31, -32, -33, 32767, -32768])
def test_alu_immediate_form_on_edge_values(op: int, imm: int) -> None:
    rng = Random(op)
    values = [*EDGES, 0] + [rng.randint(-(2**31), 2**31 - 1) for _ in range(16)]
    insn = {"alu_opcode": op, "use_imm": 1, "imm": imm, "src_factor_in": 1}
    _agree(*_alu_run([values], insn))


@pytest.mark.parametrize("mode", range(3), ids=["double", "single", "float"])
@pytest.mark.parametrize("zero_point", [0, 1, 127, -128])
def test_req_on_ties_and_extremes(mode: int, zero_point: int) -> None:
    seed = 10 * mode + zero_point
    print(f"seed {seed}")
    rng = Random(seed)
    lanes = 16 * 100
    old = [rng.choice((rng.randint(-(2**31), 2**31 - 1), *EDGES)) for _ in range(lanes)]
    parameters = [req_lane(rng, mode, value) for value in old]
    # The three parameter vectors of step n lie together: bias, multiplier, shifts, then the next.
    table: list[int] = []
    for start in range(0, lanes, 16):
        for part in range(3):
            table += [lane[part] for lane in parameters[start : start + 16]]
    insn = {"alu_opcode": w.REQ, "imm": mode << 8 | zero_point & 255, "src_factor_in": 3}
    vectors = [old] + [table[i * lanes : (i + 1) * lanes] for i in range(3)]
    _agree(*_alu_run(vectors, insn), seed)


# -- the oracle's own tables, and the stored form -------------------------------------------------

GOLDEN = {
    "4321000e000700050002af37bc048d10": {
        "opcode": w.LOAD, "pop_next": 1, "memory_type": w.INP, "sram_base": 0x123,
        "dram_base": 0xABCDEF, "y_size": 5, "x_size": 7, "x_stride": 14,
        "y_pad_0": 1, "y_pad_1": 2, "x_pad_0": 3, "x_pad_1": 4,
    },
    "000000010001000103fffffffc1ffe29": {
        "opcode": w.STORE, "pop_prev": 1, "push_prev": 1, "memory_type": w.OUT, "sram_base": 0x7FF,
        "dram_base": 0xFFFFFFFF, "y_size": 1, "x_size": 1, "x_stride": 1,
    },
    "0000000400040004" "0000000c00000280": {
        "opcode": w.LOAD, "memory_type": w.ACC_8BIT, "dram_base": 0x300, "y_size": 4, "x_size": 4,
        "x_stride": 4,
    },
    "0040000200400001000600700900102a": {
        "opcode": w.GEMM, "pop_prev": 1, "push_prev": 1, "uop_bgn": 16, "uop_end": 72,
        "iter_out": 14, "iter_in": 3, "dst_factor_out": 1, "src_factor_out": 1, "src_factor_in": 1,
        "wgt_factor_in": 1,
    },
    "ffc00000000007ff0003fffbffe00082": {
        "opcode": w.GEMM, "reset": 1, "uop_end": 8191, "iter_out": 0x3FFF, "iter_in": 1,
        "dst_factor_out": 0x7FF, "wgt_factor_in": 0x3FF,
    },
    "0008b002000008000188000809204844": {
        "opcode": w.ALU, "push_next": 1, "alu_opcode": w.SHR, "use_imm": 1, "imm": 8,
        "uop_bgn": 72, "uop_end": 73, "iter_out": 1, "iter_in": 196, "dst_factor_in": 1,
        "src_factor_in": 1,
    },
    "ff80900401c00864000a001000200004": {
        "opcode": w.ALU, "alu_opcode": w.MAX, "use_imm": 1, "imm": -128, "uop_end": 1,
        "iter_out": 2, "iter_in": 5, "dst_factor_out": 100, "dst_factor_in": 1,
        "src_factor_out": 7, "src_factor_in": 2,
    },
    "00004000000000000002000800800304": {
        "opcode": w.ALU, "alu_opcode": w.MUL, "uop_bgn": 3, "uop_end": 4, "iter_out": 1,
        "iter_in": 1,
    },
    "00000000000000000000000000000003": {"opcode": w.FINISH},
}  # fmt: skip


@pytest.mark.parametrize("word", GOLDEN)
def test_the_oracles_tables_give_upstreams_words(word: str) -> None:
    geometry = Geometry.of(VtaConfig.load("pynq"))
    assert w.encode(GOLDEN[word], geometry) == int(word, 16)
    decoded = w.decode(int(word, 16), geometry)
    for name, value in GOLDEN[word].items():
        assert decoded[name] == (value & 0xFFFF if name == "imm" else value)


def test_the_oracle_is_independent() -> None:
    """It knows configurations and nothing else of the kit, and computes with no numpy."""
    allowed = {"__future__", "collections", "dataclasses", "functools", "random", "tests"}
    for module in (oracle, oracle_arith, w):
        source = inspect.getsource(module)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                name = node.module or ""
                assert name == "vta_hw.spec.config" or name.partition(".")[0] in allowed, name
            assert not isinstance(node, ast.Import)


def test_the_oracles_micro_op_gives_upstreams_word() -> None:
    fields = Geometry.of(VtaConfig.load("pynq")).uop_fields()
    assert w.pack({"dst": 0x7FF, "src": 0x155, "wgt": 0x2AA}, fields, 32) == 0xAA8AAFFF


def test_saved_program_is_the_stream_and_the_image(tmp_path) -> None:
    program = legal("tiny")[0]
    program.save(tmp_path / "case")
    assert (tmp_path / "case" / "I.bin").read_bytes() == program.stream
    assert (tmp_path / "case" / "IN.bin").read_bytes() == program.dram
    assert len(program.stream) % 16 == 0 and program.stream
