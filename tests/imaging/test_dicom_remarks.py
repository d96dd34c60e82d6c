"""What a series says of itself beside pixels and places: refused where it is no scan, said where a reader must know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pytest

from tests.imaging.make import save_dicom, save_enhanced, save_series, textured
from verdiff.errors import InputError
from verdiff.imaging import read_volume

PLACES = [0.0, 3.0, 6.0, 9.0]


def series(folder: Path, **tags: Any) -> Path:
    """Four slices, 3 mm apart; a list in a tag is a value for each slice."""
    folder.mkdir()
    planes = textured((len(PLACES), 6, 5))
    for index, (plane, place) in enumerate(zip(planes, PLACES, strict=True)):
        own = {name: value[index] if isinstance(value, list) else value for name, value in tags.items()}
        save_dicom(folder / f"{index}.dcm", plane, ImagePositionPatient=[place, -20, 30], **own)
    return folder


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"Modality": "CT", "RescaleType": "US"}, "are US (Rescale Type), not"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, "it is a localizer"),
        ({"ImagesInAcquisition": 9}, "4 files were found, and they state that their acquisition has 9 images"),
        ({"InstanceNumber": [5, 6, 7, 8]}, "have the instance numbers 5 to 8"),
        ({"InstanceNumber": [1, 2, 3, 7]}, "have the instance numbers 1 to 7"),
        ({"SpacingBetweenSlices": 1.5, "SliceThickness": 1}, "states 1.5 mm between slices, and positions 3 mm apart"),
    ],
)  # fmt: skip
def test_what_a_reader_must_know_is_a_note(tmp_path: Path, tags: dict[str, Any], said: str) -> None:
    (note,) = read_volume(series(tmp_path / "s", **tags)).notes
    assert said in note


@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "CT", "RescaleType": "HU", "RescaleSlope": 1, "RescaleIntercept": 0},
        {"RescaleType": "US", "RescaleSlope": 1, "RescaleIntercept": 0},
        {"ImagesInAcquisition": 4, "InstanceNumber": [5, 6, 7, 8]},
        {"InstanceNumber": [4, 3, 2, 1]},
        {"InstanceNumber": [1, 1, 1, 1]},
        {"SpacingBetweenSlices": 3},
        {"SpacingBetweenSlices": -3},
        {"SpacingBetweenSlices": 0.3, "SliceThickness": 2.7},
        {"PatientID": ["A", "A", "A", None]},
    ],
)
def test_what_is_as_it_should_be_is_no_note(tmp_path: Path, tags: dict[str, Any]) -> None:
    assert read_volume(series(tmp_path / "s", **tags)).notes == ()


def test_an_enhanced_file_is_asked_for_its_spacing_in_its_groups(tmp_path: Path) -> None:
    frames = textured((4, 6, 5))
    assert read_volume(save_enhanced(tmp_path / "a.dcm", frames, [0, 3, 6, 9])).notes == ()
    (note,) = read_volume(save_enhanced(tmp_path / "b.dcm", frames, [0, 9, 18, 27])).notes
    assert "it states 3 mm between slices, and positions 9 mm apart" in note


def test_files_of_two_patients_are_no_volume_and_their_numbers_are_not_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0\.dcm and 2\.dcm of .* are of different patients") as caught:
        read_volume(series(tmp_path / "s", PatientID=["secret-1", "secret-1", "secret-2", None]))
    assert "secret" not in str(caught.value)


def test_two_modalities_are_no_series(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"different modalities \(MR and CT\)"):
        read_volume(series(tmp_path / "s", Modality=["MR", "MR", "MR", "CT"]))


def test_a_mosaic_of_slices_is_no_slice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a mosaic"):
        read_volume(series(tmp_path / "s", ImageType="ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"))
    frames = save_enhanced(tmp_path / "a.dcm", textured((4, 6, 5)), [0, 3, 6, 9], ImageType="ORIGINAL\\PRIMARY\\MOSAIC")
    assert read_volume(frames).array.shape == (4, 6, 5)


def test_intensities_by_a_table_are_refused(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [4, 0, 16], "OD", bytes(8)
    path = save_dicom(tmp_path / "a.dcm", textured((6, 5)), ModalityLUTSequence=pydicom.Sequence([table]))
    with pytest.raises(InputError, match=r"by a table \(Modality LUT, OD\)"):
        read_volume(path)


@pytest.mark.parametrize(("ratio", "spacing"), [([2, 1], (1.0, 2.0)), ([1, 1], (1.0, 1.0)), ([0, 1], (1.0, 1.0))])
def test_a_film_without_spacing_keeps_the_shape_of_its_pixels(
    tmp_path: Path, ratio: list[int], spacing: tuple[float, float]
) -> None:
    path = save_dicom(tmp_path / "a.dcm", textured((6, 5)), Modality="DX", PixelSpacing=None, PixelAspectRatio=ratio)
    film = read_volume(path)
    assert film.geometry.spacing_mm[:2] == spacing and "no pixel spacing" in film.notes[0]


@pytest.mark.parametrize(
    ("tag", "name"), [("TemporalPositionIdentifier", "Temporal"), ("EchoNumbers", "Echo"), ("AcquisitionNumber", "Acq")]
)
def test_classic_files_tell_their_volumes_apart_and_which_is_not_whole(tmp_path: Path, tag: str, name: str) -> None:
    for part in (1, 2):
        save_series(tmp_path / str(part), PLACES[: 5 - part], **{tag: part})
        for path in (tmp_path / str(part)).iterdir():
            path.rename(tmp_path / f"{part}-{path.name}")
        (tmp_path / str(part)).rmdir()
    with pytest.raises(InputError, match=f"holds 2 volumes, told apart by {name}"):
        read_volume(tmp_path)
    assert read_volume(tmp_path, time_point=1).array.shape[0] == 4
    short = read_volume(tmp_path, time_point=2)
    assert short.array.shape[0] == 3 and "it has 3 slices, another has 4" in short.notes[0]


def test_an_acquisition_number_that_runs_with_the_slices_tells_no_volumes_apart(tmp_path: Path) -> None:
    for part in (1, 2):
        for index, place in enumerate(PLACES):
            plane, number = textured((6, 5), seed=10 * part + index), index // 2
            path = tmp_path / f"{part}-{index}.dcm"
            save_dicom(path, plane, ImagePositionPatient=[place, -20, 30], AcquisitionNumber=number)
    with pytest.raises(InputError, match="share a position"):
        read_volume(tmp_path)


def test_words_of_8_bit_pixels_in_big_endian_files_are_turned(tmp_path: Path) -> None:
    plane = textured((6, 6)).astype("u1")
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "syntax": "1.2.840.10008.1.2.2"}
    path = save_dicom(tmp_path / "a.dcm", plane, **bits, PixelData=plane.tobytes())
    data = pydicom.dcmread(path)
    for kind, stored in (("OB", plane), ("OW", plane.reshape(-1, 2)[:, ::-1])):
        data.PixelData = stored.tobytes()
        data["PixelData"].VR = kind
        data.save_as(path)
        assert (read_volume(path).array[0] == plane).all(), kind


def test_a_transfer_syntax_of_a_vendor_is_not_guessed(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "a.dcm", textured((6, 5)), syntax="1.2.840.10008.1.2")
    data = pydicom.dcmread(path)
    # GE's own: an implicit header, and pixels in the other byte order.
    data.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
    data.save_as(path, implicit_vr=True, little_endian=True)
    with pytest.raises(InputError, match=r"the transfer syntax 1\.2\.840\.113619\.5\.2"):
        read_volume(path)
