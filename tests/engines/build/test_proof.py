"""What is proven of an engine's precision, and what is not believed."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.engines.build.graphs import convolution, graph
from verdiff.engines import TensorInfo
from verdiff.engines.build.network import ParsedNetwork, parse
from verdiff.engines.build.plan_weights import LayerWeights, PlanWeights
from verdiff.engines.build.proof import (
    convolution_types,
    layer_types,
    prove_engine,
    prove_network,
    prove_weights,
    same_tensors,
    weight_bytes,
)
from verdiff.engines.library import Library
from verdiff.errors import BackendError

HALF = convolution(np.float16)
TYPED, SINGLE = 2 * 3996, 4 * 3996
UNSEEN, SEEN = (
    PlanWeights((LayerWeights("wide", "Conv", "float16", kept), LayerWeights("narrow", "Conv", "float16", kept)))
    for kept in (None, "float16")
)


def test_the_weights_of_the_graph_are_counted() -> None:
    assert sum(weights.nbytes for weights in HALF.weights()) == TYPED
    assert convolution_types(HALF) == {"wide": "float16", "narrow": "float16"}


@pytest.mark.parametrize("reported", [TYPED, TYPED + 500, (TYPED + SINGLE) // 2 + 512])
def test_weights_of_the_typed_size_are_a_proof(reported: int) -> None:
    (sentence,) = prove_weights(HALF, reported, "builder", "fp16", {}, UNSEEN)
    assert f"{reported:,} bytes" in sentence and f"{TYPED:,}" in sentence


@pytest.mark.parametrize("reported", [SINGLE, (TYPED + SINGLE) // 2 + 513, 3 * SINGLE])
def test_weights_of_the_size_of_fp32_are_an_error(reported: int) -> None:
    with pytest.raises(BackendError) as caught:
        prove_weights(HALF, reported, "builder", "fp16", {}, UNSEEN)
    assert f"keeps {reported:,} bytes" in caught.value.found
    assert f"{TYPED:,}" in caught.value.expected


def test_larger_weights_of_an_engine_that_computes_in_fp16_are_its_kernels_own_matter() -> None:
    (sentence,) = prove_weights(HALF, 3 * SINGLE, "engine", "fp16", {"FP16": 2, "FP32": 1}, UNSEEN)
    assert f"{3 * SINGLE:,} bytes" in sentence and "reduced precision" in sentence
    with pytest.raises(BackendError, match="keeps"):
        prove_weights(HALF, 3 * SINGLE, "engine", "fp16", {"FP16": 1, "FP32": 2}, UNSEEN)


def test_larger_weights_that_are_in_the_plan_in_the_graph_s_types_are_padded() -> None:
    (sentence,) = prove_weights(HALF, 3 * SINGLE, "builder", "fp16", {}, SEEN)
    assert f"{3 * SINGLE:,} bytes" in sentence and "in the plan" in sentence


def test_no_report_is_said() -> None:
    assert "not reported" in prove_weights(HALF, None, "builder", "fp16", {}, UNSEEN)[0]


def test_a_network_whose_convolutions_are_of_another_type_is_refused(library: Library) -> None:
    with library.listening():
        network = parse(library, convolution(np.float32))
        with pytest.raises(BackendError, match="reads Cast in as float32"):
            prove_network(library, network, HALF, "fp16")


def test_a_network_that_does_not_show_its_convolutions_proves_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    monkeypatch.setattr(ParsedNetwork, "values", lambda self: {})
    monkeypatch.setattr(
        ParsedNetwork, "types", lambda self, kind: seen if kind == library.api.LayerType.CONVOLUTION else {}
    )
    with library.listening():
        network = parse(library, HALF)
        with pytest.raises(BackendError, match=r"shows 0 of the 2 convolutions .*, 2 fewer in float16"):
            prove_network(library, network, HALF, "fp16")
        seen.update(one="float16", two="float32")
        with pytest.raises(BackendError, match=r"shows 2 of the 2 convolutions .*, 1 fewer in float16"):
            prove_network(library, network, HALF, "fp16")
        seen.update(two="float16")
        assert "0 of 2 convolutions found by name" in prove_network(library, network, HALF, "fp16")[0]


def test_an_island_of_another_type_is_refused_whatever_it_computes(library: Library) -> None:
    """A norm has no weights that would tell."""
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], name="in", to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["single"], name="up", to=TensorProto.FLOAT),
        helper.make_node("Softmax", ["single"], ["soft"], name="island", axis=1),
        helper.make_node("Relu", ["soft"], ["y"], name="relu"),
    ]
    asked = graph(nodes)
    lost = [nodes[0], helper.make_node("Softmax", ["half"], ["soft"], name="island", axis=1)]
    given = graph([*lost, helper.make_node("Cast", ["soft"], ["y"], name="out", to=TensorProto.FLOAT)])
    with library.listening():
        proof = prove_network(library, parse(library, asked), asked, "fp16")
        assert "network: 4 of 4 values found by name, all of the graph's types" in proof
        with pytest.raises(BackendError, match="reads Softmax island as float16") as caught:
            prove_network(library, parse(library, given), asked, "fp16")
    assert caught.value.expected == "float32, as in the prior graph"


def test_inputs_and_outputs_of_another_type_are_refused(library: Library) -> None:
    right = HALF.tensors()
    same_tensors(library, right, HALF)
    wrong = (replace(right[0], dtype="float16"), *right[1:])
    with pytest.raises(BackendError) as caught:
        same_tensors(library, wrong, HALF)
    assert "made image an input of float16" in caught.value.found
    assert "an input of float32" in caught.value.expected
    with pytest.raises(BackendError, match="made y no tensor"):
        same_tensors(library, right[:1], HALF)
    with pytest.raises(BackendError, match="made extra an output"):
        same_tensors(library, (*right, TensorInfo("extra", "float32", "output", ())), HALF)


INSPECTED = json.dumps(
    {
        "Layers": [
            {"Name": "wide", "Outputs": [{"Name": "b", "Format/Datatype": "Half"}]},
            {"Name": "narrow", "Outputs": [{"Name": "c", "Format/Datatype": "Channel major FP16 format"}]},
            {"Name": "out", "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP32"}]},
            {"Name": "shape", "Outputs": [{"Name": "s", "Format/Datatype": "Int64"}]},
            "a layer by its name alone",
        ]
    }
)


def test_the_inspector_s_layers_are_counted_by_the_type_they_give() -> None:
    assert layer_types(INSPECTED) == {"FP16": 2, "FP32": 1, "Int64": 1}
    for nothing in ("", "not JSON", "[]", '{"Layers": []}'):
        assert layer_types(nothing) == {}


def engine(library: Library, **changes: Any) -> Any:
    """What is asked of a deserialised engine, with the answers of one that is as it should be."""
    tensors = {tensor.name: tensor for tensor in HALF.tensors()}
    kinds = {"float32": library.api.DataType.FLOAT, "float16": library.api.DataType.HALF}  # type: ignore[attr-defined]
    modes = {"input": library.api.TensorIOMode.INPUT, "output": library.api.TensorIOMode.OUTPUT}
    asked = {
        "num_io_tensors": len(tensors),
        "get_tensor_name": lambda index: list(tensors)[index],
        "get_tensor_dtype": lambda name: kinds[tensors[name].dtype],
        "get_tensor_mode": lambda name: modes[tensors[name].mode],
        "get_tensor_shape": lambda name: tensors[name].shape,
        "get_engine_stat": lambda: TYPED,
        "create_engine_inspector": lambda: SimpleNamespace(get_engine_information=lambda form: INSPECTED),
        "device_memory_size_v2": 12345,
    }
    return SimpleNamespace(**{name: value for name, value in (asked | changes).items() if value is not None})


def test_an_engine_is_asked_for_types_and_layers(library: Library) -> None:
    proof, layers, memory = prove_engine(library, engine(library), HALF)
    assert (memory, layers) == (12345, {"FP16": 2, "FP32": 1, "Int64": 1})
    assert proof == [
        "engine: inputs and outputs have the graph's types",
        "engine: layers by type of output: 2 FP16, 1 FP32, 1 Int64",
    ]
    with pytest.raises(BackendError, match="made image an input of float16"):
        kinds = lambda name: library.api.DataType.HALF  # type: ignore[attr-defined]  # noqa: E731
        prove_engine(library, engine(library, get_tensor_dtype=kinds), HALF)


def test_an_engine_is_asked_for_its_weights_which_tensorrt_10_does_not_tell(library: Library) -> None:
    assert weight_bytes(engine(library)) == TYPED
    assert weight_bytes(engine(library, get_engine_stat=None)) is None
