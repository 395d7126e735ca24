"""`vta bench layers` and `networks`: what is measured is what was published for, and adds up."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.models import model_path
from vta.bench import costs
from vta.bench import models as model_files
from vta.bench.costs import WorkloadError, compile_layer, counted_rows
from vta.bench.workloads import LAYERS, NETWORKS, PYNQ, Geometry, Layer, Network
from vta.cli import main
from vta.profiling.measure import Machine, Row, profile
from vta_hw.spec.config import VtaConfig, named_configs
from vta_sim.stalls import Reason

KEYS = {
    *("name", "cycles", "conv_cycles", "ideal_cycles", "bound_cycles", "array_use"),
    "reference_cycles",
}
# How often ResNet-18 has each of its distinct convolutions.
REPEATS = {
    "C2": 4,
    "C3": 1,
    "C4": 1,
    "C5": 3,
    "C6": 1,
    "C7": 1,
    "C8": 3,
    "C9": 1,
    "C10": 1,
    "C11": 3,
}
NETWORK = {network.name: network for network in NETWORKS}


def _macs(layer: Layer) -> int:
    side = -(-layer.size // layer.stride)
    taps = layer.channels_in // layer.groups * layer.kernel**2
    return side * side * layer.channels_out * taps


def _record(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return record


# -- tables ---------------------------------------------------------------------------------------


def test_resnet18_has_these_layers():
    """Together they are the published workload: 6,623,232 cycles of 256 MACs, 8.83 M on a PYNQ."""
    layers = {layer.name.partition(".")[2]: layer for layer in LAYERS if "resnet18" in layer.name}
    assert layers.keys() == REPEATS.keys()
    assert sum(_macs(layers[name]) * count for name, count in REPEATS.items()) == 256 * 6_623_232
    published = 0
    for name, count in REPEATS.items():
        reference = layers[name].reference
        assert reference is not None and "tophub" in reference.source
        published += reference.cycles * count
    assert published == 8_827_000


def test_resnet50_has_these_layers():
    """All multiply-accumulates of version 1 but those of the first layer and the classifier."""
    blocks, total = (3, 4, 6, 3), 0
    layers = [layer for layer in LAYERS if layer.name.startswith("resnet50.")]
    for layer in layers:
        _, stage, kind = layer.name.split(".")
        count = blocks[int(stage.removeprefix("stage")) - 1]
        repeats = {"first": 1, "downsample": 1, "next": count - 1, "middle": count, "last": count}
        total += _macs(layer) * repeats[kind]
    # In stage 1 the downsample has the shape of `last`.
    total += 56 * 56 * 64 * 256
    assert total == 3_857_973_248 - 112 * 112 * 64 * 3 * 49 - 2048 * 1000
    assert len(layers) == 19


def test_mobilenet_has_these_layers():
    """The published 569 M multiply-accumulates, but those of the first layer and the classifier."""
    layers = [layer for layer in LAYERS if layer.name.startswith("mobilenet_v1.")]
    total = sum(_macs(layer) * (5 if ".pair7." in layer.name else 1) for layer in layers)
    assert round((total + 112 * 112 * 32 * 27 + 1024 * 1000) / 1e6) == 569
    assert len(layers) == 18
    assert len({layer.name for layer in LAYERS}) == len(LAYERS)


def test_published_figures_hold_for_their_geometry():
    geometries = {name: Geometry.of(VtaConfig.load(name)) for name in named_configs()}
    assert {name for name, geometry in geometries.items() if geometry == PYNQ} == {
        "default",
        "pynq",
    }
    for name, config in (("resnet18", "pynq"), ("resnet8", "mac64")):
        reference = NETWORK[name].reference
        assert reference is not None
        assert reference.cycles_on(VtaConfig.load(config)) == reference.cycles
        assert reference.cycles_on(VtaConfig.load("tiny")) is None
        wide = VtaConfig.load(config).override(["LOG_BUS_WIDTH=7", "DRAM_LATENCY=16"])
        assert reference.cycles_on(wide) is None


# -- layers ---------------------------------------------------------------------------------------


def test_layers(capsys: pytest.CaptureFixture[str]):
    command = ["bench", "layers", "--latency", "16", "--json"]
    assert main([*command, "--only", "C10", "--only", "pair9.depth"]) == 0
    record = _record(capsys)
    assert record["latency"] == 16
    dense, depthwise = record["layers"]
    assert [dense["name"], depthwise["name"]] == ["resnet18.C10", "mobilenet_v1.pair9.depthwise"]
    for layer, macs in ((dense, 7 * 7 * 256 * 512), (depthwise, 7 * 7 * 1024 * 9)):
        assert layer.keys() >= KEYS
        assert layer["ideal_cycles"] == macs / 256
        assert layer["ideal_cycles"] <= layer["bound_cycles"] <= layer["cycles"]
        assert layer["conv_cycles"] == layer["cycles"] == sum(layer["reasons"].values())
        assert layer["array_use"] == pytest.approx(layer["ideal_cycles"] / layer["cycles"])
    assert dense["reference_cycles"] == 108_000 and depthwise["reference_cycles"] is None


def test_layers_of_one_shape_are_compiled_once(monkeypatch: pytest.MonkeyPatch):
    compiled: list[str] = []
    real = compile_layer

    def once(layer: Layer, config: VtaConfig) -> Any:
        compiled.append(layer.name)
        return real(layer, config)

    monkeypatch.setattr(costs, "compile_layer", once)
    small = replace(LAYERS[0], size=4, channels_in=16, channels_out=16)
    monkeypatch.setattr(costs, "LAYERS", (small, replace(small, name="again", reference=None)))
    found = list(costs.layer_costs(VtaConfig.load("default"), lambda text: nullcontext()))
    assert [cost.name for cost in found] == ["resnet18.C2", "again"] and len(compiled) == 1
    assert found[0].cycles == found[1].cycles
    assert found[0].reference_cycles and found[1].reference_cycles is None


@pytest.mark.parametrize("name", ["default", "pynq", "batch4"])
def test_a_layer_is_exact_and_fills_the_batch(name: str):
    config = VtaConfig.load(name)
    package = compile_layer(Layer("one", 6, 16, 16, 1), config)
    assert package.exact
    (row,) = profile(package).layers
    assert row.macs == config.batch * 6 * 6 * 16 * 16


def test_a_layer_that_vta_does_not_take(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "layers", "--config", "rect", "--only", "C10"]) == 2
    said = capsys.readouterr().err
    assert "resnet18.C10 does not run on VTA with config 'rect': the compiler needs" in said


def test_nothing_fits(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "layers", "--only", "C99"]) == 2
    assert "--only 'C99' fits no workload; there are resnet18.C2, " in capsys.readouterr().err


# -- networks -------------------------------------------------------------------------------------


def _row(name: str, op: str, macs: int = 64) -> Row:
    return Row(
        name=name,
        op=op,
        program=0,
        is_layer=True,
        machine=Machine(macs_per_cycle=64, bus_bytes=8),
        cycles=10,
        macs=macs,
        read_beats=0,
        write_beats=0,
        reasons=dict.fromkeys(Reason, 0),
    )


def test_counted_layers():
    """Additions count as layers of their own and as ends of convolutions; nothing else does."""
    rows = [
        _row("first", "conv2d+requantize"),
        _row("pool", "max_pool2d"),
        _row("a", "conv2d+requantize"),
        _row("sum", "add+clip"),
        _row("b", "conv2d+requantize+add"),
        _row("c", "conv2d+requantize+add+rescale"),
        _row("head", "dense+requantize"),
    ]
    chain = Network("chain", "conv2d", slice(1, None), 3)
    assert [row.name for row in counted_rows(chain, rows)] == ["a", "sum", "b", "c"]
    with pytest.raises(WorkloadError, match="chain has 3 counted layers of kind conv2d, not 4"):
        counted_rows(replace(chain, layers=4), rows)


@pytest.mark.parametrize(
    ("name", "macs", "layers"),
    [
        ("resnet8", 64 * 188_416, 8),
        ("dscnn", 64 * 32_000, 4),
        # A dense layer multiplies each of its weights once.
        ("autoencoder", 182_272, 9),
    ],
)
def test_networks(name: str, macs: int, layers: int, capsys: pytest.CaptureFixture[str]):
    """The counted layers are those of the published figure: its MACs, or bytes of weights."""
    model_path(NETWORK[name].file)
    assert main(["bench", "networks", "--config", "mac64", "--only", name, "--json"]) == 0
    record = _record(capsys)
    assert record["missing"] == {}
    (found,) = record["networks"]
    assert found.keys() >= KEYS and NETWORK[name].layers == layers
    assert found["ideal_cycles"] == macs / 64
    assert found["bound_cycles"] >= found["ideal_cycles"]
    assert found["bound_cycles"] <= found["cycles"] and found["conv_cycles"] < found["cycles"]
    assert sum(found["reasons"].values()) == found["conv_cycles"]
    assert found["array_use"] == pytest.approx(found["ideal_cycles"] / found["conv_cycles"])
    reference = NETWORK[name].reference
    assert reference is not None and found["reference_cycles"] == reference.cycles


def test_networks_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(model_files, "_BESIDE", tmp_path / "nothing")
    command = ["bench", "networks", "--only", "net8", "--only", "mobilenet", "--json"]
    assert main([*command, "--models", str(tmp_path)]) == 0
    text = capsys.readouterr()
    record = json.loads(text.out.splitlines()[-1])
    assert record["networks"] == [] and record["missing"].keys() == {"resnet8", "mobilenet"}
    assert text.err.count("clone mlcommons/tiny") == 2
