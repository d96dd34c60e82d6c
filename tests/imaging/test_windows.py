"""Overlapping windows put a volume together again, whatever its size, and hold no more of it than a slab."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verdiff.errors import VerdiffError
from verdiff.imaging.windows import LEAST_WEIGHT, count_windows, fuse_windows, sliding

Shape = tuple[int, int, int]
OVERLAPS = st.sampled_from((0.0, 0.25, 0.5, 0.7))


def identity(windows: np.ndarray) -> np.ndarray:
    return np.concatenate([windows, -2 * windows], axis=1)


def fused(volume: np.ndarray, patch: Shape, predict=identity, **options) -> np.ndarray:  # type: ignore[no-untyped-def]
    parts = list(fuse_windows(volume.shape, patch, volume.__getitem__, predict, **options))
    starts = [part.start for part, _ in parts]
    assert starts == sorted(starts) and parts[0][0].start == 0 and parts[-1][0].stop == len(volume)
    assert all(before.stop == after.start for (before, _), (after, _) in pairwise(parts))
    return np.concatenate([maps for _, maps in parts], axis=1)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[Shape, Shape]:
    patch = draw(st.tuples(*[st.integers(1, 5)] * 3))
    extra = draw(st.tuples(*[st.integers(0, 5)] * 3))
    return tuple(p + e for p, e in zip(patch, extra, strict=True)), patch  # type: ignore[return-value]


@settings(deadline=None, max_examples=30)
@given(shapes(), OVERLAPS, st.integers(1, 5))
def test_a_network_that_changes_nothing_gives_the_volume_back(
    sizes: tuple[Shape, Shape], overlap: float, batch: int
) -> None:
    shape, patch = sizes
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    maps = fused(volume, patch, overlap=overlap, batch=batch)
    np.testing.assert_allclose(maps, np.stack([volume, -2 * volume]), rtol=2e-6, atol=2e-6)
    assert maps.tobytes() == fused(volume, patch, overlap=overlap).tobytes(), "the batch changes no bit"


@settings(deadline=None, max_examples=30)
@given(shapes(), OVERLAPS)
def test_windows_cover_the_volume_evenly_with_the_overlap_asked_for(sizes: tuple[Shape, Shape], overlap: float) -> None:
    shape, patch = sizes
    windows = sliding(shape, patch, overlap)
    assert len(windows) == count_windows(shape, patch, overlap)
    for axis in range(3):
        starts = sorted({window.place[axis].start for window in windows})
        assert starts[0] == 0 and starts[-1] + patch[axis] == shape[axis]
        steps = np.diff(starts)
        assert (steps <= max(1, patch[axis] * (1 - overlap))).all()
        assert len(steps) == 0 or steps.max() - steps.min() <= 1
    total = np.zeros(shape)
    for window in windows:
        total[window.place] += window.shares
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_one_window_is_the_networks_own_answer_bit_for_bit() -> None:
    volume = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
    assert fused(volume, (3, 5, 4)).tobytes() == identity(volume[None, None])[0].tobytes()


def test_where_windows_disagree_the_nearer_centre_counts_more() -> None:
    """The first window says 0 and the second 1: the share of the second grows through the overlap, by half at its
    middle, as the ratio of two Gaussians of an eighth of the patch does."""
    calls = iter((0.0, 1.0))
    line = fused(np.zeros((1, 1, 24), np.float32), (1, 1, 16), lambda windows: windows * 0 + next(calls))[0, 0, 0]
    assert (line[:8] == 0).all() and (line[16:] == 1).all()
    assert (np.diff(line[7:17]) > 0).all()
    np.testing.assert_allclose(line[8:16] + line[15:7:-1], 1, atol=1e-6)
    places = np.arange(8, 16)
    bells = [np.maximum(np.exp(-(((places - centre) / 2) ** 2) / 2), LEAST_WEIGHT) for centre in (7.5, 15.5)]
    np.testing.assert_allclose(line[8:16], bells[1] / sum(bells), atol=1e-6)


def test_slices_are_read_once_and_handed_on_before_the_next_slab_is_read() -> None:
    """A long volume needs the memory of one slab: what is finished leaves before more comes in."""
    depth, log = 40, []

    def read(wanted: slice) -> np.ndarray:
        log.append(("read", wanted.start, wanted.stop))
        return np.ones((wanted.stop - wanted.start, 6, 6), np.float32)

    for part, maps in fuse_windows((depth, 6, 6), (8, 6, 6), read, lambda windows: windows):
        log.append(("done", part.start, part.stop))
        assert maps.shape == (1, part.stop - part.start, 6, 6) and maps.base is None
    reads = [entry[1:] for entry in log if entry[0] == "read"]
    assert [start for start, _ in reads] == [0, *(stop for _, stop in reads[:-1])] and reads[-1][1] == depth
    alive = 0
    for kind, start, stop in log:
        alive += (stop - start) * (1 if kind == "read" else -1)
        assert 0 <= alive <= 8


def test_what_is_handed_on_is_the_callers_own() -> None:
    volume = np.arange(12 * 4, dtype=np.float32).reshape(12, 2, 2)
    expected = fused(volume, (4, 2, 2))
    parts = []
    for _, maps in fuse_windows(volume.shape, (4, 2, 2), volume.__getitem__, identity):
        parts.append(maps.copy())
        maps[:] = np.nan
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


@pytest.mark.parametrize(
    ("shape", "patch", "overlap"),
    [
        ((4, 4, 4), (5, 4, 4), 0.5),
        ((4, 4, 4), (0, 4, 4), 0.5),
        ((4, 4, 4), (4, 4, 4), 1.0),
        ((4, 4, 4), (4, 4, 4), -0.1),
    ],
)
def test_windows_that_cannot_be_laid_are_refused(shape: Shape, patch: Shape, overlap: float) -> None:
    with pytest.raises(VerdiffError, match="patch"):
        sliding(shape, patch, overlap)
