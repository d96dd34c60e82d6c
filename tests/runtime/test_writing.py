"""The files of a result: their names, and that they hold what was said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.scans import mr_scan, numpy_segmenter
from verdiff.imaging.reading import DICOM_SUFFIXES, FILM_SUFFIXES, MEDICAL_SUFFIXES, NIFTI_SUFFIXES
from verdiff.runtime.writing import output_files, write_result

READ = (".seg.nrrd", *NIFTI_SUFFIXES, *MEDICAL_SUFFIXES, *FILM_SUFFIXES, *DICOM_SUFFIXES, ".zip")


@pytest.mark.parametrize("suffix", [*READ, ".NHDR"])
def test_the_suffix_of_a_scan_is_no_part_of_the_names_of_its_files(tmp_path: Path, suffix: str) -> None:
    files = output_files(tmp_path / f"spine.t2{suffix}", uncertainty=True)
    assert files.name == "spine.t2"
    assert files.report == tmp_path / "spine.t2_seg.json"


def test_a_preview_written_alone_shows_what_one_written_with_others_does(tmp_path: Path) -> None:
    volume = mr_scan()
    result = numpy_segmenter().segment(volume)
    said = {"marks": {"L5": (0.0, 0.0, 0.0)}, "remarks": ["two vertebrae touch"]}
    pictures = {}
    for name in ("plain", "alone", "staged"):
        files = output_files(tmp_path / f"{name}.nii.gz", preview=True)
        if name == "staged":
            with files.plan().staged() as staged:
                write_result(result, volume, files, staged=staged, **said)  # type: ignore[arg-type]
        else:
            write_result(result, volume, files, **(said if name == "alone" else {}))  # type: ignore[arg-type]
        assert files.preview is not None
        pictures[name] = files.preview.read_bytes()
    assert pictures["alone"] == pictures["staged"] != pictures["plain"]
