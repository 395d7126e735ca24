"""Traces: what the viewer needs, what is kept, where two differ."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cosim.programs import case, decoded
from tests.models import REPO
from vta_hw.spec.asm import assemble, format_insn
from vta_hw.spec.config import VtaConfig
from vta_hw.spec.events import Timeline
from vta_hw.spec.isa import pops
from vta_sim.cycle import simulate
from vta_sim.trace import KEY, Recording, to_json
from vta_sim.trace_diff import TraceError, deciding_rules, first_difference, read

TINY = VtaConfig.load("tiny")
PROGRAM = """load inp y=1 x=2 push_next
load wgt y=1 x=1
load uop y=1 x=1 pop_prev
gemm uop=0..1 iter=4/1 dst=1/0 push_next
store out y=1 x=4 pop_prev push_prev
finish pop_next"""


def _recording(text: str = PROGRAM, **sources: Any) -> Recording:
    program = assemble(text, TINY)
    result = simulate(TINY, program, np.zeros(4096, np.uint8), insn_base=4096)
    assert result.timeline is not None
    return Recording("a program", TINY, program, result.timeline, **sources)


def _events(recordings: list[Recording]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(to_json(recordings))["traceEvents"]
    return events


def _named(events: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    return {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}


def test_a_slice_per_instruction() -> None:
    recording = _recording(sources=[f"layer {i}" for i in range(6)])
    line, events = recording.timeline, _events([recording])
    threads = _named(events)
    slices = [e for e in events if e["ph"] == "X" and "args" in e]
    assert [e["name"] for e in slices] == PROGRAM.splitlines()
    assert [threads[e["pid"], e["tid"]] for e in slices] == [
        "load inp",
        "load wgt",
        "compute load",
        "compute gemm",
        "store",
        "compute finish",
    ]
    for i, e in enumerate(slices):
        assert (e["ts"], e["ts"] + e["dur"] - 1) == (line.issue[i], line.retire[i])
        assert e["args"]["dispatch"] == line.dispatch[i] and e["args"]["source"] == f"layer {i}"


def test_buses() -> None:
    recording = _recording()
    events = _events([recording])
    threads = _named(events)
    for bus, spans in (
        ("read", recording.timeline.read_bus),
        ("write", recording.timeline.write_bus),
    ):
        slices = [
            e for e in events if threads.get((e["pid"], e["tid"])) == f"{bus} bus" and "ts" in e
        ]
        assert [(e["ts"], e["ts"] + e["dur"] - 1) for e in slices] == [
            tuple(s) for s in spans.tolist()
        ]


def test_arrows_go_from_push_to_pop() -> None:
    recording = _recording()
    events = _events([recording])
    line = recording.timeline
    arrows = {
        kind: [(e["name"], e["ts"], e["id"]) for e in events if e["ph"] == kind] for kind in "sf"
    }
    assert arrows["s"] == [
        ("load_to_compute", line.retire[0], 1),
        ("compute_to_store", line.retire[3], 2),
        ("store_to_compute", line.retire[4], 3),
    ]
    assert [(name, ts) for name, ts, _ in arrows["f"]] == [
        ("load_to_compute", line.issue[2]),
        ("compute_to_store", line.issue[4]),
        ("store_to_compute", line.issue[5]),
    ]


def test_slices_of_a_lane_do_not_overlap(rng: np.random.Generator) -> None:
    for seed in rng.integers(0, 1 << 30, 15).tolist():
        made = case("tiny", seed)
        image = np.frombuffer(made.generated.dram, np.uint8).copy()
        result = simulate(made.config, made.generated.stream, image, insn_base=1 << 20)
        assert result.timeline is not None
        program = decoded(made.generated)
        recording = Recording("", made.config, program, result.timeline)
        events = _events([recording, recording])
        lanes = defaultdict(list)
        for e in events:
            if e["ph"] == "X":
                lanes[e["pid"], e["tid"]].append((e["ts"], e["ts"] + e["dur"]))
        for spans in lanes.values():
            assert all(b[0] >= a[1] for a, b in pairwise(sorted(spans)))
        arrows = [e for e in events if e["ph"] == "f"]
        issued = [i for i, insn in enumerate(program) if result.timeline.issue[i] >= 0]
        assert len(arrows) == 2 * sum(len(pops(program[i])) for i in issued)
        assert len({e["id"] for e in arrows}) == len(arrows)
        for e in arrows:
            assert any(a <= e["ts"] < b for a, b in lanes[e["pid"], e["tid"]])


def _write(path: Path, *recordings: Recording) -> Path:
    path.write_text(to_json(recordings))
    return path


def test_nothing_is_lost(tmp_path: Path) -> None:
    recording = _recording(sources=["here"] * 6)
    (run,) = read(_write(tmp_path / "a.json", recording))
    line = recording.timeline
    for name in ("dispatch", "issue", "retire", "read_bus", "write_bus"):
        assert np.array_equal(run[name], getattr(line, name))
    assert run["cycles"] == line.cycles and run["sources"] == ["here"] * 6
    assert run["instructions"] == [format_insn(insn) for insn in recording.instructions]


def _changed(recording: Recording, **columns: Any) -> Recording:
    return replace(recording, timeline=replace(recording.timeline, **columns))


def _later(line: Timeline, moment: str, index: int, cycles: int) -> np.ndarray:
    column: np.ndarray = getattr(line, moment).copy()
    column[index] += cycles
    return column


def test_first_difference(tmp_path: Path) -> None:
    first = _recording(sources=["conv"] * 6)
    line = first.timeline
    a = _write(tmp_path / "a.json", first, first)
    assert first_difference(a, _write(tmp_path / "b.json", first, first)) is None

    def found(*recordings: Recording) -> str | None:
        return first_difference(a, _write(tmp_path / "b.json", *recordings))

    # Instruction 4 is later in the program; what differs of it comes before the retirement of 0.
    both = _changed(
        first, retire=_later(line, "retire", 0, 9), dispatch=_later(line, "dispatch", 4, 1)
    )
    assert found(first, both) == (
        f"run 1 (a program): dispatch of instruction 4 ({PROGRAM.splitlines()[4]}, from conv): "
        f"in cycle {line.dispatch[4]}, then in cycle {line.dispatch[4] + 1}; decided by F2, F3 of "
        f"docs/timing.md"
    )
    never = _later(line, "retire", 3, -1 - int(line.retire[3]))
    assert found(_changed(first, retire=never), first) == (
        f"run 0 (a program): retire of instruction 3 ({PROGRAM.splitlines()[3]}, from conv): "
        f"in cycle {line.retire[3]}, then never; decided by S5, G3 of docs/timing.md"
    )
    assert found(_changed(first, cycles=7), first) == (
        f"run 0 (a program): total: {line.cycles} cycles, then 7"
    )
    assert found(_changed(first, write_bus=line.write_bus[:0]), first) == (
        f"run 0 (a program): write bus: busy span 0 is cycles {line.write_bus[0][0]} to "
        f"{line.write_bus[0][1]}, then nothing"
    )
    assert "has 2 runs" in str(found(first))
    assert "instruction 5 is 'finish pop_next', then 'finish'" in str(
        found(_recording(PROGRAM.replace("finish pop_next", "finish")), first)
    )
    assert "6 instructions, the other 5" in str(
        found(_recording("\n".join(PROGRAM.splitlines()[:5])), first)
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "does not hold cycles"),
        ('{"traceEvents": []}', "does not hold cycles"),
        (json.dumps({KEY: {"version": 2, "runs": []}}), "does not hold cycles"),
        (json.dumps({KEY: {"version": 1, "runs": [{}]}}), "is damaged"),
        (json.dumps({KEY: {"version": 1, "runs": 7}}), "is damaged"),
    ],
)
def test_what_is_no_trace(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TraceError, match=complaint):
        first_difference(path, path)


@pytest.mark.parametrize(
    ("insn", "issue", "retire"),
    [
        ("load inp y=1 x=2", "S1, S2, L1", "S5, L5"),
        ("load wgt y=1 x=2", "S1, S2, L1", "S5, L5"),
        ("load 6", "S1, S2, L1", "S5, L5"),
        ("load uop y=1 x=1", "S1, S2, G1", "S5, D1"),
        ("load acc y=1 x=1", "S1, S2, G1", "S5, D1"),
        ("load acc_8bit y=1 x=1", "S1, S2, G1", "S5, D1"),
        ("gemm uop=0..1", "S1, S2, G1", "S5, G3"),
        ("alu add uop=0..1", "S1, S2, G1", "S5, A1, A2, A3"),
        ("store out y=1 x=1", "S1, S2, T1", "S5, T5"),
        ("finish pop_next", "S1, S2, G1", "S5, S4"),
    ],
)
def test_deciding_rules(insn: str, issue: str, retire: str) -> None:
    (decoded_insn,) = assemble(insn, TINY)
    text = format_insn(decoded_insn)
    found = [deciding_rules(moment, text) for moment in ("dispatch", "issue", "retire")]
    assert found == ["F2, F3", issue, retire]
    page = (REPO / "docs" / "timing.md").read_text()
    assert all(f"- **{rule}** " in page for rule in ", ".join(found).split(", "))


def test_rule_of_an_unknown_opcode() -> None:
    assert deciding_rules("dispatch", "unknown 0x7") == "F4"


def test_damaged_columns(tmp_path: Path) -> None:
    whole = json.loads(to_json([_recording()]))
    path = tmp_path / "a.json"
    for name, value in (("issue", [1]), ("retire", "x"), ("read_bus", [1]), ("dispatch", [1e400])):
        spoiled = json.loads(json.dumps(whole))
        spoiled[KEY]["runs"][0][name] = value
        path.write_text(json.dumps(spoiled))
        with pytest.raises(TraceError, match="is damaged"):
            read(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read(tmp_path / "none.json")
