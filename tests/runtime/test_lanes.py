"""Lanes: work spread over workers comes back in order, and a failure is the caller's to see."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from verdiff.bundle import open_bundle
from verdiff.choices import BACKENDS
from verdiff.runtime.backends import open_backend
from verdiff.runtime.lanes import MOST_LANES, Lanes, lane_count


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (2, 2), (7, 7), (8, 8), (64, MOST_LANES)])
def test_there_are_as_many_lanes_as_threads_up_to_a_limit(threads: int, lanes: int) -> None:
    assert lane_count(threads) == lanes


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_back_in_order(count: int) -> None:
    with Lanes(count) as lanes:
        assert lanes.map(lambda n: n * n, range(20)) == [n * n for n in range(20)]


def test_two_things_are_done_at_once() -> None:
    met = threading.Barrier(2, timeout=10)
    with Lanes(2) as lanes:
        lanes.map(lambda _: met.wait(), range(2))


def test_a_failure_is_raised_after_the_others_have_ended() -> None:
    ended = []

    def work(n: int) -> None:
        if n == 1:
            raise ValueError("broken")
        ended.append(n)

    with Lanes(2) as lanes, pytest.raises(ValueError, match="broken"):
        lanes.map(work, range(6))
    assert sorted(ended) == [0, 2, 3, 4, 5]


def test_closed_lanes_leave_no_thread() -> None:
    before = threading.active_count()
    with Lanes(3) as lanes:
        lanes.map(lambda n: n, range(6))
    assert threading.active_count() == before


@pytest.mark.parametrize("name", BACKENDS)
def test_lanes_give_the_bits_of_a_call_on_every_thread(bundle_path: Path, name: str) -> None:
    backend = open_backend(open_bundle(bundle_path), backend=name, precision="fp32", threads=2)
    assert (backend.lanes, backend.lane.lanes) == (2, 2)
    images = np.random.default_rng(0).uniform(-1, 1, (6, 1, 32, 24)).astype(np.float32)
    with Lanes(2) as lanes:
        in_lanes = lanes.map(lambda i: backend.lane.prior(images[i : i + 1]), range(6))
        for image, (prior, features) in zip(images, in_lanes, strict=True):
            alone, its_features = backend.prior(image[None])
            assert np.array_equal(prior, alone)
            assert np.array_equal(features[0], its_features[0])
        step = lanes.map(lambda i: backend.lane.denoise(in_lanes[i][0], 500, *in_lanes[i]), range(6))
    for x0hat, given in zip(step, in_lanes, strict=True):
        assert np.array_equal(x0hat, backend.denoise(given[0], 500, *given))


def test_one_thread_is_one_lane_without_workers(bundle_path: Path) -> None:
    backend = open_backend(open_bundle(bundle_path), backend="onnxruntime", precision="fp32", threads=1)
    assert backend.lanes == 1
    assert backend.lane is backend
