"""The frontier case: nested samples, scores in the scan's grid, and the checks against copying."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from studies import running
from studies.cases.frontier import rows_of, run_copy_checks
from studies.library.patients import PatientScorer, load_patients
from studies.options import StudyOptions
from studies.pages.frontier import markdown_page
from tests.benchmarks.tiny_fold import write_clear_fold
from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle.objects import Effort
from verdiff.errors import DataError, InputError
from verdiff.evaluate.fold import labelled_scans
from verdiff.export.frontier import measure_efforts
from verdiff.runtime import Segmenter


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_clear_fold(tmp_path / "Dataset900_Tiny")


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    return Segmenter.load(write_tiny(tmp_path / "tiny.verdiff"))


def test_every_effort_is_scored_on_every_patient_as_the_runtime_answers(data: Path, segmenter: Segmenter) -> None:
    scans = list(labelled_scans(data, 0, modality="MR"))
    efforts = (Effort(0, 0, "whole"), Effort(1, 1, "whole"), Effort(3, 4, "skip"))
    measured = measure_efforts(segmenter, scans, efforts, say=lambda line: None)
    assert [m.effort for m in measured] == list(efforts)
    assert all(set(m.dice) == set(m.seconds) == {"p0", "p1"} for m in measured)
    result = segmenter.segment(scans[0].volume, steps=1, samples=1, force=True)
    ours, theirs = result.labels == 1, scans[0].truth == 1
    expected = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert measured[1].dice["p0"]["vertebra"] == pytest.approx(expected)
    page = markdown_page({"structures": ["vertebra"], "settings": rows_of(measured), "copy_checks": []})
    assert "| prior alone |" in page
    assert "| p1 | 3 steps x 4, skip |" in page


def test_dice_is_that_of_the_runtime_on_the_same_patient(data: Path, segmenter: Segmenter) -> None:
    from verdiff.imaging import read_labels, read_volume

    patient = load_patients(segmenter, data, 0, say=lambda line: None)[0]
    scorer = PatientScorer(segmenter)
    prior = np.concatenate([f for f, _ in scorer.prior(patient)[0]])
    result = segmenter.segment(read_volume(data / "imagesTr" / "p0_0000.nii.gz"), prior_only=True, force=True)
    truth = read_labels(data / "labelsTr" / "p0.nii.gz").array
    ours, theirs = result.labels == 1, truth == 1
    expected = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert scorer.dice(patient, (prior + 1) / 2)["vertebra"] == pytest.approx(expected, abs=2e-3)


def test_the_checks_against_copying_damage_the_prior_and_swap_the_image(data: Path, segmenter: Segmenter) -> None:
    rows = run_copy_checks(segmenter, load_patients(segmenter, data, 0, say=lambda line: None), say=lambda line: None)
    by_name = {row["given"]: row for row in rows}
    assert by_name["prior empty"]["dice_of_that_prior"] < by_name["prior as it is"]["dice_of_that_prior"]
    assert "own prior, another patient's image" in by_name


def test_the_command_writes_a_record_a_page_and_a_picture(data: Path, tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.verdiff")
    record = running.run("frontier", StudyOptions(bundle=bundle, data=data, every=2), output=tmp_path / "out")
    assert "--fold 0 --every 2" in record.command
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"frontier.{suffix}" for suffix in ("csv", "json", "md", "png")
    }
    stored = json.loads((tmp_path / "out" / "frontier.json").read_text("utf-8"))
    assert stored["results"]["settings"][0]["steps"] == 0 and stored["results"]["copy_checks"]


def test_a_missing_data_set_or_fold_is_named(data: Path, segmenter: Segmenter) -> None:
    from studies.cases import frontier

    with pytest.raises(InputError, match="no data set"):
        frontier.run(StudyOptions())
    with pytest.raises(DataError, match="fold 3"):
        load_patients(segmenter, data, 3)
    (data / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"no usable dataset\.json"):
        load_patients(segmenter, data, 0)
