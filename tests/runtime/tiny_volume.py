"""A bundle that takes volumes and needs no training: a convolution and two thresholds, in ONNX and in numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import SINGLE_PASS, Maps, NumpyBackend, _model, _tensor, tiny_manifest
from verdiff.bundle import GOLDEN, Label, Manifest, graph_name, pack_golden, write_bundle
from verdiff.imaging import Volume
from verdiff.runtime import Segmenter
from verdiff.runtime.frontier import Pace
from verdiff.runtime.host_executor import HostExecutor
from verdiff.runtime.loaded import LoadedModel

PATCH = (4, 16, 12)
VOLUME = {"patch": list(PATCH), "spacing_mm": [3.0, 1.0, 1.0], "overlap": 0.5, "window_mb": 1.0}
LABELS = (Label(3, "T12"), Label(5, "disc"))
THRESHOLDS = np.array([0.1, -0.5], np.float32)[None, :, None, None, None]
GAINS = np.array([6.0, -5.0], np.float32)[None, :, None, None, None]
KERNEL = np.full((1, 1, 3, 3, 3), 1 / 27, np.float32)


class NumpyVolumeBackend(NumpyBackend):
    """The network in plain numpy: bright voxels are the first structure, dark ones the second.

    As a real network's, its answer at a window's border differs from that in its middle: it sees zeros beyond.
    """

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        assert image.shape[2:] == PATCH, "the graph's size is fixed"
        self.calls.append(len(image))
        padded = np.pad(image[:, 0], [(0, 0), (1, 1), (1, 1), (1, 1)])
        total = np.zeros_like(image)
        depth, rows, cols = PATCH
        for i, j, k in np.ndindex(3, 3, 3):
            total[:, 0] += padded[:, i : i + depth, j : j + rows, k : k + cols] * np.float32(1 / 27)
        return np.tanh(GAINS * (total - THRESHOLDS)).astype(np.float32), ()


def volume_manifest(**changes: Any) -> Manifest:
    """The manifest of the tiny model that takes volumes."""
    single: dict[str, Any] = {**SINGLE_PASS, "labels": LABELS, "volume": VOLUME, "schema_version": 2}
    return tiny_manifest(**{**single, **changes})


def volume_graph() -> bytes:
    """image -> prior, windows of one size."""
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["smooth"], pads=[1] * 6),
        helper.make_node("Sub", ["smooth", "thresholds"], ["above"]),
        helper.make_node("Mul", ["above", "gains"], ["steep"]),
        helper.make_node("Tanh", ["steep"], ["prior"]),
    ]
    constants = {"kernel": KERNEL, "thresholds": THRESHOLDS, "gains": GAINS}
    maps = [_tensor("image", ["N", 1, *PATCH])], [_tensor("prior", ["N", len(LABELS), *PATCH])]
    return _model("prior", nodes, *maps, constants)


def write_tiny_volume(path: Path, **changes: Any) -> Path:
    """Write the bundle, with a golden that the numpy network made."""
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, *PATCH)).astype(np.float16)
    prior, _ = NumpyVolumeBackend().prior(image.astype(np.float32))
    golden = {"image": image, "prior": prior.astype(np.float16)}
    files = {graph_name("prior"): volume_graph(), GOLDEN: pack_golden(golden)}
    write_bundle(path, volume_manifest(**changes), files, as_zip=path.suffix == ".verdiff")
    return path


def volume_segmenter(
    backend: NumpyBackend | None = None, *, pace: Pace | None = None, memory_mb: int | None = None, **changes: Any
) -> Segmenter:
    """A Segmenter of the tiny model on the numpy backend: no files, no inference library."""
    manifest = volume_manifest(**changes)
    model = {"id": manifest.model_id, "version": manifest.version}
    executor = HostExecutor(backend or NumpyVolumeBackend())
    return Segmenter(LoadedModel(manifest, executor, False, model, memory_mb, pace=pace))


def scan(slices: int = 9, rows: int = 45, cols: int = 38) -> Volume:
    """A sagittal stack on another grid than the model's, several windows large."""
    return mr_scan(slices, rows, cols)
