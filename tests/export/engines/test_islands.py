"""An FP32 island's weights are in the engine as FP32, whatever stands around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.export.engines.graphs import graph
from tests.export.engines.test_building import small
from verdiff.export.engines.graphs import EngineGraph
from verdiff.export.engines.islands import keep_islands
from verdiff.export.engines.library import Library
from verdiff.export.precision import to_half
from verdiff.export.precision.execution import GraphRunner
from verdiff.export.precision.graphs import plain_weights

LAYERS = ("Conv", "ConvTranspose", "MatMul")


def network(layer: str) -> EngineGraph:
    """Convolution, ``layer`` with an addition behind it, two convolutions; in float32."""
    rng = np.random.default_rng(0)
    shapes = {"w": (64, 3, 2, 2), "bias": (1, 64, 1, 1), "u": (64, 64, 3, 3), "v": (3, 64, 1, 1)}
    shapes["t"] = (64, 64) if layer == "MatMul" else (64, 64, 2, 2)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    node = helper.make_node
    middle = {
        "Conv": [node("Conv", ["a", "t"], ["b"], name="island", pads=[1, 1, 0, 0])],
        "ConvTranspose": [node("ConvTranspose", ["a", "t"], ["b"], name="island", strides=[2, 2])],
        "MatMul": [
            node("Transpose", ["a"], ["last"], name="to_last", perm=[0, 2, 3, 1]),
            node("MatMul", ["last", "t"], ["product"], name="island"),
            node("Transpose", ["product"], ["b"], name="to_first", perm=[0, 3, 1, 2]),
        ],
    }[layer]
    nodes = [
        node("Conv", ["image", "w"], ["a"], name="first", strides=[2, 2]),
        *middle,
        node("Add", ["b", "bias"], ["c"], name="addition"),
        node("Conv", ["c", "u"], ["d"], name="third", pads=[1, 1, 1, 1]),
        node("Conv", ["d", "v"], ["y"], name="fourth"),
    ]
    return graph(nodes, weights)


def share_in(plan: bytes, values: NDArray[np.float32]) -> float:
    """The share of the float32 numbers that stand somewhere in a plan, bit for bit."""
    wanted = set(values.view(np.uint32).ravel().tolist())
    there: set[int] = set()
    for offset in range(4):
        words = np.frombuffer(plan, np.uint32, (len(plan) - offset) // 4, offset)
        there |= wanted & set(words.tolist())
    return len(there) / len(wanted)


def weight(model: onnx.ModelProto) -> NDArray[np.float32]:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == "t")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("islands", [("island",), ("island", "addition")], ids=" and ".join)
@pytest.mark.parametrize("layer", LAYERS)
def test_an_island_s_weights_are_in_the_plan(
    library: Library, tmp_path: Path, layer: str, islands: tuple[str, ...], precision: str
) -> None:
    source = network(layer)
    converted = plain_weights(to_half(source.model, dict.fromkeys(islands, "a test"), precision).model)
    plan, _ = small(library, replace(source, model=keep_islands(converted)), tmp_path, precision)
    assert share_in(plan, weight(source.model)) > 0.99


def test_without_it_they_are_not(library: Library, tmp_path: Path) -> None:
    """When this fails, TensorRT-RTX keeps islands by itself and ``keep_islands`` can go."""
    source = network("Conv")
    converted = plain_weights(to_half(source.model, {"island": "a test"}).model)
    plan, _ = small(library, replace(source, model=converted), tmp_path, "fp16")
    assert share_in(plan, weight(source.model)) < 0.01


@pytest.mark.parametrize("layer", LAYERS)
def test_the_network_computes_the_same(layer: str) -> None:
    source = network(layer).model
    assert keep_islands(source) is source, "in FP32 there is no island"
    converted = plain_weights(to_half(source, {"island": "a test"}).model)
    kept = keep_islands(converted)
    onnx.checker.check_model(kept, full_check=True)
    added = [node for node in kept.graph.node if node.name not in {each.name for each in converted.graph.node}]
    assert [(node.op_type, node.name) for node in added] == [("LeakyRelu", "island_stays")]
    assert kept.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    image = np.random.default_rng(1).standard_normal((2, 3, 16, 12)).astype(np.float32)
    image[1, 0, 3, 3] = np.nan
    before, after = (GraphRunner(model).run({"image": image})[0] for model in (converted, kept))
    assert np.isnan(after[1]).any() and not np.isnan(after[0]).any()
    np.testing.assert_array_equal(before, after)
