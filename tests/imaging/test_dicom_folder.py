"""Folders: every file is part of the series, named as passed over, or a reason to refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.make import save_dicom, save_series, textured
from verdiff.errors import InputError
from verdiff.imaging import read_volume

POSITIONS = [0.0, 3.0, 6.0, 9.0, 12.0]


def headless(path: Path) -> None:
    """As old exports are: without the preamble, the mark DICM and the group behind it."""
    data = path.read_bytes()
    length = int.from_bytes(data[140:144], "little")
    path.write_bytes(data[144 + length :])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def a_web_page(path: Path) -> None:
    path.write_bytes(b"<html>404</html>" * 40)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    save_series(tmp_path / "t2", POSITIONS)
    return tmp_path / "t2"


@pytest.mark.parametrize("damage", [emptied, cut, a_web_page])
@pytest.mark.parametrize("victims", [[0], [2], [3, 4], [0, 1, 2, 3, 4]])
def test_a_copy_that_broke_off_is_refused_with_its_files(
    series: Path, damage: Callable[[Path], None], victims: list[int]
) -> None:
    files = sorted(series.iterdir())
    for index in victims:
        damage(files[index])
    with pytest.raises(InputError) as caught:
        read_volume(series)
    assert files[victims[0]].name in caught.value.found
    assert len(victims) == 1 or f"{len(victims)} files" in caught.value.found


def test_a_file_that_cannot_be_opened_is_named(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (series / "99-a.dcm").symlink_to(series / "gone.dcm")
    with pytest.raises(InputError, match=r"99-a\.dcm of .* points to a file that is not there"):
        read_volume(series)
    (series / "99-a.dcm").unlink()
    victim, opened = sorted(series.iterdir())[1], Path.open

    def locked(self: Path, *how: object, **more: object) -> object:
        if self == victim:
            raise PermissionError(13, "Permission denied")
        return opened(self, *how, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(InputError, match=rf"{victim.name} of .* cannot be opened: Permission denied"):
        read_volume(series)


def test_a_name_without_suffix_is_a_damaged_slice_unless_it_is_text(series: Path) -> None:
    (series / "IM0009").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match=r"IM0009 .* does not begin as DICOM does"):
        read_volume(series)
    (series / "IM0009").unlink()
    (series / "README").write_text("Exported in March.\n", "utf-8")
    assert read_volume(series).notes == ("1 file that is no DICOM passed over: README",)


def test_files_that_are_no_dicom_are_passed_over_and_named(series: Path) -> None:
    for name in ("notes.txt", "thumb.jpg", "mask.nii.gz"):
        (series / name).write_text("no slice", "utf-8")
    for name in ("._00-a.dcm", ".DS_Store", "Thumbs.db", "DICOMDIR"):
        (series / name).write_bytes(b"\0\x05\x16\x07 of the system")
    (series / "inner").mkdir()
    volume = read_volume(series)
    assert len(volume.array) == 5
    assert volume.notes == ("3 files that are no DICOM passed over: mask.nii.gz, notes.txt, thumb.jpg",)


@pytest.mark.parametrize("count", [2, 5])
def test_files_without_a_preamble_are_read_and_counted(series: Path, count: int) -> None:
    whole = read_volume(series)
    for path in sorted(series.iterdir())[:count]:
        headless(path)
    volume = read_volume(series)
    np.testing.assert_array_equal(volume.array, whole.array)
    assert volume.geometry == whole.geometry
    assert f"{count} of 5 files lack the preamble" in volume.notes[0]


def test_the_same_instance_twice_is_taken_once_and_said(series: Path) -> None:
    whole = read_volume(series)
    for index, path in enumerate(sorted(series.iterdir())[:3]):
        shutil.copy(path, series / f"copy{index}.dcm")
    volume = read_volume(series)
    np.testing.assert_array_equal(volume.array, whole.array)
    assert "3 files that are copies of another passed over: copy0.dcm, copy1.dcm, copy2.dcm" in volume.notes


def test_one_instance_with_two_contents_is_refused(series: Path) -> None:
    first = sorted(series.iterdir())[0]
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    (series / "other.dcm").write_bytes(data)
    with pytest.raises(InputError, match=rf"{first.name} and other\.dcm .* same instance .* and differ"):
        read_volume(series)


def save_blank(folder: Path, start: float, numbers: list[int], **tags: object) -> None:
    folder.mkdir(exist_ok=True)
    for index, number in enumerate(numbers):
        place = [start + 3.0 * index, -20, 30]
        values = {"ImagePositionPatient": place, "InstanceNumber": number, "SeriesInstanceUID": "", **tags}
        save_dicom(folder / f"{start:g}-{index}.dcm", textured((6, 5), index), **values)


def test_two_series_without_uids_are_never_merged(tmp_path: Path) -> None:
    save_blank(tmp_path / "echoes", 0.0, [1, 2, 3], EchoTime=80)
    save_blank(tmp_path / "echoes", 1.5, [1, 2, 3], EchoTime=10)
    with pytest.raises(InputError, match="mixes 2 series: 3 x MR"):
        read_volume(tmp_path / "echoes")
    save_blank(tmp_path / "alike", 0.0, [1, 2, 3])
    save_blank(tmp_path / "alike", 1.5, [1, 2, 3])
    with pytest.raises(InputError, match="no Series Instance UID, and their instance numbers repeat"):
        read_volume(tmp_path / "alike")
    save_blank(tmp_path / "mixed", 0.0, [1, 2, 3])
    save_blank(tmp_path / "mixed", 9.0, [4, 5, 6], SeriesInstanceUID="1.2.3")
    with pytest.raises(InputError, match="mixes 2 series"):
        read_volume(tmp_path / "mixed")


def test_a_series_without_uid_whose_files_agree_is_read_and_said(tmp_path: Path) -> None:
    save_blank(tmp_path / "one", 0.0, [1, 2, 3, 4])
    volume = read_volume(tmp_path / "one")
    assert len(volume.array) == 4 and "no Series Instance UID" in volume.notes[0]


def test_the_directory_of_a_medium_is_told_from_its_images(series: Path) -> None:
    (series / "DICOMDIR").write_bytes((sorted(series.iterdir())[0]).read_bytes())
    with pytest.raises(InputError, match="holds no image itself") as caught:
        read_volume(series / "DICOMDIR")
    assert "folder" in caught.value.remedy


def test_a_report_among_the_images_is_named(series: Path) -> None:
    save_dicom(series / "report.dcm", textured((6, 5)), Rows=None, Columns=None, PixelData=None, Modality="SR")
    with pytest.raises(InputError, match=r"report\.dcm of .* holds no pixels \(modality SR\)"):
        read_volume(series)


def test_a_series_whose_positions_were_rounded_to_a_tenth_is_read_with_a_note(tmp_path: Path) -> None:
    array = save_series(tmp_path / "series", [round(3.37 * index, 1) for index in range(9)])
    volume = read_volume(tmp_path / "series")
    assert volume.array.shape == (9, *array.shape[1:]) and volume.array.sum() == array.sum()
    assert volume.geometry.spacing_mm[2] == pytest.approx(3.37, abs=0.02)
    assert "rounded (1 decimals)" in volume.notes[0]
    save_series(tmp_path / "gap", [round(3.37 * index, 1) for index in range(9) if index != 4])
    with pytest.raises(InputError, match="mm apart where"):
        read_volume(tmp_path / "gap")
