"""The resampling formula: what it keeps, and that its fast form is the same formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verdiff.imaging import resample, resize_matrix, resize_planes

LENGTH = st.integers(1, 200)


@settings(deadline=None)
@given(LENGTH, LENGTH)
def test_rows_are_weights_that_sum_to_one(n_out: int, n_in: int) -> None:
    matrix = resize_matrix(n_out, n_in)
    assert matrix.shape == (n_out, n_in) and matrix.dtype == np.float32
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)


@given(LENGTH)
def test_the_same_length_changes_nothing(n: int) -> None:
    np.testing.assert_array_equal(resize_matrix(n, n), np.eye(n, dtype=np.float32))


def test_the_formula_by_hand() -> None:
    np.testing.assert_allclose(resize_matrix(2, 4), np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7, atol=1e-7)
    np.testing.assert_allclose(resize_matrix(4, 2), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]], atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(st.tuples(LENGTH, LENGTH), st.tuples(LENGTH, LENGTH), st.integers(1, 3))
def test_planes_are_resampled_by_the_matrices(before: tuple[int, int], after: tuple[int, int], count: int) -> None:
    planes = np.random.default_rng(0).normal(size=(count, *before)).astype(np.float32)
    expected = resize_matrix(after[0], before[0]) @ planes @ resize_matrix(after[1], before[1]).T
    np.testing.assert_allclose(resize_planes(planes, *after), expected, atol=2e-5)


def test_a_ramp_stays_a_ramp_away_from_the_border() -> None:
    ramp = np.broadcast_to((np.arange(60) + 0.5) / 60, (2, 60)).astype(np.float32)
    for width in (24, 60, 150):
        expected = (np.arange(width) + 0.5) / width
        inside = slice(width // 10, -(width // 10))
        # Where the pitches have no common multiple the filter's weights leave a hundredth of a pixel.
        np.testing.assert_allclose(resize_planes(ramp, 2, width)[0][inside], expected[inside], atol=0.02 / 60)


def test_reducing_averages_instead_of_aliasing() -> None:
    stripes = np.tile([0.0, 1.0], 64)[None].astype(np.float32)
    assert np.abs(resize_planes(stripes, 1, 16)[0, 1:-1] - 0.5).max() < 0.05


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "bool"])
def test_every_pixel_type_gives_float32(dtype: str) -> None:
    planes = np.random.default_rng(0).integers(0, 2, (3, 9, 7)).astype(dtype)
    result = resize_planes(planes, 5, 11)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, resize_planes(planes.astype(np.float32), 5, 11))


def test_leading_axes_and_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = np.random.default_rng(0).random((4, 3, 20, 30)).astype(np.float32)
    whole = resize_planes(maps, 33, 17)
    monkeypatch.setattr(resample, "_CHUNK_BYTES", 1)
    np.testing.assert_allclose(resize_planes(maps, 33, 17), whole, atol=1e-6)
    assert whole.shape == (4, 3, 33, 17)


def test_memory_beyond_the_result_stays_within_a_few_chunks() -> None:
    import tracemalloc

    planes = np.zeros((400, 96, 96), dtype=np.int16)
    resize_planes(planes[:1], 48, 48)
    tracemalloc.start()
    result = resize_planes(planes, 48, 48)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - result.nbytes < 3 * (4 << 20)
