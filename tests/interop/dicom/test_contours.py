"""Outlines enclose just the pixels: areas, holes, islands and corners, by filling them again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from verdiff.interop.dicom.contours import outlines


def filled(found: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies within an odd number of crossings of any outline."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for outline in found:
        one = np.zeros(shape, bool)
        for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            if y0 != y1:
                crosses = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
                one ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        assert not (inside & one).any(), "two outlines enclose one pixel"
        inside |= one
    return inside


def area(outline: np.ndarray) -> float:
    x, y = outline.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@settings(max_examples=300)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_any_plane_is_enclosed_pixel_for_pixel(plane: np.ndarray) -> None:
    found = outlines(plane)
    assert np.array_equal(filled(found, plane.shape), plane)
    assert sum(map(area, found)) == pytest.approx(np.count_nonzero(plane))


def test_a_ring_with_an_island_is_two_outlines_and_no_hole_of_its_own() -> None:
    plane = np.zeros((11, 11), bool)
    plane[1:10, 1:10] = True
    plane[2:9, 2:9] = False
    plane[4:7, 4:7] = True
    plane[5, 5] = False
    found = outlines(plane)
    assert sorted(map(area, found)) == [8.0, 32.0]
    assert np.array_equal(filled(found, plane.shape), plane)


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    found = outlines(np.eye(3, dtype=bool))
    assert [area(each) for each in found] == [1.0, 1.0, 1.0]


def test_a_block_has_four_corners_at_the_edges_of_its_pixels() -> None:
    plane = np.zeros((5, 6), bool)
    plane[1:4, 2:5] = True
    (outline,) = outlines(plane)
    assert sorted(map(tuple, outline.tolist())) == [(1.5, 0.5), (1.5, 3.5), (4.5, 0.5), (4.5, 3.5)]


def test_nothing_has_no_outline() -> None:
    assert outlines(np.zeros((3, 4), bool)) == []
