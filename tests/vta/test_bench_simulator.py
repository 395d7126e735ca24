"""`vta bench simulator`: what it measures is checked, what it writes is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vta
from runtime.device import open_device
from runtime.executor import Executor
from tests.models import DIGITS
from vta.bench import baseline, networks, page, simulator
from vta.bench.baseline import Baseline, BaselineDevice, BaselineError
from vta.bench.figures import FIGURES, JOBS, Variant
from vta.bench.jobs import jobs
from vta.bench.measure import speed
from vta.bench.programs import WrongOutputError
from vta.cli import main
from vta_hw.spec import isa, semantics, words
from vta_hw.spec.config import MemType, VtaConfig
from vta_sim import functional
from vta_sim.lang import cpu

CONFIGS = ("default", "tiny", "mac64", "batch4", "rect", "pynq")
PROMISED = {
    "gemm_gmacs_per_s",
    "alu_imm_glaneops_per_s",
    "alu_reg_glaneops_per_s",
    "load_bytes_per_s",
    "store_bytes_per_s",
    "resnet18_first_run_s",
    "resnet18_s_per_image",
    "resnet18_timing_s",
    "resnet8_images_per_s",
    "vnni",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "digits.vta"
    vta.compile(DIGITS, config="default").package.save(path)
    return path


# -- the command ----------------------------------------------------------------------------------


def test_quick(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    written = tmp_path / "performance.md"
    assert main(["bench", "simulator", "--quick", "--json", "--write", str(written)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record.keys() > PROMISED | {"ratios", "missing", "machine", "variants", "config"}
    assert record["vnni"] == (cpu.chosen().isa == "vnni")
    assert record["machine"]["cpu"].startswith(cpu.model_name())
    for key in JOBS.values():
        assert record[key] > 0
    assert record["alu_imm_glaneops_per_s"] > 0 and record["help_s"] > 0
    # What was not measured is null, with a reason.
    absent = {figure.key for figure in FIGURES if record[figure.key] is None}
    assert absent == record["missing"].keys() >= {"resnet18_timing_s", "resnet8_images_per_s"}
    text = written.read_text()
    assert text.startswith(page.MARK) and "worthless" in text
    assert record["machine"]["command"] in text and "--quick" in record["machine"]["command"]
    for figure in FIGURES:
        assert f"| {figure.title} |" in text
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith(("|", "-")))


@pytest.mark.parametrize("key", ["gemm", "load_inp", "store"])
def test_a_wrong_output_fails(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    written = tmp_path / "page.md"
    arguments = ["bench", "simulator", "--config", "tiny", "--quick", "--spoil", key]
    assert main([*arguments, "--json", "--write", str(written)]) == 1
    said = capsys.readouterr()
    assert "else than expected" in said.err and said.err.count("\n") == 1
    assert not said.out and not written.exists()


@pytest.mark.slow
def test_networks_through_the_command(digits: Path, capsys: pytest.CaptureFixture[str]):
    # The command takes any network for ResNet.
    arguments = ["bench", "simulator", "--quick", "--json", "--resnet18", str(DIGITS)]
    assert main([*arguments, "--resnet8", str(digits)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    for figure in FIGURES:
        if figure.key.startswith("resnet"):
            assert record[figure.key] > 0
    assert record["ratios"]["resnet18_s_per_image"] > 0
    assert record["ratios"]["resnet18_timing_s"] is None
    assert record["machine"]["command"].endswith("digits_int8.onnx --resnet8 digits.vta --quick")


def test_a_package_for_another_config(digits: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "simulator", "--config", "tiny", "--resnet8", str(digits)]) == 2
    assert "is for config 'default'" in capsys.readouterr().err


# -- programs and baseline ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_programs_on_engine_and_baseline(name: str):
    config = VtaConfig.load(name)
    loops = Baseline(config)
    found = [speed(job, config, loops, quick=True) for job in jobs(config, quick=True)]
    keys = {each.key for each in found}
    assert keys == {key for key in JOBS if config.has("requant") or not key.startswith("req_")}
    assert all(each.rate > 0 and each.ratio is not None for each in found)


@pytest.mark.parametrize("name", ["tiny", "rect"])
def test_programs_on_the_readable_simulator(name: str, rng: np.random.Generator):
    config = VtaConfig.load(name)
    for job in jobs(config, quick=True):
        image = np.zeros(job.image_bytes, np.uint8)
        job.fill(rng, image)
        expected = job.expected(image)
        assert functional.run(config, words.decode(job.words, config), image).ok
        assert np.array_equal(image[job.output], expected), job.title


def test_a_spoilt_expectation_is_noticed():
    config = VtaConfig.load("tiny")
    for job in jobs(config, quick=True):
        with pytest.raises(WrongOutputError, match="the engine gives"):
            speed(job, config, None, quick=True, spoil=True)


@pytest.mark.parametrize("name", ["tiny", "batch4"])
def test_the_baseline_does_what_the_definition_says(name: str, rng: np.random.Generator):
    """Operations that no program of the benchmark has, on numbers of all sizes."""
    config = VtaConfig.load(name)
    count = config.depth(MemType.ACC) // 4
    loops: dict[str, Any] = {"uop_bgn": 0, "uop_end": 1, "iter_out": 1, "iter_in": count - 3}
    steps: dict[str, Any] = {"dst_factor_in": 1, "src_factor_in": 1}
    uop = isa.MicroOp(dst=count, src=0)
    for op in isa.AluOp:
        if op is isa.AluOp.REQ:
            forms = [(False, semantics.req_imm(-7, mode)) for mode in isa.Rounding]
        else:
            forms = [(True, imm) for imm in (-40, -32, -31, -1, 0, 5, 31, 33, 700)]
            forms.append((False, 0))
        for use_imm, imm in forms:
            alu = isa.Alu(alu_opcode=op, imm=imm, use_imm=use_imm, **loops, **steps)
            _same_as_definition(config, uop, alu, rng)


def _same_as_definition(
    config: VtaConfig, uop: isa.MicroOp, alu: isa.Alu, rng: np.random.Generator
):
    size, depth = config.elem_bytes(MemType.ACC), config.depth(MemType.ACC)
    base = 1 << 12
    row: dict[str, Any] = {"y_size": 1, "x_size": depth, "x_stride": depth}
    program = [
        isa.Load(memory_type=MemType.UOP, y_size=1, x_size=1, x_stride=1),
        isa.Load(memory_type=MemType.ACC, dram_base=base // size, **row),
        alu,
    ]
    image = np.zeros(base + depth * size, np.uint8)
    image[:4] = np.frombuffer(isa.encode_uop(uop, config).to_bytes(4, "little"), np.uint8)
    numbers = image[base:].view("<i4")
    numbers[:] = rng.integers(-(1 << 31), 1 << 31, numbers.size)
    numbers[rng.random(numbers.size) < 0.5] >>= 24
    pads = semantics.Scratchpads(config)
    for insn in program:
        assert semantics.execute(insn, pads, image, config) is None
    loops = Baseline(config)
    loops.run(baseline.decoded(words.encode(program, config), config), image)
    found = loops.memories["acc"].view("<i4").reshape(pads.acc.shape)
    assert np.array_equal(found, pads.acc), alu


def test_the_baseline_runs_networks(digits: Path):
    package = vta.Package.load(digits)
    plain = Executor(package, open_device("functional", package.config, engine="plain"))
    loops = Executor(package, BaselineDevice(package.config))
    items = [vta.random_inputs(package, seed) for seed in range(4)]
    expected = [plain.run(item).outputs for item in items]
    for number, outcome in enumerate(loops.stream(items, workers=2)):
        for name, array in expected[number].items():
            assert np.array_equal(outcome.outputs[name], array)


def test_a_program_out_of_order_is_refused():
    config = VtaConfig.load("tiny")
    waiting = isa.Store(
        memory_type=MemType.OUT, y_size=1, x_size=1, x_stride=1, pop_prev=True, push_prev=True
    )
    program = words.encode([waiting, isa.Gemm(push_next=True)], config)
    with pytest.raises(BaselineError, match="instruction 0 waits"):
        baseline.decoded(program, config)


def test_without_a_compiler_there_are_no_ratios(digits: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(baseline.COMPILER_VARIABLE, "no-such-compiler")
    baseline._library.cache_clear()
    for made in (networks.images(str(digits), 2), networks.stream(str(digits), 4, 1, 2)):
        assert made["ratio"] is None and "no-such-compiler" in made["reason"]
    baseline._library.cache_clear()


def test_a_compiler_that_knows_no_native(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(baseline, "_NATIVE", "-march=no-such-cpu")
    baseline._library.cache_clear()
    assert Baseline(VtaConfig.load("tiny")).flags == "cc -O3"
    baseline._library.cache_clear()


# -- the page -------------------------------------------------------------------------------------


def _variant(isa_name: str, value: float) -> Variant:
    made = Variant(isa_name, details={"programs": {"x": "a program"}, "compiler": "cc -O3"})
    for figure in FIGURES:
        made.put(figure.key, value, 2.0, None)
    return made


def test_verdicts():
    best, masked, generic = (_variant(name, 20) for name in ("vnni", "avx2", "generic"))
    gemm = next(figure for figure in FIGURES if figure.key == "gemm_gmacs_per_s")
    assert best.is_kept(gemm) is False
    assert masked.is_kept(gemm) is True
    assert generic.is_kept(gemm) is None
    limit = next(figure for figure in FIGURES if figure.key == "resnet18_s_per_image")
    assert best.is_kept(limit) is False
    best.figures[limit.key] = 0.12
    assert best.is_kept(limit) is True
    del best.figures[limit.key]
    best.missing[limit.key] = "of a reason"
    text = page.page(page.machine("vta bench simulator", 0.0), "default", [best, masked])
    assert "| GEMM, convolution | 20 | G MAC/s | at least 40 | missed | 2x |" in text
    assert "| GEMM, convolution | 20 | G MAC/s | at least 12 | kept | 2x |" in text
    assert "ResNet-18, every further image: not measured, of a reason." in text
    assert "missed: GEMM, convolution;" in text


def test_other_configurations_have_no_bounds():
    made = _variant("avx2", 1)
    made.has_bounds = False
    assert not any(made.record()["bounds"].values()) and not any(made.record()["kept"].values())
    assert simulator.command_of(simulator.Options(VtaConfig.load("tiny"))).endswith("tiny")
