"""The voxels behind a header: as many bytes as it claims, no more and no fewer, and no memory for what is not there."""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging.gzipped import GZIP, ZLIB_OR_GZIP, GzipReader
from verdiff.imaging.volume import Array

# Deflate cannot pack more than 258 bytes into two bits.
_DEFLATE_LIMIT = 1032
# Some writers fill up the last block of a file with zeros.
_FILL = 4096
_LOOKED_AT = 1 << 24
_FLOAT32_LIMIT = float(np.finfo(np.float32).max)
# Of intensities, fewer than an 8-bit picture has.
_LEAST_STEPS = 256


class Stream(Protocol):
    """What voxels are read from."""

    def readinto(self, view: memoryview, /) -> int:
        """Fill the start of ``view``; the number of bytes, 0 at the end."""


def open_stream(path: Path) -> BufferedReader | GzipReader:
    """The file's bytes, unpacked if it is gzip, whatever its suffix says."""
    stream = path.open("rb")
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return GzipReader(stream) if packed else stream


def unpacked(stream: BufferedReader, encoding: str) -> Stream:
    """What follows in a file, unpacked: "raw", "gzip", "zlib" (or gzip) or "bzip2"."""
    if encoding == "bzip2":
        return bz2.BZ2File(stream)
    if encoding == "raw":
        return stream
    return GzipReader(stream, GZIP if encoding == "gzip" else ZLIB_OR_GZIP)


def most_bytes(path: Path, encoding: str) -> float:
    """The most bytes of voxels that a file of this length can hold."""
    return {"raw": 1, "bzip2": math.inf}.get(encoding, _DEFLATE_LIMIT) * path.stat().st_size


def read_bytes(stream: Stream, count: int, path: Path) -> bytes:
    """Exactly ``count`` bytes of a header.

    Raises:
        InputError: If the file ends before, or its compression is damaged.
    """
    buffer = bytearray(count)
    done = _fill(stream, memoryview(buffer), path)
    if done < count:
        raise damaged(path, f"it ends {count - done} bytes early")
    return bytes(buffer)


def read_start(stream: Stream, count: int, path: Path) -> bytes:
    """The first ``count`` bytes of a file, or all of them where it has fewer.

    Raises:
        InputError: If its compression is damaged.
    """
    buffer = bytearray(count)
    return bytes(buffer[: _fill(stream, memoryview(buffer), path)])


def read_voxels(stream: Stream, shape: Sequence[int], kind: np.dtype, held: float, path: Path) -> Array:
    """The array of a header, in native byte order, and proof that nothing but it is left in the file.

    Args:
        stream: Stream that stands at the first voxel.
        shape: Shape of the array.
        kind: Type of a stored number.
        held: The most bytes that the file can hold, from :func:`most_bytes`.
        path: Path, for the message.

    Raises:
        InputError: If the header claims more or fewer bytes than there are, its compression or checksum is damaged, or
            the array does not fit into memory.
    """
    count = math.prod(shape) * kind.itemsize
    claim = f"its header claims {' x '.join(map(str, reversed(shape)))} voxels of {kind.itemsize} bytes"
    if count > held:
        raise damaged(path, f"{claim}, {_size(count)}; there is room for {_size(held)} in it at most")
    try:
        # Taken from the system as it is filled: a file that ends early takes no more than it holds.
        buffer = bytearray(count)
    except (MemoryError, OverflowError) as error:
        raise InputError(
            f"{path} holds {_size(count)} of voxels by its header",
            "a scan that fits into this machine's memory",
            "crop it, or use a machine with more memory",
        ) from error
    done = _fill(stream, memoryview(buffer), path)
    if done < count:
        raise damaged(path, f"{claim}, and it ends {count - done} bytes early")
    _refuse_surplus(stream, path, claim)
    return native(np.frombuffer(buffer, dtype=kind).reshape(tuple(shape)))


def _refuse_surplus(stream: Stream, path: Path, claim: str) -> None:
    """Read to the end, where gzip compares its checksum; only zeros that fill up a block may follow the voxels."""
    rest = memoryview(bytearray(1 << 16))
    surplus, zeros = 0, True
    # Read on for a while where there is too much: a checksum that differs is the better reason.
    while surplus < _LOOKED_AT and (count := _fill(stream, rest, path)):
        surplus += count
        zeros = zeros and not rest[:count].tobytes().strip(b"\0")
    if surplus > _FILL or not zeros:
        more = "at least " if surplus >= _LOOKED_AT else ""
        raise damaged(path, f"{claim}, and {more}{surplus} bytes more follow them")


def _fill(stream: Stream, view: memoryview, path: Path) -> int:
    done = 0
    try:
        while done < len(view) and (count := stream.readinto(view[done:])):
            done += count
    except (EOFError, zlib.error) as error:
        raise damaged(path, f"its compression does not check out ({error})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise damaged(path, f"its compression does not check out ({error})") from error
    return done


def damaged(path: Path, why: str) -> InputError:
    """The refusal of a file that does not hold what its header says."""
    return InputError(
        f"{path} is truncated or damaged: {why}", "a complete image file", "copy or export the file again"
    )


def native(array: Array) -> Array:
    """The array in the machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def scaled(array: Array, slope: float, intercept: float, name: str) -> Array:
    """The intensities slope * v + intercept, float32; the array itself where that changes nothing.

    Raises:
        InputError: If a value leaves the range of 32-bit floats.
    """
    if (slope, intercept) == (1.0, 0.0):
        return single(array, name)
    _refuse_lost_contrast(array, slope, intercept, name)
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(np.float32)
        values *= np.float32(slope)
        values += np.float32(intercept)
    if not np.isfinite(values).all() and (array.dtype.kind != "f" or np.isfinite(array).all()):
        raise InputError(
            f"{name} has values beyond the range of 32-bit floats once scaled by {slope:g} and {intercept:g}",
            f"intensities below {_FLOAT32_LIMIT:.1e}",
            "correct the slope and intercept in the header",
        )
    return values


def single(array: Array, name: str) -> Array:
    """Floats of any width as float32, whole numbers as they are.

    Raises:
        InputError: If a finite value leaves the range of 32-bit floats.
    """
    if array.dtype.itemsize < 4 or array.dtype == np.float32:
        return array.astype(np.float32) if array.dtype.kind == "f" else array
    if array.size:
        largest = max(abs(end) for end in _ends(array))
        if array.dtype.kind == "f" and largest > _FLOAT32_LIMIT:
            raise InputError(
                f"{name} has a value of {largest:g}, beyond the range of 32-bit floats",
                f"intensities below {_FLOAT32_LIMIT:.1e}",
                "scale the intensities down, or replace the values that are no measurements",
            )
        _refuse_lost_contrast(array, 1.0, 0.0, name)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _refuse_lost_contrast(array: Array, slope: float, intercept: float, name: str) -> None:
    """Refuse intensities that 32-bit floats hardly tell apart, as those of a small range far from zero are."""
    low, high = _ends(array)
    # As many steps as the stored numbers can take at most.
    whole = array.dtype.kind in "iu"
    stored = high - low if whole else math.inf if array.dtype.itemsize > 4 else _steps(low, high)
    first, last = sorted((slope * low + intercept, slope * high + intercept))
    if low < high and first >= -_FLOAT32_LIMIT and last <= _FLOAT32_LIMIT:
        kept = _steps(first, last)
        if kept < min(_LEAST_STEPS, stored):
            raise InputError(
                f"{name} has intensities from {first:.15g} to {last:.15g}, which 32-bit floats tell apart in "
                f"{int(kept)} steps",
                f"at least {_LEAST_STEPS} steps, or all that are stored",
                "subtract what all intensities have in common, or scale them up, and save the scan again",
            )


def _steps(low: float, high: float) -> float:
    """How many steps of 32-bit floats lie between two numbers, of the step at the larger one."""
    with np.errstate(under="ignore"):
        return (high - low) / float(np.spacing(np.float32(max(abs(low), abs(high)))))


def _ends(array: Array) -> tuple[float, float]:
    """The least and the largest finite value, whole numbers as they are; zeros where there is none."""
    if array.dtype.kind in "iu":
        return int(array.min()), int(array.max())
    low, high = math.inf, -math.inf
    for plane in np.atleast_2d(array):
        good = np.isfinite(plane)
        low = min(low, float(plane.min(where=good, initial=math.inf)))
        high = max(high, float(plane.max(where=good, initial=-math.inf)))
    return (low, high) if low <= high else (0.0, 0.0)


def _size(count: float) -> str:
    if count < 1 << 20:
        return f"{count:.0f} bytes"
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"
