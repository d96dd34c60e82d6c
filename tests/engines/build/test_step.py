"""The step graph, whose update is appended as bytes, against one that is put together with onnx: bits and engines."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.engines.build.test_building import small
from verdiff.bundle import open_bundle, resolve_model
from verdiff.diffusion.step_graph import TERMS, step_graph, update
from verdiff.engines.build.graphs import EngineGraph, build_step
from verdiff.engines.build.islands import keep_islands
from verdiff.engines.library import Library
from verdiff.errors import BundleError
from verdiff.export.precision import to_half
from verdiff.export.precision.execution import CpuGraph, as_executed
from verdiff.export.precision.graphs import plain_weights
from verdiff.export.precision.quantise import quantise

PRECISIONS = ("fp32", "fp16", "bf16", "int8-trt", "int8-ov")
HALVES = ("fp16", "bf16")


@cache
def denoiser(precision: str) -> onnx.ModelProto:
    """The default model's denoiser; converted, for INT8 with one range for everything."""
    source = onnx.load_from_string(open_bundle(resolve_model()).graph("denoiser"))
    if precision == "fp32":
        return source
    if precision in HALVES:
        return to_half(source, precision=precision).model
    plain = plain_weights(source)
    names = [value.name for value in plain.graph.input] + [name for node in plain.graph.node for name in node.output]
    return quantise(source, dict.fromkeys(names, (-4.0, 4.0)), precision).model


def composed(source: onnx.ModelProto) -> onnx.ModelProto:
    """The same function made with onnx's own helpers, a scalar gathered for every term."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    graph, total = model.graph, ""
    for index, term in enumerate(TERMS):
        graph.initializer.append(numpy_helper.from_array(np.array(index, np.int64), f"at_{index}"))
        graph.node.append(helper.make_node("Gather", ["row", f"at_{index}"], [f"scalar_{index}"], name=f"g_{index}"))
        graph.node.append(helper.make_node("Mul", [term, f"scalar_{index}"], [f"product_{index}"], name=f"m_{index}"))
        added = "x_next" if term == TERMS[-1] else f"total_{index}"
        if total:
            graph.node.append(helper.make_node("Add", [total, f"product_{index}"], [added], name=f"a_{index}"))
        total = added if total else f"product_{index}"
    x = next(value for value in graph.input if value.name == "x")
    graph.input.append(helper.make_tensor_value_info("row", TensorProto.FLOAT, [len(TERMS)]))
    for values, name in ((graph.input, "noise"), (graph.input, "previous"), (graph.output, "x_next")):
        values.append(onnx.ValueInfoProto(name=name, type=x.type))
    onnx.checker.check_model(model, full_check=True)
    return model


def feed_of(model: onnx.ModelProto) -> dict[str, NDArray]:
    """Random inputs for two images of 32 x 32 pixels."""
    random, feed = np.random.default_rng(7), {}
    strides = {f.name: f.stride for f in open_bundle(resolve_model()).manifest.features}
    for value in model.graph.input:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        side = 32 // strides.get(value.name, 1)
        shape = (2, dims[1], side, side) if len(dims) == 4 else (5,) if value.name == "row" else (2,)
        feed[value.name] = random.standard_normal(shape).astype(np.float32)
    feed["timestep"] = np.array([700, 300], np.float32)
    return feed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_ways_of_making_it_give_the_same_bits(precision: str) -> None:
    """BF16, which ONNX Runtime does not compute, as its graph rounds."""
    ours, theirs = build_step(denoiser(precision)), composed(denoiser(precision))
    if precision in HALVES:
        ours, theirs = as_executed(plain_weights(ours)), as_executed(plain_weights(theirs))
    feed = feed_of(ours)
    found, expected = CpuGraph(ours).inner(feed), CpuGraph(theirs).inner(feed)
    assert found.keys() == expected.keys() == {"x_next", "x0hat"}
    for name, values in found.items():
        assert np.isfinite(values).all() and values.std() > 0
        np.testing.assert_array_equal(values, expected[name])


def engine_graph_of(step: onnx.ModelProto) -> EngineGraph:
    return EngineGraph("step", keep_islands(plain_weights(step)), "ab" * 32)


@pytest.mark.parametrize("precision", ["bf16", "int8-trt"])
def test_both_ways_of_making_it_become_the_same_engine(library: Library, tmp_path: Path, precision: str) -> None:
    """Where there is no GPU to run them: inputs and outputs, weights, memory and every proof of the types."""
    graphs = (engine_graph_of(make(denoiser(precision))) for make in (build_step, composed))
    (_, ours), (_, theirs) = (small(library, graph, tmp_path, precision) for graph in graphs)
    assert set(ours.io) == set(theirs.io)
    assert {tensor.name for tensor in ours.io if tensor.mode == "output"} == {"x_next", "x0hat"}
    assert ours.weight_bytes == theirs.weight_bytes and ours.weight_bytes
    assert ours.device_memory_bytes == theirs.device_memory_bytes
    # The second sentence counts the values, of which one way has a node more than the other.
    assert [ours.proof[0], *ours.proof[2:]] == [theirs.proof[0], *theirs.proof[2:]]


def test_the_update_is_the_same_bytes_whatever_the_denoiser() -> None:
    for precision in PRECISIONS:
        data = denoiser(precision).SerializeToString()
        assert step_graph(data) == data + update()
    assert len(update()) == 828


def test_the_number_of_channels_is_declared_and_the_denoiser_s_nodes_keep_their_names() -> None:
    source = denoiser("fp32")
    step = build_step(source)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in step.graph.input}
    assert [shapes[name][1].dim_value for name in ("x", "noise", "previous")] == [3, 3, 3]
    names = [node.name for node in source.graph.node]
    assert [node.name for node in step.graph.node][: len(names)] == names


@pytest.mark.parametrize("problem", ["no x", "a stranger", "a whole number", "half precision"])
def test_a_graph_that_is_no_denoiser_is_refused(problem: str) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(denoiser("fp32"))
    if problem == "no x":
        del model.graph.input[0]
    elif problem == "a stranger":
        model.graph.input[3].name = "image"
    else:
        kind = TensorProto.INT64 if problem == "a whole number" else TensorProto.FLOAT16
        model.graph.input[1].type.tensor_type.elem_type = kind
    with pytest.raises(BundleError, match="a denoiser graph w"):
        build_step(model)
