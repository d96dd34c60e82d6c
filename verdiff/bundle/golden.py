"""The self-test's arrays: one uncompressed `.npz`, read without pickle and without trusting its sizes."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from verdiff.bundle.layout import GOLDEN, UNTRUSTED
from verdiff.errors import BundleError

if TYPE_CHECKING:
    from verdiff.bundle.manifest import Manifest

_EXPECTED = "an uncompressed .npz of plain numeric arrays"
_KINDS = "biuf"
# What `zipfile` and numpy's header parser raise on bytes that are not what they should be.
_DAMAGE: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, KeyError, ArithmeticError, SyntaxError, RuntimeError, EOFError, OSError),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def pack_golden(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Bytes of `golden/golden.npz` for arrays by name; the same arrays give the same bytes."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in _KINDS:
            raise BundleError(f"golden array {name!r} is {np.asarray(array).dtype}", "a numeric array", "pass numbers")
    out = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    np.savez(out, **plain)
    return out.getvalue()


def unpack_golden(data: bytes) -> dict[str, np.ndarray]:
    """Arrays by name from the bytes of `golden/golden.npz`.

    A bundle's publisher may not be a friend: nothing is unpickled, compressed arrays are refused, and no array takes
    more memory than its bytes in the file, whatever its header says.

    Raises:
        BundleError: anything but an uncompressed `.npz` of numeric arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed")
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}
    except _DAMAGE as error:
        raise BundleError(f"{GOLDEN} cannot be used ({error})", _EXPECTED, UNTRUSTED) from error


def check_golden(arrays: Mapping[str, np.ndarray], manifest: Manifest, *, denoiser: bool) -> None:
    """Check that the arrays that a self-test reads are there, in sizes that fit one another and the model.

    Raises:
        BundleError: One is missing or another's size; it is named.
    """
    volume = manifest.volume
    if volume is None:
        expected = f"'image' as floats [N, 1, H, W], not empty, H and W multiples of {manifest.multiple}"
    else:
        expected = f"'image' as floats [N, 1, {', '.join(map(str, volume.patch))}], not empty"
    image = _named(arrays, "image", expected)
    size = image.shape[2:]
    fits = len(size) == 2 and not any(n % manifest.multiple for n in size) if volume is None else size == volume.patch
    if not fits or image.shape[1] != 1 or image.size == 0 or image.dtype.kind != "f":
        raise _unlike("image", image, expected)
    maps = (len(image), len(manifest.labels), *size)
    wanted = {"prior": maps}
    if denoiser:
        wanted |= {"noise": (1, *maps), "x_start": maps, "x0hat_0": maps}
    # Of windows, whose network has no more than a prior, nobody compares labels.
    if volume is None or "labels" in arrays:
        wanted["labels"] = (len(image), *size)
    for name, shape in wanted.items():
        kinds, what = ("iu", "whole numbers") if name == "labels" else ("f", "floats")
        expected = f"{name!r} as {what} of shape {shape}, by the golden image and the manifest's labels"
        array = _named(arrays, name, expected)
        if array.shape != shape or array.dtype.kind not in kinds:
            raise _unlike(name, array, expected)


def _named(arrays: Mapping[str, np.ndarray], name: str, expected: str) -> np.ndarray:
    if name not in arrays:
        raise BundleError(f"no array {name!r} in {GOLDEN}", expected, UNTRUSTED)
    return arrays[name]


def _unlike(name: str, array: np.ndarray, expected: str) -> BundleError:
    return BundleError(f"{name!r} in {GOLDEN} is {array.dtype} of shape {array.shape}", expected, UNTRUSTED)


def _array(data: bytes) -> np.ndarray:
    """One `.npy` file. The format's version 1.0 is all that numpy writes for plain numbers."""
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise ValueError("an array of a format newer than 1.0")
    shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    body = data[file.tell() :]
    if dtype.kind not in _KINDS:
        raise ValueError(f"an array of {dtype}, not of numbers")
    if math.prod(shape) * dtype.itemsize != len(body) or any(length < 0 for length in shape):
        raise ValueError(f"an array that says it has shape {shape} in {len(body):,} bytes")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran_order else "C").copy()
