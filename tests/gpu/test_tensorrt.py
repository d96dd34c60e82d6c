"""The default model's engines on a device, where a TensorRT is installed and ``verdiff build`` was run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from verdiff.engines import find_engines, installed_flavours
from verdiff.errors import BackendError
from verdiff.imaging import read_volume
from verdiff.runtime import Segmenter


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param not in installed_flavours():
        pytest.skip(f"{request.param} is not installed")
    if not any(sidecar.key.flavour == request.param for sidecar in find_engines()):
        pytest.skip(f"no engine of {request.param} in the cache: run 'verdiff build'")
    return str(request.param).replace("_", "-")


def test_the_mask_is_the_processors(backend: str, mr_sample: Path) -> None:
    volume = read_volume(mr_sample)
    with Segmenter.load("spine-mr", device="cuda:0", backend=backend) as segmenter:
        found = segmenter.segment(volume)
        assert max(segmenter.differences.values()) < 1e-3
        again = segmenter.segment(volume)
    expected = Segmenter.load("spine-mr").segment(volume)
    assert np.mean(found.labels == expected.labels) >= 0.9999
    assert np.array_equal(found.labels, again.labels)


def test_a_size_beyond_the_engine_names_the_command(backend: str, mr_sample: Path) -> None:
    with Segmenter.load("spine-mr", device="cuda:0", backend=backend, self_test=False) as segmenter:
        pitch = segmenter.manifest.spacing_mm
        with pytest.raises(BackendError, match="verdiff build"):
            segmenter.on_device(1, 2032, 2032, (pitch, pitch))
