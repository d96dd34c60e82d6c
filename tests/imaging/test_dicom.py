"""DICOM: sorted by position, mixed series named, values as the scanner meant them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.imaging.make import save_dicom, save_series, textured
from verdiff.errors import InputError
from verdiff.imaging import acquisition_view, read_volume
from verdiff.imaging.orientation import axis_code

POSITIONS = [6.0, 0.0, -3.0, 9.0, 3.0]


def test_a_series_is_sorted_by_position_and_placed(tmp_path: Path) -> None:
    planes = save_series(tmp_path / "t2", POSITIONS)
    volume = read_volume(tmp_path / "t2")
    # Rows run to posterior and columns to inferior: the normal points to the right, against the first coordinate.
    order = np.argsort(POSITIONS)[::-1]
    np.testing.assert_array_equal(volume.array, planes[order])
    assert volume.modality == "MR"
    assert volume.geometry.spacing_mm == pytest.approx((0.75, 0.5, 3.0))
    assert volume.geometry.origin_mm == (9, -20, 30)
    np.testing.assert_allclose(volume.geometry.index_to_mm([0, 0, 4]), [-3, -20, 30], atol=1e-9)
    np.testing.assert_allclose(volume.geometry.index_to_mm([2, 0, 0]), [9, -20 + 1.5, 30], atol=1e-9)
    np.testing.assert_allclose(volume.geometry.index_to_mm([0, 2, 0]), [9, -20, 30 - 1.0], atol=1e-9)


def test_an_orientation_said_for_a_series_may_only_be_its_own(tmp_path: Path) -> None:
    save_series(tmp_path / "t2", POSITIONS)
    own = axis_code(read_volume(tmp_path / "t2").geometry.matrix)
    assert read_volume(tmp_path / "t2", orientation=own).notes == ()
    with pytest.raises(InputError, match=rf"orientation LPS for .* which states {own}"):
        read_volume(tmp_path / "t2", orientation="LPS")


def test_the_spacing_is_that_of_the_positions_not_the_stated_thickness(tmp_path: Path) -> None:
    save_series(tmp_path / "gap", [0.0, 4.4, 8.8], SliceThickness=4)
    assert read_volume(tmp_path / "gap").geometry.spacing_mm[2] == pytest.approx(4.4)


def test_rescale_is_applied_slice_by_slice(tmp_path: Path) -> None:
    raw = textured((2, 6, 5))
    save_dicom(tmp_path / "a.dcm", raw[0], ImagePositionPatient=[3, 0, 0], RescaleSlope=1, RescaleIntercept=-1000)
    save_dicom(tmp_path / "b.dcm", raw[1], ImagePositionPatient=[0, 0, 0], RescaleSlope=0.25, RescaleIntercept=-3.5)
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.array[0], raw[0] - 1000.0)
    np.testing.assert_allclose(volume.array[1], raw[1] * 0.25 - 3.5)
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize("modality", ["CR", "DX", "MR"])
def test_inverted_greys_are_turned_so_that_dense_is_bright(tmp_path: Path, modality: str) -> None:
    raw = textured((6, 5))
    path = save_dicom(tmp_path / "a.dcm", raw, Modality=modality, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_volume(path).array[0], 4095 - raw)


def test_inverted_greys_do_not_turn_hounsfield_units(tmp_path: Path) -> None:
    raw, tags = textured((6, 5)), {"RescaleSlope": 2, "RescaleIntercept": -1000, "Modality": "CT"}
    path = save_dicom(tmp_path / "a.dcm", raw, PhotometricInterpretation="MONOCHROME1", **tags)
    np.testing.assert_array_equal(read_volume(path).array[0], raw * 2.0 - 1000)


@pytest.mark.parametrize(("code", "modality"), [("CT", "CT"), ("MR", "MR"), ("DX", "XR"), ("CR", "XR"), ("PT", "PT")])
def test_the_modality_is_what_the_file_states(tmp_path: Path, code: str, modality: str) -> None:
    assert read_volume(save_dicom(tmp_path / "a.dcm", textured((6, 5)), Modality=code)).modality == modality


def test_one_file_is_one_slice_with_its_thickness(tmp_path: Path) -> None:
    save_dicom(tmp_path / "slice", textured((6, 5)), SliceThickness=4)
    single = read_volume(tmp_path / "slice")
    assert single.geometry.size == (5, 6, 1)
    assert single.geometry.spacing_mm == (0.75, 0.5, 4.0)
    assert acquisition_view(single.geometry) == "sagittal"
    assert read_volume(tmp_path).geometry == single.geometry


def test_a_slice_that_says_nothing_of_the_patient_is_as_a_film_is(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    plane = read_volume(save_dicom(tmp_path / "a.dcm", textured((6, 5)), **tags))
    assert acquisition_view(plane.geometry) == "film" and plane.geometry.spacing_mm[:2] == (0.75, 0.5)


def test_a_digital_film_has_its_detectors_pitch(tmp_path: Path) -> None:
    tags: dict[str, Any] = {"PixelSpacing": [0.2, 0.2], "ImagePositionPatient": None, "ImageOrientationPatient": None}
    film = read_volume(save_dicom(tmp_path / "a.dcm", textured((6, 5)), Modality="DX", **tags))
    assert film.geometry.spacing_mm == pytest.approx((0.2, 0.2, 0.2))
    assert acquisition_view(film.geometry) == "film"


def test_an_empty_folder_is_named_and_so_are_the_folders_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image", "utf-8")
    with pytest.raises(InputError, match="holds no DICOM image"):
        read_volume(tmp_path)
    save_series(tmp_path / "series-7", POSITIONS)
    with pytest.raises(InputError, match="it has the folders series-7"):
        read_volume(tmp_path)


def test_a_mixed_folder_names_its_series(tmp_path: Path) -> None:
    save_series(tmp_path / "mixed", POSITIONS)
    save_series(tmp_path / "mixed", POSITIONS, SeriesInstanceUID="1.2.3.9", SeriesDescription="Localizer")
    with pytest.raises(InputError, match=r"mixes 2 series: 5 x MR 'T2 sagittal' .*; 5 x MR 'Localizer'"):
        read_volume(tmp_path / "mixed")


@pytest.mark.parametrize(
    ("positions", "tags", "message"),
    [
        ([0.0, 3.0, 3.0, 6.0], {}, "share a position"),
        ([0.0, 3.0, 9.0, 12.0], {}, r"6\.00 mm apart where the others are 3\.00"),
        ([0.0, 3.0], {"ImagePositionPatient": None}, "does not say where its pixels lie"),
        ([0.0, 3.0], {"PixelSpacing": None}, "does not say where its pixels lie"),
        ([0.0, 3.0], {"PixelSpacing": [0.0, 0.0]}, "pixel spacing of 0 x 0"),
        ([0.0, 3.0], {"PixelSpacing": [900.0, 0.5]}, "pixel spacing of 900 x 0.5"),
        ([0.0, 90.0], {}, "spacing of 0.75 x 0.5 x 90"),
    ],
)
def test_a_stack_that_is_no_volume_is_refused(
    tmp_path: Path, positions: list[float], tags: dict[str, Any], message: str
) -> None:
    save_series(tmp_path / "bad", positions, **tags)
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path / "bad")


def test_a_tilted_gantry_is_refused_as_sheared(tmp_path: Path) -> None:
    for index in range(4):
        save_dicom(
            tmp_path / f"{index}.dcm", textured((6, 5), index), ImagePositionPatient=[3.0 * index, 0, 0.8 * index]
        )
    with pytest.raises(InputError, match=r"tilted gantry\) is sheared.*14\.\d\d degrees"):
        read_volume(tmp_path)


def test_a_scout_among_the_slices_is_named(tmp_path: Path) -> None:
    save_series(tmp_path / "a", POSITIONS)
    save_dicom(tmp_path / "a" / "scout.dcm", textured((6, 5)), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    with pytest.raises(InputError, match=r"scout\.dcm .* differ in orientation"):
        read_volume(tmp_path / "a")
    save_dicom(tmp_path / "a" / "scout.dcm", textured((9, 5)))
    with pytest.raises(InputError, match=r"scout\.dcm .* differ in size"):
        read_volume(tmp_path / "a")


@pytest.mark.parametrize("kept", [0.2, 0.95])
def test_a_truncated_slice_is_never_read(tmp_path: Path, kept: float) -> None:
    save_series(tmp_path / "cut", POSITIONS)
    victim = sorted((tmp_path / "cut").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[: int(victim.stat().st_size * kept)])
    for path in (tmp_path / "cut", victim):
        with pytest.raises(InputError):
            read_volume(path)


def test_colour_is_refused(tmp_path: Path) -> None:
    raw = textured((6, 5, 3), dtype="uint8")
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": raw.tobytes()}
    with pytest.raises(InputError, match="RGB"):
        read_volume(save_dicom(tmp_path / "a.dcm", raw[..., 0], **tags, **bits))


def test_an_enhanced_file_is_a_whole_volume(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def group(name: str, **tags: Any) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for keyword, value in tags.items():
            setattr(inner, keyword, value)
        setattr(outer, name, Sequence([inner]))
        return outer

    frames, shared = textured((3, 6, 5)), group("PlaneOrientationSequence", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    shared.update(group("PixelMeasuresSequence", PixelSpacing=[0.5, 0.75], SliceThickness=3, SpacingBetweenSlices=3))
    tags = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1",
        "NumberOfFrames": 3,
        "PixelData": frames.astype("<u2").tobytes(),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(
            group("PlanePositionSequence", ImagePositionPatient=[-3.0 * index, 1, 2]) for index in range(3)
        ),
        **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")),
    }
    volume = read_volume(save_dicom(tmp_path / "a.dcm", frames[0], **tags))
    np.testing.assert_array_equal(volume.array, frames)
    assert volume.geometry.spacing_mm == pytest.approx((0.75, 0.5, 3.0))
    np.testing.assert_allclose(volume.geometry.index_to_mm([0, 0, 2]), [-6, 1, 2], atol=1e-6)


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.113619.2", "slice.7", "scan.dcm"])
@pytest.mark.parametrize("preamble", [True, False])
def test_a_file_is_told_by_its_first_bytes_whatever_its_name(tmp_path: Path, name: str, preamble: bool) -> None:
    from pydicom import dcmread

    path = save_dicom(tmp_path / "a.dcm", textured((6, 5)))
    whole = read_volume(path)
    if preamble:
        path.rename(tmp_path / name)
    else:
        data = dcmread(path)
        data.preamble = None
        del data.file_meta
        data.save_as(tmp_path / name, implicit_vr=True, little_endian=True, enforce_file_format=False)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.array, whole.array)
    assert volume.identity == whole.identity
