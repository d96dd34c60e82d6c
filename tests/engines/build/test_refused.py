"""Graphs and requests that must be refused, with the node's name and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.engines.build import graphs
from verdiff.bundle import open_bundle, resolve_model
from verdiff.engines.build import BuildOptions, build_engines
from verdiff.engines.build.graphs import EngineGraph, check_engine_graph, engine_graph
from verdiff.engines.build.network import ParsedNetwork, parse, plain_reason
from verdiff.engines.library import Library
from verdiff.errors import BackendError, VerdiffError


def read(library: Library, graph: EngineGraph) -> ParsedNetwork:
    with library.listening():
        return parse(library, graph)


def test_a_signed_symmetric_network_is_taken(library: Library) -> None:
    graph = graphs.quantised(np.array(0, np.int8))
    check_engine_graph(graph.model, "prior")
    assert read(library, graph).types(library.api.LayerType.CONVOLUTION) == {"conv": "float32"}


@pytest.mark.parametrize(
    ("graph", "node", "reason", "remedy"),
    [
        (graphs.mixed_types(), "scale_it (Mul)", "types Float and Half", "verdiff export --fp16"),
        (
            graphs.quantised(np.array(5, np.int8)),
            "quantise_image (QuantizeLinear)",
            "Non-zero zero point",
            "signed INT8",
        ),
        (graphs.quantised(np.array(128, np.uint8)), "quantise_image (QuantizeLinear)", "Non-zero zero", "signed INT8"),
        (
            graphs.quantised(np.array(0, np.int8), integer_bias=True),
            "dequantise_bias (DequantizeLinear)",
            "Int32",
            "every bias in floating point",
        ),
        (
            graphs.graph([helper.make_node("Det", ["image"], ["y"], name="determinant")]),
            "determinant (Det)",
            "not supported",
            "report",
        ),
    ],
    ids=["mixed types", "asymmetric", "unsigned", "integer bias", "no such operator"],
)
def test_what_tensorrt_refuses_is_told_with_the_node(
    library: Library, graph: EngineGraph, node: str, reason: str, remedy: str
) -> None:
    with pytest.raises(BackendError) as caught:
        read(library, graph)
    assert f"refuses the prior graph at node {node}: " in caught.value.found
    assert reason in caught.value.found
    assert remedy in caught.value.remedy
    assert "cudaError" not in caught.value.found and "/_src/" not in caught.value.found


def test_control_flow_is_refused_although_tensorrt_takes_it(library: Library) -> None:
    graph = graphs.control_flow()
    read(library, graph)
    with pytest.raises(BackendError, match="control flow: Loop steps"):
        check_engine_graph(graph.model, "prior")


def test_unsigned_quantisation_is_refused_although_tensorrt_takes_it(library: Library) -> None:
    graph = graphs.quantised(np.array(0, np.uint8))
    read(library, graph)
    with pytest.raises(BackendError, match="unsigned numbers: QuantizeLinear quantise_image"):
        check_engine_graph(graph.model, "prior")


def test_bytes_that_are_no_graph_are_refused(library: Library) -> None:
    with pytest.raises(BackendError, match="no output in the prior graph"):
        read(library, EngineGraph("prior", onnx.ModelProto(), ""))


def test_a_message_keeps_what_it_says_and_loses_where_it_was_said() -> None:
    said = (
        "Invalid Node - scale_it\n"
        "ITensor::getDimensions: Error Code 4: API Usage Error (scale_it: types Float and Half. In validateTypes at "
        "/_src/optimizer/common/nodes/elementWiseNode.cpp:40)\n"
        "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (cudaError 35: no driver)"
    )
    assert plain_reason(said) == "scale_it: types Float and Half."
    assert plain_reason("false") == "not supported"


@pytest.mark.parametrize(
    ("request_", "found", "remedy"),
    [
        (BuildOptions(precision="fp64"), "'fp64'", "correct precision"),
        (BuildOptions(roles=("denoiser",)), "'denoiser'", "correct roles"),
        (BuildOptions(flavour="openvino"), "'openvino'", "correct flavour"),
        (BuildOptions(sizes=((100, 100),)), "100 x 100 pixels", "--size"),
        (BuildOptions(flavour="tensorrt_rtx", sms=("90",)), "SM 90 with TensorRT-RTX", "--flavour tensorrt"),
        (BuildOptions(flavour="tensorrt_rtx", version_compatible=True), "--version-compatible", "after updating"),
        (BuildOptions(flavour="tensorrt_rtx", hardware_compatible=True), "--hardware-compatible", "--sm 86"),
    ],
)
def test_a_request_that_cannot_be_met_says_so(
    library: Library, tmp_path: Path, request_: BuildOptions, found: str, remedy: str
) -> None:
    with pytest.raises(VerdiffError) as caught:
        build_engines(replace(request_, cache=tmp_path / "c"))
    assert found in caught.value.found
    assert remedy in caught.value.remedy


def test_a_model_without_a_denoiser_has_no_step(single_pass: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="has no denoiser graph"):
        build_engines(BuildOptions(str(single_pass), roles=("step",), cache=tmp_path))


def test_every_output_of_the_default_model_is_read(library: Library) -> None:
    graph = engine_graph(open_bundle(resolve_model()), "prior", "fp32")
    assert read(library, graph).tensors() == graph.tensors()
