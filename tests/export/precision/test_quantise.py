"""INT8: signed symmetric steps and float biases for TensorRT, unsigned activations for OpenVINO, an FP32 head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.export.precision.networks import manifest, networks, node_of, patients, prior_graph, scale_weight
from verdiff.errors import VerificationError
from verdiff.export.builder import make_model, tensor_info
from verdiff.export.precision.diagnosis import Ranges, check_weights
from verdiff.export.precision.execution import GRAPH_FACTORIES, CpuGraph
from verdiff.export.precision.gate import Gate
from verdiff.export.precision.judge import pass_gate
from verdiff.export.precision.quantise import (
    STYLES,
    WEIGHT_STEPS,
    QuantisedNetwork,
    quantise,
    saturation_free,
    share_in_reach,
)
from verdiff.export.precision.search import Candidate, find_islands
from verdiff.precisions import MaskLimits

LOOSE = MaskLimits(0.9, 0.85, 2.0)


@pytest.fixture(scope="module")
def ranges() -> dict[str, dict[str, tuple[float, float]]]:
    """What calibration saw, by role."""
    source = networks()
    seen = {role: Ranges(model) for role, model in source.roles().items()}
    Gate(source, manifest(), patients(4), feeds=lambda role, feed: seen[role].look(feed))
    return {role: {name: (r.low[name], r.high[name]) for name in r.low} for role, r in seen.items()}


def steps(model: onnx.ModelProto) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scale and zero point of every activation that is quantised."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {
        node.input[0]: (arrays[node.input[1]], arrays[node.input[2]])
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }


@pytest.mark.parametrize(("style", "kind"), [("int8-trt", np.int8), ("int8-ov", np.uint8)])
def test_activations_have_the_type_their_consumer_wants(ranges: dict, style: str, kind: type) -> None:
    found = steps(quantise(prior_graph(), ranges["prior"], style).model)
    assert set(found) == {"image", "quiet"}
    for _, zero in found.values():
        assert zero.dtype == kind and (kind is np.uint8 or zero == 0)
    low, high = ranges["prior"]["image"]
    assert found["image"][0] == pytest.approx(max(-low, high) / 127 if kind is np.int8 else (high - low) / 255)


@pytest.mark.parametrize("style", STYLES)
def test_weights_have_a_step_a_channel_and_no_bias_is_quantised(ranges: dict, style: str) -> None:
    model = quantise(prior_graph(), ranges["prior"], style).model
    stored = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_int8")]
    assert len(stored) == 2 and all(numpy_helper.to_array(tensor).dtype == np.int8 for tensor in stored)
    assert not any(tensor.data_type == onnx.TensorProto.INT32 for tensor in model.graph.initializer)
    assert check_weights(prior_graph(), model) == []


@pytest.mark.parametrize(("style", "most"), [("int8-trt", 127), ("int8-ov", 64)])
def test_a_channel_s_largest_weight_takes_the_last_step(ranges: dict, style: str, most: int) -> None:
    model = quantise(prior_graph(), ranges["prior"], style).model
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_int8"):
            values = np.abs(numpy_helper.to_array(tensor).astype(int)).reshape(tensor.dims[0], -1)
            assert set(values.max(axis=1)) == {most}


def loud_graph() -> onnx.ModelProto:
    """image -> prior: 16 channels of the brightest value through the largest weights, half of them negative.

    Every pair of products is at its end, which is where kernels that add pairs in sixteen bits saturate.
    """
    weights = np.ones((8, 16, 3, 3), np.float32)
    weights[4:] = -1
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["sums"], name="loud"),
        helper.make_node("Conv", ["sums", "head"], ["prior"], name="head"),
    ]
    head = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    graph = helper.make_graph(
        nodes,
        "loud",
        [tensor_info("image", ["N", 16, "H", "W"])],
        [tensor_info("prior", ["N", 8, "H", "W"])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(head, "head")],
    )
    return make_model(graph)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_largest_sums_are_exact_with_the_backends_own_kernels(backend: str) -> None:
    reach = {"image": (0.0, 1.0), "sums": (-144.0, 144.0)}
    network = quantise(loud_graph(), reach, "int8-ov")
    assert network.half == ("loud",) and saturation_free("int8-ov")
    found = GRAPH_FACTORIES[backend](network.model).run({"image": np.ones((1, 16, 12, 12), np.float32)})[0]
    np.testing.assert_allclose(found[0, :4], 144, rtol=1e-5)
    np.testing.assert_allclose(found[0, 4:], -144, rtol=1e-5)


def test_a_whole_byte_of_weight_is_not_called_saturation_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEIGHT_STEPS, "int8-ov", 65)
    assert not saturation_free("int8-ov")


@pytest.mark.parametrize("style", STYLES)
def test_the_last_convolution_stays_in_float(ranges: dict, style: str) -> None:
    network = quantise(prior_graph(), ranges["prior"], style)
    assert set(network.islands) == {node_of(prior_graph(), "logits")}
    assert set(network.half) == {node_of(prior_graph(), name) for name in ("entered", "widened")}


@pytest.mark.parametrize("style", STYLES)
def test_values_are_near_those_of_fp32(ranges: dict, style: str) -> None:
    image = patients(1)[0].image
    exact = CpuGraph(prior_graph()).run({"image": image})[0]
    found = CpuGraph(quantise(prior_graph(), ranges["prior"], style).model).run({"image": image})[0]
    assert 0 < np.abs(found - exact).mean() < 0.02


def test_a_damaged_step_is_refused_by_the_convolution_s_name(ranges: dict) -> None:
    model = quantise(prior_graph(), ranges["prior"], "int8-trt").model
    node = next(node for node in model.graph.node if node.op_type == "Conv" and "widened" in node.output)
    stored = next(n for n in model.graph.node if n.output[0] == node.input[1]).input[1]
    (fault,) = check_weights(prior_graph(), scale_weight(model, stored, 1.02))
    assert fault.node == node.name


def test_convolutions_that_int8_spoils_are_found_and_left_in_float(ranges: dict) -> None:
    source = networks()
    seen = {role: Ranges(model) for role, model in source.roles().items()}
    gate = Gate(source, manifest(), patients(), feeds=lambda role, feed: seen[role].look(feed))
    # A step that covers a hundred times what the values reach leaves two or three levels of them.
    coarse = {**ranges["prior"], "quiet": tuple(100 * end for end in ranges["prior"]["quiet"])}

    def convert(role: str, model: onnx.ModelProto, extra: Mapping[str, str]) -> QuantisedNetwork:
        return quantise(model, coarse if role == "prior" else ranges[role], "int8-trt", extra)

    with pytest.raises(VerificationError, match="changes the mask"):
        pass_gate(source, Candidate.of(source, convert).graphs(), gate, seen, LOOSE, "int8-trt")
    candidate, report = find_islands(source, convert, gate, LOOSE, {}, lambda line: None)
    assert node_of(source.prior, "widened") in candidate.extra["prior"]
    assert report.failures(LOOSE) == []


@pytest.mark.parametrize(("width", "share"), [(0, 1.0), (10, 216 / (216 + 100))])
def test_int8_reaches_the_weights_of_convolutions_but_for_the_last(width: int, share: float) -> None:
    weights = {"w": (8, 3, 3, 3), "v": (3, 8, 1, 1), "m": (width, width)}
    between = helper.make_node("MatMul", ["a", "m"], ["b"]) if width else helper.make_node("Relu", ["a"], ["b"])
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1] * 4),
        between,
        helper.make_node("Conv", ["b", "v"], ["prior"]),
    ]
    tensors = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()]
    maps = [tensor_info(name, ["N", 3, 10, 10]) for name in ("image", "prior")]
    model = helper.make_model(helper.make_graph(nodes, "some", maps[:1], maps[1:], tensors))
    head = 24
    assert share_in_reach(model) == pytest.approx(share * (216 + width**2) / (216 + width**2 + head))
