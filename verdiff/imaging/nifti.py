"""NIfTI-1, read and written with its header's own bytes: what a scan says about its place is never rewritten.

An image from elsewhere gets a header made here: ITK's writer says nothing of a full disk, and straightens skewed axes.

Offsets and codes are those of nifti1.h (https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from verdiff.errors import InputError, OutputError
from verdiff.files.marks import nifti_mark
from verdiff.imaging import checks
from verdiff.imaging.foreign import kind_of, other_than
from verdiff.imaging.gzipped import GzipReader, gzipped
from verdiff.imaging.volume import Array, Geometry
from verdiff.imaging.voxels import damaged, most_bytes, open_stream, read_bytes, read_start, read_voxels, scaled

HEADER_BYTES = 348
DATA_OFFSET = 352
# An extension of the Caret software: XML, whose label tables other tools took over.
_CARET = 30
# Plain text.
_COMMENT = 6
_EXTENSION_STEP = 16
_NUMERIC = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_CODES = {kind: code for code, kind in _NUMERIC.items()}
_COLOUR = {128: 3, 2304: 4}
_COMPLEX = {32, 1792, 2048}
_UNITS_MM = {1: 1000.0, 3: 1e-3}
_MILLIMETRES_AND_SECONDS = 2 | 8
_LONGEST_AXIS = 32767


@dataclass(frozen=True)
class NiftiHeader:
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
    def pixdim(self) -> Array:
        """The stated spacing along the stated dimensions, three at most, in the header's own unit."""
        return np.asarray(self.field(80, "3f"), dtype=np.float64)[: min(3, len(self.size))]

    @property
    def unit_mm(self) -> float:
        """Millimetres of the header's unit of length."""
        return _UNITS_MM.get(int(self.field(123, "B")[0]) & 7, 1.0)

    @property
    def scaling(self) -> tuple[float, float]:
        """Slope and intercept of the intensities; a slope that is zero or no number means none."""
        slope, intercept = self.field(112, "2f")
        if not math.isfinite(slope) or slope == 0:
            return 1.0, 0.0
        return slope, intercept if math.isfinite(intercept) else 0.0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What of the scaling is no number and is left out."""
        slope, intercept = self.field(112, "2f")
        scaled_by = math.isfinite(slope) and slope != 0
        if scaled_by and not math.isfinite(intercept):
            return (f"the intercept in its header (scl_inter) is {intercept:g} and counts as 0",)
        # NaN in both is how some writers leave the scaling out.
        return (f"the slope in its header (scl_slope) is {slope:g} and counts as 1",) if math.isinf(slope) else ()


def read_header(path: Path) -> NiftiHeader:
    """The header of a `.nii` or `.nii.gz` file.

    Raises:
        InputError: If it is no NIfTI-1 file, is truncated, or states an impossible size, type or spacing.
    """
    with open_stream(path) as stream:
        raw = read_start(stream, HEADER_BYTES, path)
    if len(raw) < HEADER_BYTES:
        if kind_of(raw) is None:
            raise damaged(path, f"it ends {HEADER_BYTES - len(raw)} bytes early")
        raw = raw.ljust(HEADER_BYTES, b"\0")
    order: Literal["<", ">"]
    if struct.unpack_from("<i", raw)[0] == HEADER_BYTES:
        order = "<"
    elif struct.unpack_from(">i", raw)[0] == HEADER_BYTES:
        order = ">"
    else:
        nifti2 = 540 in (struct.unpack_from("<i", raw)[0], struct.unpack_from(">i", raw)[0])
        raise InputError(
            f"{path} {'is a NIfTI-2 file' if nifti2 else other_than('a NIfTI file', raw)}",
            "a NIfTI-1 image",
            "save it as NIfTI-1 or NRRD" if nifti2 else "export the scan again, or pass the right file",
        )
    if raw[344:347] != b"n+1":
        raise InputError(
            f"{path} has no image behind its header", "one .nii or .nii.gz file", "convert the .hdr/.img pair to .nii"
        )
    header = NiftiHeader(raw, order)
    _check_header(header, path)
    return header


def _check_header(header: NiftiHeader, path: Path) -> None:
    size = header.size
    if not 1 <= int(header.field(40, "h")[0]) <= 7 or any(n < 1 for n in size):
        raise InputError(f"{path} states a size of {size}", "three positive dimensions", "export the scan again")
    kind = int(header.field(70, "h")[0])
    checks.check_scalar(_COLOUR.get(kind, 2 if kind in _COMPLEX else 1), str(path))
    if len(size) >= 5 and size[4] > 1:
        checks.check_scalar(size[4], str(path))
    checks.check_dimensions(size, str(path))
    if kind not in _NUMERIC:
        raise InputError(f"{path} has pixels of NIfTI type {kind}", "integers or floats", "save it as int16 or float32")
    if (bits := int(header.field(72, "h")[0])) not in (0, 8 * np.dtype(_NUMERIC[kind]).itemsize):
        raise damaged(path, f"its header states NIfTI type {kind} ({_NUMERIC[kind]}) and {bits} bits a voxel")
    pixdim = header.pixdim
    if not np.all(np.isfinite(pixdim)) or pixdim.min() <= 0:
        raise InputError(
            f"{path} states a voxel spacing of {' x '.join(f'{value:g}' for value in pixdim)} (pixdim)",
            "positive spacings in millimetres",
            "write the true spacing into the header",
        )


def read_array(path: Path, header: NiftiHeader) -> Array:
    """The voxels [z, y, x] with the header's slope and intercept applied (float32 where they change anything).

    Raises:
        InputError: If the file holds more or less than the image, its compression or checksum is damaged, or a value
            leaves the range of 32-bit floats.
    """
    shape = [*header.size, 1, 1][:3][::-1]
    stored = np.dtype(header.order + _NUMERIC[int(header.field(70, "h")[0])])
    with open_stream(path) as stream:
        held = most_bytes(path, "gzip" if isinstance(stream, GzipReader) else "raw")
        offset = _offset(header, path, held)
        # An offset of 0 is left by writers that mean the first byte there can be.
        bare = offset == 0 and held == HEADER_BYTES + math.prod(shape) * stored.itemsize
        read_bytes(stream, offset or (HEADER_BYTES if bare else DATA_OFFSET), path)
        array = read_voxels(stream, shape, stored, held, path)
    return scaled(array, *header.scaling, str(path))


def _offset(header: NiftiHeader, path: Path, held: float) -> int:
    """Where the voxels begin, or 0 where the header leaves it open."""
    offset = float(header.field(108, "f")[0])
    if offset != 0 and not (HEADER_BYTES <= offset <= held and offset.is_integer()):
        raise damaged(
            path,
            f"its header has the voxels begin at byte {offset:g} (vox_offset), which is "
            + ("beyond its end" if offset > held else f"no place behind the {HEADER_BYTES} bytes of a header"),
        )
    return int(offset)


def header_at(geometry: Geometry) -> bytes:
    """A header that says where a grid lies, for an image that comes without one: 348 bytes, little-endian.

    The sform has the axes as they are, a slight skew included; the qform the rotation nearest to them.

    Raises:
        OutputError: An axis is longer than the format can say.
    """
    if max(geometry.size) > _LONGEST_AXIS:
        raise OutputError(
            f"a grid of {' x '.join(map(str, geometry.size))} voxels",
            f"{_LONGEST_AXIS} voxels at most along each axis of a NIfTI file",
            "write it as .nrrd or .mha",
        )
    # The format's axes run to the right and to anterior; adding zero leaves no -0.
    turned = np.array([[-1.0], [-1.0], [1.0]])
    axes, origin = turned * geometry.matrix, turned[:, 0] * geometry.origin_mm + 0.0
    rows = np.column_stack([axes * geometry.spacing_mm, origin]) + 0.0
    left, _, right = np.linalg.svd(axes)
    turn, handed = left @ right, math.copysign(1.0, float(np.linalg.det(axes)))
    turn[:, 2] *= handed
    header = bytearray(HEADER_BYTES)

    def put(offset: int, layout: str, *values: float | bytes) -> None:
        struct.pack_into("<" + layout, header, offset, *values)

    put(0, "i", HEADER_BYTES)
    put(38, "s", b"r")
    put(40, "8h", 3, *geometry.size, 1, 1, 1, 1)
    put(76, "4f", handed, *geometry.spacing_mm)
    put(123, "B", _MILLIMETRES_AND_SECONDS)
    # Both are relative to the scanner.
    put(252, "2h", 1, 1)
    put(256, "6f", *_quaternion(turn), *origin)
    put(280, "12f", *rows.ravel())
    return bytes(header)


def _quaternion(turn: Array) -> Array:
    """b, c and d of a rotation's quaternion, whose a is not negative (nifti1.h)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn
    # Each row is (a, b, c, d) times four times one of them.
    rows = np.array(
        [
            [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
        ]
    )
    longest = rows[int(np.argmax(rows.diagonal()))]
    parts = longest / np.linalg.norm(longest) * (-1.0 if longest[0] < 0 else 1.0)
    return np.asarray(parts[1:] + 0.0)


def write_with_header(
    path: Path, array: Array, raw: bytes, *, compress: bool, mark: bool = False, table: bytes = b"", note: bytes = b""
) -> None:
    """Write [z, y, x] under a header of 348 bytes: orientation, units and byte order stay as they are, byte for byte.

    With ``mark``, ``descrip`` holds verdiff's mark (:mod:`verdiff.files.marks`); a ``table`` of labels and a ``note``
    follow it as extensions.
    """
    header = NiftiHeader(raw, "<" if struct.unpack_from("<i", raw)[0] == HEADER_BYTES else ">")
    kind = array.dtype.str[1:]
    if kind not in _CODES:
        raise OutputError(f"pixels of type {array.dtype}", f"one of {', '.join(_CODES)}", "convert the array first")
    fresh = bytearray(raw)

    def put(offset: int, layout: str, *values: float | bytes) -> None:
        struct.pack_into(header.order + layout, fresh, offset, *values)

    put(56, "3f", 0, 0, 0)
    put(68, "h", 0)
    put(70, "2h", _CODES[kind], array.dtype.itemsize * 8)
    between = between_parts(table, note, header.order)
    put(108, "3f", float(HEADER_BYTES + len(between)), 1.0, 0.0)
    put(124, "2f", 0, 0)
    put(140, "2i", 0, 0)
    put(148, "80s24s", b"verdiff", b"")
    put(328, "16s", b"")
    put(344, "4s", b"n+1\0")
    data = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(header.order))
    _write_parts(path, bytes(fresh) + between, data.data.cast("B"), compress=compress, mark=mark)


def between_parts(table: bytes, note: bytes = b"", order: str = "<") -> bytes:
    """What lies between header and voxels: four zeros, or a table of labels and a note as extensions (nifti1.h)."""
    parts = [(code, text) for code, text in ((_CARET, table), (_COMMENT, note)) if text]
    if not parts:
        return bytes(DATA_OFFSET - HEADER_BYTES)
    between = b"\1\0\0\0"
    for code, text in parts:
        size = -(-(len(text) + 8) // _EXTENSION_STEP) * _EXTENSION_STEP
        # Blanks after a document are XML, zeros are not, and some readers hand on all that is there.
        between += struct.pack(f"{order}2i", size, code) + text.ljust(size - 8)
    return between


def _write_parts(path: Path, header: bytes, voxels: memoryview, *, compress: bool, mark: bool) -> None:
    """Write the two parts of an image as one file, with verdiff's mark in ``descrip`` if that is asked for."""
    if mark:
        fresh = bytearray(header)
        struct.pack_into("80s", fresh, 148, nifti_mark(header, voxels))
        header = bytes(fresh)
    parts = [memoryview(header), voxels]
    with path.open("wb") as target:
        target.writelines(gzipped(*parts) if compress else parts)
