"""The case ``prior-at-equal-time``: as much time for the prior, views chosen elsewhere, patients paired."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies import running
from studies.cases import prior_at_equal_time
from studies.cases.prior_at_equal_time import (
    FILLED,
    HINDSIGHT,
    ChosenViews,
    against,
    choose,
    figures,
    run,
    settings,
    tuning_fold,
    votes_of,
)
from studies.library.patients import PatientScorer, load_patients
from studies.library.runtime_slices import RuntimeSlices
from studies.library.views import CANDIDATES, averaged_answer, collect
from studies.options import StudyOptions
from tests.benchmarks.tiny_fold import write_fold
from tests.runtime.tiny_bundle import write_tiny
from verdiff.benchmarks import harness
from verdiff.errors import DataError, InputError
from verdiff.runtime import Segmenter


@pytest.fixture(autouse=True)
def short_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "SETTLE_S", 0)
    monkeypatch.setattr(prior_at_equal_time, "CANDIDATES", CANDIDATES[:5])
    monkeypatch.setattr(prior_at_equal_time, "PILOT_ROUNDS", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fold(tmp_path_factory.mktemp("data") / "Dataset900_Tiny")


def test_the_prior_fills_the_time_of_each_setting_and_patients_are_paired(bundle: Path, data: Path) -> None:
    outcome = run(StudyOptions(bundle=bundle, data=data, repeats=1, warmup=0, threads=2))
    rows = outcome.results["settings"]
    assert [row["name"] for row in rows] == ["3 steps x 2", "5 steps x 1", "5 steps x 4"]
    for row in rows:
        filled = row["against"][0]
        assert filled["prior"] == FILLED and filled["views"] == row["views_that_fill_it"]
        assert f"prior, {filled['views']} views" in outcome.timings
        for each in row["against"]:
            assert set(each["patients"]) == set(row["patients"]) == {"p0", "p1"}
            assert each["difference"]["cases"] == 2
            assert each["difference"]["mean"] == pytest.approx(row["mean"] - each["mean"])
    assert outcome.subject["views chosen on"] == "validation cases of fold 1, which fold 0 trains on"
    assert [series["order"][0] for series in outcome.results["views"]] == ["as it is"] * 2


def test_a_setting_that_takes_longer_gets_the_prior_more_views(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studies.library.slicewise import Raced
    from verdiff.benchmarks.timing import Timing

    took = {"prior alone": 0.1, "3 steps x 2": 0.2, "5 steps x 1": 0.29, "5 steps x 4": 4.0}

    def raced(entrants, patients, **how):  # type: ignore[no-untyped-def]
        return Raced({name: Timing((took.get(name, 0.5),)) for name in entrants}, {})

    monkeypatch.setattr(prior_at_equal_time, "race", raced)
    outcome = run(StudyOptions(bundle=bundle, data=data, threads=1))
    # A fiftieth more than the time of the setting, rounded up, and no more views than there are.
    assert [row["views_that_fill_it"] for row in outcome.results["settings"]] == [3, 3, 5]


def test_views_are_chosen_by_the_dice_of_their_average(bundle: Path, data: Path) -> None:
    segmenter = Segmenter.load(bundle, threads=2)
    patients = load_patients(segmenter, data, 1, say=lambda line: None)
    scorer = PatientScorer(segmenter)
    with RuntimeSlices(segmenter) as slices:
        held = votes_of(slices, patients)
        series = choose("other patients", slices, scorer, patients, held, 3)
        alone = [scorer.dice(each, slices.priors(each.image)) for each in patients]
    assert len(series.order) == len(series.scores) == 3 and series.order[0] == 0

    def mean(dice: list[dict[str, float]]) -> float:
        return float(np.mean([list(each.values()) for each in dice]))

    assert series.scores[0] == pytest.approx(mean(alone), abs=1e-3)
    seconds = {
        member: mean([scorer.dice(each, held[each.name].mean([0, member])) for each in patients])
        for member in range(1, 5)
    }
    assert series.order[1] == max(seconds, key=seconds.__getitem__)
    assert series.scores[1] == pytest.approx(seconds[series.order[1]])


def test_the_best_beginning_of_a_series_may_be_shorter_than_the_time_allows() -> None:
    series = ChosenViews("elsewhere", [0, 4, 2, 1], [0.90, 0.92, 0.91, 0.93])
    assert series.best(3) == [0, 4] and series.best(4) == [0, 4, 2, 1] and series.best(1) == [0]


def test_averaging_over_views_gives_every_pixel_an_answer(bundle: Path, data: Path) -> None:
    segmenter = Segmenter.load(bundle, threads=2)
    patient = load_patients(segmenter, data, 0, say=lambda line: None)[0]
    with RuntimeSlices(segmenter) as slices:
        same = averaged_answer(slices, CANDIDATES[:1])(patient.image, [0, 1, 2])
        np.testing.assert_allclose(same, slices.priors(patient.image), atol=1e-3)
        votes = collect(slices, patient.image, CANDIDATES)
        mean = averaged_answer(slices, CANDIDATES)(patient.image, [0, 1, 2])
    assert votes.placed.shape == (len(CANDIDATES), 3, 3, *patient.image.shape[2:])
    np.testing.assert_allclose(mean, votes.mean(range(len(CANDIDATES))))
    assert np.isfinite(mean).all() and mean.min() >= 0 and mean.max() <= 1.001


def test_hindsight_is_compared_and_is_no_aim() -> None:
    setting = {f"p{i}": {"x": 0.9 + 0.01 * i} for i in range(4)}
    prior = {f"p{i}": {"x": 0.8 + 0.01 * i} for i in range(4)}
    rows = [
        {
            "name": "2 steps x 1",
            "milliseconds": 200.0,
            "prior_milliseconds": 250.0,
            "against": [against(what, [0, 1], setting, prior) for what in (FILLED, HINDSIGHT)],
        }
    ]
    share, filled, hindsight = figures({"settings": rows})
    assert share.value == pytest.approx(1.25) and share.met
    assert filled.value == pytest.approx(0.1) and filled.met
    assert hindsight.at_least is None
    assert rows[0]["against"][0]["better"] == 4  # type: ignore[index]


def test_the_default_comes_first_and_the_larger_settings_after_it(bundle: Path) -> None:
    known = settings(Segmenter.load(bundle).manifest)
    assert {name: (len(table), samples) for name, (table, samples) in known.items()} == {
        "3 steps x 2": (3, 2),
        "5 steps x 1": (5, 1),
        "5 steps x 4": (5, 4),
    }


def test_views_are_chosen_on_a_fold_that_shares_no_patient(data: Path, tmp_path: Path) -> None:
    assert tuning_fold(StudyOptions(data=data, fold=0)) == 1
    assert tuning_fold(StudyOptions(data=data, fold=1)) == 0
    for splits in ([["p0"]], [["p0"], ["p0", "p1"]]):
        (tmp_path / "splits_final.json").write_text(json.dumps([{"train": [], "val": val} for val in splits]), "utf-8")
        with pytest.raises(DataError, match="whose validation patients are others"):
            tuning_fold(StudyOptions(data=tmp_path, fold=0))


def test_the_command_writes_a_record_a_page_and_a_picture(bundle: Path, data: Path, tmp_path: Path) -> None:
    options = StudyOptions(bundle=bundle, data=data, every=2, repeats=1, warmup=0)
    running.run("prior-at-equal-time", options, output=tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"prior-at-equal-time.{kind}" for kind in ("json", "md", "png")} <= names
    page = (tmp_path / "prior-at-equal-time.md").read_text("utf-8")
    assert "| patient | prior alone |" in page and "Views chosen on other patients" in page


def test_what_it_needs_is_asked_for(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data set"):
        run(StudyOptions())
    with pytest.raises(DataError, match="no denoiser"):
        run(StudyOptions(bundle=write_tiny(tmp_path / "prior.verdiff", denoiser=False), data=data))
