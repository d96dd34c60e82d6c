"""`verdiff infer --dicom-seg --rtstruct`: files that appear with the mask, in one folder, and never over a scan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import infer_forced

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from tests.interop.dicom.phantom import as_array, read_segments  # noqa: E402
from tests.runtime.scans import mr_scan  # noqa: E402
from tests.runtime.tiny_bundle import LABELS  # noqa: E402
from verdiff.errors import USAGE, InputError, OutputError  # noqa: E402
from verdiff.files import made_by_verdiff  # noqa: E402
from verdiff.imaging import read_labels, read_volume, write_array  # noqa: E402


def test_the_objects_are_the_mask_of_the_same_call(series: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = infer_forced(series, bundle, "--dicom-seg", out / "seg.dcm", "--rtstruct", out / "rt.dcm", "--uncertainty")
    assert done.exit_code in (0, 14), done.output
    names = {"seg.dcm", "seg_uncertainty.dcm", "rt.dcm", "series_seg.nii.gz", "series_uncertainty.nii.gz"}
    assert {path.name for path in out.iterdir()} == {*names, "series_seg.json"}
    volume, labels = read_volume(series), read_labels(out / "series_seg.nii.gz")
    assert labels.array.any()
    found = read_segments(pydicom.dcmread(out / "seg.dcm"))
    for label in LABELS:
        assert np.array_equal(as_array(found[label.name], volume.geometry) > 0, labels.array == label.id)
    doubt = read_segments(pydicom.dcmread(out / "seg_uncertainty.dcm"))["uncertainty"]
    assert np.array_equal(as_array(doubt, volume.geometry), read_labels(out / "series_uncertainty.nii.gz").array)
    listed = json.loads((out / "series_seg.json").read_text("utf-8"))["files"]
    assert listed["DICOM segmentation"] == "seg.dcm" and listed["RT structure set"] == "rt.dcm"
    assert "wrote " + str(out / "seg.dcm") in done.output.replace("\n", "")


def test_objects_are_known_as_verdiff_s_until_somebody_changes_them(series: Path, bundle: Path, tmp_path: Path) -> None:
    seg = tmp_path / "seg.dcm"
    for _ in range(2):
        assert infer_forced(series, bundle, "--dicom-seg", seg).exit_code in (0, 14)
        assert made_by_verdiff(seg)
    data = pydicom.dcmread(seg)
    data.ContentDescription = "corrected by hand"
    data.save_as(seg)
    assert infer_forced(series, bundle, "--dicom-seg", seg).exit_code == OutputError.exit_code
    assert pydicom.dcmread(seg).ContentDescription == "corrected by hand"
    assert infer_forced(series, bundle, "--dicom-seg", seg, "--overwrite").exit_code in (0, 14)
    assert pydicom.dcmread(seg).ContentDescription != "corrected by hand"


def test_a_labelmap_is_written_where_it_is_asked_for(series: Path, bundle: Path, tmp_path: Path) -> None:
    done = infer_forced(series, bundle, "--dicom-seg", tmp_path / "seg.dcm", "--seg-type", "LABELMAP")
    assert done.exit_code in (0, 14), done.output
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentationType == "LABELMAP"


def test_a_form_of_an_object_that_is_not_written_is_a_wrong_command_line(series: Path, bundle: Path) -> None:
    done = infer_forced(series, bundle, "--seg-type", "LABELMAP")
    assert done.exit_code == USAGE and "--seg-type without --dicom-seg" in " ".join(done.output.split())


@pytest.mark.parametrize("option", ["--dicom-seg", "--rtstruct"])
def test_a_scan_that_is_not_from_dicom_is_refused_before_it_is_computed(
    bundle: Path, tmp_path: Path, option: str
) -> None:
    scan = mr_scan()
    write_array(scan.array, scan, tmp_path / "scan.nii.gz")
    done = infer_forced(tmp_path / "scan.nii.gz", bundle, option, tmp_path / "x.dcm")
    assert done.exit_code == InputError.exit_code and "is no DICOM scan" in done.output
    assert "pass the DICOM series itself" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dicom-seg", "{0}/seg.nii.gz"], "named seg.nii.gz"),
        (["--dicom-seg", "{0}/series/seg.dcm"], "in the folder of the scan"),
        (["--dicom-seg", "{0}/seg.dcm", "--output", "{0}/apart/"], "one folder for all files"),
        (["--dicom-seg", "{0}/apart/../seg.dcm", "--output", "{0}/apart/"], "one folder for all files"),
        (["--dicom-seg", "{0}/a.dcm", "--rtstruct", "{0}/a.dcm"], "for the RT structure set"),
        (["--dicom-seg", "{0}/nowhere/a.dcm"], "there is no folder"),
        (["--dicom-seg", "{0}/link/seg.dcm"], "in the folder of the scan"),
        (["--report", "{0}/link/page.html"], "in the folder of the scan"),
        (["--output", "{0}/out/", "--dicom-seg", "{0}/out/link/seg.dcm"], "in the folder of the scan"),
        (["--output", "{0}/out/", "--dicom-seg", "{0}/out/file/a/seg.dcm"], "is no folder"),
    ],
)
def test_places_that_will_not_do_are_refused(
    series: Path, bundle: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine", "utf-8")
    for link in (tmp_path / "link", tmp_path / "out" / "link"):
        link.symlink_to(series, target_is_directory=True)
    before = sorted(tmp_path.rglob("*"))
    done = infer_forced(series, bundle, *(word.format(tmp_path) for word in words))
    assert done.exit_code == OutputError.exit_code, done.output
    assert message in done.output and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["a/seg.dcm", "a/b/seg.dcm"])
def test_objects_go_into_folders_below_the_mask_s_which_are_made(
    series: Path, bundle: Path, tmp_path: Path, place: str
) -> None:
    done = infer_forced(series, bundle, "--output", f"{tmp_path}/out/", "--dicom-seg", tmp_path / "out" / place)
    assert done.exit_code in (0, 14), done.output
    assert (tmp_path / "out" / "series_seg.json").exists() and made_by_verdiff(tmp_path / "out" / place)


def test_a_disk_that_is_full_leaves_nothing(
    series: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pydicom.dataset.Dataset.save_as", full)
    done = infer_forced(series, bundle, "--dicom-seg", tmp_path / "seg.dcm")
    assert done.exit_code == OutputError.exit_code and "No space left" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_a_zip_is_segmented_too(series: Path, bundle: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", series)
    done = infer_forced(Path(archive), bundle, "--dicom-seg", tmp_path / "seg.dcm")
    assert done.exit_code in (0, 14), done.output
    assert (tmp_path / "study_seg.nii.gz").exists() and (tmp_path / "seg.dcm").exists()
