"""Small generated scans for the runtime's tests."""

from __future__ import annotations

import numpy as np

from tests.runtime.tiny_bundle import NumpyBackend, tiny_manifest
from verdiff.imaging import Geometry, Volume
from verdiff.runtime import Segmenter
from verdiff.runtime.host_executor import HostExecutor
from verdiff.runtime.loaded import LoadedModel

SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def mr_scan(slices: int = 5, rows: int = 45, cols: int = 38, *, pixel: float = 0.9, step: float = 4.0) -> Volume:
    """A sagittal stack: smooth blobs on a dark ground in 12-bit numbers, rows and columns no multiple of anything."""
    z, y, x = np.mgrid[:slices, :rows, :cols].astype(np.float64)
    blobs = np.sin(y / 4 + z / 3) * np.cos(x / 5 - z / 4) + 0.4 * np.sin(x * y / 90)
    array = np.clip(900 + 700 * blobs, 0, None).astype(np.int16)
    geometry = Geometry((cols, rows, slices), (pixel, pixel, step), (12.5, -30.25, 71.0), SAGITTAL)
    return Volume(array, geometry)


def ct_scan() -> Volume:
    """Axial, in Hounsfield units, with air around a body."""
    scan = mr_scan(6, 40, 40)
    geometry = Geometry(scan.geometry.size, (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), AXIAL)
    return Volume((scan.array - 1024).astype(np.int16), geometry)


def numpy_segmenter(backend: NumpyBackend | None = None, *, chunk: int | None = None, **changes: object) -> Segmenter:
    """A Segmenter of the tiny model on the numpy backend: no files, no inference library."""
    manifest = tiny_manifest(**changes)
    identity = {"id": manifest.model_id, "version": "0.0.0"}
    return Segmenter(LoadedModel(manifest, HostExecutor(backend or NumpyBackend()), True, identity, chunk=chunk))
