"""Device memory: one block, sized before it is taken, under a cap; smaller batches first, then a named refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.device.test_failures import small_scan
from tests.runtime.device.tiny_networks import device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from tests.runtime.tiny_bundle import Maps, NumpyBackend
from verdiff.errors import BudgetError, InputError
from verdiff.runtime import Segmenter
from verdiff.runtime.device.layout import ALIGNMENT, DeviceFeature, Need, layout_of
from verdiff.runtime.device.session import DeviceSession
from verdiff.runtime.device.spaces import Spaces


def taken(driver: NullDriver) -> list[int]:
    """Sizes of the device allocations, in order."""
    return [int(call.split(" ")[1]) for call in driver.calls if call.startswith("allocate ")]


def need(**changes: object) -> Need:
    values: dict[str, object] = {
        "batch": 4,
        "rows": 32,
        "cols": 24,
        "classes": 3,
        "steps": 5,
        "noises": 1,
        "samples": 2,
    }
    values |= {
        "features": (DeviceFeature("f", 16, 2, np.dtype(np.float16)),),
        "kept": 1,
        "chunks": 2,
        "sample_chunks": 2,
    }
    return Need(**{**values, "activations": 1000, **changes})  # type: ignore[arg-type]


def test_arrays_do_not_overlap_and_every_entry_is_aligned() -> None:
    layout = layout_of(need(kept=5, noises=4))
    end = 0
    for region in sorted(layout.regions.values(), key=lambda region: region.offset):
        assert region.offset >= end and region.offset % ALIGNMENT == 0
        assert region.stride % ALIGNMENT == 0 or region.shape[0] == 1
        assert region.stride >= region.count * region.dtype.itemsize
        end = region.offset + region.size
    assert end <= layout.size
    assert layout["f"].shape == (2, 4, 16, 16, 12)


def test_the_block_is_as_large_as_was_reckoned_and_the_only_one() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    segmenter.segment(mr_scan())
    assert len(taken(driver)) == len(driver.device) == len(driver.pinned) == 1
    space = next(iter(segmenter.backend.spaces._there.values()))  # type: ignore[union-attr]
    assert taken(driver) == [space.layout.size]


def test_smaller_scans_share_the_block_of_a_larger_one() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    for rows in (45, 30, 20, 45):
        assert same(segmenter.segment(mr_scan(5, rows)), numpy_segmenter().segment(mr_scan(5, rows)))
    assert len(taken(driver)) == 1


def test_a_larger_scan_has_its_block_before_its_first_slice_and_keeps_it() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    for rows in (20, 45):
        assert same(segmenter.segment(mr_scan(5, rows)), numpy_segmenter().segment(mr_scan(5, rows)))
    first, second = taken(driver)
    assert first < second
    assert len(driver.device) == 1


def test_only_the_latest_shapes_are_kept() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    for rows in (45, 40, 36, 32, 28, 24):
        segmenter.segment(mr_scan(3, rows))
    assert driver.held["graphs"] == 4 * 4  # four shapes of three steps and a whole
    assert segmenter.backend.networks.open_now == 4 * 2  # type: ignore[union-attr]


def test_under_a_cap_the_batch_is_halved_and_the_mask_stays() -> None:
    free = NullDriver()
    wide = device_segmenter(free, batch=8)
    expected = wide.segment(mr_scan())
    full = taken(free)[0]
    driver = NullDriver()
    tight = device_segmenter(driver, batch=8, limit=full // 3)
    found = tight.segment(mr_scan())
    assert same(found, expected)
    assert found.provenance["backend"]["batch"] < 8
    assert max(taken(driver)) <= full // 3


def test_free_memory_is_the_cap_where_none_is_given() -> None:
    full = NullDriver()
    device_segmenter(full, batch=8).segment(mr_scan())
    driver = NullDriver(total=taken(full)[0] // 2)
    assert device_segmenter(driver, batch=8).segment(mr_scan()).provenance["backend"]["batch"] < 8


def test_caches_between_rounds_are_given_up_before_the_batch() -> None:
    plain = NullDriver()
    device_segmenter(plain, batch=2).segment(mr_scan(8), samples=4)
    driver = NullDriver()
    tight = device_segmenter(driver, batch=2, limit=taken(plain)[0])
    streamed = list(tight.stream(mr_scan(8), samples=4))
    assert [partial.outcome for partial in streamed] == ["prior", "complete"]
    assert streamed[-1].provenance["backend"]["batch"] == 2
    assert same(streamed[-1], numpy_segmenter().segment(mr_scan(8), samples=4))


def test_agreement_is_asked_of_the_same_rounds_whatever_fits() -> None:
    class Restless(NumpyBackend):
        def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
            return np.tanh(3 * prior + np.float32(0.2) * x).astype(np.float32)

    plain = NullDriver()
    with device_segmenter(plain, batch=2, numpy=Restless()) as segmenter:
        expected = segmenter.segment(mr_scan(7), policy="agree", samples=8)
    assert 0 < expected.provenance["computed"]["slices_settled"] < 7
    driver = NullDriver()
    with device_segmenter(driver, batch=2, numpy=Restless(), limit=taken(plain)[0] // 2) as tight:
        found = tight.segment(mr_scan(7), policy="agree", samples=8)
    assert same(found, expected)
    for name in ("computed", "reached"):
        assert found.provenance[name] == expected.provenance[name]


def test_memory_below_one_slice_is_refused_before_it_is_taken() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, limit=10_000)
    with pytest.raises(BudgetError, match="MiB of device memory") as caught:
        segmenter.segment(mr_scan())
    assert "about 1 MiB" in caught.value.expected
    assert taken(driver) == []


def session_of(segmenter: Segmenter, slices: int = 4) -> DeviceSession:
    return segmenter.on_device(slices, 45, 36, (0.9, 0.9))


def with_the_memory_of_one_scan() -> tuple[NullDriver, Segmenter, int]:
    """A Segmenter whose cap is what one scan takes, and that cap."""
    free, driver = NullDriver(), NullDriver()
    device_segmenter(free, batch=8).segment(mr_scan())
    limit = taken(free)[0]
    return driver, device_segmenter(driver, batch=8, limit=limit), limit


def more_slices_than_fit(driver: NullDriver, limit: int) -> int:
    """Slices of a session for which there is no room beside what is taken."""
    left = limit - sum(block.size for block in driver.device.values())
    # Labels, three probabilities and the uncertainty of a pixel.
    return left // (45 * 36 * (1 + 3 * 4 + 4)) + 1


def test_what_a_session_takes_counts_under_the_cap() -> None:
    """The block that was there goes, if it leaves too little; later scans have what the session leaves."""
    driver, segmenter, limit = with_the_memory_of_one_scan()
    for _ in range(2):
        segmenter.segment(mr_scan())
        assert sum(block.size for block in driver.device.values()) <= limit
        session = session_of(segmenter)
        assert len(driver.device) == 2
        assert sum(block.size for block in driver.device.values()) <= limit
        assert same(segmenter.segment(mr_scan()), numpy_segmenter().segment(mr_scan()))
        assert sum(block.size for block in driver.device.values()) <= limit
        session.close()
    del session
    segmenter.segment(mr_scan())
    assert segmenter.segment(mr_scan()).provenance["backend"]["batch"] == 8


def test_work_that_was_left_is_done_before_its_block_makes_room() -> None:
    driver, segmenter, limit = with_the_memory_of_one_scan()
    first = session_of(segmenter, 1)
    segmenter.segment(mr_scan())
    slices = more_slices_than_fit(driver, limit)
    with driver.given_array(np.zeros((1, 45, 36), np.float32)) as one:
        first.segment(one, (0.0, 1.0))
        driver.calls.clear()
        session_of(segmenter, slices)
        assert driver.names.index("finish") < driver.names.index("close_graph")


def test_a_session_that_fits_no_more_beside_a_later_one_says_so_and_takes_nothing() -> None:
    driver, segmenter, limit = with_the_memory_of_one_scan()
    first = session_of(segmenter, 1)
    second = session_of(segmenter, more_slices_than_fit(driver, limit))
    with driver.given_array(np.zeros((1, 45, 36), np.float32)) as one:
        with pytest.raises(BudgetError, match="left beside the sessions' arrays"):
            first.segment(one, (0.0, 1.0))
        assert sum(block.size for block in driver.device.values()) <= limit
        second.close()
        del second
        first.segment(one, (0.0, 1.0)).wait()
    assert sum(block.size for block in driver.device.values()) <= limit


def test_a_session_beyond_the_cap_is_refused_before_anything_is_taken() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, limit=200_000)
    with pytest.raises(BudgetError, match="MiB of device memory") as caught:
        session_of(segmenter, 40)
    assert "beside it" in caught.value.expected
    assert taken(driver) == []


@pytest.mark.parametrize("name", ["allocate", "allocate_pinned"])
def test_memory_that_another_program_took_meanwhile_is_a_matter_of_budget(name: str) -> None:
    clean = NullDriver()
    session_of(device_segmenter(clean))
    for number in (place for place, call in enumerate(clean.names, 1) if call == name):
        driver = NullDriver(fail_at=number, code="CUDA_ERROR_OUT_OF_MEMORY")
        segmenter = device_segmenter(driver)
        with pytest.raises(BudgetError, match="OUT_OF_MEMORY"):
            session_of(segmenter)
        segmenter.close()
        assert not any(driver.held.values())


def test_no_batch_is_more_than_a_kernel_can_count() -> None:
    spaces = Spaces(NullDriver(), None, None, 0, 1 << 60)  # type: ignore[arg-type]

    def need_of(batch: int) -> Need:
        return need(batch=batch, classes=4, rows=1 << 14, cols=1 << 14)

    assert need_of(1).values == 2**30
    assert spaces.fit(need_of, 8).batch == 1
    with pytest.raises(BudgetError, match="crop"):
        spaces.fit(lambda batch: replace(need_of(batch), classes=8), 8)


def test_a_thousand_calls_hold_what_one_holds() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, batch=2)
    scan = small_scan(1, 6)
    segmenter.segment(scan, steps=2)
    held, blocks = driver.held, dict(driver.device)
    for seed in range(1000):
        segmenter.segment(scan, steps=2, seed=seed)
        driver.calls.clear()
    assert driver.held == held
    assert driver.device.keys() == blocks.keys()
    assert all(not queue.waiting for queue in driver.streams.values())


def test_a_fusion_without_a_kernel_is_refused_before_any_memory_is_taken() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    before = len(driver.calls)
    with pytest.raises(InputError, match="staple"):
        segmenter.segment(mr_scan(), fusion="staple")
    assert not any(call.startswith(("allocate", "begin_capture")) for call in driver.calls[before:])
    assert same(segmenter.segment(mr_scan()), numpy_segmenter().segment(mr_scan()))
