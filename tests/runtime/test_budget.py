"""Deadlines and cancelling, on a clock that runs only when the networks do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.slow_time import PRIOR_MS, STEP_MS, FakeTime, SlowBackend
from tests.runtime.tiny_bundle import NumpyBackend
from verdiff.errors import INTERRUPTED, BudgetError, InputError
from verdiff.runtime import Cancelled, Segmenter, memory

PRIORS_MS = 5 * PRIOR_MS
SAMPLE_MS = 3 * STEP_MS
ALL_MS = PRIORS_MS + 5 * 2 * SAMPLE_MS


@pytest.fixture
def slow(time: FakeTime) -> Segmenter:
    return numpy_segmenter(SlowBackend(time))


def test_enough_budget_gives_the_complete_answer(slow: Segmenter) -> None:
    result = slow.segment(mr_scan(), budget_ms=ALL_MS)
    assert result.outcome == "complete"
    assert np.array_equal(result.labels, slow.segment(mr_scan()).labels)
    assert result.timings["total"] * 1000 == ALL_MS


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9, 14, 15, 16, 29])
def test_a_budget_is_kept_and_says_how_far_it_got(slow: Segmenter, steps: int) -> None:
    """Time for so many steps beside the prior, and a little: they are taken, and no more."""
    budget_ms = PRIORS_MS + steps * STEP_MS + 1
    result = slow.segment(mr_scan(), budget_ms=budget_ms)
    assert result.outcome == "budget" == result.provenance["outcome"]
    assert result.timings["total"] * 1000 == budget_ms - 1
    reached = result.provenance["reached"]
    assert reached["slices"] == 5
    assert reached["slices_refined"] == min(5, -(-steps // 3))
    assert reached["samples"] == [int(steps >= 13), 1 + int(steps >= 18)]
    assert result.labels.any()


def test_slices_a_budget_did_not_reach_have_the_priors_answer(slow: Segmenter) -> None:
    prior = slow.segment(mr_scan(), prior_only=True)
    complete = slow.segment(mr_scan(), samples=1)
    partial = slow.segment(mr_scan(), samples=1, budget_ms=PRIORS_MS + 2 * SAMPLE_MS + 1)
    assert partial.provenance["reached"]["slices_refined"] == 2
    # The plan's slices run from right to left: the first is the scan's last plane.
    assert np.array_equal(partial.labels[-2:], complete.labels[-2:])
    assert np.array_equal(partial.labels[:-2], prior.labels[:-2])


def test_a_slice_stopped_halfway_keeps_its_latest_step(slow: Segmenter) -> None:
    partial = slow.segment(mr_scan(), samples=1, budget_ms=PRIORS_MS + 2 * STEP_MS + 1)
    assert partial.provenance["reached"] == {"slices": 5, "slices_refined": 1, "samples": [0, 1], "steps": [0, 2]}


def test_a_budget_below_one_prior_pass_names_the_least(slow: Segmenter) -> None:
    with pytest.raises(BudgetError, match="about 40 ms"):
        slow.segment(mr_scan(), budget_ms=PRIORS_MS - 1)


def test_the_named_least_is_enough(slow: Segmenter) -> None:
    result = slow.segment(mr_scan(), budget_ms=40)
    assert result.outcome == "prior" == result.provenance["outcome"]
    assert result.provenance["computed"]["sampling_would_take_ms"] is None
    assert result.provenance["reached"]["slices_refined"] == 0


@pytest.mark.parametrize("budget_ms", [0, -5])
def test_no_budget_at_all_is_refused(slow: Segmenter, budget_ms: float) -> None:
    with pytest.raises(BudgetError):
        slow.segment(mr_scan(), budget_ms=budget_ms)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"budget_ms": each} for each in (float("nan"), float("inf"), "10", True, False, [10])),
        *({name: each} for name in ("cancel", "progress") for each in (5, "no", False)),
        {"steps": 0},
        {"smooth_mm": -1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["segment", "check", "stream"])
def test_an_option_that_makes_no_sense_is_refused_by_name(slow: Segmenter, how: str, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError) as caught:
        answer = getattr(slow, how)(mr_scan(), **wrong)
        next(answer)
    assert caught.value.found.startswith(f"{name} = ")


@pytest.mark.parametrize("budget_ms", [np.float32(1e6), np.int64(10**6)])
def test_numbers_of_numpy_are_budgets(slow: Segmenter, budget_ms: Any) -> None:
    assert slow.segment(mr_scan(), budget_ms=budget_ms).outcome == "complete"


def test_a_stream_with_a_budget_ends_with_what_there_is(slow: Segmenter) -> None:
    outcomes = [
        partial.outcome for partial in slow.stream(mr_scan(), samples=4, budget_ms=PRIORS_MS + 6 * SAMPLE_MS + 1)
    ]
    assert outcomes == ["prior", "sampling", "budget"]


def test_cancelling_after_the_prior_gives_a_whole_mask(slow: Segmenter, time: FakeTime) -> None:
    begun = time.now
    result = slow.segment(mr_scan(), cancel=lambda: time.now - begun > 0.2)
    assert result.outcome == "cancelled"
    assert 200 < result.timings["total"] * 1000 <= 200 + STEP_MS
    prior = slow.segment(mr_scan(), prior_only=True)
    assert np.array_equal(result.labels[0], prior.labels[0])


def test_cancelling_before_every_slice_is_answered_raises(slow: Segmenter, time: FakeTime) -> None:
    begun = time.now
    with pytest.raises(Cancelled) as caught:
        slow.segment(mr_scan(), cancel=lambda: 1000 * (time.now - begun) > 2.5 * PRIOR_MS)
    assert caught.value.exit_code == INTERRUPTED
    assert "3 of 5" in caught.value.found


def test_a_cancel_that_never_comes_changes_nothing(slow: Segmenter) -> None:
    result = slow.segment(mr_scan(), cancel=lambda: False)
    assert result.outcome == "complete"
    assert np.array_equal(result.labels, slow.segment(mr_scan()).labels)


def test_memory_below_one_slice_is_refused_before_any_work() -> None:
    backend = NumpyBackend()
    segmenter = numpy_segmenter(backend)
    small = Segmenter(replace(segmenter.loaded, memory_mb=1))
    with pytest.raises(BudgetError, match="MiB"):
        small.segment(mr_scan(40, 300, 300), samples=4)
    assert backend.calls == []


def test_little_memory_gives_up_the_caches_first() -> None:
    from verdiff.imaging import plan_slices
    from verdiff.options import SampleOptions
    from verdiff.runtime.sampling import resolve_sampling

    manifest = numpy_segmenter().manifest
    scan = mr_scan(30, 200, 200)
    plan = plan_slices(scan.geometry, view="sagittal", spacing_mm=1.0, multiple=4)
    sampling = resolve_sampling(manifest, SampleOptions(samples=8), denoiser=True)

    def planned(limit: int | None) -> memory.MemoryPlan:
        return memory.plan_memory(
            plan, manifest, sampling, backend="numpy", batch=1, chunk=8, anytime=True, limit=limit
        )

    free = planned(None)
    assert free.keep_samples
    assert free.keep_features
    assert free.chunk == 8
    tight = planned(free.bytes // 3)
    assert not tight.keep_samples
    assert tight.bytes <= free.bytes // 3
    assert 1 <= tight.chunk < 8


def test_the_machines_free_memory_is_known_on_linux() -> None:
    available = memory.available_bytes()
    assert available is None or available > 1 << 20


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a Linux machine with 8000 KiB free says of its memory: a file's path and its text."""
    said = {"/proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n"}
    monkeypatch.setattr(memory, "_read", lambda path: said.get(path.as_posix(), ""))
    return said


def test_files_that_were_read_into_memory_are_not_counted_as_used(system: dict[str, str]) -> None:
    system["/proc/self/cgroup"] = "0::/\n"
    system["/sys/fs/cgroup/memory.max"] = "1000000\n"
    system["/sys/fs/cgroup/memory.current"] = "990000\n"
    assert memory.available_bytes() == 10_000
    system["/sys/fs/cgroup/memory.stat"] = "anon 90000\nfile 900000\ninactive_file 700000\nactive_file 200000\n"
    assert memory.available_bytes() == 710_000


@pytest.mark.parametrize(
    ("limits", "available"),
    [
        ({}, 8000 << 10),
        ({"system.slice/scans.service/": "500000"}, 400_000),
        ({"system.slice/": "300000", "system.slice/scans.service/": "500000"}, 200_000),
        ({"": "200000", "system.slice/scans.service/": "max"}, 100_000),
        ({"": "50000"}, 0),
    ],
    ids=["none", "a service's own", "that of the slice around it", "a container's", "overdrawn"],
)
def test_the_least_that_the_groups_around_a_process_leave_is_what_it_may_take(
    system: dict[str, str], limits: dict[str, str], available: int
) -> None:
    system["/proc/self/cgroup"] = "1:name=systemd:/other\n0::/system.slice/scans.service\n"
    for group, most in limits.items():
        system[f"/sys/fs/cgroup/{group}memory.max"] = f"{most}\n"
        system[f"/sys/fs/cgroup/{group}memory.current"] = "100000\n"
    assert memory.available_bytes() == available
