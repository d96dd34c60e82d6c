"""Masks as DICOM segmentation objects: every voxel at its place, and a validator that finds no error."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from tests import peers  # noqa: E402
from tests.imaging.make import ORIENTATIONS, save_dicom, save_enhanced, save_nifti, textured  # noqa: E402
from tests.interop.dicom.phantom import (  # noqa: E402
    LABELS,
    MODEL,
    SETTINGS,
    as_array,
    assert_equal_to,
    errors_of,
    grid,
    mask_of,
    phantom,
    read_segments,
    scan_array,
    stored,
)
from tests.interop.dicom.series import FRAME, PATIENT, SERIES, STUDY, plane_tags, save_frames, save_oriented  # noqa: E402
from verdiff.errors import InputError  # noqa: E402
from verdiff.imaging import read_volume  # noqa: E402
from verdiff.imaging.terms import structures  # noqa: E402
from verdiff.interop.dicom import Mask, segmentation_of, source_of, structure_set_of, uncertainty_of  # noqa: E402
from verdiff.interop.dicom.mask import require_source  # noqa: E402


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]])
def test_frames_of_one_file_keep_their_voxels(tmp_path: Path, order: list[int]) -> None:
    geometry = grid(ORIENTATIONS[29], oblique=True)
    mask = mask_of(save_frames(tmp_path / "a.dcm", scan_array(geometry), geometry, order))
    assert_equal_to(stored(segmentation_of(mask, source_of(mask.scan))), mask)


def test_it_refers_to_the_patient_the_study_and_the_image_of_every_frame(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    data = stored(segmentation_of(mask, source_of(mask.scan)))
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        assert str(data[name].value) == PATIENT[name]
    assert (data.StudyInstanceUID, data.FrameOfReferenceUID) == (STUDY, FRAME)
    assert data.Modality == "SEG" and data.SeriesInstanceUID != SERIES
    assert data.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES
    at = {}
    for path in (tmp_path / "s").iterdir():
        one = pydicom.dcmread(path)
        at[tuple(float(v) for v in one.ImagePositionPatient)] = one.SOPInstanceUID
    for group in data.PerFrameFunctionalGroupsSequence:
        place = tuple(float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient)
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == at[place]


def test_segments_are_coded_and_name_the_model_its_version_and_its_hash(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    data = stored(segmentation_of(mask, source_of(mask.scan)))
    codes = {}
    for segment in data.SegmentSequence:
        kind, algorithm = (
            segment.SegmentedPropertyTypeCodeSequence[0],
            segment.SegmentationAlgorithmIdentificationSequence[0],
        )
        codes[segment.SegmentLabel] = (kind.CodingSchemeDesignator, kind.CodeValue)
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (MODEL["id"], MODEL["version"])
        assert MODEL["manifest_sha256"] in algorithm.AlgorithmParameters and "steps=2" in algorithm.AlgorithmParameters
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert codes == {
        "vertebra": ("SCT", "51282000"),
        "disc": ("SCT", "360499006"),
        "canal": ("SCT", "61853006"),
        "odd one": ("99VERDIFF", "ODD_ONE"),
    }


def test_an_uncertainty_is_a_fraction_of_255_voxel_for_voxel(tmp_path: Path) -> None:
    geometry = grid(ORIENTATIONS[17], oblique=True)
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(geometry), geometry), uncertainty=True)
    data = stored(uncertainty_of(mask, source_of(mask.scan)))
    assert (data.SegmentationType, data.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    assert data.MaximumFractionalValue == 255
    np.testing.assert_array_equal(as_array(read_segments(data)["uncertainty"], mask.scan.geometry), mask.uncertainty)


def test_an_empty_mask_is_an_object_of_empty_frames(tmp_path: Path) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    mask.labels[:] = 0
    data = stored(segmentation_of(mask, source_of(mask.scan)))
    assert not data.pixel_array.any() and len(data.SegmentSequence) == len(LABELS)


def test_a_blank_frame_of_reference_is_filled_alike_for_every_object(tmp_path: Path) -> None:
    folder = save_oriented(tmp_path / "s", scan_array(grid()), grid(), FrameOfReferenceUID="")
    mask = mask_of(folder, uncertainty=True)
    made = {str(each(mask, source_of(mask.scan)).FrameOfReferenceUID) for each in (segmentation_of, uncertainty_of)}
    assert len(made) == 1 and made != {""}


def test_what_is_no_dicom_is_refused_with_what_to_do(tmp_path: Path) -> None:
    scan = read_volume(save_nifti(tmp_path / "a.nii", textured((3, 6, 8))))
    with pytest.raises(InputError, match="is no DICOM scan") as caught:
        require_source(scan)
    assert "pass the DICOM series itself" in caught.value.remedy


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_images_without_uids_are_refused_by_the_uid_that_is_missing(tmp_path: Path, tag: str) -> None:
    folder = save_oriented(tmp_path / "s", scan_array(grid())[:1], grid(), **{tag: ""})
    words = tag.replace("InstanceUID", " Instance UID")
    with pytest.raises(InputError, match=f"states no {words}, so"):
        require_source(read_volume(folder))


def test_images_without_a_class_are_refused_by_it(tmp_path: Path) -> None:
    scan = read_volume(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    assert scan.identity is not None
    blank = replace(scan.identity, slices=tuple(replace(each, sop_class="") for each in scan.identity.slices))
    with pytest.raises(InputError, match="states no SOP Class UID, so"):
        require_source(replace(scan, identity=blank))


def test_a_series_that_was_moved_meanwhile_is_refused(tmp_path: Path) -> None:
    folder = save_oriented(tmp_path / "s", scan_array(grid()), grid())
    mask = mask_of(folder)
    sorted(folder.iterdir())[0].unlink()
    with pytest.raises(InputError, match=r"1 of the 7 images .* are no longer there"):
        source_of(mask.scan)


def test_several_files_of_many_frames_are_refused(tmp_path: Path) -> None:
    geometry = grid()
    for name, order in (("a.dcm", [0, 1, 2]), ("b.dcm", [3, 4, 5, 6])):
        save_frames(tmp_path / name, scan_array(geometry), geometry, order, SOPInstanceUID=f"{SERIES}.1{order[0]}")
    with pytest.raises(InputError, match="lie in 2 files of several frames each"):
        source_of(read_volume(tmp_path))


@peers.needs("dciodvfy", "dcmdump")
@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("which", ["binary", "fractional"])
def test_validators_find_no_error(tmp_path: Path, which: str, enhanced: bool) -> None:
    geometry = grid(ORIENTATIONS[11], oblique=True)
    if enhanced:
        source = save_frames(tmp_path / "a.dcm", scan_array(geometry), geometry, [3, 0, 6, 1, 5, 2, 4])
    else:
        source = save_oriented(tmp_path / "s", scan_array(geometry), geometry)
    mask = mask_of(source, uncertainty=True)
    made = segmentation_of if which == "binary" else uncertainty_of
    made(mask, source_of(mask.scan)).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    assert errors_of(tmp_path / "seg.dcm") == []


def test_the_phantom_has_no_symmetry(tmp_path: Path) -> None:
    labels = phantom(read_volume(save_oriented(tmp_path / "s", scan_array(grid()), grid())))
    for axes in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]):
        assert not np.array_equal(labels, np.flip(labels, axes))


def test_a_film_is_segmented_without_a_place_in_the_patient(tmp_path: Path) -> None:
    tags = {"Modality": "DX", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "FrameOfReferenceUID": None}
    blank = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"))
    plane = textured((11, 13)).astype(np.uint16)
    film = save_dicom(tmp_path / "film.dcm", plane, **{**PATIENT, **tags, **blank, "SOPInstanceUID": f"{SERIES}.1"})
    scan = read_volume(film)
    labels = np.zeros(scan.array.shape, np.uint8)
    labels[0, 2:5, 3:9] = 7
    mask = Mask(labels, scan, structures(LABELS), MODEL, SETTINGS)
    data = stored(segmentation_of(mask, source_of(scan)))
    assert np.array_equal(data.pixel_array.reshape(labels.shape), labels == 7)
    assert "FrameOfReferenceUID" not in data


def test_one_time_point_of_several_is_segmented_at_its_frames(tmp_path: Path) -> None:
    geometry = grid()
    count = geometry.size[2]
    array = np.concatenate([scan_array(geometry), scan_array(geometry)[::-1]])
    twice = replace(geometry, size=(*geometry.size[:2], count))
    places = [list(plane_tags(twice, index % count)["ImagePositionPatient"]) for index in range(2 * count)]
    shared = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": plane_tags(twice, 0)["ImageOrientationPatient"]},
        "PixelMeasuresSequence": {"PixelSpacing": plane_tags(twice, 0)["PixelSpacing"], "SliceThickness": "3.25"},
    }
    own = [{"FrameContentSequence": {"TemporalPositionIndex": 1 + index // count}} for index in range(2 * count)]
    values = {**PATIENT, "SOPInstanceUID": f"{SERIES}.1"}
    path = save_enhanced(tmp_path / "a.dcm", array, places, shared=shared, own=own, **values)
    scan = read_volume(path, time_point=2)
    mask = Mask(phantom(scan), scan, structures(LABELS), MODEL, SETTINGS)
    assert_equal_to(stored(segmentation_of(mask, source_of(scan))), mask)


def test_an_odd_value_in_a_header_is_not_quoted_on_the_terminal(tmp_path: Path) -> None:
    folder = save_oriented(tmp_path / "s", scan_array(grid()), grid(), PatientName="Secret^Sally")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"19700101", b"SALLYDAY"))
    code = (
        "import sys; from verdiff.imaging import read_volume; from verdiff.interop.dicom import source_of; "
        "print(source_of(read_volume(sys.argv[1])).headers[0].PatientBirthDate)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """pydicom writes whatever a test states."""
    for mode in ("reading_validation_mode", "writing_validation_mode"):
        monkeypatch.setattr(pydicom.config.settings, mode, pydicom.config.IGNORE)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("keyword", "stated", "copied"),
    [
        ("PatientBirthDate", "1970", ""),
        ("PatientBirthDate", "19700000", ""),
        ("PatientBirthDate", "00000000", ""),
        ("PatientBirthDate", "unknown", ""),
        ("PatientSex", "U", ""),
        ("PatientSex", "unknown", ""),
        ("PatientSex", "m", "M"),
        ("StudyDate", "2026-11-30", "20261130"),
        ("StudyDate", "2026.11.30", "20261130"),
        ("StudyTime", "10:15:00", "101500"),
        ("StudyTime", "101500.125", "101500.125"),
        ("StudyTime", "240000", ""),
        ("SliceThickness", None, None),
    ],
)
def test_a_header_that_strays_from_the_standard_has_objects_all_the_same(
    tmp_path: Path, keyword: str, stated: str | None, copied: str | None
) -> None:
    folder = save_oriented(tmp_path / "s", scan_array(grid()), grid(), **{keyword: stated})
    mask = mask_of(folder, uncertainty=True)
    for made in (segmentation_of, uncertainty_of, structure_set_of):
        data = stored(made(mask, source_of(mask.scan)))
        if copied is not None:
            assert str(data[keyword].value or "").replace(".11.", "11") == copied
    assert_equal_to(stored(segmentation_of(mask, source_of(mask.scan))), mask)


def test_frames_that_state_no_thickness_have_that_of_the_grid(tmp_path: Path) -> None:
    geometry = grid(ORIENTATIONS[29])
    path = save_frames(tmp_path / "a.dcm", scan_array(geometry), geometry, list(range(geometry.size[2])))
    data = pydicom.dcmread(path)
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    data.save_as(path)
    mask = mask_of(path)
    made = stored(segmentation_of(mask, source_of(mask.scan)))
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SliceThickness) == pytest.approx(geometry.spacing_mm[2])
    assert_equal_to(made, mask)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9"),
        ("ISO_IR 100", "M\u00fcller^J\u00f6rg"),
        ("ISO_IR 192", "M\u00fcller^J\u00f6rg"),
        ("ISO_IR 6", "Mueller^Joerg"),
        ("ISO-8859-1", "Mueller^Joerg"),
        (None, "Mueller^Joerg"),
    ],
)
def test_names_are_copied_from_every_character_set(tmp_path: Path, charset: list[str] | str | None, name: str) -> None:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", name.partition("=")[2] or name
    tags = {"SpecificCharacterSet": charset, "PatientName": name, "ProcedureCodeSequence": [code]}
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid(), **tags), uncertainty=True)
    for made in (segmentation_of, uncertainty_of, structure_set_of):
        data = stored(made(mask, source_of(mask.scan)))
        assert (str(data.PatientName), data.SpecificCharacterSet) == (name, "ISO_IR 192")
        if made is not structure_set_of:
            assert data.ProcedureCodeSequence[0].CodeMeaning == code.CodeMeaning


def test_what_still_cannot_be_copied_is_the_input_and_is_not_quoted(
    tmp_path: Path,
) -> None:
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(grid()), grid()))
    source = source_of(mask.scan)
    for header in source.headers:
        header.PatientSex = "SALLY"
    with pytest.raises(InputError, match="cannot be copied into a segmentation object") as caught:
        segmentation_of(mask, source)
    assert "SALLY" not in str(caught.value)
