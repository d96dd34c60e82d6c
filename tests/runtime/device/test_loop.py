"""The device path on the null device: the host's masks, and nothing between the steps of a loop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.device.tiny_networks import device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same


@pytest.mark.parametrize("fusion", ["mean", "steps"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_the_mask_is_the_host_loops_bit_for_bit(sampler: str, fusion: str) -> None:
    options = {"samples": 3, "steps": 4, "sampler": sampler, "fusion": fusion, "seed": 2**40 + 3}
    expected = numpy_segmenter().segment(mr_scan(), **options)
    found = device_segmenter().segment(mr_scan(), **options)
    assert same(found, expected)
    assert np.array_equal(found.spread(), expected.spread())
    assert found.outcome == "complete"
