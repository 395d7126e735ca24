"""Another batch: each image gives what it gave alone, and graphs that mix images are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vta
from compiler.errors import GraphError
from compiler.frontend import import_model
from compiler.graph.ir import Graph, Quant
from compiler.graph.lower_qnn import lower_qnn
from compiler.graph.rebatch import rebatch
from compiler.graph.reference import evaluate
from tests.compiler.graph.nets import QUANT, NetBuilder
from tests.models import DIGITS


def branches(rng: np.random.Generator, rows: int) -> Graph:
    """Every kind of operand: weights, activations, a constant that is added, a flattening."""
    net = NetBuilder(rng)
    x = net.conv(net.input("x", (rows, 4, 4, 6)), "c", 5)
    k = net.const("k", rng.integers(-128, 128, (1, 4, 4, 5)).astype(np.int8).repeat(rows, 0), QUANT)
    y = net.add(net.rescale(x, "r"), k, "a")
    z = net.node("concat", [y, x], "j", axis=3)
    flat = net.reshape(net.pool(net.pad(z, "p", (1, 1, 1, 1), 3), "m"), "f", (rows, 90))
    return net.graph("a", net.dense(flat, "y", 7))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_each_image_gives_what_it_gave_alone(
    rows: int, batch: int, rng: np.random.Generator
) -> None:
    graph = branches(rng, rows)
    after = rebatch(graph, batch)
    assert [node.op for node in after.nodes] == [node.op for node in graph.nodes]
    images = rng.integers(-128, 128, (batch, 4, 4, 6)).astype(np.int8)
    found = evaluate(after, {"x": images})
    for index in range(batch):
        alone = evaluate(graph, {"x": np.repeat(images[index : index + 1], rows, 0)})
        for node in graph.nodes:
            (name,) = node.outputs
            assert found[name].shape == (batch, *alone[name].shape[1:])
            np.testing.assert_array_equal(found[name][index], alone[name][0], name)


def test_quantised_operators_of_a_file() -> None:
    after = lower_qnn(rebatch(import_model(DIGITS), 5))
    assert {after.type_of(name).shape[0] for name in (*after.inputs, *after.outputs)} == {5}


def test_the_batch_it_has_changes_nothing(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    graph = net.graph(net.conv(net.input("x", (2, 3, 3, 4)), "c", 5))
    assert str(rebatch(graph, 2)) == str(graph)


def refused(graph: Graph, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        rebatch(graph, 4)


def test_reshapes_across_the_batch_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.reshape(net.input("x", (1, 8)), "f", (2, 4))
    refused(net.graph("f"), r"'f' \(reshape\) .* shape \(2, 4\), whose first axis is no batch of 1")


def test_joins_along_the_batch_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.node("concat", [net.input("x", (1, 8)), net.input("z", (1, 8))], "j", axis=0)
    refused(net.graph("j"), r"'j' \(concat\) cannot be given another batch")


def test_a_join_of_one_tensor_along_the_batch_is_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.node("concat", [net.input("x", (1, 8))], "j", axis=0)
    refused(net.graph("j"), "it joins tensors along the batch axis")


def test_softmax_along_the_batch_is_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.node("softmax", [net.input("x", (8,))], "s")
    refused(net.graph("s"), r"it normalises the shape \(8,\) along the batch axis")


def test_computed_weights_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    x = net.input("x", (4, 4))
    net.node("dense", [x, x, net.const("b", np.zeros(4, np.int32))], "d")
    refused(net.graph("d"), "its weights are computed from the input")


def test_constants_that_differ_between_images_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    k = net.const("k", np.arange(16, dtype=np.int8).reshape(2, 8))
    net.add(net.input("x", (2, 8)), k, "a")
    refused(net.graph("a"), "operand 'k' is no constant that is the same for every image")


def test_scales_per_image_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    graph = net.graph(net.clip(net.input("x", (2, 8)), "y"))
    quant = Quant(np.ones(2, np.float32), np.zeros(2, np.int64), 0)
    tensor = graph.tensors["y"]
    tensor = replace(tensor, type=replace(tensor.type, quant=quant))
    refused(replace(graph, tensors={**graph.tensors, "y": tensor}), "'y' has a scale per image")


def test_inputs_of_different_batches_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    a, b = net.clip(net.input("x", (1, 8)), "a"), net.clip(net.input("z", (2, 8)), "b")
    refused(net.graph(a, b), r"first axis.*'x' of shape \(1, 8\), 'z' of shape \(2, 8\)")


def test_scalar_inputs_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    refused(net.graph(net.clip(net.input("x", ()), "a")), r"'x' of shape \(\)")


def test_outputs_without_a_batch_are_refused(rng: np.random.Generator) -> None:
    net = NetBuilder(rng)
    net.input("x", (1, 8))
    net.clip(net.const("k", np.zeros((1, 8), np.int8)), "y")
    refused(net.graph("y"), "output 'y' depends on no input")


@pytest.mark.parametrize("batch", [0, -3])
def test_there_is_at_least_one_image(batch: int) -> None:
    with pytest.raises(GraphError, match=f"batch must be at least 1, not {batch}"):
        vta.compile(DIGITS, batch=batch)


@pytest.mark.parametrize("config", ["default", "batch4"])
@pytest.mark.parametrize("batch", [4, 6])
def test_compiled_batches(config: str, batch: int, rng: np.random.Generator) -> None:
    """More images than lanes, too: 6 are one and a half batches of batch4."""
    one = vta.load(vta.compile(DIGITS, config).package)
    many = vta.load(vta.compile(DIGITS, config, batch=batch).package)
    (name,) = one.package.inputs
    shape = many.package.tensors[name].shape
    assert shape == (batch, *one.package.tensors[name].shape[1:])
    values = rng.normal(0, 1, shape).astype(many.package.tensors[name].dtype)
    found = many.run({name: values}).outputs["logits"]
    for index in range(batch):
        alone = one.run({name: values[index : index + 1]}).outputs["logits"]
        np.testing.assert_array_equal(found[index : index + 1], alone)
