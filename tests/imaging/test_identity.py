"""A volume read from DICOM knows whose it is, and is never joined with what lies in another frame of reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.imaging.make import save_dicom, save_enhanced, save_nifti, save_series, textured
from verdiff.errors import InputError
from verdiff.evaluate.cases import Pair, load_pair
from verdiff.imaging import read_volume
from verdiff.imaging.identity import SourceFrame, refuse_other_frame_of_reference

UIDS = {"FrameOfReferenceUID": "1.2.3.9", "PatientPosition": "HFS", "PatientName": "Doe^Jane", "PatientID": "4711"}
POSITIONS = [6.0, 0.0, 3.0]


def instances(folder: Path) -> dict[float, str]:
    """The SOP Instance UID of the file at every position."""
    from pydicom import dcmread

    return {float(d.ImagePositionPatient[0]): d.SOPInstanceUID for d in map(dcmread, folder.iterdir())}


def test_a_series_keeps_its_uids_and_the_instance_of_every_slice(tmp_path: Path) -> None:
    save_series(tmp_path / "t2", POSITIONS, **UIDS)
    volume = read_volume(tmp_path / "t2")
    found = volume.identity
    assert found is not None
    assert (found.study, found.series, found.frame_of_reference) == ("1.2.3", "1.2.3.4", "1.2.3.9")
    assert (found.modality, found.patient_position) == ("MR", "HFS")
    places = [float(volume.geometry.index_to_mm([0, 0, index])[0]) for index in range(3)]
    at = instances(tmp_path / "t2")
    assert [each.sop_instance for each in found.slices] == [at[place] for place in places]
    assert {each.number for each in found.slices} == {None}
    assert {each.sop_class for each in found.slices} == {"1.2.840.10008.5.1.4.1.1.4"}


def test_frames_of_one_file_keep_their_numbers(tmp_path: Path) -> None:
    path = save_enhanced(tmp_path / "a.dcm", textured((3, 6, 8)), POSITIONS, SOPInstanceUID="1.2.3.5", **UIDS)
    volume = read_volume(path)
    assert volume.identity is not None
    kind = "1.2.840.10008.5.1.4.1.1.4.1"
    places = [float(volume.geometry.index_to_mm([0, 0, index])[0]) for index in range(3)]
    expected = [SourceFrame(kind, "1.2.3.5", POSITIONS.index(place) + 1) for place in places]
    assert list(volume.identity.slices) == expected


def test_what_is_not_dicom_has_no_identity(tmp_path: Path) -> None:
    assert read_volume(save_nifti(tmp_path / "a.nii", textured((3, 6, 8)))).identity is None


def test_nothing_of_the_patient_is_kept(tmp_path: Path) -> None:
    save_series(tmp_path / "t2", POSITIONS, **UIDS)
    identity = read_volume(tmp_path / "t2").identity
    assert identity is not None
    assert identity.described() == {"modality": "MR", "patient_position": "HFS"}
    text = repr((identity, identity.identifiers()))
    assert "Doe" not in text and "4711" not in text
    assert len(identity.identifiers()["instances"]) == 3


@pytest.mark.parametrize(
    ("tag", "named"), [("FrameOfReferenceUID", "frames of reference"), ("StudyInstanceUID", "Study Instance UIDs")]
)
def test_a_series_of_two_sessions_is_refused(tmp_path: Path, tag: str, named: str) -> None:
    save_series(tmp_path / "t2", POSITIONS, **UIDS)
    save_dicom(tmp_path / "t2" / "z.dcm", textured((6, 5)), ImagePositionPatient=[9, -20, 30], **{**UIDS, tag: "1.9"})
    with pytest.raises(InputError, match=rf"have different {named} .*1\.9"):
        read_volume(tmp_path / "t2")


def saved(folder: Path, **tags: Any) -> Path:
    save_series(folder, POSITIONS, **{**UIDS, **tags})
    return folder


def test_images_of_two_frames_of_reference_are_never_joined(tmp_path: Path) -> None:
    one = read_volume(saved(tmp_path / "one")).identity
    two = read_volume(saved(tmp_path / "two", FrameOfReferenceUID="1.2.3.10")).identity
    with pytest.raises(InputError, match=r"one and two have different frames of reference \(1\.2\.3\.9 and 1\.2\.3"):
        refuse_other_frame_of_reference(("one", one), ("two", two))


def test_images_that_do_not_say_where_they_lie_are_compared_by_their_grids_alone(tmp_path: Path) -> None:
    one = read_volume(saved(tmp_path / "one")).identity
    blank = read_volume(saved(tmp_path / "two", FrameOfReferenceUID=None)).identity
    for other in (one, blank, None):
        refuse_other_frame_of_reference(("one", one), ("other", other))


def test_masks_of_two_frames_of_reference_are_not_scored(tmp_path: Path) -> None:
    mask = textured((6, 8)) % 3
    first = save_dicom(tmp_path / "a.dcm", mask, **UIDS)
    second = save_dicom(tmp_path / "b.dcm", mask, **{**UIDS, "FrameOfReferenceUID": "1.2.3.10"})
    assert load_pair(Pair("a", first, first)).prediction.any()
    with pytest.raises(InputError, match="different frames of reference"):
        load_pair(Pair("a", first, second))
