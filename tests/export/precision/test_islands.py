"""Which nodes have to compute in FP32, rule by rule on graphs of a few nodes, and constants that are nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from verdiff.export.builder import GraphBuilder, make_model, tensor_info
from verdiff.export.precision.execution import CpuGraph, as_executed
from verdiff.export.precision.graphs import element_types, plain_weights
from verdiff.export.precision.half import to_half
from verdiff.export.precision.islands import EXPONENTIAL, POOLED, TIME, required_islands

FP32, FP16 = TensorProto.FLOAT, TensorProto.FLOAT16
X = np.linspace(-2, 2, 2 * 4 * 6 * 5, dtype=np.float32).reshape(2, 4, 6, 5)


def network(middle: Callable[[GraphBuilder, str], str], *inputs: str) -> onnx.ModelProto:
    """x [N, 4, H, W] -> y: a convolution, what ``middle`` adds, a multiplication with x; ``inputs`` are vectors [N]."""
    b = GraphBuilder()
    before = b.op("Conv", "x", b.const(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)), out="before")
    b.op("Mul", before, middle(b, before), out="y")
    x, y = (tensor_info(name, ["N", 4, "H", "W"]) for name in ("x", "y"))
    vectors = [tensor_info(name, ["N"]) for name in inputs]
    model = make_model(helper.make_graph(b.nodes, "network", [x, *vectors], [y], b.initializers))
    onnx.checker.check_model(model, full_check=True)
    return model


def check(model: onnx.ModelProto, islands: dict[str, str]) -> None:
    """``islands`` (value -> reason) and no other node compute in FP32, and the rest in FP16."""
    made = {node.output[0]: node.name for node in plain_weights(model).graph.node}
    expected = {made[value]: reason for value, reason in islands.items()}
    assert required_islands(plain_weights(model)) == expected
    converted = to_half(model)
    types = element_types(converted.model)
    assert converted.islands == expected
    kept = [node for node in converted.model.graph.node if node.name in expected]
    assert FP16 not in {types[name] for node in kept for name in (*node.input, *node.output)}
    assert len(kept) == len(expected) and types["before"] == FP16


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_a_softmax_is_an_island(operator: str) -> None:
    check(network(lambda b, value: b.op(operator, value, axis=1, out="shares")), {"shares": EXPONENTIAL})


@pytest.mark.parametrize("operator", ["ConvTranspose", "Einsum"])
def test_what_has_no_bf16_form_is_an_island_there_and_only_there(operator: str) -> None:
    def middle(b: GraphBuilder, value: str) -> str:
        if operator == "Einsum":
            return b.op("Einsum", value, equation="nchw->nchw", out="made")
        return b.op("ConvTranspose", value, b.const(np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)), out="made")

    model = network(middle)
    check(model, {})
    converted = to_half(model, precision="bf16")
    (made,) = (node for node in converted.model.graph.node if node.op_type == operator)
    types = element_types(converted.model)
    assert set(converted.islands) == {made.name} and types["before"] == TensorProto.BFLOAT16
    assert {types[name] for name in (*made.input, *made.output)} == {FP32}


def test_a_mean_over_all_pixels_is_an_island() -> None:
    check(network(lambda b, value: b.op("GlobalAveragePool", value, out="mean")), {"mean": POOLED})


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum", "ReduceL2", "ReduceSumSquare"])
@pytest.mark.parametrize("axes", [[2, 3], [-2, -1], [2], [-1], [1, 2, 3]])
def test_a_reduction_over_rows_or_columns_is_an_island(operator: str, axes: list[int]) -> None:
    check(network(lambda b, v: b.op(operator, v, b.const(axes, np.int64), out="sum")), {"sum": POOLED})


def test_a_reduction_over_everything_is_an_island() -> None:
    check(network(lambda b, value: b.op("ReduceMean", value, out="sum")), {"sum": POOLED})


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum"])
def test_a_reduction_over_the_channels_alone_is_none(operator: str) -> None:
    check(network(lambda b, value: b.op(operator, value, b.const([1], np.int64), out="sum")), {})


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_a_pool_over_a_few_neighbours_is_none(operator: str) -> None:
    check(network(lambda b, v: b.op(operator, v, kernel_shape=[3, 3], pads=[1] * 4, out="pooled")), {})


def constant(b: GraphBuilder, value: object, out: str) -> str:
    return b.op("Constant", value=numpy_helper.from_array(np.asarray(value, np.float32)), out=out)


def in_half(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What the FP32 graph gives, and what its conversion gives where FP16 is computed in hardware."""
    exact = CpuGraph(model).run(feed)[0]
    return exact, CpuGraph(as_executed(to_half(model).model)).run(feed)[0]


@pytest.mark.parametrize("form", ["value", "value_float", "value_floats"])
def test_a_constant_that_is_a_node_is_cast_for_the_half_nodes_that_read_it(form: str) -> None:
    given = {"value": numpy_helper.from_array(np.float32(1.5)), "value_float": 1.5, "value_floats": [1.5]}[form]
    model = network(lambda b, value: b.op("Add", value, b.op("Constant", **{form: given}, out="c"), out="sum"))
    types = element_types(to_half(model).model)
    assert types["c"] == FP32 and types["sum"] == FP16
    exact, found = in_half(model, {"x": X})
    np.testing.assert_allclose(found, exact, atol=1e-2)


@pytest.mark.parametrize("value", [None, 0.25])
def test_a_map_of_one_value_is_cast_for_the_half_nodes_that_read_it(value: float | None) -> None:
    filled = {} if value is None else {"value": numpy_helper.from_array(np.array([value], np.float32))}
    model = network(
        lambda b, before: b.op("Add", before, b.op("ConstantOfShape", b.op("Shape", before), out="c", **filled))
    )
    assert element_types(to_half(model).model)["c"] == FP32
    exact, found = in_half(model, {"x": X})
    np.testing.assert_allclose(found, exact, atol=1e-2)


def test_such_sources_are_no_nodes_to_be_kept_or_searched() -> None:
    converted = to_half(network(lambda b, value: b.op("Add", value, constant(b, 2.0, "c"), out="sum")))
    assert not {"n_c"} & {*converted.half, *converted.islands}


def test_a_map_of_one_value_that_is_a_feature_leaves_the_prior_in_half() -> None:
    b = GraphBuilder()
    b.op("Relu", "image", out="prior")
    b.op("ConstantOfShape", b.op("Shape", "image"), out="feature_0")
    image, prior, feature = (tensor_info(n, ["N", 1, "H", "W"]) for n in ("image", "prior", "feature_0"))
    model = make_model(helper.make_graph(b.nodes, "prior", [image], [prior, feature], b.initializers))
    assert element_types(to_half(model).model)["feature_0"] == FP16


def test_a_constant_beside_the_timestep_keeps_the_embedding_in_float() -> None:
    def embedded(b: GraphBuilder, value: str) -> str:
        angle = b.op("Mul", "timestep", constant(b, 0.5, "rate"), out="angle")
        return b.op("Unsqueeze", b.op("Cos", angle, out="wave"), b.const([1, 2, 3], np.int64), out="column")

    model = network(embedded, "timestep")
    check(model, dict.fromkeys(("angle", "wave", "column"), TIME))
    exact, found = in_half(model, {"x": X, "timestep": np.array([999, 3], np.float32)})
    np.testing.assert_allclose(found, exact, atol=1e-2)


def test_a_range_that_begins_at_a_constant_stays_in_float() -> None:
    def rows(b: GraphBuilder, value: str) -> str:
        count = b.op("Squeeze", b.op("Shape", value, start=3, end=4), b.const([0], np.int64))
        count = b.op("Cast", count, to=FP32)
        return b.op("Range", constant(b, 0.0, "start"), count, constant(b, 1.0, "step"), out="cols")

    model = network(rows)
    assert element_types(to_half(model).model)["cols"] == FP32
    exact, found = in_half(model, {"x": X})
    np.testing.assert_allclose(found, exact, atol=1e-2)
