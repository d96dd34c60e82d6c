"""An FP32 island's weights are in the engine as FP32, whatever stands around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from tests.engines.build.graphs import island
from tests.engines.build.test_building import small
from verdiff.engines.build.islands import keep_islands
from verdiff.engines.library import Library
from verdiff.errors import BackendError
from verdiff.export.precision import to_half
from verdiff.export.precision.execution import CpuGraph
from verdiff.export.precision.graphs import plain_weights

LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


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
    source = island(layer)
    converted = plain_weights(to_half(source.model, dict.fromkeys(islands, "a test"), precision).model)
    plan, _ = small(library, replace(source, model=keep_islands(converted)), tmp_path, precision)
    assert share_in(plan, weight(source.model)) > 0.99


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_without_it_they_are_rounded_and_the_engine_is_refused(
    library: Library, tmp_path: Path, layer: str, precision: str
) -> None:
    """When this fails, TensorRT-RTX keeps islands by itself and ``keep_islands`` can go."""
    source = island(layer)
    converted = plain_weights(to_half(source.model, {"island": "a test"}, precision).model)
    with pytest.raises(BackendError, match=f"keeps the weights of {layer} island in .*float16"):
        small(library, replace(source, model=converted), tmp_path, precision)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_network_computes_the_same(layer: str) -> None:
    source = island(layer).model
    assert keep_islands(source) is source, "in FP32 there is no island"
    converted = plain_weights(to_half(source, {"island": "a test"}).model)
    kept = keep_islands(converted)
    onnx.checker.check_model(kept, full_check=True)
    added = [node for node in kept.graph.node if node.name not in {each.name for each in converted.graph.node}]
    assert [(node.op_type, node.name) for node in added] == [("LeakyRelu", "island_stays")]
    assert kept.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    image = np.random.default_rng(1).standard_normal((2, 3, 16, 12)).astype(np.float32)
    image[1, 0, 3, 3] = np.nan
    before, after = (CpuGraph(model).run({"image": image})[0] for model in (converted, kept))
    assert np.isnan(after[1]).any() and not np.isnan(after[0]).any()
    np.testing.assert_array_equal(before, after)
