"""The meter on a backend: what was called, from whichever thread, how long, and how much arithmetic it was."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.runtime.tiny_bundle import NumpyBackend, denoiser_graph, prior_graph, write_tiny
from verdiff.benchmarks.cost import CostCounter, Meter, NetworkCall, busy_seconds, metered
from verdiff.benchmarks.flops import graph_gflop
from verdiff.bundle import open_bundle
from verdiff.runtime import Segmenter


def call(begun: float, ended: float, network: str = "prior", images: int = 1) -> NetworkCall:
    return NetworkCall(network, images, 16, 24, begun, ended)


@pytest.mark.parametrize(
    ("spans", "busy"),
    [
        ([(0, 1), (2, 4)], 3),
        ([(0, 3), (1, 2)], 3),
        ([(1, 3), (0, 2)], 3),
        ([(0, 1), (0, 1)], 1),
        ([], 0),
    ],
    ids=["apart", "one within another", "overlapping, out of order", "at once", "none"],
)
def test_calls_at_once_count_their_time_once(spans, busy):
    assert busy_seconds(call(*span) for span in spans) == busy


def test_the_meter_gives_the_backend_s_answers_and_keeps_what_was_asked():
    plain, ticks = NumpyBackend(), iter(range(100))
    meter = Meter(NumpyBackend(), clock=lambda: float(next(ticks)))
    image = np.linspace(-1, 1, 2 * 16 * 24, dtype=np.float32).reshape(2, 1, 16, 24)
    prior, features = meter.prior(image)
    x0hat = meter.denoise(prior, 7, prior, features)
    assert np.array_equal(prior, plain.prior(image)[0])
    assert np.array_equal(x0hat, plain.denoise(prior, 7, prior, features))
    assert meter.take() == [call(0, 1, "prior", 2), call(2, 3, "denoiser", 2)]
    assert meter.take() == []
    assert (meter.name, meter.batch) == ("numpy", 1)


def test_calls_from_several_threads_are_all_kept():
    meter = Meter(NumpyBackend())
    image = np.zeros((1, 1, 16, 24), np.float32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(meter.prior, [image] * 50))
    assert len(meter.take()) == 50


def test_a_metered_segmenter_gives_the_same_mask_and_counts_every_slice_step_and_sample(tmp_path):
    bundle = open_bundle(write_tiny(tmp_path / "tiny.verdiff"))
    segmenter = Segmenter.load(bundle.path, backend="onnxruntime", threads=1)
    with_meter, meter = metered(segmenter)
    scan = np.random.default_rng(0).normal(size=(5, 16, 24)).astype(np.float32).transpose(1, 2, 0)
    arguments = {"steps": 3, "samples": 2, "force": True}
    direction = np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]])
    plain = segmenter.segment((scan, (1.0, 1.0, 1.0), direction), **arguments)
    found = with_meter.segment((scan, (1.0, 1.0, 1.0), direction), **arguments)
    assert np.array_equal(found.labels, plain.labels)
    calls = meter.take()
    slices = plain.provenance["reached"]["slices"]
    work = CostCounter(bundle).count(calls, slices)
    assert work.images == {"prior": slices, "denoiser": slices * 3 * 2}
    rows, cols = calls[0].rows, calls[0].cols
    assert work.gflop["prior"] == pytest.approx(slices * graph_gflop(prior_graph(), rows, cols))
    assert work.gflop["denoiser"] == pytest.approx(slices * 6 * graph_gflop(denoiser_graph(), rows, cols))


def test_without_onnx_the_images_are_counted_and_the_arithmetic_is_not(tmp_path, monkeypatch):
    bundle = open_bundle(write_tiny(tmp_path / "tiny.verdiff"))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    work = CostCounter(bundle).count([call(0, 1), call(0, 1, "denoiser", 3)], 1)
    assert (work.images, work.gflop) == ({"prior": 1, "denoiser": 3}, {})
