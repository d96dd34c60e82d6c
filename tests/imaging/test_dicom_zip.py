"""Zipped series are read as the folders they are, whatever the archive says of names, sizes and places."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.imaging.make import packed, save_dicom, save_series, textured
from verdiff.errors import InputError, OutputError
from verdiff.imaging import read_volume

POSITIONS = [0.0, 3.0, 6.0, 9.0]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    save_series(tmp_path / "t2", POSITIONS)
    return tmp_path / "t2"


def zipped(series: Path, archive: Path, folder: str = "DICOM/ST0/SE0/", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", method) as target:
        for path in sorted(series.iterdir()):
            target.write(path, folder + path.name)
    return archive


@pytest.mark.parametrize("folder", ["", "DICOM/ST0/SE0/"])
@pytest.mark.parametrize("name", ["t2.zip", "t2.ZIP", "export"])
def test_a_zip_is_read_as_its_folder(series: Path, tmp_path: Path, folder: str, name: str) -> None:
    volume, whole = read_volume(zipped(series, tmp_path / name, folder)), read_volume(series)
    np.testing.assert_array_equal(volume.array, whole.array)
    assert volume.geometry == whole.geometry and volume.identity == whole.identity
    assert volume.source == tmp_path / name


def test_packed_pixels_in_a_zip_are_unpacked_twice(series: Path, tmp_path: Path) -> None:
    whole = read_volume(series)
    for path in series.iterdir():
        packed(path, "JPEG")
    np.testing.assert_array_equal(read_volume(zipped(series, tmp_path / "a.zip")).array, whole.array)


def test_no_name_in_an_archive_says_where_a_file_goes(series: Path, tmp_path: Path) -> None:
    victim = tmp_path / "deep" / "er" / "a.zip"
    victim.parent.mkdir(parents=True)
    zipped(series, victim, "../../")
    with zipfile.ZipFile(victim, "a") as archive:
        archive.writestr("../../../README.txt", "up")
        archive.writestr("..", "up")
    before = sorted(tmp_path.rglob("*"))
    assert len(read_volume(victim).array) == len(POSITIONS)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_series_in_one_zip_are_refused(series: Path, tmp_path: Path) -> None:
    archive = zipped(series, tmp_path / "a.zip")
    with zipfile.ZipFile(archive, "a") as more:
        other = save_dicom(tmp_path / "o.dcm", textured((6, 5)), SeriesInstanceUID="1.9", SeriesDescription="T1")
        more.write(other, "DICOM/ST0/SE1/IM0")
    with pytest.raises(InputError, match=r"a\.zip mixes 2 series: .*'T1'"):
        read_volume(archive)


def test_a_damaged_file_in_a_zip_is_named_with_the_archive(series: Path, tmp_path: Path) -> None:
    first = sorted(series.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-9])
    archive = zipped(series, tmp_path / "a.zip")
    with pytest.raises(InputError, match=rf"{first.name} of {archive} cannot be read"):
        read_volume(archive)
    shutil.copy(first, tmp_path / "one.dcm")
    data = bytearray(sorted(series.iterdir())[1].read_bytes())
    at = data.index(b"\x28\x00\x10\x00US\x02\x00") + 8
    data[at] += 1
    for path in series.iterdir():
        path.unlink()
    (series / "rows.dcm").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_volume(zipped(series, tmp_path / "b.zip"))
    assert f"{tmp_path / 'b.zip'}/rows.dcm" in caught.value.found


@pytest.mark.parametrize("damage", ["cut", "flipped", "no archive", "nothing in it", "no image"])
def test_a_damaged_archive_is_refused_by_name(series: Path, tmp_path: Path, damage: str) -> None:
    archive = zipped(series, tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    if damage == "cut":
        archive.write_bytes(data[: len(data) // 2])
    elif damage == "flipped":
        data[data.index(b"\0DICM") + 40 if b"\0DICM" in data else 200] ^= 0x55
        archive.write_bytes(data)
    elif damage == "no archive":
        archive.write_bytes(b"<html>404</html>" * 40)
    else:
        with zipfile.ZipFile(archive, "w") as empty:
            if damage == "no image":
                empty.writestr("a.nii.gz", "no DICOM")
    with pytest.raises(InputError, match=r"a\.zip"):
        read_volume(archive)


def test_an_archive_that_claims_too_much_is_refused_before_it_is_unpacked(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verdiff.imaging.dicom_zip._MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"states 4 files of 0 MiB in all"):
        read_volume(zipped(series, tmp_path / "a.zip"))


def test_an_encrypted_archive_is_refused_by_name(series: Path, tmp_path: Path) -> None:
    archive = zipped(series, tmp_path / "a.zip", method=zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + offset] |= 1
    archive.write_bytes(data)
    with pytest.raises(InputError, match="is encrypted"):
        read_volume(archive)


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_full_disk_for_temporary_files_is_no_fault_of_the_archive(tmp_path: Path) -> None:
    import resource
    import signal

    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.dcm", bytes(128) + b"DICM" + bytes(300_000))
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"a\.zip cannot be unpacked into a folder for temporary files") as caught:
            read_volume(archive)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "TMPDIR" in caught.value.remedy


def test_an_archive_that_cannot_be_read_on_is_the_input(
    series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    archive = zipped(series, tmp_path / "a.zip")
    monkeypatch.setattr(zipfile.ZipExtFile, "read", gone)
    with pytest.raises(InputError, match=r"a\.zip cannot be read: Input/output error"):
        read_volume(archive)
