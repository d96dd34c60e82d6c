"""The conversion to FP16: which type every value has, and how the result computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export.precision.networks import denoiser_graph, networks, node_of, patients, prior_graph, scale_weight
from verdiff.errors import BundleError, VerificationError
from verdiff.export.builder import GraphBuilder, make_model, tensor_info
from verdiff.export.precision import required_islands, to_half
from verdiff.export.precision.execution import CpuGraph, as_executed
from verdiff.export.precision.graphs import element_types, plain_weights
from verdiff.export.precision.islands import COORDINATES
from verdiff.export.weights import store_as_half

FP32, FP16 = TensorProto.FLOAT, TensorProto.FLOAT16


def test_layers_go_to_half_and_the_interface_stays_float_but_for_the_features() -> None:
    half = to_half(prior_graph())
    types = element_types(half.model)
    assert types["image"] == FP32 and types["prior"] == FP32 and types["feature_0"] == FP16
    convolutions = [node for node in half.model.graph.node if node.op_type == "Conv"]
    assert {types[name] for node in convolutions for name in (*node.input, *node.output)} == {FP16}
    assert {node.name for node in convolutions} <= set(half.half)


@pytest.mark.parametrize("graph", [prior_graph, denoiser_graph])
def test_every_required_island_computes_in_float(graph) -> None:
    model = graph()
    half, types = to_half(model), element_types(to_half(model).model)
    required = required_islands(plain_weights(model))
    assert required and set(half.islands) == set(required)
    for node in half.model.graph.node:
        if node.name in required:
            assert FP16 not in {types.get(name) for name in (*node.input, *node.output)}, node.name


def test_the_islands_are_the_statistics_the_time_embedding_and_the_conversion_to_x0hat() -> None:
    model = plain_weights(denoiser_graph())
    islands = required_islands(model)
    kinds = {node.op_type for node in model.graph.node if node.name in islands}
    assert kinds == {"InstanceNormalization", "Unsqueeze", "Mul", "Cos", "Sin", "Concat", "Gemm", "Sigmoid", "Sub"}
    assert node_of(model, "entered") not in islands and node_of(model, "mixed") not in islands


def test_coordinates_counted_from_the_size_of_a_slice_stay_in_float() -> None:
    """``y = conv(x * cos(row / rows))``: a Range, which has no half-precision form, and what follows from it."""
    b = GraphBuilder()
    count = b.op("Squeeze", b.op("Shape", "x", start=2, end=3), b.const([0], np.int64))
    count = b.op("Cast", count, to=FP32, out="count")
    rows = b.op("Range", b.const(0.0, np.float32), count, b.const(1.0, np.float32), out="rows")
    wave = b.op("Cos", b.op("Div", rows, count, out="part"), out="wave")
    column = b.op("Unsqueeze", wave, b.const([1], np.int64), out="column")
    b.op("Conv", b.op("Mul", "x", column, out="scaled"), b.const(np.ones((1, 1, 1, 1), np.float32)), out="y")
    x, y = (tensor_info(name, ["N", 1, "H", "W"]) for name in ("x", "y"))
    model = plain_weights(make_model(helper.make_graph(b.nodes, "grid", [x], [y], b.initializers)))
    half = to_half(model)
    types = element_types(half.model)
    assert {types[name] for name in ("count", "rows", "part", "wave", "column")} == {FP32}
    assert {reason for name, reason in half.islands.items() if "Conv" not in name} == {COORDINATES}
    assert types[next(node for node in half.model.graph.node if node.op_type == "Conv").input[0]] == FP16
    (found,) = CpuGraph(as_executed(half.model)).run({"x": np.ones((1, 1, 300, 2), np.float32)})
    assert np.abs(found[0, 0, :, 0] - np.cos(np.arange(300) / 300)).max() < 1e-3


def test_a_value_is_cast_once_however_many_read_it() -> None:
    model = to_half(denoiser_graph()).model
    casts = [(node.input[0], node.attribute[0].i) for node in model.graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))


def test_weights_stored_in_half_and_plain_ones_convert_to_the_same_graph() -> None:
    rounded = plain_weights(prior_graph())
    for tensor in rounded.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16).astype(np.float32), tensor.name))
    assert to_half(rounded).model.SerializeToString(deterministic=True) == to_half(
        store_as_half(rounded)
    ).model.SerializeToString(deterministic=True)


def test_a_weight_beyond_fp16_is_refused_by_node() -> None:
    model = prior_graph()
    weight = next(node for node in model.graph.node if "widened" in node.output).input[1]
    with pytest.raises(VerificationError, match=node_of(model, "widened")):
        to_half(scale_weight(model, weight, 1e6))


def test_a_graph_with_control_flow_is_refused() -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", FP32, [1]),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", FP32, [1])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], name="steps", body=body)],
        "looped",
        [helper.make_tensor_value_info("x", FP32, [1])],
        [helper.make_tensor_value_info("y", FP32, [1])],
        [numpy_helper.from_array(np.array(2), "n")],
    )
    with pytest.raises(BundleError, match="steps"):
        to_half(helper.make_model(graph))


def half_chain(factors: list[float]) -> onnx.ModelProto:
    """x -> FP16, multiplied by each factor in turn by a convolution -> y."""
    nodes, value = [helper.make_node("Cast", ["x"], ["v0"], name="down", to=FP16)], "v0"
    for index, _ in enumerate(factors):
        nodes.append(helper.make_node("Conv", [value, f"w{index}"], [f"v{index + 1}"], name=f"times{index}"))
        value = f"v{index + 1}"
    nodes.append(helper.make_node("Cast", [value], ["y"], name="up", to=FP32))
    weights = [numpy_helper.from_array(np.full((1, 1, 1, 1), f, np.float16), f"w{i}") for i, f in enumerate(factors)]
    shape = [1, 1, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", FP32, shape)],
        [helper.make_tensor_value_info("y", FP32, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_an_overflow_that_onnx_runtime_hides_is_seen_when_executed_as_fp16() -> None:
    chain, x = half_chain([1000.0, 1000.0, 1e-3, 1e-3]), np.array([[[[1.0, 0.01]]]], np.float32)
    assert np.isfinite(CpuGraph(chain).run({"x": x})[0]).all()
    found = CpuGraph(as_executed(chain)).run({"x": x})[0].ravel()
    assert np.isinf(found[0]) and np.isfinite(found[1])


def test_executed_values_are_those_of_fp16_arithmetic() -> None:
    factors, x = [1 / 3, 3.0, 0.1], np.linspace(0.01, 40, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    expected = x.astype(np.float16)
    for factor in factors:
        expected = (expected.astype(np.float32) * np.float32(np.float16(factor))).astype(np.float16)
    found = CpuGraph(as_executed(half_chain(factors))).run({"x": x})[0]
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_a_converted_network_gives_nearly_the_same_when_executed() -> None:
    source, image = networks(), patients(1)[0].image
    exact = CpuGraph(source.prior).run({"image": image})
    found = CpuGraph(as_executed(to_half(source.prior).model)).run({"image": image})
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == np.float32
        assert 0 < np.abs(ours - theirs).max() < 2e-2


def test_bf16_is_the_same_conversion_with_its_own_rounding() -> None:
    source, image = networks(), patients(1)[0].image
    brief = to_half(source.prior, precision="bf16").model
    assert TensorProto.BFLOAT16 in element_types(brief).values() and FP16 not in element_types(brief).values()
    exact = CpuGraph(source.prior).run({"image": image})[0]
    found = CpuGraph(as_executed(brief)).run({"image": image})[0]
    half = CpuGraph(as_executed(to_half(source.prior).model)).run({"image": image})[0]
    assert 3 * np.abs(half - exact).mean() < np.abs(found - exact).mean() < 0.02
