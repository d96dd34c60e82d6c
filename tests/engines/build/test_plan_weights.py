"""Whose weights a plan holds, in which type: right, rounded, widened, padded, stacked, or not to be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.engines.build.graphs import graph, island
from tests.engines.build.test_building import small
from verdiff.bundle import Bundle
from verdiff.engines.build import Built
from verdiff.engines.build.graphs import EngineGraph, engine_graph
from verdiff.engines.build.islands import keep_islands
from verdiff.engines.build.plan_weights import look_into
from verdiff.engines.library import Library
from verdiff.errors import BackendError
from verdiff.export.precision import to_half
from verdiff.export.precision.graphs import plain_weights, weight_arrays

BFLOAT16 = helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)


def two_layers(first: Any = np.float16, second: Any = np.float32) -> EngineGraph:
    """A convolution of 64 channels to 13 and one back, in two types; only their weights are looked at."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((13, 64, 3, 3)).astype(first),
        "v": rng.standard_normal((64, 13, 1, 1)).astype(second),
    }
    nodes = [helper.make_node("Conv", ["a", "w"], ["b"], name="one")]
    return graph([*nodes, helper.make_node("Conv", ["b", "v"], ["c"], name="two")], weights)


def plan_of(source: EngineGraph, **changes: Callable[[NDArray], NDArray]) -> bytes:
    """Noise with the weights in it, channels last; ``changes`` make something else of one."""
    noise = np.random.default_rng(1).bytes(5001)
    parts = [noise]
    for name, values in weight_arrays(source.model).items():
        turned = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        parts += [changes.get(name, lambda array: array)(turned).tobytes(), noise]
    return b"".join(parts)


def test_weights_are_found_and_counted_by_type(library: Library) -> None:
    source = two_layers()
    found = look_into(library, source, plan_of(source))
    assert [(layer.node, layer.kind, layer.kept) for layer in found.layers] == [
        ("one", "float16", "float16"),
        ("two", "float32", "float32"),
    ]
    assert found.convincing
    assert str(found) == "plan: holds the weights of 2 of 2 layers in the graph's types (1 in float16, 1 in float32)"


def test_one_number_that_is_another_is_not_found(library: Library) -> None:
    source = two_layers()

    def nudged(values: NDArray) -> NDArray:
        return values + np.eye(1, values.size, values.size - 1, dtype=values.dtype).reshape(values.shape)

    found = look_into(library, source, plan_of(source, v=nudged))
    assert [layer.kept for layer in found.layers] == ["float16", None]
    assert str(found).endswith("(1 in float16); not to be seen: two")
    assert not found.convincing


@pytest.mark.parametrize("half", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_an_fp32_layer_that_was_rounded_is_an_error_with_its_name(library: Library, half: Any) -> None:
    source = two_layers(half)
    with pytest.raises(BackendError) as caught:
        look_into(library, source, plan_of(source, v=lambda values: values.astype(half)))
    assert caught.value.found.endswith(f"keeps the weights of Conv two in {half.name}")
    assert caught.value.expected == "float32, as in the prior graph"


@pytest.mark.parametrize("half", [np.dtype(np.float16), BFLOAT16], ids=str)
def test_halves_that_are_kept_as_fp32_are_said_of_a_layer_and_refused_of_most(library: Library, half: Any) -> None:
    source = two_layers(half, half)
    single = lambda values: values.astype(np.float32)  # noqa: E731
    found = look_into(library, source, plan_of(source, w=single))
    assert str(found).endswith(f"(1 in {half.name}); in float32 instead: one")
    assert not found.convincing
    with pytest.raises(BackendError, match="Conv one in float32"):
        look_into(library, source, plan_of(source, w=single, v=single))


def test_rows_that_stand_apart_are_found_in_their_order_alone(library: Library) -> None:
    source = two_layers()

    def apart(values: NDArray) -> NDArray:
        rows = values.reshape(-1, values.shape[-1])
        return np.concatenate([rows, np.full((len(rows), 3), 7, rows.dtype)], axis=1)

    assert look_into(library, source, plan_of(source, w=apart, v=apart)).convincing
    upside_down = look_into(library, source, plan_of(source, w=lambda values: values[::-1]))
    assert upside_down.layers[0].kept is None


def test_numbers_too_few_to_tell_are_not_looked_for(library: Library) -> None:
    """Every plan holds zeros and ones."""
    source = two_layers()
    weights = {"w": np.ones((13, 64, 3, 3), np.float16), "v": np.zeros((64, 13, 1, 1), np.float32)}
    plain = graph(list(source.model.graph.node), weights)
    found = look_into(library, plain, plan_of(plain))
    assert [layer.kept for layer in found.layers] == [None, None]
    assert str(found).endswith("0 of 2 layers in the graph's types (which proves nothing); not to be seen: one, two")


def test_a_tensor_that_is_read_in_two_precisions_is_no_rounded_one(library: Library) -> None:
    """The FP32 one is transformed beyond recognition; what stands there in half precision is the other reader's."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((64, 13, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["a", "w"], ["b"], name="half"),
        helper.make_node("Conv", ["c", "v"], ["d"], name="single"),
    ]
    source = graph(nodes, {"w": exact.astype(np.float16), "v": exact})
    found = look_into(library, source, plan_of(source, v=np.negative))
    assert [layer.kept for layer in found.layers] == ["float16", None]


@pytest.mark.parametrize(("channels", "beyond"), [(8, 0), (6, 2), (1, 3)])
def test_quantised_weights_are_found_as_they_are_quantised(library: Library, channels: int, beyond: int) -> None:
    values = np.random.default_rng(0).integers(-127, 128, (16, channels, 3, 3)).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"], name="dequantise", axis=0),
        helper.make_node("Conv", ["image", "w"], ["y"], name="conv"),
    ]
    source = graph(nodes, {"q": values, "scale": np.ones(16, np.float32), "zero": np.zeros(16, np.int8)})
    padded = np.pad(values.transpose(0, 2, 3, 1), [(0, 0), (0, 0), (0, 0), (0, beyond)])
    plan = np.random.default_rng(1).bytes(999) + padded.tobytes()
    (layer,) = look_into(library, source, plan).layers
    assert (layer.kind, layer.kept) == ("int8", "int8")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(("role", "layers", "single"), [("prior", 42, 0), ("step", 51, 8)])
def test_every_layer_of_the_default_model_is_seen_in_its_engine(
    engines: dict[tuple[str, str], Built], role: str, layers: int, single: int, precision: str
) -> None:
    """Among them convolutions of one channel, which are padded, and layers of the timestep, which are stacked."""
    (said,) = [each for each in engines[role, precision].sidecar.proof if each.startswith("plan: ")]
    kinds = {"fp32": {"float32": layers}, "fp16": {"float16": layers - single, "float32": single}}[precision]
    told = ", ".join(f"{number} in {kind}" for kind, number in kinds.items() if number)
    assert said == f"plan: holds the weights of {layers} of {layers} layers in the graph's types ({told})"


def test_padded_weights_are_no_false_alarm(library: Library, tmp_path: Path) -> None:
    """An FP32 island of odd channels takes so much room that the sum of bytes alone looks like FP32."""
    source = island("ConvTranspose", (20, 12))
    converted = plain_weights(to_half(source.model, {"island": "a test"}).model)
    _, sidecar = small(library, replace(source, model=keep_islands(converted)), tmp_path, "fp16")
    assert sidecar.proof[-1].endswith("more than the graph's, and most layers' are in the plan in the graph's types")


@pytest.mark.parametrize("channels", [(32, 32), (6, 5)], ids=str)
def test_a_quantised_layer_is_seen_in_its_engine(library: Library, tmp_path: Path, channels: tuple[int, int]) -> None:
    given, made = channels
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        "w": rng.standard_normal((given, 3, 3, 3)).astype(np.float32),
        **{"step": np.array(0.05, np.float32), "zero": np.array(0, np.int8)},
        "q": rng.integers(-127, 128, (made, given, 3, 3)).astype(np.int8),
        **{"steps": rng.random(made).astype(np.float32), "zeros": np.zeros(made, np.int8)},
        "v": rng.standard_normal((3, made, 1, 1)).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w"], ["a"], name="first", pads=[1] * 4),
        node("QuantizeLinear", ["a", "step", "zero"], ["b"], name="quantise"),
        node("DequantizeLinear", ["b", "step", "zero"], ["c"], name="dequantise"),
        node("DequantizeLinear", ["q", "steps", "zeros"], ["u"], name="dequantise_u", axis=0),
        node("Conv", ["c", "u"], ["d"], name="middle", pads=[1] * 4),
        node("Conv", ["d", "v"], ["y"], name="last"),
    ]
    _, sidecar = small(library, graph(nodes, weights), tmp_path, "int8-trt")
    assert "plan: holds the weights of 3 of 3 layers in the graph's types (2 in float32, 1 in int8)" in sidecar.proof


def test_a_pipeline_s_layers_are_looked_for_in_every_step(library: Library, both: Bundle, tmp_path: Path) -> None:
    source = engine_graph(both, "pipeline", "fp16")
    _, sidecar = small(library, source, tmp_path, "fp16")
    (said,) = [each for each in sidecar.proof if each.startswith("plan: ")]
    assert "not to be seen" not in said and "instead" not in said
