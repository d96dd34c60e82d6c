"""A file that verdiff made is told from any other, and from the same file once somebody changed it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from tests.imaging.make import save_dicom, save_nifti, textured, volume
from verdiff.anatomy.mesh_files import write_stl, write_vtp
from verdiff.anatomy.surface import Surface
from verdiff.files import made_by_verdiff, mark_file
from verdiff.imaging import Volume, read_labels, read_volume, write_array

TRIANGLE = Surface(np.eye(3), np.array([[0, 1, 2]]))


def texts() -> dict[str, bytes]:
    return {
        ".json": json.dumps({"verdiff": "0.1.0", "written": [1, 2]}, indent=1).encode() + b"\n",
        ".csv": b'case,note\na,"two\nlines, and a comma"\n',
        ".md": b"| a |\n| --- |\n",
    }


def make(folder: Path, suffix: str) -> Path:
    path = folder / f"made{suffix}"
    if suffix in texts():
        path.write_bytes(texts()[suffix])
    elif suffix == ".png":
        Image.new("RGB", (30, 20), (1, 2, 3)).save(path)
    elif suffix == ".stl":
        write_stl(path, TRIANGLE)
    elif suffix == ".dcm":
        save_dicom(path, textured((6, 5)))
    elif suffix == ".vtp":
        write_vtp(path, {1: TRIANGLE})
    else:
        write_array(np.ones((4, 6, 5), np.uint8), volume(), path, mark=True)
    return path


SUFFIXES = (".json", ".csv", ".md", ".png", ".stl", ".vtp", ".dcm", ".nii", ".nii.gz", ".nrrd", ".mha")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_marked_file_is_verdiffs_until_any_byte_of_it_changes(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path, suffix)
    if not suffix.startswith((".nii", ".nrrd", ".mha")):
        assert not made_by_verdiff(path)
        mark_file(path)
    assert made_by_verdiff(path)
    data = path.read_bytes()
    packed = suffix == ".nii.gz"
    whole = gzip.decompress(data) if packed else data
    for place in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(gzip.compress(changed) if packed else bytes(changed))
        assert not made_by_verdiff(path), place
    for changed_length in (whole[:-1], whole + b"\n"):
        path.write_bytes(gzip.compress(changed_length) if packed else changed_length)
        assert not made_by_verdiff(path)
    path.write_bytes(data)
    assert made_by_verdiff(path)


def test_marking_twice_changes_nothing(tmp_path: Path) -> None:
    path = make(tmp_path, ".json")
    mark_file(path)
    before = path.read_bytes()
    mark_file(path)
    assert path.read_bytes() == before


def test_what_is_in_a_marked_file_reads_as_before(tmp_path: Path) -> None:
    for suffix in (".json", ".csv", ".png"):
        mark_file(make(tmp_path, suffix))
    assert json.loads((tmp_path / "made.json").read_text("utf-8")).items() >= json.loads(texts()[".json"]).items()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "made.csv").read_text("utf-8"), newline="")))
    assert [{name: row[name] for name in ("case", "note")} for row in rows] == [
        {"case": "a", "note": "two\nlines, and a comma"}
    ]
    with Image.open(tmp_path / "made.png") as picture:
        picture.verify()
    assert sitk.ReadImage(str(tmp_path / "made.png")).GetSize() == (30, 20)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("nifti", [True, False])
def test_a_marked_mask_reads_as_an_unmarked_one(tmp_path: Path, suffix: str, nifti: bool) -> None:
    scan = read_volume(save_nifti(tmp_path / "scan.nii.gz", textured((4, 6, 5)))) if nifti else volume()
    mask = (textured((4, 6, 5)) > 100).astype(np.uint8)
    for name, mark in (("plain", False), ("marked", True)):
        write_array(mask, scan, tmp_path / f"{name}{suffix}", mark=mark)
        assert made_by_verdiff(tmp_path / f"{name}{suffix}") == mark
        np.testing.assert_array_equal(read_labels(tmp_path / f"{name}{suffix}").array, mask)
    plain, marked = (sitk.ReadImage(str(tmp_path / f"{name}{suffix}")) for name in ("plain", "marked"))
    assert (plain.GetSpacing(), plain.GetOrigin(), plain.GetDirection()) == (
        marked.GetSpacing(),
        marked.GetOrigin(),
        marked.GetDirection(),
    )
    assert sorted(path.name for path in tmp_path.glob("[mp]*")) == [f"marked{suffix}", f"plain{suffix}"]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_mask_that_an_expert_corrected_is_the_experts_though_its_header_is_verdiffs(
    tmp_path: Path, suffix: str
) -> None:
    path = make(tmp_path, suffix)
    image = sitk.ReadImage(str(path))
    voxels = sitk.GetArrayFromImage(image)
    voxels[0, 0, 0] = 2
    corrected = sitk.GetImageFromArray(voxels)
    corrected.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        corrected.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(corrected, str(path))
    unpacked = gzip.decompress(path.read_bytes()) if suffix == ".nii.gz" else path.read_bytes()
    assert b"verdiff" in unpacked[148:228]
    assert not made_by_verdiff(path)


def test_what_cannot_be_read_or_has_no_mark_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "empty.json").touch()
    (tmp_path / "named.json").write_text('{"written_by": "verdiff 0.1.0 sha256:' + "0" * 32 + '"}', "utf-8")
    (tmp_path / "cut.nii.gz").write_bytes(make(tmp_path, ".nii.gz").read_bytes()[:-9])
    (tmp_path / "followed.nii.gz").write_bytes((tmp_path / "made.nii.gz").read_bytes() + b"more")
    for path in (tmp_path / "gone.json", tmp_path, *tmp_path.glob("[ncef]*")):
        assert not made_by_verdiff(path), path.name


def test_an_array_that_a_program_writes_itself_is_the_programs(tmp_path: Path) -> None:
    scan = Volume(textured((4, 6, 5)), volume().geometry)
    write_array(np.ones((4, 6, 5), np.uint8), scan, tmp_path / "mask.nii.gz")
    assert not made_by_verdiff(tmp_path / "mask.nii.gz")
