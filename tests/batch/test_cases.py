"""Which scans words and manifests name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.imaging.make import save_dicom, textured
from tests.interop.dicom.series import save_oriented
from tests.runtime.scans import mr_scan
from verdiff.batch import BatchCase, are_several, cases_of
from verdiff.errors import InputError
from verdiff.imaging import write_array


def scans(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_array(mr_scan().array, mr_scan(), folder / name)
    return [folder / name for name in names]


def test_a_folder_of_images_is_its_images_without_what_verdiff_wrote(tmp_path: Path) -> None:
    named = scans(tmp_path, "a.nii.gz", "b.nrrd")
    write_array(np.ones(mr_scan().array.shape, np.uint8), mr_scan(), tmp_path / "a_seg.nii.gz", mark=True)
    (tmp_path / "notes.txt").write_text("of the study", "utf-8")
    assert [each.scan for each in cases_of([tmp_path])] == named
    assert are_several([tmp_path])


def test_a_folder_of_one_series_is_one_scan_also_with_a_picture_beside_it(tmp_path: Path) -> None:
    series = save_oriented(tmp_path / "study" / "one", mr_scan().array, mr_scan().geometry)
    (series / "key image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert not are_several([series])
    assert [each.scan for each in cases_of([series])] == [series]


def test_a_folder_of_folders_is_a_folder_of_series(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_oriented(tmp_path / name, mr_scan().array, mr_scan().geometry)
    assert [each.scan.name for each in cases_of([tmp_path])] == ["one", "two"]


def test_a_pattern_is_expanded_and_one_that_matches_nothing_is_told(tmp_path: Path) -> None:
    scans(tmp_path / "x", "a.nii.gz", "b.nii.gz")
    scans(tmp_path / "y", "c.nii.gz")
    assert [each.scan.name for each in cases_of([tmp_path / "*" / "*.nii.gz"])] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert [each.scan.name for each in cases_of([tmp_path / "**" / "c*"])] == ["c.nii.gz"]
    with pytest.raises(InputError, match="nothing matches"):
        cases_of([tmp_path / "*.mha"])


def test_slices_of_one_series_that_are_named_one_by_one_are_refused(tmp_path: Path) -> None:
    series = save_oriented(tmp_path / "one", mr_scan().array, mr_scan().geometry)
    for words in (sorted(series.iterdir()), [series / "*"]):
        with pytest.raises(InputError, match="are slices of one series") as caught:
            cases_of(words)
        assert str(series) in caught.value.remedy
    other = save_oriented(tmp_path / "two", mr_scan().array, mr_scan().geometry)
    each = [min(series.iterdir()), min(other.iterdir())]
    assert [case.scan for case in cases_of(each)] == each


def test_films_of_one_series_are_scans_of_their_own(tmp_path: Path) -> None:
    films = [save_dicom(tmp_path / f"{side}.dcm", textured((6, 5)), Modality="DX") for side in ("front", "side")]
    assert [case.scan for case in cases_of(films)] == films


def test_a_name_with_brackets_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    (named,) = scans(tmp_path, "scan[1].nii.gz")
    assert not are_several([named])


def test_a_manifest_names_scans_beside_it_their_files_and_levels(tmp_path: Path) -> None:
    manifest = tmp_path / "cases.csv"
    manifest.write_text("scan,name,lowest\nx/a.nii.gz,p1,l05\n\n/else/b.nii.gz,,\n", "utf-8-sig")
    assert cases_of([], manifest) == [
        BatchCase(tmp_path / "x" / "a.nii.gz", "p1", "L5", "cases.csv line 2: "),
        BatchCase(Path("/else/b.nii.gz"), None, None, "cases.csv line 4: "),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no line"),
        ("path\na.nii.gz\n", "the titles path"),
        ("scan,nmae\na.nii.gz,x\n", "nmae"),
        ("scan,name\na.nii.gz\n", "line 2: 1 cells"),
        ("scan,name\n,x\n", "line 2: no scan"),
        ("scan,name\na.nii.gz,../x\n", r"line 2: the name '\.\./x'"),
        ("scan,lowest\na.nii.gz,L9\n", "line 2: the level 'L9'"),
        ('scan\n"a.nii.gz\n', "cannot be read"),
        ("scan\n", "no scan in"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    manifest = tmp_path / "cases.csv"
    manifest.write_text(text, "utf-8")
    with pytest.raises(InputError, match=told):
        cases_of([], manifest)


def test_a_manifest_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_bytes(b"scan\n\xff\xfe\n")
    for name in ("cases.csv", "other.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            cases_of([], tmp_path / name)
