"""The kernels of ``kernels.cu`` in numpy, by the functions of the host path that they repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import Fused, background_and_labels, fuse_mean, fuse_steps, philox_normal
from verdiff.diffusion.fusion import StepsVariant
from verdiff.imaging.intensity import normalise

if TYPE_CHECKING:
    from tests.runtime.device.null_driver import NullDriver

Maps = NDArray[np.float32]


def _classes(driver: NullDriver) -> int:
    return int(driver.macros["CLASSES"])


def noise(
    driver: NullDriver,
    threads: int,
    out: int,
    key0: Any,
    key1: Any,
    step: Any,
    first_slice: Any,
    slices: Any,
    first_sample: Any,
    pairs: Any,
    batch: Any,
    size: Any,
) -> None:
    assert threads >= batch * -(-size // 4)
    for entry, values in enumerate(driver.view(out, np.float32, (batch, size))):
        pair = min(entry, int(pairs) - 1)
        where = {"slice_index": int(first_slice + pair % slices), "sample": int(first_sample + pair // slices)}
        values[:] = philox_normal(int(key0) + (int(key1) << 32), **where, step=int(step), shape=(int(size),))


def start(driver: NullDriver, threads: int, x: int, prior: int, noise: int, on: int, count: Any) -> None:
    assert threads >= count
    on_prior, on_noise = driver.view(on, np.float32, (2,))
    values = on_prior * driver.view(prior, np.float32, (count,))
    values += on_noise * driver.view(noise, np.float32, (count,))
    driver.view(x, np.float32, (count,))[:] = values


def mark(driver: NullDriver, threads: int, flag: int, values: int, count: Any) -> None:
    assert threads >= count
    if not np.isfinite(driver.view(values, np.float32, (count,))).all():
        driver.view(flag, np.int32, (1,))[0] = 1


def _put(driver: NullDriver, answer: tuple[int, int, int], fused: Fused) -> None:
    for pointer, values in zip(answer, (fused.probabilities, fused.uncertainty, fused.spread), strict=True):
        driver.view(pointer, np.float32, values.shape)[:] = values


def mean(
    driver: NullDriver, threads: int, p: int, u: int, s: int, samples: int, members: Any, slices: Any, pixels: Any
) -> None:
    assert threads >= slices * pixels
    shape = (int(members), int(slices), _classes(driver), int(pixels), 1)
    _put(driver, (p, u, s), fuse_mean(driver.view(samples, np.float32, shape)))


def steps(
    driver: NullDriver,
    threads: int,
    p: int,
    u: int,
    s: int,
    samples: int,
    members: Any,
    slices: Any,
    pixels: Any,
    row: Any,
    first: Any,
    rows: Any,
    published: Any,
) -> None:
    assert threads >= slices * pixels
    shape = (int(members), int(slices), _classes(driver), int(pixels), 1)
    kept = np.stack([driver.view(samples + 4 * int(row) * i, np.float32, shape) for i in range(int(rows))], axis=1)
    variant: StepsVariant = "published" if published else "normalised"
    _put(driver, (p, u, s), fuse_steps(kept, variant, late_steps=int(rows - first)))


def _matrix(driver: NullDriver, weights: int, ranges: int, n_out: int, n_in: int) -> Maps:
    """The weights, and that they vanish outside the ranges."""
    matrix = driver.view(weights, np.float32, (n_out, n_in))
    for line, (low, high) in zip(matrix, driver.view(ranges, np.int32, (n_out, 2)), strict=True):
        assert not line[:low].any() and not line[high:].any() and line[low] and line[high - 1]
    return matrix


def to_model(
    driver: NullDriver,
    threads: int,
    image: int,
    planes: int,
    by_row: int,
    row_range: int,
    by_col: int,
    col_range: int,
    low: Any,
    gain: Any,
    *sizes: Any,
) -> None:
    slices, rows, cols, model_rows, model_cols, padded_rows, padded_cols = map(int, sizes)
    assert threads >= slices * padded_rows * padded_cols
    values = normalise(driver.view(planes, np.float32, (slices, rows, cols)), float(low), float(low + 2 / gain))
    left = _matrix(driver, by_row, row_range, model_rows, rows)
    right = _matrix(driver, by_col, col_range, model_cols, cols)
    out = driver.view(image, np.float32, (slices, padded_rows, padded_cols))
    out[:] = -1
    out[:, :model_rows, :model_cols] = left @ values @ right.T


def from_model(
    driver: NullDriver,
    threads: int,
    labels: int,
    probabilities: int,
    uncertainty: int,
    fused: int,
    doubt: int,
    ids: int,
    by_row: int,
    row_range: int,
    by_col: int,
    col_range: int,
    *sizes: Any,
) -> None:
    slices, rows, cols, model_rows, model_cols, padded_rows, padded_cols = map(int, sizes)
    assert threads >= slices * rows * cols
    classes = _classes(driver)
    left = _matrix(driver, by_row, row_range, rows, model_rows)
    right = _matrix(driver, by_col, col_range, cols, model_cols)

    def resampled(pointer: int, *lead: int) -> Maps:
        maps = driver.view(pointer, np.float32, (*lead, padded_rows, padded_cols))
        found: Maps = left @ maps[..., :model_rows, :model_cols] @ right.T
        return found

    p = resampled(fused, slices, classes)
    driver.view(probabilities, np.float32, p.shape)[:] = p
    table = driver.view(ids, np.uint8, (classes + 1,))
    driver.view(labels, np.uint8, (slices, rows, cols))[:] = table[background_and_labels(p)]
    driver.view(uncertainty, np.float32, (slices, rows, cols))[:] = np.clip(resampled(doubt, slices), 0, 1)


KERNELS = {
    "philox_normal": noise,
    "start": start,
    "mark_non_finite": mark,
    "fuse_mean": mean,
    "fuse_steps": steps,
    "to_model": to_model,
    "from_model": from_model,
}
