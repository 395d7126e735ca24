"""Cycles of layers and networks beside what they must and might cost.

All is counted, nothing timed: figures depend on the compiler and on the configuration alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler.context import CompileContext
from compiler.driver import compile_graph
from compiler.graph.ir import Graph, Node, Quant, Tensor, TensorType
from compiler.topi.conv2d_tiling import ConvTiling
from runtime.package import Package
from vta import api
from vta.bench.models import MissingModelError, build_model, find_model
from vta.bench.tuned import Tuning
from vta.bench.workloads import LAYERS, NETWORKS, Layer, Network, Reference
from vta.profiling.measure import Profile, Row, add_rows, profile
from vta_hw.spec.config import VtaConfig

Progress = Callable[[str], AbstractContextManager[None]]

_ADD = "add"


class WorkloadError(api.UsageError):
    """A workload that is not what its figures are about."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a workload takes; `counted` is what is compared, all of it or some of its layers.

    `tuned` is the same workload compiled with a tuning log, if that was asked for.
    """

    name: str
    cycles: int
    counted: Row
    reference: Reference | None
    reference_cycles: int | None
    tuned: Cost | None = None

    def record(self) -> dict[str, Any]:
        """As in the JSON."""
        return {
            "name": self.name,
            "cycles": self.cycles,
            "conv_cycles": self.counted.cycles,
            "ideal_cycles": self.counted.ideal_cycles,
            "bound_cycles": self.counted.bound_cycles,
            "bound_by": self.counted.bound_by,
            "array_use": self.counted.array_use,
            "reference_cycles": self.reference_cycles,
            "reference": None if self.reference is None else self.reference.source,
            "reasons": {str(reason): cycles for reason, cycles in self.counted.reasons.items()},
            "tuned": None if self.tuned is None else self.tuned._tuned_record(),
        }

    def _tuned_record(self) -> dict[str, Any]:
        return {
            "cycles": self.cycles,
            "conv_cycles": self.counted.cycles,
            "array_use": self.counted.array_use,
        }


def chosen(names: Sequence[str], only: Sequence[str]) -> list[str]:
    """The names that contain one of the texts; all without any. None at all is refused."""
    found = [name for name in names if not only or any(text in name for text in only)]
    if not found:
        raise api.UsageError(
            f"--only {' '.join(map(repr, only))} fits no workload; there are {', '.join(names)}"
        )
    return found


# -- layers ---------------------------------------------------------------------------------------


def layer_costs(config: VtaConfig, progress: Progress, only: Sequence[str] = ()) -> Iterator[Cost]:
    """Each layer compiled alone, as a network of one operator, from launch to finish.

    Layers of one shape are compiled once.
    """
    names = chosen([layer.name for layer in LAYERS], only)
    known: dict[Layer, Row] = {}
    for layer in LAYERS:
        if layer.name not in names:
            continue
        shape = replace(layer, name="", reference=None)
        if shape not in known:
            with progress(f"compiling {layer.name}"):
                known[shape] = _layer_row(layer, config)
        yield _cost(layer.name, known[shape].cycles, known[shape], layer.reference, config)


def _layer_row(layer: Layer, config: VtaConfig) -> Row:
    found = profile(compile_layer(layer, config))
    if not found.layers:
        reason = next(row.reason for row in found.elsewhere if row.name == layer.name)
        raise WorkloadError(
            f"{layer.name} does not run on VTA with config {config.name!r}: {reason}; choose "
            f"another config"
        )
    return found.total


def compile_layer(layer: Layer, config: VtaConfig) -> Package:
    """The layer with seeded weights, for as many images as the machine takes at once.

    Zero points are 0 and scales powers of two.
    """
    context = CompileContext(config)
    return compile_graph(layer_graph(layer, config.batch), context, numerics_for(config)).package


def numerics_for(config: VtaConfig) -> str | None:
    """The format's own, but ties up where hardware can only shift: as the original VTA rounds."""
    return None if config.has("requant") else "ties-up"


def layer_graph(layer: Layer, images: int = 1) -> Graph:
    """The layer as a network, with weights and a scale that fill the range of the result."""
    rng = np.random.default_rng(0)
    depth = layer.channels_in // layer.groups
    shape = (layer.channels_out, depth, layer.kernel, layer.kernel)
    weights = rng.integers(-127, 128, shape, np.int8)
    bias = rng.integers(-1000, 1000, layer.channels_out, np.int32)
    out = (layer.size + 2 * layer.pad - layer.kernel) // layer.stride + 1
    # Sums of n products of numbers of this size are about sqrt(n) times as large.
    grown = np.exp2(np.round(np.log2(64 * np.sqrt(depth * layer.kernel**2))))
    tensors = [
        _activation("image", (images, layer.channels_in, layer.size, layer.size), 2.0**-5),
        _activation("x", (images, layer.channels_in, layer.size, layer.size), 2.0**-5),
        Tensor("w", TensorType(shape, "int8", Quant.per_tensor(2.0**-6, 0), "OIHW"), weights),
        Tensor("b", TensorType(bias.shape, "int32"), bias),
        _activation("y", (images, layer.channels_out, out, out), float(grown) * 2.0**-11),
    ]
    attrs = {
        "strides": (layer.stride, layer.stride),
        "pads": (layer.pad,) * 4,
        "dilation": (1, 1),
        "groups": layer.groups,
        "layout": "NCHW",
        "activation": "none",
    }
    # Stands for the layer before: what the host has as an image, it may unfold as well.
    before = Node("before", "reshape", ("image",), ("x",), {"shape": tensors[0].type.shape})
    node = Node(layer.name, "qnn.conv2d", ("x", "w", "b"), ("y",), attrs)
    table = {tensor.name: tensor for tensor in tensors}
    return Graph(layer.name, ("image",), ("y",), table, (before, node), "onnx")


def _activation(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
    return Tensor(name, TensorType(shape, "int8", Quant.per_tensor(scale, 0), "NCHW"))


# -- networks -------------------------------------------------------------------------------------


def network_costs(
    config: VtaConfig,
    progress: Progress,
    only: Sequence[str] = (),
    models: Path | None = None,
    missing: dict[str, str] | None = None,
    tuning: Tuning | None = None,
) -> Iterator[Cost]:
    """Each network as `vta compile` compiles it, for as many images as the machine takes at once.

    `missing` is told why one is left out. With `tuning` each is compiled with its choices as well.
    """
    names = chosen([network.name for network in NETWORKS], only)
    with tempfile.TemporaryDirectory(prefix="vta-") as folder:
        for network in NETWORKS:
            if network.name not in names:
                continue
            try:
                with progress(f"building {network.name}"):
                    path = _model(network, config, models, Path(folder))
            except MissingModelError as error:
                if missing is not None:
                    missing[network.name] = str(error)
                continue
            with progress(f"compiling {network.name}"):
                cost = _compiled_cost(network, path, config)
            if tuning is not None:
                choices = tuning.choices(path, config, *_compiled_for(network, config))
                with progress(f"compiling {network.name}, tuned"):
                    cost = replace(cost, tuned=_compiled_cost(network, path, config, choices))
            yield cost


def _compiled_for(network: Network, config: VtaConfig) -> tuple[str | None, int | None]:
    """Numerics and images at once."""
    numerics = numerics_for(config) if not network.file else None
    return numerics, config.batch if config.batch > 1 else None


def _compiled_cost(
    network: Network,
    path: Path,
    config: VtaConfig,
    choices: Mapping[str, ConvTiling] | None = None,
) -> Cost:
    numerics, images = _compiled_for(network, config)
    compiled = api.compile(path, config, batch=images, numerics=numerics, tuned=choices)
    return network_cost(network, profile(compiled.package))


def _model(network: Network, config: VtaConfig, models: Path | None, folder: Path) -> Path:
    if network.file:
        return find_model(network.file, models)
    return build_model(network.name, folder, for_shifts=not config.has("requant"))


def network_cost(network: Network, found: Profile) -> Cost:
    """Of all layers together, and of those that count."""
    counted = add_rows(network.name, counted_rows(network, found.layers), found.machine)
    return _cost(network.name, found.total.cycles, counted, network.reference, found.config)


def counted_rows(network: Network, rows: Sequence[Row]) -> list[Row]:
    """The layers that the network's published figure counts.

    A fused operator begins with the one that it is scheduled as. Additions belong to the
    convolutions, whether they are layers of their own or not.
    """
    weighted = [row for row in rows if row.op.split("+")[0] == network.op]
    picked = weighted[network.counted]
    if len(picked) != network.layers:
        raise WorkloadError(
            f"{network.name} has {len(picked)} counted layers of kind {network.op}, not "
            f"{network.layers}; its file is another network, or the layers run on the host"
        )
    names = {row.name for row in picked}
    return [row for row in rows if row.name in names or row.op.split("+")[0] == _ADD]


def _cost(
    name: str, cycles: int, counted: Row, reference: Reference | None, config: VtaConfig
) -> Cost:
    return Cost(
        name=name,
        cycles=cycles,
        counted=counted,
        reference=reference,
        reference_cycles=None if reference is None else reference.cycles_on(config),
    )


def table_rows(costs: Sequence[Cost]) -> list[tuple[object, ...]]:
    """What the commands show, by `headings`."""
    return [
        (
            cost.name,
            cost.cycles,
            cost.counted.cycles,
            round(cost.counted.ideal_cycles),
            round(cost.counted.bound_cycles),
            cost.counted.bound_by,
            cost.counted.array_use,
            cost.counted.bound_cycles / cost.counted.cycles,
            "" if cost.reference_cycles is None else f"{cost.reference_cycles:,}",
            "" if cost.reference_cycles is None else _ratio(cost),
            *_tuned_cells(cost),
        )
        for cost in costs
    ]


def _tuned_cells(cost: Cost) -> tuple[object, ...]:
    tuned = cost.tuned
    if tuned is None:
        return ()
    gain = 100 * (cost.cycles / tuned.cycles - 1)
    return (tuned.cycles, tuned.counted.cycles, f"{gain:.1f}")


def headings(costs: Sequence[Cost]) -> tuple[str, ...]:
    """Of the table: with the tuned figures where there are some."""
    return (*HEADINGS, *(TUNED_HEADINGS if any(cost.tuned for cost in costs) else ()))


HEADINGS = (
    *("workload", "cycles", "counted", "ideal", "bound", "set by", "array use"),
    *("bound / counted", "published", "published / counted"),
)
TUNED_HEADINGS = ("tuned", "tuned counted", "gain, %")


def _ratio(cost: Cost) -> str:
    assert cost.reference_cycles is not None
    return f"{cost.reference_cycles / cost.counted.cycles:.2f}"


def sources(costs: Sequence[Cost]) -> Mapping[str, str]:
    """Where published figures are from, by the workload's name."""
    return {
        cost.name: cost.reference.source
        for cost in costs
        if cost.reference is not None and cost.reference_cycles is not None
    }
