"""Float16 storage: numpy's own conversion, bit for bit, for every number in [0, 1] that matters."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from verdiff.runtime import half as module
from verdiff.runtime.half import HalfStack, from_half, store_half

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


def maps_of(slices: int) -> NDArray[np.float32]:
    logits = np.random.default_rng(2).normal(-6, 3, (slices, 2, 40, 30))
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@pytest.mark.parametrize("plain_bytes", [0, 1 << 30])
def test_a_stack_keeps_the_same_numbers_plain_and_deflated(plain_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_BYTES", plain_bytes)
    stack, maps = HalfStack(4, (2, 40, 30)), maps_of(4)
    assert stack.deflated == (plain_bytes == 0)
    for index in (2, 0, 1):
        stack.put(index, maps[index])
    for index in range(3):
        assert np.array_equal(stack.get(index), maps[index].astype(np.float16).astype(np.float32))
    assert stack.get(3).shape == (2, 40, 30)
    assert not stack.get(3).any()


def test_a_copy_of_a_stack_keeps_what_was_there() -> None:
    stack, maps = HalfStack(2, (2, 40, 30)), maps_of(2)
    stack.put(0, maps[0])
    copy = stack.copy()
    stack.put(0, maps[1])
    assert np.array_equal(copy.get(0), maps[0].astype(np.float16))
    assert np.array_equal(stack.get(0), maps[1].astype(np.float16))


def test_large_stacks_are_expected_to_take_less_than_their_numbers() -> None:
    small, large = HalfStack(10, (3, 320, 256)), HalfStack(512, (3, 704, 448))
    assert not small.deflated
    assert small.kept_bytes == small.plain_bytes == 2 * 10 * 3 * 320 * 256
    assert large.deflated
    assert large.kept_bytes < 0.7 * large.plain_bytes
