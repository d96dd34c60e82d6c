"""What a process with ONNX Runtime for WebGPU sees of small models, printed as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from verdiff import doctor
from verdiff.errors import BackendError
from verdiff.runtime import Segmenter
from verdiff.runtime.backends import webgpu

DEVICE = webgpu.SOFTWARE


def main(folder: Path) -> dict[str, Any]:
    """Everything that the tests look at; the drivers compile for seconds, so one process does it all."""
    found: dict[str, Any] = {}
    segmenter = Segmenter.load(folder / "tiny.verdiff", device=DEVICE)
    found["differences"], found["pace"] = segmenter.differences, segmenter.pace is not None
    host = Segmenter.load(folder / "tiny.verdiff", device="cpu", backend="onnxruntime")
    array = np.load(folder / "scan.npy")
    scan = (array, (1.0, 1.0, 3.0), None)
    options: dict[str, Any] = {"steps": 2, "samples": 2, "force": True}
    there, here = segmenter.segment(scan, **options), host.segment(scan, **options)
    found["agree"] = float(np.mean(there.labels == here.labels))
    found["labels"] = int(np.count_nonzero(there.labels))
    found["backend"] = there.provenance["backend"]
    again = Segmenter.load(folder / "tiny.verdiff", device=DEVICE, chunk=1).segment(scan, **options)
    last = list(segmenter.stream(scan, **options))[-1]
    found["same_bits"] = [bool(np.array_equal(there.labels, each.labels)) for each in (again, last)]
    # Two voxels may round apart where a probability is a class's border; everything else is the same.
    found["uncertainty"] = int(np.abs(there.uncertainty.astype(int) - here.uncertainty).max())
    found["other_kind"] = refusal(lambda: Segmenter.load(folder / "tiny.verdiff", device=webgpu.GPU))
    found["session"] = refusal(lambda: segmenter.on_device(2, 8, 8, (1.0, 1.0)))
    found["unknown_layer"] = refusal(lambda: Segmenter.load(folder / "hardmax.verdiff", device=DEVICE))
    found["pooled"] = Segmenter.load(folder / "pooled.verdiff", device=DEVICE).differences
    # The whole default model is put on the device, and not run: its shaders compile for minutes here.
    found["default_model"] = refusal(lambda: Segmenter.load(device=DEVICE, self_test=False))
    found["half_refused"] = refusal(lambda: found.update(half=half(folder, scan, here.labels)))
    found["profile"] = profile(folder)
    found["doctor"] = [each.found for each in doctor.examine(device=DEVICE) if each.name == f"device {DEVICE}"]
    return found


def half(folder: Path, scan: Any, labels: Any) -> dict[str, Any]:
    """The model in FP16: its self-test, and the share of voxels that FP32 gives too."""
    segmenter = Segmenter.load(folder / "half.verdiff", device=DEVICE, precision="fp16")
    mask = segmenter.segment(scan, steps=2, samples=2, force=True).labels
    return {"differences": segmenter.differences, "agree": float(np.mean(mask == labels))}


def profile(folder: Path) -> dict[str, list[str]]:
    """Of a network with pooling, what ran where as ONNX Runtime's profiler saw it: provider -> operators on floats."""
    from verdiff.runtime import silent
    from verdiff.runtime.backends import vulkan
    from verdiff.runtime.backends.opset import declared_at_most

    onnxruntime: Any = silent.onnxruntime()
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    graph = declared_at_most((folder / "pooled.onnx").read_bytes(), webgpu.OPSET)
    with vulkan.only(software=True):
        session = onnxruntime.InferenceSession(graph, options, providers=[(webgpu.PROVIDER, webgpu.OPTIONS)])
    session.run(None, {"image": np.ones((1, 1, 8, 8), np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    ran: dict[str, list[str]] = {}
    for event in events:
        about = event.get("args", {})
        if event.get("cat") == "Node" and any("float" in each for each in about.get("output_type_shape", [])):
            ran.setdefault(about["provider"], []).append(about["op_name"])
    return {name: sorted(set(operators)) for name, operators in ran.items()}


def refusal(call: Callable[[], Any]) -> str:
    """What a call is refused with; empty where it is not."""
    try:
        call()
    except BackendError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    json.dump(main(Path(sys.argv[1])), sys.stdout)
