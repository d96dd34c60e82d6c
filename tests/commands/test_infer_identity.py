"""`verdiff infer` of a DICOM series: identifiers in the report where they were asked for, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.interop.dicom.series import FRAME, PATIENT, SERIES, STUDY, save_oriented
from tests.runtime.scans import mr_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.cli import app
from verdiff.errors import InputError
from verdiff.imaging import read_volume
from verdiff.runtime import Segmenter


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.verdiff")


@pytest.fixture
def series(tmp_path: Path) -> Path:
    scan = mr_scan()
    return save_oriented(tmp_path / "series", scan.array, scan.geometry)


def infer(scan: Path, bundle: Path, *more: object) -> Any:
    words = ("infer", scan, "--model", bundle, "--threads", 1, "--force", *more)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_result_knows_whose_spine_it_is(series: Path, bundle: Path) -> None:
    volume = read_volume(series)
    result = Segmenter.load(bundle, threads=1).segment(volume, force=True)
    assert result.identity is volume.identity
    assert result.identity is not None and result.identity.study == STUDY


def test_a_report_holds_no_identifier_unless_it_is_asked_for(series: Path, bundle: Path, tmp_path: Path) -> None:
    done = infer(series, bundle, "--output", f"{tmp_path}/plain/")
    assert done.exit_code in (0, 14), done.output
    text = (tmp_path / "plain" / "series_seg.json").read_text("utf-8")
    for secret in (STUDY, FRAME, PATIENT["PatientName"], PATIENT["PatientID"], "19700101", "1.2.840.10008"):
        assert secret not in text
    assert json.loads(text)["provenance"]["scan"]["dicom"] == {"modality": "MR", "patient_position": "HFS"}


def test_a_report_that_was_asked_for_them_holds_every_uid_and_no_name(
    series: Path, bundle: Path, tmp_path: Path
) -> None:
    assert infer(series, bundle, "--output", f"{tmp_path}/out/", "--identifiers").exit_code in (0, 14)
    text = (tmp_path / "out" / "series_seg.json").read_text("utf-8")
    found = json.loads(text)["dicom"]
    assert (found["study_instance_uid"], found["series_instance_uid"]) == (STUDY, SERIES)
    assert found["frame_of_reference_uid"] == FRAME
    assert len(found["instances"]) == len(list(series.iterdir()))
    assert "Phantom" not in text and "P-4711" not in text


def test_a_reference_in_another_frame_of_reference_is_refused(series: Path, bundle: Path, tmp_path: Path) -> None:
    scan = mr_scan()
    other = save_oriented(tmp_path / "other", scan.array % 3, scan.geometry, FrameOfReferenceUID=FRAME + ".1")
    done = infer(series, bundle, "--reference", other)
    assert done.exit_code == InputError.exit_code
    assert "different frames of reference" in done.output and not list(tmp_path.glob("*_seg*"))
