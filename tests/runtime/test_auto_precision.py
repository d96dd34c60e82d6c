"""``precision="auto"``: only what passed its gate for this processor, the fastest of it, and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import denoiser_graph, golden_arrays, prior_graph, tiny_manifest
from tests.runtime.tiny_volume import PATCH, volume_manifest
from verdiff.bundle import GOLDEN, Bundle, graph_name, open_bundle, pack_golden, write_bundle
from verdiff.errors import BackendError
from verdiff.export.draft import sha256
from verdiff.extras import install
from verdiff.imaging.windows import count_windows
from verdiff.runtime import Segmenter, auto_precision
from verdiff.runtime.auto_precision import open_fastest, permitted
from verdiff.runtime.backends import Backend
from verdiff.runtime.frontier import Pace
from verdiff.runtime.processor import instruction_set
from verdiff.runtime.volumetric import plan_for
from verdiff.runtime.workload import NetworkPasses, one_scan

HERE, ELSEWHERE = instruction_set(), "avx1024"
GRAPHS = {"prior": prior_graph(), "denoiser": denoiser_graph()}


def gate(
    backends: tuple[str, ...], graphs: dict[str, bytes] = GRAPHS, *, instructions: str = HERE, **more: Any
) -> dict[str, Any]:
    """The record of a gate that was passed on these backends."""
    judged = {"instructions": instructions, "graphs": {role: sha256(graph) for role, graph in graphs.items()}}
    return {"backends": {name: judged for name in backends}, **more}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Bundle]:
    """The tiny bundle, its INT8 graphs by default those of FP32, with a record of gates."""

    def written(gates: dict[str, Any], int8: dict[str, bytes] = GRAPHS) -> Bundle:
        manifest = replace(tiny_manifest(), gates=gates)
        files = {graph_name(role): graph for role, graph in GRAPHS.items()}
        files |= {graph_name(role, "int8-ov"): graph for role, graph in int8.items()}
        write_bundle(tmp_path / "tiny", manifest, {**files, GOLDEN: pack_golden(golden_arrays(manifest))})
        return open_bundle(tmp_path / "tiny")

    return written


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds that the candidates are seen to need: precision and backend -> of a prior and of a step, a pixel."""
    taken: dict[str, float] = {}

    def seen(backend: Backend, bundle: Bundle) -> Pace:
        return Pace(taken[f"{backend.precision} {backend.name}"], 0.0)

    monkeypatch.setattr(auto_precision, "time_networks", seen)
    return taken


BOTH = ("onnxruntime", "openvino")


def test_without_a_gate_on_record_only_fp32_may_run(write: Callable[..., Bundle]) -> None:
    assert permitted(write({}), BOTH, HERE) == ([("onnxruntime", "fp32"), ("openvino", "fp32")], [])


def test_what_passed_here_may_run_on_the_backend_that_it_passed_on(write: Callable[..., Bundle]) -> None:
    allowed, (refused,) = permitted(write({"int8-ov": gate(("openvino",))}), BOTH, HERE)
    assert allowed == [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "int8")]
    assert refused["backend"] == "onnxruntime" and "no gate" in refused["refused"]


def test_a_gate_passed_with_other_instructions_does_not_count(write: Callable[..., Bundle]) -> None:
    bundle = write({"int8-ov": gate(("openvino",), instructions=ELSEWHERE)})
    allowed, (refused,) = permitted(bundle, ("openvino",), HERE)
    assert allowed == [("openvino", "fp32")]
    assert ELSEWHERE in refused["refused"] and HERE in refused["refused"]


def test_sums_that_cannot_saturate_are_the_same_with_all_instructions(write: Callable[..., Bundle]) -> None:
    bundle = write({"int8-ov": gate(("openvino",), instructions=ELSEWHERE, saturation_free=True)})
    assert ("openvino", "int8") in permitted(bundle, ("openvino",), HERE)[0]


def test_a_gate_of_other_graphs_does_not_count(write: Callable[..., Bundle]) -> None:
    bundle = write({"int8-ov": gate(("openvino",), {**GRAPHS, "denoiser": b"another"})})
    allowed, (refused,) = permitted(bundle, ("openvino",), HERE)
    assert allowed == [("openvino", "fp32")] and "other graphs" in refused["refused"]


def test_bf16_is_a_way_to_run_the_fp32_graphs(write: Callable[..., Bundle]) -> None:
    assert ("openvino", "bf16") in permitted(write({"bf16": gate(("openvino",))}), ("openvino",), HERE)[0]


@pytest.mark.parametrize("fastest", ["fp32 onnxruntime", "fp32 openvino", "int8 openvino"])
def test_the_fastest_is_taken_and_says_why(write: Callable[..., Bundle], pace: dict[str, float], fastest: str) -> None:
    pace |= {"fp32 onnxruntime": 3e-6, "fp32 openvino": 4e-6, "int8 openvino": 5e-6, fastest: 1e-6}
    found = open_fastest(write({"int8-ov": gate(("openvino",))}), backend="auto", device="cpu", threads=1)
    assert f"{found.backend.precision} {found.backend.name}" == fastest
    assert found.differences["prior"] < 1e-3
    assert found.chosen["asked"] == "auto" and found.chosen["because"].startswith(fastest.replace(" ", " on "))
    timed = [each for each in found.chosen["candidates"] if "slice_ms" in each]
    assert [each["slice_ms"] for each in timed] == sorted(each["slice_ms"] for each in timed) and len(timed) == 3


def test_a_backend_that_is_named_is_kept_to(write: Callable[..., Bundle], pace: dict[str, float]) -> None:
    pace |= {"fp32 onnxruntime": 9e-6, "fp32 openvino": 1e-6, "int8 openvino": 1e-6}
    bundle = write({"int8-ov": gate(("openvino",))})
    assert open_fastest(bundle, backend="onnxruntime", device="cpu", threads=1).backend.name == "onnxruntime"


def test_what_fails_its_self_test_is_out_of_the_question(write: Callable[..., Bundle]) -> None:
    wrong = onnx.load_from_string(GRAPHS["prior"])
    thresholds = next(tensor for tensor in wrong.graph.initializer if tensor.name == "thresholds")
    thresholds.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(thresholds) + 0.5, "thresholds"))
    graphs = {**GRAPHS, "prior": wrong.SerializeToString()}
    bundle = write({"int8-ov": gate(("openvino",), graphs)}, graphs)
    found = open_fastest(bundle, backend="openvino", device="cpu", threads=1)
    assert found.backend.precision == "fp32" and "all that may run" in found.chosen["because"]
    assert [each["slice_ms"] for each in found.chosen["candidates"] if "slice_ms" in each] == [None], "nobody timed it"
    assert any("the prior differs" in each.get("refused", "") for each in found.chosen["candidates"])


def test_when_nothing_passes_its_self_test_nothing_is_loaded(tmp_path: Path) -> None:
    manifest = tiny_manifest()
    golden = golden_arrays(manifest)
    golden["prior"] = -golden["prior"]
    files = {graph_name(role): graph for role, graph in GRAPHS.items()}
    write_bundle(tmp_path / "tiny", manifest, {**files, GOLDEN: pack_golden(golden)})
    with pytest.raises(BackendError, match="the prior differs"):
        open_fastest(open_bundle(tmp_path / "tiny"), backend="auto", device="cpu", threads=1)


@pytest.mark.parametrize(("backend", "device"), [("auto", "cuda:0"), ("tensorrt", "cuda:0"), ("onnx", "cpu")])
def test_only_processors_are_chosen_for(write: Callable[..., Bundle], backend: str, device: str) -> None:
    with pytest.raises(BackendError, match="'auto'"):
        open_fastest(write({}), backend=backend, device=device, threads=1)


def test_a_mask_says_what_was_chosen_and_from_what(write: Callable[..., Bundle]) -> None:
    bundle = write({"int8-ov": gate(("openvino",))})
    segmenter = Segmenter.load(bundle.path, precision="auto", threads=1)
    result = segmenter.segment(mr_scan())
    assert result.provenance["chosen"] == segmenter.chosen
    assert result.provenance["backend"]["precision"] == segmenter.backend.precision
    assert "chosen" not in Segmenter.load(bundle.path, threads=1).segment(mr_scan()).provenance


def expensive(monkeypatch: pytest.MonkeyPatch, openvino: float) -> None:
    """A trial on OpenVINO takes so many times what one on ONNX Runtime takes."""
    monkeypatch.setattr(auto_precision, "TRIAL", {"openvino": openvino, "onnxruntime": 1.0})


def tried(chosen: dict[str, Any]) -> list[str]:
    return [f"{each['precision']} {each['backend']}" for each in chosen["candidates"] if "slice_ms" in each]


def test_for_one_scan_nothing_is_tried_that_could_not_pay_for_its_trial(
    write: Callable[..., Bundle], pace: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    expensive(monkeypatch, 1e6)
    pace |= {"fp32 onnxruntime": 1e-6}
    bundle = write({"int8-ov": gate(BOTH)})
    found = open_fastest(bundle, backend="auto", device="cpu", threads=1, work=NetworkPasses(pixels=1000, passes=0))
    assert tried(found.chosen) == ["fp32 onnxruntime"]
    assert "worth trying" in found.chosen["because"]
    refused = {f"{each['precision']} {each['backend']}": each.get("refused", "") for each in found.chosen["candidates"]}
    assert "not tried for one scan" in refused["int8 openvino"] and "not tried" in refused["fp32 openvino"]
    assert "no quicker" in refused["int8 onnxruntime"]


def test_for_one_long_scan_what_can_save_most_is_tried(
    write: Callable[..., Bundle], pace: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    expensive(monkeypatch, 1e-6)
    pace |= {"fp32 onnxruntime": 1e-3, "int8 openvino": 1e-6, "fp32 openvino": 2e-6}
    bundle = write({"int8-ov": gate(("openvino",))})
    found = open_fastest(bundle, backend="auto", device="cpu", threads=1, work=NetworkPasses(10**6, passes=2))
    assert (found.backend.name, found.backend.precision) == ("openvino", "int8")
    assert tried(found.chosen)[0] == "int8 openvino"


@pytest.mark.parametrize(("passes", "fastest"), [(0, "onnxruntime"), (2, "openvino")])
def test_for_one_scan_its_own_passes_are_what_counts(
    write: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, passes: int, fastest: str
) -> None:
    expensive(monkeypatch, 1e-6)
    paces = {"onnxruntime": Pace(1e-6, 5e-6), "openvino": Pace(2e-6, 1e-6)}
    monkeypatch.setattr(auto_precision, "time_networks", lambda backend, bundle: paces[backend.name])
    found = open_fastest(write({}), backend="auto", device="cpu", threads=1, work=NetworkPasses(10**9, passes))
    assert len(tried(found.chosen)) == 2 and found.backend.name == fastest


def test_for_many_scans_everything_is_tried(
    write: Callable[..., Bundle], pace: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    expensive(monkeypatch, 1e6)
    pace |= {"fp32 onnxruntime": 1e-6, "fp32 openvino": 2e-6, "int8 openvino": 3e-6}
    found = open_fastest(write({"int8-ov": gate(("openvino",))}), backend="auto", device="cpu", threads=1)
    assert len(tried(found.chosen)) == 3


def test_a_precision_that_passed_on_a_backend_that_is_not_installed_is_named_with_its_extra(
    write: Callable[..., Bundle], pace: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_precision, "installed_backends", lambda: ("onnxruntime",))
    pace |= {"fp32 onnxruntime": 1e-6}
    found = open_fastest(write({"int8-ov": gate(("openvino",))}), backend="auto", device="cpu", threads=1)
    (missing,) = [each for each in found.chosen["candidates"] if "not installed" in each.get("refused", "")]
    assert (missing["precision"], missing["backend"]) == ("int8", "openvino")
    assert install("openvino") in missing["refused"]


@pytest.mark.parametrize(
    ("more", "passes"), [({}, 6), ({"steps": 4}, 8), ({"samples": 1}, 3), ({"prior_only": True}, 0)]
)
def test_the_work_of_one_scan_counts_pixels_on_the_model_s_grid_and_passes(more: dict[str, Any], passes: int) -> None:
    assert one_scan(mr_scan(5, 40, 36, pixel=1.0), **more)(tiny_manifest()) == NetworkPasses(5 * 40 * 36, passes)


FAST = {"steps": 0, "samples": 0, "policy": "locate", "dice": 0.93, "name": "fast"}
SLOWER = {"steps": 1, "samples": 2, "policy": "whole", "dice": 0.92}


@pytest.mark.parametrize(
    ("settings", "more", "passes"),
    [
        ([FAST], {"policy": "fast"}, 0),
        ([FAST], {"policy": "fast", "steps": 3}, 6),
        ([FAST, SLOWER], {"budget_ms": 1000}, 0),
        ([{**FAST, "dice": 0.91}, SLOWER], {"budget_ms": 1000}, 2),
        ([FAST], {"budget_ms": 1000, "samples": 1}, 3),
        ([FAST], {"policy": "locate"}, 6),
    ],
)
def test_the_work_of_one_scan_is_that_of_the_setting_that_the_call_will_take(
    settings: list[dict[str, Any]], more: dict[str, Any], passes: int
) -> None:
    manifest = tiny_manifest(frontier={"settings": settings})
    assert one_scan(mr_scan(5, 40, 36, pixel=1.0), **more)(manifest).passes == passes


def test_the_work_of_one_scan_counts_the_windows_of_a_model_of_volumes() -> None:
    manifest, volume = volume_manifest(), mr_scan(9, 45, 38)
    work = one_scan(volume)(manifest)
    windows = count_windows(plan_for(manifest, volume.geometry).shape, PATCH, manifest.volume.overlap)
    assert work == NetworkPasses(windows * math.prod(PATCH), 0)
    assert work.seconds(Pace(2.0, 5.0)) == 2.0 * work.pixels
