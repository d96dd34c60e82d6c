"""Masks as RT structure sets: what they refer to, what they are called, and a validator that finds no error."""

from __future__ import annotations

from pathlib import Path

import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from tests import peers  # noqa: E402
from tests.imaging.make import ORIENTATIONS, save_dicom, textured  # noqa: E402
from tests.interop.dicom.phantom import (  # noqa: E402
    MODEL,
    contours_of,
    errors_of,
    grid,
    mask_of,
    scan_array,
    stored,
)
from tests.interop.dicom.series import FRAME, PATIENT, SERIES, STUDY, save_frames, save_oriented  # noqa: E402
from verdiff.errors import InputError  # noqa: E402
from verdiff.imaging import read_volume  # noqa: E402
from verdiff.interop.dicom import source_of, structure_set_of  # noqa: E402
from verdiff.interop.dicom.rtstruct import require_depth  # noqa: E402


def test_it_refers_to_the_patient_the_study_and_every_image(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    data = stored(structure_set_of(mask, source_of(mask.scan)))
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        assert str(data[name].value) == PATIENT[name]
    assert data.StudyInstanceUID == STUDY and data.SeriesInstanceUID != SERIES and data.Modality == "RTSTRUCT"
    (frame,) = data.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert (frame.FrameOfReferenceUID, study.ReferencedSOPInstanceUID, series.SeriesInstanceUID) == (
        FRAME,
        STUDY,
        SERIES,
    )
    images = {each.ReferencedSOPInstanceUID for each in series.ContourImageSequence}
    assert images == {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "s").iterdir()}
    assert MODEL["manifest_sha256"] in data.StructureSetDescription


def test_structures_are_coded_and_have_colours(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    data = stored(structure_set_of(mask, source_of(mask.scan)))
    codes = [each.RTROIIdentificationCodeSequence[0].CodeValue for each in data.RTROIObservationsSequence]
    assert codes == ["51282000", "360499006", "61853006", "ODD_ONE"]
    colours = [tuple(each.ROIDisplayColor) for each in data.ROIContourSequence]
    assert len(set(colours)) == 4
    assert {each.ROIGenerationAlgorithm for each in data.StructureSetROISequence} == {"AUTOMATIC"}


def test_a_structure_that_was_not_found_has_no_contour(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    mask.labels[mask.labels == 7] = 0
    found = contours_of(stored(structure_set_of(mask, source_of(mask.scan))))
    assert found["canal"] == [] and found["disc"]


def test_contours_of_a_film_are_refused_by_name(tmp_path: Path) -> None:
    film = save_dicom(tmp_path / "film.dcm", textured((6, 5)), Modality="DX", ImagePositionPatient=None)
    with pytest.raises(InputError, match="a film, which says nothing of where it lies"):
        require_depth(read_volume(film))


@peers.needs("dciodvfy", "dcmdump")
@pytest.mark.parametrize("enhanced", [False, True])
def test_validators_find_no_error(tmp_path: Path, enhanced: bool) -> None:
    geometry = grid(ORIENTATIONS[11], oblique=True)
    if enhanced:
        source = save_frames(tmp_path / "a.dcm", scan_array(geometry), geometry, [3, 0, 6, 1, 5, 2, 4])
    else:
        source = save_oriented(tmp_path / "s", scan_array(geometry), geometry)
    mask = mask_of(source)
    structure_set_of(mask, source_of(mask.scan)).save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    assert errors_of(tmp_path / "rt.dcm") == []


@peers.needs("dciodvfy", "dcmdump")
def test_validators_find_an_error_where_there_is_one(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    data = structure_set_of(mask, source_of(mask.scan))
    del data.StructureSetLabel
    data.save_as(tmp_path / "rt.dcm", enforce_file_format=True)
    assert [line for line in errors_of(tmp_path / "rt.dcm") if "StructureSetLabel" in line]
