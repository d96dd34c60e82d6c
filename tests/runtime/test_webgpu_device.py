"""WebGPU computes masks: on SwiftShader, a Vulkan driver that computes on the processor and comes with Chromium.

``VK_DRIVER_FILES`` in the environment names another one, such as lavapipe of Mesa 25, which has FP16 too.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests import peers
from tests.runtime.tiny_bundle import (
    SINGLE_PASS,
    golden_arrays,
    prior_graph,
    tiny_manifest,
    write_tiny,
    write_tiny_half,
)
from verdiff.bundle import GOLDEN, graph_name, pack_golden, write_bundle

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-webgpu" / "bin" / "python"
DRIVER = os.environ.get("VK_DRIVER_FILES", "/usr/lib/chromium/vk_swiftshader_icd.json")
# What the runtime finds the loader by is found by the linker's own rules.
LOADERS = [*Path("/usr/lib").glob("*/libvulkan.so.1"), Path("/usr/lib/libvulkan.so.1")]

pytestmark = peers.needs(str(PYTHON), *DRIVER.split(os.pathsep), str(LOADERS[0]))


def with_layer(operator: str, opset: int, **attributes: Any) -> bytes:
    """The tiny prior with one more layer behind its feature, which changes nothing: pooling over one pixel, say."""
    model = onnx.load_from_string(prior_graph(features=False))
    for node in model.graph.node:
        node.input[:] = ["smooth" if name == "feature_0" else name for name in node.input]
    model.graph.node.insert(1, helper.make_node(operator, ["feature_0"], ["layer"], **attributes))
    zero = numpy_helper.from_array(np.float32(0), "zero")
    model.graph.initializer.append(zero)
    if operator == "AveragePool":
        model.graph.node.insert(2, helper.make_node("Identity", ["layer"], ["smooth"]))
    else:
        model.graph.node.insert(2, helper.make_node("Mul", ["layer", "zero"], ["nothing"]))
        model.graph.node.insert(3, helper.make_node("Add", ["feature_0", "nothing"], ["smooth"]))
    model.opset_import[0].version = opset
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of the environment of WebGPU printed."""
    folder = tmp_path_factory.mktemp("webgpu")
    write_tiny(folder / "tiny.verdiff")
    write_tiny_half(folder / "half.verdiff")
    for name, graph in (
        ("pooled", with_layer("AveragePool", 20, kernel_shape=[1, 1])),
        ("hardmax", with_layer("Hardmax", 18, axis=-1)),
    ):
        (folder / f"{name}.onnx").write_bytes(graph)
        single_pass(folder / f"{name}.verdiff", graph)
    random = np.random.default_rng(5)
    np.save(folder / "scan.npy", random.integers(0, 400, (3, 24, 20)).astype(np.int16))
    done = subprocess.run(
        [PYTHON, "-m", "tests.runtime.webgpu_child", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "VK_DRIVER_FILES": DRIVER, "XDG_RUNTIME_DIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def single_pass(path: Path, graph: bytes) -> None:
    """A bundle of one network, the tiny prior's answers its goldens."""
    manifest = tiny_manifest(**SINGLE_PASS)
    files = {graph_name("prior"): graph, GOLDEN: pack_golden(golden_arrays(manifest))}
    write_bundle(path, manifest, files, as_zip=True)


def test_the_self_test_finds_the_bundles_golden_outputs(seen: dict[str, Any]) -> None:
    assert set(seen["differences"]) == {"prior", "denoiser", "labels"}
    assert max(seen["differences"].values()) < 1e-5
    assert seen["pace"], "a deadline is judged as on the processor"


def test_a_mask_is_the_processors_and_says_what_made_it(seen: dict[str, Any]) -> None:
    assert seen["labels"] > 100 and seen["agree"] >= 0.9999 and seen["uncertainty"] <= 1
    backend = seen["backend"]
    assert (backend["name"], backend["device"], backend["precision"]) == ("webgpu", "webgpu:software", "fp32")
    assert "SwiftShader" in backend["adapter"] or "llvmpipe" in backend["adapter"]


def test_a_mask_has_the_same_bits_in_any_chunk_and_streamed(seen: dict[str, Any]) -> None:
    assert seen["same_bits"] == [True, True]


def test_pooling_runs_on_the_device_though_its_kernel_is_of_an_older_operator(seen: dict[str, Any]) -> None:
    assert max(seen["pooled"].values()) < 1e-5
    assert set(seen["profile"]) == {"WebGpuExecutionProvider"}
    assert {"Conv", "AveragePool"} <= set(seen["profile"]["WebGpuExecutionProvider"])


def test_every_layer_of_the_default_model_is_put_on_the_device(seen: dict[str, Any]) -> None:
    assert seen["default_model"] == ""


def test_a_layer_without_a_kernel_is_refused_by_name_and_never_left_to_the_processor(seen: dict[str, Any]) -> None:
    assert "layers of the prior graph on the CPU: Hardmax" in seen["unknown_layer"]


def test_fp16_is_computed_or_refused_by_the_name_of_what_is_missing(seen: dict[str, Any]) -> None:
    if "FP32 and FP16" in seen["doctor"][0]:
        assert seen["half_refused"] == ""
        assert seen["half"]["agree"] > 0.99 and max(seen["half"]["differences"].values()) < 1e-2
    else:
        assert "which does not compute in FP16" in seen["half_refused"]
        assert "--precision fp32" in seen["half_refused"]


def test_one_process_computes_on_one_kind_of_device(seen: dict[str, Any]) -> None:
    assert "computes on webgpu:software already" in seen["other_kind"]
    assert "a session on the device with the webgpu backend" in seen["session"]


def test_the_doctor_computes_on_it_and_names_it(seen: dict[str, Any]) -> None:
    (found,) = seen["doctor"]
    assert "works in FP32" in found and seen["backend"]["adapter"] in found
