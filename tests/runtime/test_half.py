"""Float16 storage: numpy's own conversion, bit for bit, for every number in [0, 1] that matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from verdiff.runtime.half import from_half, store_half

ALL = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
"""Every float16 from 0 to 1."""


def stored(values: NDArray[np.float32]) -> NDArray[np.float16]:
    into = np.empty(values.shape, np.float16)
    store_half(values, into)
    return into


def test_every_half_is_read_exactly_and_stored_again() -> None:
    values = from_half(ALL)
    assert values.dtype == np.float32
    assert np.array_equal(values, ALL.astype(np.float32))
    assert np.array_equal(stored(values), ALL)


def test_rounding_is_numpys_between_and_beside_all_of_them() -> None:
    exact = ALL.astype(np.float32)
    halfway = ((exact[1:] + exact[:-1]) / 2).astype(np.float32)
    beside: list[NDArray[np.float32]] = [np.nextafter(halfway, np.float32(bound)) for bound in (0, 1)]
    random = np.random.default_rng(0).random(200_000).astype(np.float32)
    for values in (halfway, *beside, random, random**20, np.array([1e-30, 1e-45, 6e-8], np.float32)):
        assert np.array_equal(stored(values).view(np.uint16), values.astype(np.float16).view(np.uint16))


def test_a_part_of_a_larger_array_is_written_in_place() -> None:
    values = np.random.default_rng(1).random((2, 3, 8, 10)).astype(np.float32)
    whole = np.zeros((4, 3, 8, 10), np.float16)
    store_half(values, whole[1:3])
    store_half(values[1:, :, :, ::2], whole[3:, :, :, :5])
    assert np.array_equal(whole[1:3], values.astype(np.float16))
    assert np.array_equal(whole[3, :, :, :5], values[1, :, :, ::2].astype(np.float16))
