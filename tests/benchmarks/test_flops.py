"""Arithmetic counted from a graph: by hand where a node is simple, in proportion to pixels where a network is whole."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.tiny_bundle import denoiser_graph, prior_graph
from verdiff.benchmarks import flops
from verdiff.benchmarks.flops import graph_gflop, matmul_gflops
from verdiff.errors import BackendError, BundleError


def graph(nodes: list, shape: list[str | int], weights: dict[str, tuple[int, ...]], extra: list | None = None) -> bytes:
    """A model from ``x`` of this shape through ``nodes`` to ``y``, with zeros for weights."""
    tensors = [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), *(extra or [])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, [output], tensors), opset_imports=[helper.make_opsetid("", 20)]
    )
    return model.SerializeToString()


SYMBOLS: list[str | int] = ["N", 4, "H", "W"]


@pytest.mark.parametrize(
    ("node", "weights", "products"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]), (6, 4, 3, 3), 6 * 8 * 12 * 4 * 9),
        (helper.make_node("Conv", ["x", "w"], ["y"], group=4), (4, 1, 1, 1), 4 * 8 * 12),
        (helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2]), (6, 4, 2, 2), 6 * 4 * 6 * 4 * 4),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), (4, 5, 2, 2), 4 * 8 * 12 * 5 * 4),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (12, 7), 4 * 8 * 7 * 12),
    ],
    ids=["convolution", "depthwise", "strided", "transposed", "matrix product"],
)
def test_a_node_is_counted_as_by_hand(node, weights, products):
    assert graph_gflop(graph([node], SYMBOLS, {"w": weights}), 8, 12) == pytest.approx(2 * products / 1e9)


def test_a_gemm_is_counted_over_its_inner_side_transposed_or_not():
    flat = helper.make_node("Reshape", ["x", "shape"], ["flat"])
    shape = numpy_helper.from_array(np.array([4, -1], np.int64), "shape")
    for node, size in (
        (helper.make_node("Gemm", ["flat", "w"], ["y"]), (96, 5)),
        (helper.make_node("Gemm", ["w", "flat"], ["y"], transA=1, transB=1), (96, 5)),
    ):
        model = onnx.load_from_string(graph([flat, node], SYMBOLS, {"w": size}))
        model.graph.initializer.append(shape)
        assert graph_gflop(model.SerializeToString(), 8, 12) == pytest.approx(2 * 4 * 96 * 5 / 1e9)


def test_sizes_that_the_graph_computes_itself_are_followed():
    two = numpy_helper.from_array(np.array([2], np.int64), "two")
    nodes = [
        helper.make_node("Shape", ["x"], ["front"], start=0, end=2),
        helper.make_node("Shape", ["x"], ["plane"], start=2, end=4),
        helper.make_node("Div", ["plane", "two"], ["half"]),
        helper.make_node("Concat", ["front", "half"], ["size"], axis=0),
        helper.make_node("Resize", ["x", "", "", "size"], ["small"]),
        helper.make_node("Conv", ["small", "w"], ["y"]),
    ]
    model = onnx.load_from_string(graph(nodes, SYMBOLS, {"w": (1, 4, 1, 1)}))
    model.graph.initializer.append(two)
    assert graph_gflop(model.SerializeToString(), 8, 12) == pytest.approx(2 * 4 * 4 * 6 / 1e9)


def test_a_second_input_s_size_follows_from_the_first_s_symbols():
    feature = helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 4, "8xrows", "8xcols"])
    node = helper.make_node("Conv", ["f", "w"], ["y"])
    data = graph([node], ["N", 4, "16xrows", "16xcols"], {"w": (1, 4, 1, 1)}, [feature])
    assert graph_gflop(data, 32, 48) == pytest.approx(2 * 16 * 24 * 4 / 1e9)


@pytest.mark.parametrize("network", [prior_graph, denoiser_graph])
def test_a_network_s_arithmetic_grows_with_pixels(network):
    once = graph_gflop(network(), 16, 24)
    assert once > 0
    assert graph_gflop(network(), 32, 48) == pytest.approx(4 * once)


def test_a_size_nobody_can_tell_is_an_error_that_names_it():
    other = helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 4, "rows", "W"])
    with pytest.raises(BundleError, match="input f with a size 'rows'"):
        graph_gflop(graph([helper.make_node("Relu", ["x"], ["y"])], SYMBOLS, {}, [other]), 8, 8)
    nodes = [helper.make_node("NonZero", ["x"], ["i"]), helper.make_node("MatMul", ["i", "w"], ["y"])]
    with pytest.raises(BundleError, match="size depends on its values"):
        graph_gflop(graph(nodes, SYMBOLS, {"w": (1, 1)}), 8, 8)


def test_without_onnx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(BackendError, match="pip install"):
        graph_gflop(b"", 8, 8)


def test_the_machine_s_limit_is_the_arithmetic_of_a_product_over_its_median_time(monkeypatch):
    seen = {}

    def fresh(target, arguments, *, environment):
        seen.update(target=target, environment=environment)
        return flops_result(flops.time_matmul(**arguments))

    monkeypatch.setattr(flops, "run_fresh", fresh)
    monkeypatch.setattr(flops, "measure", lambda function, **_: (function(), Median(0.5))[1])
    assert matmul_gflops(3, size=64) == pytest.approx(2 * 64**3 / 0.5 / 1e9)
    assert seen["environment"]["OPENBLAS_NUM_THREADS"] == "3"
    assert flops.__name__ in seen["target"]


def flops_result(value):
    return type("Fresh", (), {"result": value})()


class Median:
    def __init__(self, median):
        self.median = median
