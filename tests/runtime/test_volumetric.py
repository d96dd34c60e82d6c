"""A model that takes volumes, through the same Segmenter: windows, the way back, deadlines, memory, refusals."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

from tests.imaging.make import ORIENTATIONS
from tests.runtime.scans import AXIAL, ct_scan
from tests.runtime.slow_time import FakeTime
from tests.runtime.tiny_bundle import Maps
from tests.runtime.tiny_volume import (
    LABELS,
    PATCH,
    VOLUME,
    NumpyVolumeBackend,
    scan,
    volume_manifest,
    volume_segmenter,
    write_tiny_volume,
)
from verdiff.bundle import open_bundle
from verdiff.diffusion import background_and_labels
from verdiff.errors import BackendError, BudgetError, InputError, UnsuitableScanError
from verdiff.imaging import Geometry, Volume, intensity_bounds, plan_slices
from verdiff.imaging.windows import count_windows, sliding
from verdiff.runtime import Cancelled, Segmenter
from verdiff.runtime.backends import installed_backends
from verdiff.runtime.backends.laned import LanedBackend
from verdiff.runtime.budget import BESIDE
from verdiff.runtime.frontier import Pace
from verdiff.runtime.host_executor import TRIES, TRYING_S, time_networks
from verdiff.runtime.memory import LANE_BYTES, plan_volume_memory, window_bytes
from verdiff.runtime.volumetric import plan_for


@pytest.fixture(scope="module")
def volume_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_volume(tmp_path_factory.mktemp("bundles") / "volume.verdiff")


def expected_probabilities(volume: Volume, overlap: float = 0.5) -> np.ndarray:
    """The same sums without any of the runtime: every window at once, on the whole model grid [K, D, H, W]."""
    manifest = volume_manifest()
    plan = plan_for(manifest, volume.geometry)
    bounds = intensity_bounds(volume.array, manifest.intensity)
    image = plan.reader(volume.array, bounds)(slice(0, plan.shape[0]))
    total, weights = np.zeros((len(LABELS), *plan.shape)), np.zeros(plan.shape)
    for window in sliding(plan.shape, PATCH, overlap):
        prior, _ = NumpyVolumeBackend().prior(image[window.place][None, None])
        total[:, *window.place] += (prior[0] + 1) / 2 * window.shares
        weights[window.place] += window.shares
    slices, rows, cols = plan.inside
    return (total / weights)[:, :slices, :rows, :cols]


def test_the_mask_is_that_of_the_windows_weighted_and_brought_back() -> None:
    volume = scan()
    result = volume_segmenter().segment(volume)
    manifest, expected = volume_manifest(), expected_probabilities(volume)
    plan = plan_for(manifest, volume.geometry)
    across = np.einsum("sm,kmhw->skhw", plan.across, expected)
    maps = plan.planes.from_model(across.astype(np.float32))
    labels = np.array([0, 3, 5], np.uint8)[background_and_labels(maps)]
    found = result.labels
    assert found.shape == volume.array.shape and set(np.unique(found)) == {0, 3, 5}
    assert np.mean(found != plan.planes.insert(labels)) < 1e-3, "float16 storage may move a voxel on the border"
    for channel, label in enumerate(LABELS):
        np.testing.assert_allclose(result.probabilities(label.name), plan.planes.insert(maps[:, channel]), atol=2e-3)
    assert result.outcome == "complete" and result.geometry == volume.geometry
    assert result.uncertainty.shape == volume.array.shape and result.uncertainty.any()
    assert not result.spread().any()


@pytest.mark.parametrize("backend", installed_backends())
def test_every_backend_loads_tests_and_runs_the_bundle(volume_path: Path, backend: str) -> None:
    segmenter = Segmenter.load(volume_path, backend=backend, threads=2)
    assert segmenter.differences["prior"] < 1e-3 and segmenter.pace is not None
    assert not segmenter.diffusion
    result, reference = segmenter.segment(scan()), volume_segmenter().segment(scan())
    assert np.mean(result.labels == reference.labels) > 0.9999
    (streamed,) = segmenter.stream(scan())
    assert streamed.labels.tobytes() == result.labels.tobytes()


def test_lanes_and_batches_change_no_bit() -> None:
    volume = scan(12, 40, 40)
    reference = volume_segmenter().segment(volume)
    laned = LanedBackend(lambda lanes: NumpyVolumeBackend(), 3)  # type: ignore[arg-type]
    for backend in (NumpyVolumeBackend(batch=5), laned):
        result = volume_segmenter(backend).segment(volume)  # type: ignore[arg-type]
        assert result.labels.tobytes() == reference.labels.tobytes()
        assert result.uncertainty.tobytes() == reference.uncertainty.tobytes()


@pytest.mark.parametrize("direction", ORIENTATIONS[::5])
def test_the_mask_lies_on_the_same_anatomy_however_the_scan_is_stored(direction: tuple[float, ...]) -> None:
    upright = scan(6, 30, 24)
    planes = plan_slices(upright.geometry, view="sagittal", spacing_mm=None)
    reference = planes.extract(volume_segmenter().segment(upright).labels)
    lengths, pitches = (6, 24, 30), (4.0, 0.9, 0.9)
    axes = np.abs(np.reshape(direction, (3, 3))).argmax(axis=0)
    size, spacing = (tuple(values[axis] for axis in axes) for values in (lengths, pitches))
    plan = plan_slices(Geometry(size, spacing, (0.0, 0.0, 0.0), direction), view="sagittal", spacing_mm=None)  # type: ignore[arg-type]
    stored = Volume(plan.insert(planes.extract(upright.array)), Geometry(size, spacing, (0.0, 0.0, 0.0), direction))  # type: ignore[arg-type]
    found = volume_segmenter().segment(stored)
    np.testing.assert_array_equal(plan.extract(found.labels), reference)


def test_a_scan_smaller_than_a_window_is_padded_and_the_padding_is_not_answered() -> None:
    volume = scan(2, 12, 10)
    backend = NumpyVolumeBackend()
    result = volume_segmenter(backend).segment(volume)
    assert backend.calls == [1]
    assert result.labels.shape == (2, 12, 10) and result.labels.any()


def test_provenance_says_what_was_computed() -> None:
    volume = scan()
    computed = volume_segmenter().segment(volume).provenance["computed"]
    shape = plan_for(volume_manifest(), volume.geometry).shape
    assert computed["windows"] == count_windows(shape, PATCH) and computed["overlap"] == 0.5
    assert not computed["overlap_reduced"]
    assert computed["patch"] == list(PATCH) and computed["volume"] == list(shape)
    assert computed["spacing_mm"] == [3.0, pytest.approx(1, abs=0.02), pytest.approx(1, abs=0.02)]
    timings = volume_segmenter().segment(volume).timings
    stages = sum(seconds for name, seconds in timings.items() if name not in ("total", "denoiser"))
    assert 0.5 * timings["total"] < stages <= timings["total"]


@pytest.mark.parametrize(
    "choice",
    [{"steps": 3}, {"samples": 2}, {"sampler": "ddim"}, {"fusion": "mean"}, {"policy": "locate"}, {"policy": "fast"}],
)
def test_options_that_only_sampling_has_are_refused_by_name(choice: dict[str, Any]) -> None:
    (name,) = choice
    with pytest.raises(InputError, match=rf"{name} = .*one pass"):
        volume_segmenter().segment(scan(), **choice)
    with pytest.raises(InputError, match=name):
        next(volume_segmenter().stream(scan(), **choice))


def test_what_changes_nothing_is_taken() -> None:
    plain = volume_segmenter().segment(scan())
    same = volume_segmenter().segment(scan(), seed=7, policy="whole", prior_only=True)
    assert same.labels.tobytes() == plain.labels.tobytes()


def test_scans_that_do_not_look_like_the_training_data_are_refused() -> None:
    with pytest.raises(UnsuitableScanError, match="a CT scan by its intensities"):
        volume_segmenter().segment(ct_scan())
    forced = volume_segmenter().segment(ct_scan(), force=True)
    assert any("CT" in reason for reason in forced.provenance["forced"])
    axial = Volume(scan().array, Geometry((38, 45, 9), (0.9, 0.9, 4.0), (0.0, 0.0, 0.0), AXIAL))
    with pytest.raises(UnsuitableScanError, match="axial slices"):
        volume_segmenter().segment(axial)


def test_a_gpu_is_refused_by_name(volume_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verdiff.runtime.opening.choose_backend", lambda *_: "onnxruntime")
    with pytest.raises(BackendError, match="takes volumes, on cuda:0"):
        Segmenter.load(volume_path, device="cuda:0")


def test_auto_precision_takes_what_there_is(volume_path: Path) -> None:
    segmenter = Segmenter.load(volume_path, precision="auto")
    assert segmenter.backend.precision == "fp32"
    assert segmenter.segment(scan()).provenance["chosen"]["asked"] == "auto"


# --- time

WINDOW_MS = 1000 / 64
SLOW_PACE = Pace(WINDOW_MS / 1000 / math.prod(PATCH), 0.0)


class SlowVolumeBackend(NumpyVolumeBackend):
    """A window takes ``WINDOW_MS`` of a time that else stands still."""

    def __init__(self, time: FakeTime) -> None:
        super().__init__()
        self.time = time

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        self.time.now += WINDOW_MS / 1000
        return super().prior(image)


def windows_at(overlap: float) -> int:
    return count_windows(plan_for(volume_manifest(), scan().geometry).shape, PATCH, overlap)


def test_progress_counts_windows(time: FakeTime) -> None:
    seen: list[float] = []
    volume_segmenter(SlowVolumeBackend(time)).segment(scan(), progress=seen.append)
    total = windows_at(0.5)
    np.testing.assert_allclose(seen, np.arange(1, total + 1) / total)


def test_a_budget_for_every_window_changes_nothing(time: FakeTime) -> None:
    segmenter = volume_segmenter(SlowVolumeBackend(time), pace=SLOW_PACE)
    budget_ms = BESIDE * windows_at(0.5) * WINDOW_MS + 1
    result = segmenter.segment(scan(), budget_ms=budget_ms)
    assert result.labels.tobytes() == segmenter.segment(scan()).labels.tobytes()
    assert result.provenance["computed"]["overlap"] == 0.5
    assert result.provenance["computed"]["predicted_ms"] == pytest.approx(budget_ms - 1, abs=0.1)


@pytest.mark.parametrize("overlap", [0.25, 0.0])
def test_a_budget_too_small_for_the_models_overlap_takes_less_of_it(time: FakeTime, overlap: float) -> None:
    segmenter = volume_segmenter(SlowVolumeBackend(time), pace=SLOW_PACE)
    result = segmenter.segment(scan(), budget_ms=BESIDE * windows_at(overlap) * WINDOW_MS + 1)
    computed = result.provenance["computed"]
    assert (computed["overlap"], computed["windows"]) == (overlap, windows_at(overlap))
    assert computed["overlap_reduced"]
    assert result.outcome == "complete" and result.timings["prior"] * 1000 == windows_at(overlap) * WINDOW_MS
    expected = expected_probabilities(scan(), overlap)
    plan = plan_for(volume_manifest(), scan().geometry)
    maps = plan.planes.from_model(np.einsum("sm,kmhw->skhw", plan.across, expected).astype(np.float32))
    np.testing.assert_allclose(result.probabilities("T12"), plan.planes.insert(maps[:, 0]), atol=2e-3)


def test_a_budget_below_the_fewest_windows_names_the_least_that_would_do(time: FakeTime) -> None:
    backend = SlowVolumeBackend(time)
    with pytest.raises(BudgetError) as caught:
        volume_segmenter(backend).segment(scan(), budget_ms=3.5 * WINDOW_MS)
    assert len(backend.calls) == 2, "two windows show what one takes; a third would be for nothing"
    assert f"2 of {windows_at(0.5)} windows" in caught.value.found
    assert f"about {math.ceil(windows_at(0.5) * WINDOW_MS)} ms" in caught.value.expected
    with pytest.raises(BudgetError, match="already spent"):
        volume_segmenter(backend).segment(scan(), budget_ms=0)


def test_a_budget_that_the_pace_of_the_load_rules_out_is_refused_before_any_window(time: FakeTime) -> None:
    backend = SlowVolumeBackend(time)
    segmenter = volume_segmenter(backend, pace=SLOW_PACE)
    with pytest.raises(BudgetError, match=f"{windows_at(0.0)} windows") as caught:
        segmenter.segment(scan(), budget_ms=windows_at(0.0) * WINDOW_MS - 1)
    assert backend.calls == []
    named = re.search(r"about (\d+) ms", caught.value.expected)
    assert named is not None
    assert segmenter.segment(scan(), budget_ms=float(named[1])).outcome == "complete"


def test_a_deadline_that_passes_in_the_last_window_is_not_overrun_by_the_way_back(time: FakeTime) -> None:
    with pytest.raises(BudgetError, match="1 of 1 windows"):
        volume_segmenter(SlowVolumeBackend(time)).segment(scan(2, 12, 10), budget_ms=WINDOW_MS / 2)


def test_a_cancel_ends_the_call_before_the_last_window_and_not_after(time: FakeTime) -> None:
    backend = SlowVolumeBackend(time)
    with pytest.raises(Cancelled, match=f"3 of {windows_at(0.5)} windows"):
        volume_segmenter(backend).segment(scan(), cancel=lambda: len(backend.calls) == 3)
    backend.calls.clear()
    late = volume_segmenter(backend).segment(scan(), cancel=lambda: len(backend.calls) == windows_at(0.5))
    assert late.labels.any()


# --- memory


def test_memory_is_refused_before_any_of_it_is_taken() -> None:
    backend, large = NumpyVolumeBackend(), {**VOLUME, "window_mb": 30.0}
    with pytest.raises(BudgetError, match="windows of 4 x 16 x 12") as caught:
        volume_segmenter(backend, memory_mb=40, volume=large).segment(scan())
    assert not backend.calls
    least = int(caught.value.expected.split()[1])
    assert 96 <= least < 106
    assert volume_segmenter(memory_mb=least, volume=large).segment(scan()).labels.any()


@pytest.mark.parametrize(
    ("window_mb", "limit", "lanes"), [(1.0, None, 4), (LANE_BYTES >> 20, None, 1), (20.0, 120 << 20, 1)]
)
def test_windows_share_the_processor_where_the_memory_for_it_is_small_and_there(
    window_mb: float, limit: int | None, lanes: int
) -> None:
    manifest = volume_manifest(volume={**VOLUME, "window_mb": window_mb})
    plan = plan_for(manifest, scan().geometry)
    options: dict[str, Any] = {"backend": "onnxruntime", "batch": 1, "limit": limit}
    memory = plan_volume_memory(plan, manifest, lanes=4, **options)
    assert (memory.lanes, memory.batch) == (lanes, lanes)
    assert memory.bytes >= lanes * window_bytes(manifest, "onnxruntime")
    assert limit is None or memory.bytes <= limit


@pytest.mark.parametrize(("window_mb", "lanes"), [(1.0, 3), (4000.0, 1)])
def test_large_windows_are_timed_at_load_one_at_a_time_as_they_go_through_in_a_call(
    tmp_path: Path, window_mb: float, lanes: int
) -> None:
    bundle = open_bundle(write_tiny_volume(tmp_path / "t.verdiff", volume={**VOLUME, "window_mb": window_mb}))
    forms: dict[int, NumpyVolumeBackend] = {}

    def opened(count: int) -> NumpyVolumeBackend:
        # Opened when its first call comes, the form for one is not to be timed opening.
        sleep(2 * TRYING_S if count == 1 else 0)
        return forms.setdefault(count, NumpyVolumeBackend())

    pace = time_networks(LanedBackend(opened, 3), bundle)  # type: ignore[arg-type]
    assert [count for count, form in forms.items() if form.calls] == [lanes]
    assert len(forms[lanes].calls) <= (TRIES * 3 if lanes == 3 else 1 + TRIES)
    assert 0 < pace.prior * math.prod(PATCH) < TRYING_S


def test_memory_grows_with_the_slab_not_with_the_volume() -> None:
    """Beside the answer itself, a scan of four times the slices takes no more."""
    manifest = volume_manifest()
    planned = []
    for slices in (100, 400):
        geometry = Geometry((300, 300, slices), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), scan().geometry.direction)
        plan = plan_for(manifest, geometry)
        memory = plan_volume_memory(plan, manifest, backend="onnxruntime", batch=1, lanes=1, limit=None)
        planned.append((memory.bytes, slices * 300 * 300))
    (few, few_voxels), (many, many_voxels) = planned
    # Two structures in float16 and the labels.
    assert many - few <= (many_voxels - few_voxels) * (2 * 2 + 1)


def test_a_model_whose_window_is_not_known_is_taken_to_be_a_large_one() -> None:
    unknown = volume_manifest(volume={**VOLUME, "window_mb": None})
    assert window_bytes(unknown, "onnxruntime") >= 4 * math.prod(PATCH) * 16 * 15


def test_the_bundle_on_disk_says_schema_2(volume_path: Path) -> None:
    manifest = open_bundle(volume_path).manifest
    assert manifest.schema_version == 2 and json.loads(manifest.to_json())["volume"] == {**VOLUME, "crop": 1.0}
