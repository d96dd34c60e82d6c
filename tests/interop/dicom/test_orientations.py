"""Masks lie where they lay, read back in millimetres from every object, in all 48 axis orientations and obliquely."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from tests.imaging.make import ORIENTATIONS
from tests.interop.dicom.phantom import (
    assert_contours_of,
    assert_equal_to,
    grid,
    mask_of,
    scan_array,
    stored,
)
from tests.interop.dicom.series import save_frames, save_oriented
from verdiff.interop.dicom import segmentation_of, source_of, structure_set_of

ORDER = [3, 0, 6, 1, 5, 2, 4]


@pytest.mark.parametrize("octant", range(6))
def test_as_files_of_one_slice_and_as_one_file_of_many_frames(tmp_path: Path, octant: int) -> None:
    for index in range(octant, 48, 6):
        geometry = grid(ORIENTATIONS[index])
        if index % 4:
            source = save_frames(tmp_path / f"{index}.dcm", scan_array(geometry), geometry, ORDER)
        else:
            source = save_oriented(tmp_path / str(index), scan_array(geometry), geometry)
        mask = mask_of(source)
        assert_equal_to(stored(segmentation_of(mask, source_of(mask.scan))), mask)
        assert_contours_of(stored(structure_set_of(mask, source_of(mask.scan))), mask)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_obliquely(tmp_path: Path, kind: str) -> None:
    for index in range(3, 48, 8):
        geometry = grid(ORIENTATIONS[index], oblique=True)
        mask = mask_of(save_frames(tmp_path / f"{index}.dcm", scan_array(geometry), geometry, ORDER))
        assert_equal_to(stored(segmentation_of(mask, source_of(mask.scan), kind)), mask)
        assert_contours_of(stored(structure_set_of(mask, source_of(mask.scan))), mask)


def test_a_mask_that_is_moved_by_a_voxel_is_noticed(tmp_path: Path) -> None:
    geometry = grid(oblique=True)
    mask = mask_of(save_oriented(tmp_path / "s", scan_array(geometry), geometry))
    contours = stored(structure_set_of(mask, source_of(mask.scan)))
    segments = stored(segmentation_of(mask, source_of(mask.scan)))
    mask.labels[:] = np.roll(mask.labels, 1, axis=2)
    with pytest.raises(AssertionError):
        assert_contours_of(contours, mask)
    with pytest.raises(AssertionError):
        assert_equal_to(segments, mask)
