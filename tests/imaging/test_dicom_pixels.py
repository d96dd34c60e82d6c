"""DICOM pixels: every kind of stored number becomes the intensity that the scanner meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.imaging.make import packed, save_dicom, textured
from verdiff.errors import InputError
from verdiff.imaging import read_volume
from verdiff.imaging.quiet import heard

HOUNSFIELD = np.concatenate([np.full((8, 16), -1000), np.full((8, 16), 500)])


def stored_as(bits: int, signed: bool, values: np.ndarray, allocated: int = 16) -> dict[str, Any]:
    kind = f"<{'i' if signed else 'u'}{allocated // 8}"
    return {
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "PixelData": (values.astype(np.int64) & ((1 << bits) - 1)).astype(f"<u{allocated // 8}").view(kind).tobytes(),
    }


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_hounsfield_units_are_read_whatever_the_sign_the_bits_and_the_display(
    tmp_path: Path, bits: int, signed: bool, kind: str
) -> None:
    intercept = 0 if signed else -1024
    tags = stored_as(bits, signed, HOUNSFIELD - intercept)
    tags |= {"Modality": "CT", "PhotometricInterpretation": kind, "RescaleSlope": 1, "RescaleIntercept": intercept}
    volume = read_volume(save_dicom(tmp_path / "a.dcm", HOUNSFIELD, **tags))
    np.testing.assert_array_equal(volume.array[0], HOUNSFIELD)


@pytest.mark.parametrize("pack", [None, "RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("shape", [(16, 16), (41, 36)])
def test_packed_pixels_are_the_plain_ones(tmp_path: Path, pack: str | None, shape: tuple[int, int]) -> None:
    raw = textured(shape)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "PhotometricInterpretation": "MONOCHROME1"}
    film = save_dicom(tmp_path / "a.dcm", raw, Modality="CR", **tags)
    scan = save_dicom(tmp_path / "b.dcm", raw, Modality="CT", **tags)
    if pack:
        film, scan = packed(film, pack), packed(scan, pack)
    np.testing.assert_array_equal(read_volume(film).array[0], (4095 - raw) * 2 - 1000)
    np.testing.assert_array_equal(read_volume(scan).array[0], raw * 2 - 1000)


@pytest.mark.parametrize("pack", ["RLE", "JPEG", "JPEG2000"])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_packed_hounsfield_units_are_read_whatever_the_display(tmp_path: Path, pack: str, bits: int, kind: str) -> None:
    tags = stored_as(bits, True, HOUNSFIELD) | {"Modality": "CT", "PhotometricInterpretation": kind}
    volume = read_volume(packed(save_dicom(tmp_path / "a.dcm", HOUNSFIELD, **tags), pack))
    np.testing.assert_array_equal(volume.array[0], HOUNSFIELD)


def test_signed_films_of_monochrome1_are_turned_so_that_dense_is_bright(tmp_path: Path) -> None:
    values = textured((16, 16)) - 60
    tags = stored_as(12, True, values) | {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1"}
    np.testing.assert_array_equal(read_volume(save_dicom(tmp_path / "a.dcm", values, **tags)).array[0], -1 - values)


def test_overlays_in_unused_bits_are_no_intensities(tmp_path: Path) -> None:
    raw = textured((16, 16)).astype(np.uint16)
    tags = {"PixelData": (raw | 0xF000).astype("<u2").tobytes()}
    np.testing.assert_array_equal(read_volume(save_dicom(tmp_path / "a.dcm", raw, **tags)).array[0], raw)
    high = {"HighBit": 15, "PixelData": (raw << 4 | 0xF).astype("<u2").tobytes()}
    np.testing.assert_array_equal(read_volume(save_dicom(tmp_path / "b.dcm", raw, **high)).array[0], raw)


@pytest.mark.parametrize("allocated", [8, 16, 32])
def test_numbers_of_8_16_and_32_bits_are_read(tmp_path: Path, allocated: int) -> None:
    values = textured((16, 16))
    tags = stored_as(allocated, False, values, allocated)
    np.testing.assert_array_equal(read_volume(save_dicom(tmp_path / "a.dcm", values, **tags)).array[0], values)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "pixels of 1 bits"),
        ({"BitsStored": 20, "HighBit": 19}, "pixels of 16 bits, 20 of them"),
        ({"Rows": 500}, "truncated or damaged"),
        ({"Columns": 15}, "truncated or damaged"),
        ({"NumberOfFrames": 7}, "frame 1 of .* lacks Image Position"),
        ({"NumberOfFrames": -1}, "states -1 frames"),
        ({"Rows": 0}, "does not state its rows"),
        ({"PixelData": None}, "holds no pixels"),
        ({"RescaleSlope": 0, "RescaleIntercept": 3}, "rescale slope of 0"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "RGB"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
    ],
)
def test_pixels_that_cannot_be_used_are_refused_by_name(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_volume(save_dicom(tmp_path / "a.dcm", textured((16, 16)), **tags))
    assert "a.dcm" in caught.value.found


@pytest.mark.parametrize("pack", [False, True])
def test_an_icon_in_the_header_is_not_the_image(tmp_path: Path, pack: bool) -> None:
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.encaps import encapsulate

    raw, icon = textured((16, 16)), Dataset()
    icon.Rows = icon.Columns = 4
    icon.BitsAllocated = icon.BitsStored = 8
    icon.PixelData = encapsulate([bytes(16), b"\x08\x00" * 8]) if pack else bytes(16)
    icon["PixelData"].VR, icon["PixelData"].is_undefined_length = "OB", pack
    path = save_dicom(tmp_path / "a.dcm", raw, IconImageSequence=[icon])
    data = pydicom.dcmread(path)
    for undefined in (False, True):
        data["IconImageSequence"].is_undefined_length = undefined
        data.save_as(path)
        np.testing.assert_array_equal(read_volume(path).array[0], raw)


def test_a_film_without_spacing_counts_a_millimetre_a_pixel_and_says_so(tmp_path: Path) -> None:
    tags: dict[str, Any] = dict.fromkeys(("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"))
    film = read_volume(save_dicom(tmp_path / "a.dcm", textured((16, 16)), Modality="DX", **tags))
    assert film.geometry.spacing_mm == (1.0, 1.0, 1.0) and "no pixel spacing" in film.notes[0]
    detector = save_dicom(tmp_path / "b.dcm", textured((16, 16)), Modality="DX", ImagerPixelSpacing=[0.2, 0.2], **tags)
    assert read_volume(detector).geometry.spacing_mm == pytest.approx((0.2, 0.2, 0.2))
    with pytest.raises(InputError, match="lacks Pixel Spacing"):
        read_volume(save_dicom(tmp_path / "c.dcm", textured((16, 16)), **tags))


def test_a_body_part_without_a_spine_is_said(tmp_path: Path) -> None:
    knee = save_dicom(tmp_path / "a.dcm", textured((16, 16)), BodyPartExamined="KNEE")
    assert read_volume(knee).notes == ("it states the body part KNEE, which shows no spine",)
    assert not read_volume(save_dicom(tmp_path / "b.dcm", textured((16, 16)), BodyPartExamined="LSPINE")).notes


@pytest.mark.parametrize("kind", ["dicom", "film"])
def test_a_decoder_prints_nothing_and_what_it_says_of_damage_is_a_refusal(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind == "dicom":
        path = packed(save_dicom(tmp_path / "x.dcm", textured((41, 36))), "JPEG")
    else:
        path = tmp_path / "x.jpg"
        waves = np.add.outer(np.sin(np.arange(96) / 9), np.cos(np.arange(96) / 7))
        Image.fromarray((60 * (waves + 2)).astype(np.uint8)).save(path)
    sound, told = path.read_bytes(), 0
    begin = sound.rfind(b"\xff\xda") + 12
    for at in range(begin, len(sound) - 4, max(1, (len(sound) - begin) // 60)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x5A]) + sound[at + 1 :])
        try:
            read_volume(path)
        except InputError as error:
            told += "its decoder says: Corrupt JPEG data" in error.found
    assert told > 3
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


def test_what_others_print_while_a_frame_is_decoded_is_handed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with heard(tmp_path):
        os.write(2, b"from another thread\n")
    assert capfd.readouterr().err == "from another thread\n"
