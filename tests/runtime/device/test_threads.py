"""Several Segmenters in several threads, and one Segmenter in several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.device.tiny_networks import device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from verdiff.errors import BackendError

SEEDS = range(4)


def test_two_segmenters_in_two_threads_do_not_know_of_each_other() -> None:
    drivers = [NullDriver(), NullDriver()]
    segmenters = [device_segmenter(driver, batch=batch) for driver, batch in zip(drivers, (2, 4), strict=True)]
    together = Barrier(2)

    def work(index: int) -> list[bool]:
        together.wait()
        return [
            same(segmenters[index].segment(mr_scan(), seed=seed), numpy_segmenter().segment(mr_scan(), seed=seed))
            for seed in SEEDS
        ]

    with ThreadPoolExecutor(2) as pool:
        assert all(all(found) for found in pool.map(work, range(2)))


def test_one_segmenter_serves_its_threads_one_after_the_other() -> None:
    segmenter = device_segmenter(batch=2)
    together = Barrier(4)

    def work(seed: int) -> bool:
        together.wait()
        return same(segmenter.segment(mr_scan(), seed=seed), numpy_segmenter().segment(mr_scan(), seed=seed))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, SEEDS))


def test_another_thread_waits_for_a_stream_to_be_finished() -> None:
    segmenter = device_segmenter()
    stream = segmenter.stream(mr_scan(), samples=2)
    next(stream)
    begun = Event()

    def work() -> str:
        begun.set()
        return segmenter.segment(mr_scan()).outcome

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(work)
        begun.wait()
        assert not waiting.done()
        assert [partial.outcome for partial in stream] == ["sampling", "complete"]
        assert waiting.result() == "complete"


def test_a_call_within_ones_own_stream_is_refused_instead_of_waiting_for_ever() -> None:
    segmenter = device_segmenter()
    stream = segmenter.stream(mr_scan(), samples=2)
    next(stream)
    with pytest.raises(BackendError, match="within another call"):
        segmenter.segment(mr_scan())
    stream.close()
    assert segmenter.segment(mr_scan()).outcome == "complete"


def test_between_two_answers_of_a_stream_the_callers_context_is_current() -> None:
    driver = NullDriver()
    for _ in device_segmenter(driver).stream(mr_scan(), samples=2):
        assert driver._context.depth == 0
