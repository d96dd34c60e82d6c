"""No-go surfaces of a result: what is promised, what breaks the promise, and what stays of an earlier run's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.anatomy.phantom import LABELS, spine
from tests.bundle.test_margins import record
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.slow_time import FakeTime
from tests.runtime.test_volumetric import SLOW_PACE, WINDOW_MS, SlowVolumeBackend, windows_at
from tests.runtime.tiny_volume import scan, volume_segmenter
from verdiff.anatomy import anatomy_files, find_vertebrae, write_anatomy
from verdiff.bundle.margins import INNER, OUTER
from verdiff.errors import InputError
from verdiff.imaging import Volume
from verdiff.runtime import Segmentation
from verdiff.runtime.budget import BESIDE
from verdiff.runtime.margins import margins_of, no_go_surfaces, setting_of

DISTANCES: list[float | None] = [0.5, 1.0, 2.0]


@pytest.fixture(scope="module")
def result() -> Segmentation:
    return numpy_segmenter().segment(mr_scan(6), force=True)


@pytest.fixture
def margins(result: Segmentation) -> dict[str, Any]:
    return record(DISTANCES, setting=setting_of(result))


def test_the_outer_surface_holds_the_inner_one_and_the_promise_stands(
    result: Segmentation, margins: dict[str, Any]
) -> None:
    found = no_go_surfaces(result, margins, margins_of(margins, probability=0.25))
    assert found.broken == () and found.to_dict()["promised"]
    outer, inner = (found.surfaces[side]["canal"] for side in (OUTER, INNER))
    assert outer.volume_ml > inner.volume_ml > 0
    assert any("canal-outer" in line and "99% of the true surface" in line for line in found.lines())


def test_margins_of_smoothed_masks_hold_for_masks_smoothed_alike() -> None:
    smoothed = numpy_segmenter().segment(mr_scan(6), force=True, smooth_mm=4.0)
    calibrated = record(DISTANCES, setting=setting_of(smoothed))
    assert not any("setting" in why for why in no_go_surfaces(smoothed, calibrated, margins_of(calibrated)).broken)
    plain = numpy_segmenter().segment(mr_scan(6), force=True)
    broken = no_go_surfaces(plain, calibrated, margins_of(calibrated)).broken
    assert any("calibrated with smooth_mm 4.0" in why for why in broken)


def test_of_a_structure_that_was_not_found_there_is_no_surface_and_a_word(
    result: Segmentation, margins: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Segmentation, "probabilities", lambda self, name: np.zeros(self.labels.shape, np.float32))
    found = no_go_surfaces(result, margins, margins_of(margins))
    assert found.surfaces == {OUTER: {}, INNER: {}}
    assert found.missing == dict.fromkeys([("canal", OUTER), ("canal", INNER)], "canal was not found")
    assert [line.split(":")[1].strip() for line in found.lines()] == ["canal was not found"] * 2


def test_a_structure_that_is_thinner_than_its_margin_has_no_inner_surface(result: Segmentation) -> None:
    thick = record([50.0], setting=setting_of(result))
    found = no_go_surfaces(result, thick, margins_of(thick))
    assert list(found.surfaces[OUTER]) == ["canal"]
    assert found.missing == {("canal", INNER): "nothing of canal is deeper than 50.00 mm"}


def test_a_structure_that_was_missed_in_calibration_has_no_surface(result: Segmentation) -> None:
    missed = record([0.5, None, None], setting=setting_of(result))
    found = no_go_surfaces(result, missed, margins_of(missed))
    assert found.missing["canal", OUTER] == "canal was missed in too many calibration patients"
    assert found.to_dict()["surfaces"][0]["mm"] is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"steps": 1}, "calibrated with steps 3"),
        ({"prior_only": True}, "calibrated with steps 3, samples 2"),
        ({"smooth_mm": 1.5}, "calibrated with smooth_mm 0.0"),
    ],
)
def test_another_setting_than_the_calibrated_one_breaks_the_promise(
    margins: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    other = numpy_segmenter().segment(mr_scan(6), force=True, **asked)
    found = no_go_surfaces(other, margins, margins_of(margins))
    assert len(found.broken) == 1 and words in found.broken[0]
    assert not found.to_dict()["promised"]
    assert found.lines()[-1].startswith("no promise of these surfaces")


def test_what_was_forced_breaks_the_promise(result: Segmentation, margins: dict[str, Any]) -> None:
    forced = numpy_segmenter().segment(mr_scan(6), force=True)
    forced.provenance["forced"] = ["a CT for a model of MR"]
    assert no_go_surfaces(forced, margins, margins_of(margins)).broken == ("forced past: a CT for a model of MR",)


@pytest.mark.parametrize("overlap", [0.5, 0.25, 0.0])
def test_windows_that_overlap_less_to_meet_a_budget_break_the_promise(time: FakeTime, overlap: float) -> None:
    segmenter = volume_segmenter(SlowVolumeBackend(time), pace=SLOW_PACE)
    calibrated = segmenter.segment(scan())
    margins = {**record(DISTANCES, setting=setting_of(calibrated)), "structures": {}}
    hurried = segmenter.segment(scan(), budget_ms=BESIDE * windows_at(overlap) * WINDOW_MS + 1)
    assert hurried.outcome == "complete" and hurried.provenance["computed"]["overlap"] == overlap
    found = no_go_surfaces(hurried, margins, ())
    why = f"windows overlapped by {overlap:g}, less than the model's own, to meet the budget"
    assert found.broken == (() if overlap == 0.5 else (why,))


def test_a_promise_of_a_model_that_is_not_calibrated_is_refused() -> None:
    assert margins_of({}) == ()
    for asked in ({"probability": 0.5}, {"share": 1.0}):
        with pytest.raises(InputError, match="not calibrated"):
            margins_of({}, **asked)


def test_moved_surfaces_of_an_earlier_run_do_not_stay(
    result: Segmentation, margins: dict[str, Any], tmp_path: Path
) -> None:
    made = spine(3, slices=12, spacing=2.0)
    found = find_vertebrae(made.labels, made.geometry, LABELS)
    scan, files = Volume(made.labels, made.geometry), anatomy_files(tmp_path / "scan_seg.nii.gz", mesh=True)
    moved = no_go_surfaces(result, margins, margins_of(margins, probability=0.25)).surfaces
    write_anatomy(found, scan, files, moved=moved, label_ids=LABELS)
    assert files.holding(moved).named == files.named
    assert (tmp_path / "scan_meshes/canal-outer.stl").exists() and (tmp_path / "scan_inner.vtp").exists()
    write_anatomy(found, scan, files, moved={OUTER: moved[OUTER]}, label_ids=LABELS)
    assert (tmp_path / "scan_outer.vtp").exists() and not (tmp_path / "scan_inner.vtp").exists()
    assert not (tmp_path / "scan_meshes/canal-inner.stl").exists()
    assert files.holding({OUTER: moved[OUTER]}).inner is None
    write_anatomy(found, scan, files)
    assert not list(tmp_path.rglob("*outer*"))
    assert (tmp_path / "scan_mesh.vtp").exists()
