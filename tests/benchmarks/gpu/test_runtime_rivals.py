"""The runtime as a rival, on the null device: the whole workload, and the loop alone."""

from __future__ import annotations

import numpy as np

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.device.tiny_networks import CLASSES, TinyNetworks
from tests.runtime.tiny_bundle import NumpyBackend
from verdiff.benchmarks.gpu.rivals import rival_of, segmenter_of
from verdiff.benchmarks.gpu.workload import Workload
from verdiff.runtime import Segmenter
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.host_executor import HostExecutor
from verdiff.runtime.loaded import LoadedModel
from verdiff.runtime.provenance import describe_model


def test_a_volume_is_the_segmenter_s_mask_and_a_loop_its_captured_steps(workload: Workload) -> None:
    driver = NullDriver()
    backend = DeviceBackend(driver, TinyNetworks(driver), CLASSES)
    rival = rival_of(segmenter_of(workload, backend), workload)
    bundle = workload.bundle
    host = Segmenter(LoadedModel(bundle.manifest, HostExecutor(NumpyBackend()), True, describe_model(bundle)))
    result = host.segment(workload.scan, steps=3, samples=2, seed=workload.seed, force=True)
    np.testing.assert_array_equal(rival.volume(), workload.planes_of(result.labels))
    with rival.loop() as loop:
        driver.calls.clear()
        loop()
        assert [name for name in driver.names if name not in ("active",)] == ["launch_graph", "synchronise"]
    rival.volume()
    rival.close()
    assert sum(driver.held.values()) == 0
