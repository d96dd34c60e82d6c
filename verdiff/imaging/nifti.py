"""NIfTI-1, read and written with its header's own bytes: what a scan says about its place is never rewritten.

Offsets and codes are those of nifti1.h (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np

from verdiff.errors import InputError, OutputError
from verdiff.files.marks import nifti_mark
from verdiff.imaging import checks
from verdiff.imaging.gzipped import GzipReader, gzipped
from verdiff.imaging.volume import Array

HEADER_BYTES = 348
_DATA_OFFSET = 352
_NUMERIC = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_CODES = {kind: code for code, kind in _NUMERIC.items()}
_COLOUR = {128: 3, 2304: 4}
_COMPLEX = {32, 1792, 2048}
# pixdim may differ from the sform's column lengths by float32 rounding only.
_SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI-1 header that reading and writing need."""

    raw: bytes
    order: Literal["<", ">"]

    def field(self, offset: int, kind: str) -> tuple[float, ...]:
        """The values at a byte offset, in `struct`'s notation without the byte order."""
        return struct.unpack_from(self.order + kind, self.raw, offset)

    @property
    def size(self) -> tuple[int, ...]:
        """The lengths of the stated dimensions."""
        dim = [int(n) for n in self.field(40, "8h")]
        return tuple(dim[1 : 1 + dim[0]])

    @property
    def sform(self) -> Array | None:
        """The three voxel axes in mm, one a column [3, 3], or None where the header has no sform."""
        rows = np.asarray(self.field(280, "12f"), dtype=np.float64).reshape(3, 4)
        return rows[:, :3] if self.field(254, "h")[0] > 0 else None


def read_header(path: Path) -> Header:
    """The header of a `.nii` or `.nii.gz` file.

    Raises:
        InputError: If it is no NIfTI-1 file, is truncated, or states an impossible size, spacing or orientation.
    """
    with _open(path) as stream:
        raw = _read(stream, HEADER_BYTES, path)
    order: Literal["<", ">"]
    if struct.unpack_from("<i", raw)[0] == HEADER_BYTES:
        order = "<"
    elif struct.unpack_from(">i", raw)[0] == HEADER_BYTES:
        order = ">"
    else:
        nifti2 = 540 in (struct.unpack_from("<i", raw)[0], struct.unpack_from(">i", raw)[0])
        raise InputError(
            f"{path} is {'a NIfTI-2 file' if nifti2 else 'not a NIfTI file, whatever its name says'}",
            "a NIfTI-1 image",
            "save it as NIfTI-1 or NRRD" if nifti2 else "export the scan again, or pass the right file",
        )
    if raw[344:347] != b"n+1":
        raise InputError(
            f"{path} has no image behind its header", "one .nii or .nii.gz file", "convert the .hdr/.img pair to .nii"
        )
    header = Header(raw, order)
    _check_header(header, path)
    return header


def _check_header(header: Header, path: Path) -> None:
    size = header.size
    if not 1 <= len(size) <= 7 or any(n < 1 for n in size):
        raise InputError(f"{path} states a size of {size}", "three positive dimensions", "export the scan again")
    kind = int(header.field(70, "h")[0])
    checks.check_scalar(_COLOUR.get(kind, 2 if kind in _COMPLEX else 1), str(path))
    if len(size) >= 5 and size[4] > 1:
        checks.check_scalar(size[4], str(path))
    checks.check_dimensions(size, str(path))
    if kind not in _NUMERIC:
        raise InputError(f"{path} has pixels of NIfTI type {kind}", "integers or floats", "save it as int16 or float32")
    axes = min(3, len(size))
    pixdim = np.asarray(header.field(80, "3f"), dtype=np.float64)[:axes]
    if not np.all(np.isfinite(pixdim)) or pixdim.min() <= 0:
        raise InputError(
            f"{path} states a voxel spacing of {' x '.join(f'{value:g}' for value in pixdim)} (pixdim)",
            "positive spacings in millimetres",
            "write the true spacing into the header",
        )
    sform = header.sform
    if sform is None or axes < 3:
        return
    checks.check_not_sheared(sform, str(path))
    lengths = np.linalg.norm(sform, axis=0)
    if np.abs(lengths / pixdim - 1).max() > _SPACING_TOLERANCE:
        raise InputError(
            f"{path} states two spacings: pixdim {pixdim.round(4).tolist()} and sform {lengths.round(4).tolist()}",
            "one spacing in the whole header",
            "find out which is true and save the scan with it",
        )


def read_array(path: Path, header: Header) -> Array:
    """The voxels [z, y, x] with the header's slope and intercept applied (float32 where they change anything).

    Raises:
        InputError: If the file ends before the image does, or its compression is damaged.
    """
    size = [*header.size, 1, 1][:3]
    stored = np.dtype(header.order + _NUMERIC[int(header.field(70, "h")[0])])
    with _open(path) as stream:
        offset = max(int(header.field(108, "f")[0]), HEADER_BYTES)
        _read(stream, offset, path)
        buffer = bytearray(int(np.prod(size, dtype=np.int64)) * stored.itemsize)
        _fill(stream, memoryview(buffer), path)
        # gzip compares its checksum when it is asked for more than there is.
        _fill(stream, memoryview(bytearray(1)), path, needed=False)
    array = np.frombuffer(buffer, dtype=stored).reshape(size[::-1])
    if not array.dtype.isnative:
        array = array.astype(stored.newbyteorder("="))
    slope, intercept = header.field(112, "2f")
    if np.isfinite(slope) and slope != 0 and (slope, intercept) != (1.0, 0.0):
        scaled = array.astype(np.float32)
        scaled *= np.float32(slope)
        scaled += np.float32(intercept)
        return scaled
    return array.astype(np.float32) if array.dtype == np.float64 else array


def write_with_header(path: Path, array: Array, raw: bytes, *, compress: bool, mark: bool = False) -> None:
    """Write [z, y, x] under an original header: orientation, units and byte order stay as they are, byte for byte.

    With ``mark``, ``descrip`` holds verdiff's mark (:mod:`verdiff.files.marks`).
    """
    header = Header(raw, "<" if struct.unpack_from("<i", raw)[0] == HEADER_BYTES else ">")
    kind = array.dtype.str[1:]
    if kind not in _CODES:
        raise OutputError(f"pixels of type {array.dtype}", f"one of {', '.join(_CODES)}", "convert the array first")
    fresh = bytearray(raw)

    def put(offset: int, layout: str, *values: float | bytes) -> None:
        struct.pack_into(header.order + layout, fresh, offset, *values)

    put(56, "3f", 0, 0, 0)
    put(68, "h", 0)
    put(70, "2h", _CODES[kind], array.dtype.itemsize * 8)
    put(108, "3f", float(_DATA_OFFSET), 1.0, 0.0)
    put(124, "2f", 0, 0)
    put(140, "2i", 0, 0)
    put(148, "80s24s", b"verdiff", b"")
    put(328, "16s", b"")
    put(344, "4s", b"n+1\0")
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(header.order))
    write_parts(
        path, bytes(fresh) + bytes(_DATA_OFFSET - HEADER_BYTES), data.data.cast("B"), compress=compress, mark=mark
    )


def write_parts(path: Path, header: bytes, voxels: memoryview, *, compress: bool, mark: bool) -> None:
    """Write the two parts of an image as one file, with verdiff's mark in ``descrip`` if that is asked for."""
    if mark:
        fresh = bytearray(header)
        struct.pack_into("80s", fresh, 148, nifti_mark(header, voxels))
        header = bytes(fresh)
    parts = [memoryview(header), voxels]
    with path.open("wb") as target:
        target.writelines(gzipped(*parts) if compress else parts)


def _open(path: Path) -> BufferedReader | GzipReader:
    """The file's bytes, unpacked if it is gzip, whatever its suffix says."""
    stream = path.open("rb")
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return GzipReader(stream) if packed else stream


def _read(stream: BufferedReader | GzipReader, count: int, path: Path) -> bytes:
    buffer = bytearray(count)
    _fill(stream, memoryview(buffer), path)
    return bytes(buffer)


def _fill(stream: BufferedReader | GzipReader, view: memoryview, path: Path, *, needed: bool = True) -> None:
    done = 0
    try:
        while done < len(view):
            count = stream.readinto(view[done:])
            if not count:
                break
            done += count
    except (EOFError, zlib.error) as error:
        raise _truncated(path, f"its compression does not check out ({error})") from error
    if needed and done < len(view):
        raise _truncated(path, f"it ends {len(view) - done} bytes early")


def _truncated(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} is truncated or damaged: {reason}", "a complete NIfTI file", "copy or export the file again"
    )
