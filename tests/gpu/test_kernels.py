"""The kernels on a device against the host's mathematics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from verdiff.diffusion import fuse_mean, fuse_steps, fused_rows, philox_normal
from verdiff.diffusion.fusion import StepsVariant
from verdiff.runtime.device.cuda_core import CudaCore
from verdiff.runtime.device.kernels import Kernels, Pairs

CLASSES, SLICES, PIXELS = 3, 4, 96 * 80


class Bench:
    """Arrays on the device for the length of a test."""

    def __init__(self, driver: CudaCore) -> None:
        self.driver, self.stream, self.taken = driver, driver.open_stream(None), list[int]()
        self.kernels = Kernels(driver, CLASSES)

    def up(self, array: NDArray[Any]) -> int:
        pointer = self.room(array.nbytes)
        pinned = self.driver.allocate_pinned(array.nbytes)
        pinned[:] = np.ascontiguousarray(array).view(np.uint8).ravel()
        self.driver.upload(pointer, pinned, self.stream)
        self.driver.synchronise(self.stream)
        self.driver.free_pinned(pinned)
        return pointer

    def room(self, nbytes: int) -> int:
        self.taken.append(self.driver.allocate(nbytes))
        return self.taken[-1]

    def down(self, pointer: int, *shape: int) -> NDArray[np.float32]:
        pinned = self.driver.allocate_pinned(4 * int(np.prod(shape)))
        self.driver.download(pinned, pointer, self.stream)
        self.driver.synchronise(self.stream)
        found = pinned.view(np.float32).reshape(shape).copy()
        self.driver.free_pinned(pinned)
        return found

    def close(self) -> None:
        for pointer in self.taken:
            self.driver.free(pointer)
        self.driver.close_stream(self.stream)


@pytest.fixture
def bench(plain: CudaCore) -> Iterator[Bench]:
    made = Bench(plain)
    yield made
    made.close()


def x0hat(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).uniform(-1.3, 1.3, shape).clip(-1, 1).astype(np.float32)


def answer(bench: Bench) -> tuple[int, int, int]:
    plane = 4 * SLICES * PIXELS
    return bench.room(plane * CLASSES), bench.room(plane), bench.room(plane)


@pytest.mark.parametrize("members", [1, 5])
def test_the_mean_is_the_hosts(bench: Bench, members: int) -> None:
    samples, out = x0hat(members, SLICES, CLASSES, PIXELS, 1), answer(bench)
    bench.kernels.fuse_mean(out, bench.up(samples), members=members, slices=SLICES, pixels=PIXELS, stream=bench.stream)
    expected = fuse_mean(samples)
    assert np.array_equal(bench.down(out[0], SLICES, CLASSES, PIXELS, 1), expected.probabilities)
    np.testing.assert_allclose(bench.down(out[1], SLICES, PIXELS, 1), expected.uncertainty, atol=1e-6)
    np.testing.assert_allclose(bench.down(out[2], SLICES, PIXELS, 1), expected.spread, atol=1e-7)


@pytest.mark.parametrize("variant", ["normalised", "published"])
def test_the_steps_fusion_is_the_hosts(bench: Bench, variant: StepsVariant) -> None:
    rows, members = 5, 3
    samples, out = x0hat(rows, members, SLICES, CLASSES, PIXELS, 1), answer(bench)
    bench.kernels.fuse_steps(
        out,
        bench.up(samples),
        members=members,
        slices=SLICES,
        pixels=PIXELS,
        row=samples[0].size,
        rows=fused_rows(variant, rows),
        variant=variant,
        stream=bench.stream,
    )
    expected = fuse_steps(samples.swapaxes(0, 1), variant)
    np.testing.assert_allclose(bench.down(out[0], SLICES, CLASSES, PIXELS, 1), expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(bench.down(out[1], SLICES, PIXELS, 1), expected.uncertainty, atol=3e-6)


def test_noise_is_the_hosts(bench: Bench) -> None:
    size, seed = 3 * 4097, 2**40 + 35
    out = bench.room(4 * 6 * size)
    pairs = Pairs(first_slice=7, slices=2, first_sample=1, samples=3)
    bench.kernels.noise(out, seed=seed, step=2, pairs=pairs, batch=6, size=size, stream=bench.stream)
    found = bench.down(out, 6, size)
    for entry, values in enumerate(found):
        expected = philox_normal(seed, slice_index=7 + entry % 2, sample=1 + entry // 2, step=2, shape=(size,))
        assert np.mean(values != expected) < 1e-4
        np.testing.assert_allclose(values, expected, rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize(("value", "flag"), [(1.0, 0), (np.nan, 1), (np.inf, 1)])
def test_numbers_that_are_not_finite_are_marked(bench: Bench, value: float, flag: int) -> None:
    values = x0hat(70_001)
    values[70_000] = value
    flags = bench.up(np.zeros(2, np.int32))
    bench.kernels.mark_non_finite(flags, bench.up(values), values.size, bench.stream)
    assert bench.down(flags, 2).view(np.int32).tolist() == [flag, 0]
