"""Graphs of a candidate on the backends that will run them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from verdiff.export.precision.execution import GRAPH_FACTORIES


def graph_that_ignores_an_input() -> onnx.ModelProto:
    """``y = x + x``; ``prior`` is an input of the contract that the network makes nothing of."""
    shape = ["N", 1, "H", "W"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "prior")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "denoiser", inputs, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_input_that_the_network_does_not_read_is_no_obstacle(name: str) -> None:
    pytest.importorskip(name)
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    (y,) = GRAPH_FACTORIES[name](graph_that_ignores_an_input()).run({"x": x, "prior": -x})
    assert np.array_equal(y, 2 * x)
