"""Which settings are worth choosing, which is the fast one, and that the runtime reads the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import tiny_manifest, write_tiny
from verdiff.bundle import Manifest, open_bundle
from verdiff.bundle.objects import Effort
from verdiff.errors import BundleError, VerificationError
from verdiff.evaluate.fold import LabelledScan
from verdiff.export import exporting, frontier
from verdiff.export.draft import Draft
from verdiff.export.frontier import MeasuredEffort, fast_of, frontier_record, worth_choosing
from verdiff.options import ExportOptions
from verdiff.runtime.frontier import named_setting


def measured(steps: int, dice: float, milliseconds: float, policy: str = "whole") -> MeasuredEffort:
    effort = Effort(steps, 1 if steps else 0, policy)
    return MeasuredEffort(effort, {"p": {"disc": dice}}, {"p": milliseconds / 1000}, {"p": 1.0})


TRIED = [
    measured(0, 0.920, 100),
    measured(1, 0.9240, 150),
    measured(1, 0.9245, 90, "locate"),
    measured(2, 0.9244, 200),
    measured(5, 0.9252, 300, "locate"),
    measured(10, 0.9251, 500),
]


def test_what_is_beaten_in_both_dice_and_time_is_not_worth_choosing() -> None:
    assert [(m.effort.steps, m.effort.policy) for m in worth_choosing(TRIED)] == [(1, "locate"), (5, "locate")]


def test_of_two_that_take_the_same_time_the_better_stands() -> None:
    pair = [measured(1, 0.92, 100), measured(2, 0.93, 102)]
    assert [m.effort.steps for m in worth_choosing(pair)] == [2]


@pytest.mark.parametrize(("loss", "steps"), [(0.0007, 1), (0.0012, 5)])
def test_the_fast_setting_is_the_quickest_near_the_best(loss: float, steps: int) -> None:
    assert fast_of([measured(1, 0.93 - loss, 90), measured(5, 0.93, 300)]).effort.steps == steps


def test_the_record_goes_through_the_manifest_to_the_runtime() -> None:
    record = frontier_record(TRIED, {"data": "a data set"})
    manifest = Manifest.from_json(replace(tiny_manifest(), frontier=record).to_json())
    assert manifest.frontier["data"] == "a data set"
    assert [s.steps for s in manifest.settings] == [5, 1]
    assert named_setting(manifest, "fast").policy == "locate"


@pytest.mark.parametrize(
    "change",
    [
        {"steps": -1},
        {"samples": 0},
        {"policy": "Locate!"},
        {"dice": "good"},
        {"name": "the fast one"},
        {"policy": None},
    ],
)
def test_a_manifest_with_a_broken_frontier_is_refused(change: dict[str, object]) -> None:
    record = frontier_record(TRIED, {})
    record["settings"][0] |= change
    with pytest.raises(BundleError, match=r"frontier\.settings\[0\]"):
        replace(tiny_manifest(), frontier=record)


@pytest.mark.parametrize(
    ("aside", "said"),
    [
        (["a", "b"], "2 validation cases of fold 0, all slices"),
        (["b"], "2 validation cases of fold 0, all slices; the model may have learned from 1 of them"),
        (None, "2 validation cases of fold 0, all slices"),
    ],
    ids=["held out", "one seen", "other data"],
)
def test_the_record_says_where_the_model_may_have_learned_from_the_cases(
    aside: list[str] | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "Dataset901_Other" if aside is None else "Dataset900_Tiny"
    training = {"statement": "none", "data_set": "Dataset900_Tiny", "validation_cases": aside or []}
    bundle = open_bundle(write_tiny(tmp_path / "tiny.verdiff", training=training))
    volume = mr_scan(3)
    scans = [LabelledScan(case, volume, volume.array) for case in ("a", "b")]
    monkeypatch.setattr(exporting, "labelled_scans", lambda *args, **options: scans)
    monkeypatch.setattr(frontier, "measure_efforts", lambda *args, **options: TRIED)
    told: list[str] = []
    draft = exporting._with_frontier(Draft.of(bundle), tmp_path / name, ExportOptions(), told.append)
    assert draft.manifest.frontier["data"] == f"{name}, {said}"
    assert any("may have learned from a:" in line for line in told) == (aside == ["b"])


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(VerificationError):
        frontier_record([], {})


def test_thinning_keeps_planes_where_they_are() -> None:
    volume = mr_scan(9)
    scan = LabelledScan("p", volume, volume.array)
    thin = scan.thinned(0, 3)
    assert thin.truth.shape == (3, 45, 38)
    for index, plane in enumerate((1, 4, 7)):
        assert (thin.volume.array[index] == volume.array[plane]).all()
        assert thin.volume.geometry.index_to_mm((0, 0, index)) == pytest.approx(
            volume.geometry.index_to_mm((0, 0, plane))
        )
    assert thin.spacing_mm[0] == 3 * scan.spacing_mm[0]
