"""The default model with the pipeline graph that this version exports, scans, and what Python makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from verdiff.bundle import open_bundle, resolve_model
from verdiff.engines.build.graphs import plain_weights
from verdiff.export.draft import Draft
from verdiff.export.pipeline import build_pipeline
from verdiff.export.weights import store_as_half
from verdiff.imaging import Geometry, Volume, read_volume, write_array
from verdiff.runtime import Segmenter

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "mr_t2_sample.nii.gz"
# Of the voxels, as docs/contract.md promises.
AGREEMENT = 0.9999

Expected = Callable[[Path], NDArray[np.uint8]]


@pytest.fixture(scope="session")
def draft() -> Draft:
    """The default model's files, its pipeline made anew from its networks."""
    bundle = open_bundle(resolve_model())
    manifest = bundle.manifest
    prior, denoiser = (plain_weights(onnx.load_from_string(bundle.graph(role))) for role in ("prior", "denoiser"))
    ids = tuple(label.id for label in manifest.labels)
    table = manifest.table
    pipeline = store_as_half(build_pipeline(prior, denoiser, table, ids, model_id=manifest.model_id))
    return Draft.of(bundle).with_graphs("fp32", {"pipeline": pipeline.SerializeToString(deterministic=True)})


@pytest.fixture(scope="session")
def model(draft: Draft, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of :func:`draft`."""
    path = tmp_path_factory.mktemp("model") / "model.verdiff"
    draft.write(path)
    return path


@pytest.fixture(scope="session")
def expected(model: Path) -> Expected:
    """Python's labels [z, y, x] of a scan."""
    segmenter = Segmenter.load(model, backend="onnxruntime")
    known: dict[Path, NDArray[np.uint8]] = {}

    def labels(scan: Path) -> NDArray[np.uint8]:
        if scan not in known:
            known[scan] = segmenter.segment(read_volume(scan), force=True).labels
        return known[scan]

    return labels


@pytest.fixture(scope="session")
def oblique(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the example with other axes, other pitches, ten degrees off them, and padded with -1024."""
    scan = read_volume(EXAMPLE)
    array = scan.array[:, :, 28:40].astype(np.int16)
    # Of [z, y, x] to [x, z, y], the last two backwards.
    turned = np.ascontiguousarray(array.transpose(2, 0, 1)[:, ::-1, ::-1])
    turned[:, :6] = turned[:, :, -3:] = -1024
    angle = np.radians(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    columns = scan.geometry.matrix[:, [1, 2, 0]] * [-1, -1, 1]
    depth, rows, cols = turned.shape
    direction = tuple((turn @ columns).ravel().tolist())
    geometry = Geometry((cols, rows, depth), (1.4, 1.6, 2.5), (5.0, -7.0, 11.0), direction)
    path = tmp_path_factory.mktemp("scans") / "oblique.nii.gz"
    write_array(turned, Volume(turned, geometry), path)
    return path
