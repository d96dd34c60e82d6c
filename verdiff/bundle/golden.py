"""The self-test's arrays: one uncompressed `.npz`, read without pickle and without trusting its sizes."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy

from verdiff.bundle.layout import GOLDEN, UNTRUSTED
from verdiff.errors import BundleError

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
