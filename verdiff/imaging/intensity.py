"""From a scanner's numbers to the [-1, 1] a network sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import InputError, VerdiffError
from verdiff.imaging.padding import padding_below
from verdiff.imaging.volume import Array
from verdiff.imaging.voxels import native

IntensityKind: TypeAlias = Literal["percentile", "zscore", "window"]
INTENSITY_KINDS: tuple[IntensityKind, ...] = get_args(IntensityKind)


@dataclass(frozen=True)
class IntensityRule:
    """Which intensities become -1 and 1.

    Args:
        kind: "percentile" for MR and films, whose numbers have no unit: `low` and `high` are percentiles of the
            whole volume. "zscore" for MR too: `low` and `high` are standard deviations from the mean of the whole
            volume, so that -5 and 5 give a fifth of the z-score, cut at 5. "window" for CT: `low` and `high` are
            Hounsfield units.
        low: Becomes -1, as everything below it.
        high: Becomes 1, as everything above it.
    """

    kind: IntensityKind
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = isinstance(self.low, (int, float)) and isinstance(self.high, (int, float))
        inside = numbers and (self.kind != "percentile" or (self.low >= 0 and self.high <= 100))
        if self.kind not in INTENSITY_KINDS or not inside or not self.low < self.high:
            raise VerdiffError(
                f"the intensity rule {self.kind!r} from {self.low!r} to {self.high!r}",
                '"percentile" with 0 <= low < high <= 100, or "zscore" or "window" with low < high',
                "correct the rule in the model's manifest or the training configuration",
            )

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain JSON."""
        return {"kind": self.kind, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IntensityRule:
        """The rule from plain JSON.

        Raises:
            VerdiffError: If a key is missing or a value makes no rule.
        """
        if set(values) != {"kind", "low", "high"}:
            raise VerdiffError(
                f"an intensity rule with the keys {sorted(values)}", "kind, low, high", "correct the rule"
            )
        return cls(values["kind"], values["low"], values["high"])


def intensity_bounds(array: Array, rule: IntensityRule) -> tuple[float, float]:
    """The intensities that become -1 and 1.

    Percentiles are those of `numpy.percentile` (linear). Where they coincide, as in a film that is mostly black, the
    whole range is taken instead. They, mean and deviation are over all finite voxels but those that pad the scan
    (:func:`verdiff.imaging.padding.padding_below`), which become -1.

    Raises:
        InputError: If the image is constant or has no finite voxel.
    """
    if rule.kind == "window":
        return float(rule.low), float(rule.high)
    array = native(array)
    if (padding := padding_below(array)) is not None:
        array = array[array > padding][None]
    if rule.kind == "zscore":
        mean, deviation = _mean_and_deviation(array)
        if not deviation > 0:
            raise _constant(mean)
        return mean + rule.low * deviation, mean + rule.high * deviation
    values = _percentiles(array, (0.0, rule.low, rule.high, 100.0))
    low, high = (values[1], values[2]) if values[1] < values[2] else (values[0], values[3])
    if not low < high:
        raise _constant(low)
    return low, high


def normalise(array: Array, low: float, high: float) -> NDArray[np.float32]:
    """Intensities as float32 in [-1, 1]: clipped to [low, high], then 2 (v - low) / (high - low) - 1."""
    scaled = np.subtract(array, np.float32(low), dtype=np.float32)
    scaled *= np.float32(2.0 / (high - low))
    scaled -= np.float32(1.0)
    return np.clip(scaled, -1.0, 1.0, out=scaled)


def _constant(value: float) -> InputError:
    return InputError(
        f"a constant image: every voxel but margins and padding is {value:g}",
        "an image with contrast",
        "check that it is the right file",
    )


def _mean_and_deviation(array: Array) -> tuple[float, float]:
    """All finite voxels' mean and deviation, in float64 plane by plane: a whole scan in float64 takes gigabytes."""
    voxels = sum(int(np.count_nonzero(np.isfinite(plane))) for plane in array)
    if voxels == 0:
        raise _nothing_finite()
    mean = sum(float(plane.sum(dtype=np.float64, where=np.isfinite(plane))) for plane in array) / voxels
    squares = sum(float(np.square(plane[np.isfinite(plane)].astype(np.float64) - mean).sum()) for plane in array)
    return mean, float(np.sqrt(squares / voxels))


def _nothing_finite() -> InputError:
    return InputError("an image without a finite voxel", "finite intensities", "export the image again")


def _percentiles(array: Array, percents: tuple[float, ...]) -> list[float]:
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        return _counted_percentiles(array, percents)
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.ravel()
    if finite.size == 0:
        raise _nothing_finite()
    return [float(value) for value in np.percentile(finite, percents)]


def _counted_percentiles(array: Array, percents: tuple[float, ...]) -> list[float]:
    """Exact percentiles of 8- and 16-bit voxels from a histogram: no sort, and a plane's worth of memory."""
    offset = int(np.iinfo(array.dtype).min)
    counts = np.zeros(1 << (8 * array.dtype.itemsize), dtype=np.int64)
    for plane in array:
        counts += _histogram(plane)
    below = np.cumsum(np.roll(counts, -offset))
    result = []
    for percent in percents:
        rank = percent / 100.0 * (array.size - 1)
        floor = int(rank)
        first, second = np.searchsorted(below, (floor, min(floor + 1, array.size - 1)), side="right") + offset
        result.append(float(first + (second - first) * (rank - floor)))
    return result


def _histogram(plane: Array) -> NDArray[np.int64]:
    """How often each bit pattern occurs in a plane of 8- or 16-bit voxels, [256] or [65536]."""
    line = np.ascontiguousarray(plane).reshape(-1).view(f"u{plane.dtype.itemsize}")
    if line.dtype.itemsize == 2:
        return np.bincount(line, minlength=1 << 16)
    # Two voxels are counted at once, as one number of 16 bits.
    pairs = np.bincount(line[: line.size // 2 * 2].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    last: NDArray[np.int64] = np.bincount(line[line.size // 2 * 2 :], minlength=256)
    return np.asarray(pairs.sum(axis=0) + pairs.sum(axis=1) + last)
