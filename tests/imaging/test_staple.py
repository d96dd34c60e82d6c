"""STAPLE: agreement is kept, the odd one out is outvoted."""

from __future__ import annotations

import numpy as np
import pytest

from verdiff.errors import InputError
from verdiff.imaging.staple import staple


def ball(centre: float = 12.0) -> np.ndarray:
    z, y, x = np.mgrid[:8, :24, :24]
    return ((y - 12) ** 2 + (x - centre) ** 2 < 49) & (z > 1) & (z < 7)


def labels(probabilities: np.ndarray, ids: list[int]) -> np.ndarray:
    """The most likely structure of each voxel; background, 0, has what the likeliest one leaves."""
    return np.where(probabilities.max(axis=0) > 0.5, np.asarray(ids, np.uint8)[probabilities.argmax(axis=0)], 0)


def test_equal_masks_come_back() -> None:
    mask = np.where(ball(), 3, 0).astype(np.uint8)
    np.testing.assert_array_equal(labels(staple(np.stack([mask, mask, mask]), [3]), [3]), mask)


def test_the_odd_one_out_is_outvoted() -> None:
    good, shifted = ball().astype(np.uint8), ball(16.0).astype(np.uint8)
    probabilities = staple(np.stack([good, good, shifted]), [1])
    np.testing.assert_array_equal(labels(probabilities, [1]), good)
    assert probabilities.dtype == np.float32


def test_structures_keep_their_order_and_an_absent_one_stays_empty() -> None:
    mask = np.where(ball(), 5, 0).astype(np.uint8)
    mask[:, :3] = 2
    probabilities = staple(np.stack([mask, np.roll(mask, 1, axis=2), mask]), [2, 5, 9])
    assert set(np.unique(labels(probabilities, [2, 5, 9]))) == {0, 2, 5}
    assert probabilities[2].max() == 0


def test_a_structure_that_fills_the_image_is_certain() -> None:
    masks = np.ones((2, 3, 4, 5), np.uint8)
    assert staple(masks, [1]).min() == 1


@pytest.mark.parametrize(("shape", "ids"), [((1, 3, 4, 5), [1]), ((2, 3, 4, 5), []), ((3, 4, 5), [1])])
def test_nothing_to_fuse_is_refused(shape: tuple[int, ...], ids: list[int]) -> None:
    with pytest.raises(InputError, match="masks of shape"):
        staple(np.zeros(shape, np.uint8), ids)
