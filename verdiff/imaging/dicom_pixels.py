"""The intensities of DICOM frames: from the numbers that are stored to those that the scanner meant.

High is bright for films and MR, and Hounsfield units are Hounsfield units, also where the file is MONOCHROME1.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging.dicom_frames import DicomFrame
from verdiff.imaging.dicom_header import BIG_ENDIAN, NATIVE, OF_THE_STANDARD, PIXEL_DATA, DicomFile
from verdiff.imaging.dicom_packed import unpacked
from verdiff.imaging.dicom_padding import Padded
from verdiff.imaging.volume import Array
from verdiff.imaging.voxels import damaged, native, read_bytes, scaled

_ALLOCATED, _STORED, _HIGH_BIT, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_FLOATS = {0x7FE00008: 32, 0x7FE00009: 64}
_WHOLE = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)


def intensities(frames: Sequence[DicomFrame], padded: Padded) -> Iterator[Array]:
    """The intensities [rows, columns] of frames of one file, one after the other.

    Args:
        frames: Frames of one file, in the order wanted.
        padded: What is told of bright padding, which becomes as dark as the frame's darkest pixel.

    Raises:
        InputError: If the pixels are damaged, fewer or more than stated, or of a kind that is not read.
    """
    file = frames[0].file
    planes = _stored(file)
    for frame in frames:
        plane = padded.without(planes[frame.index], file, inverted=_inverted(file))
        yield _scaled(file, plane, frame)


def joined(planes: Iterable[Array], count: int) -> Array:
    """Planes as one array [count, rows, columns], in the narrowest type that holds them all."""
    result: Array | None = None
    for index, plane in enumerate(planes):
        if result is None:
            result = np.empty((count, *plane.shape), plane.dtype)
        elif plane.dtype != result.dtype:
            # The scaling may be stated slice by slice, and with it the type that holds the values.
            wider = np.promote_types(plane.dtype, result.dtype)
            result = result.astype(np.float32 if wider == np.float64 else wider, copy=False)
        result[index] = plane
    assert result is not None
    return result


def _stored(file: DicomFile) -> Array:
    """The stored numbers [frames, rows, columns], without what else lies in their unused bits."""
    assert file.pixels is not None
    rows, columns = file.whole(0x00280010), file.whole(0x00280011)
    frames = int((file.numbers(0x00280008) or (1.0,))[0])
    kind = _kind(file)
    offset, length = file.pixels
    if file.syntax and not file.syntax.startswith(OF_THE_STANDARD):
        raise InputError(
            f"{file.path} has the transfer syntax {file.syntax}, a vendor's own",
            "a transfer syntax of the DICOM standard",
            "export the image again, or convert it first, for example with gdcmconv --raw",
        )
    if file.syntax not in NATIVE and length is None:
        return _without_unused_bits(unpacked(file, frames, rows, columns, kind), file)
    count = frames * rows * columns * kind.itemsize
    if length is None or not count <= length <= count + 1:
        held = (
            "packed pixels, though its transfer syntax is a plain one"
            if length is None
            else f"{length} bytes of pixels"
        )
        raise damaged(
            file.path,
            f"it holds {held}, and its header states {frames} x {rows} x {columns} of {kind.itemsize} bytes, {count}",
        )
    if file.inflated is not None:
        data = file.inflated[offset : offset + length]
    else:
        with file.path.open("rb") as stream:
            stream.seek(offset, io.SEEK_SET)
            data = read_bytes(stream, length, file.path)
    if file.syntax == BIG_ENDIAN and kind.itemsize == 1 and file.pixel_vr == b"OW" and length % 2 == 0:
        # Bytes lie in words of 16 bits, the second of two first (PS3.5, annex A.3).
        data = np.frombuffer(data, np.uint16).byteswap().tobytes()
    array = native(np.frombuffer(data[:count], kind).reshape(frames, rows, columns))
    return _without_unused_bits(array, file) if file.pixel_tag == PIXEL_DATA else array


def _kind(file: DicomFile) -> np.dtype[np.generic]:
    allocated, stored = file.whole(_ALLOCATED), file.whole(_STORED)
    if file.pixel_tag in _FLOATS and allocated == _FLOATS[file.pixel_tag]:
        return np.dtype(f"{file.order}f{allocated // 8}")
    high = file.whole(_HIGH_BIT, stored - 1)
    if file.pixel_tag != PIXEL_DATA or allocated not in (8, 16, 32) or not 1 <= stored <= high + 1 <= allocated:
        raise InputError(
            f"{file.path} has pixels of {allocated} bits, {stored} of them stored, the highest at {high}",
            "whole numbers of 8, 16 or 32 bits",
            "export the image with 16 bits a pixel; a segmentation object is no scan",
        )
    return np.dtype(f"{file.order}{'i' if file.whole(_SIGNED) else 'u'}{allocated // 8}")


def _without_unused_bits(array: Array, file: DicomFile) -> Array:
    """The numbers in the bits that are stored: others may hold overlays."""
    allocated, stored = file.whole(_ALLOCATED), file.whole(_STORED)
    high = file.whole(_HIGH_BIT, stored - 1)
    if stored == allocated:
        return array
    # Up to the top, where a sign bit counts, and down again.
    raised: Array = np.left_shift(array.view(f"u{array.dtype.itemsize}"), allocated - 1 - high).view(array.dtype)
    lowered: Array = np.right_shift(raised, allocated - stored)
    return lowered


def _inverted(file: DicomFile) -> bool:
    """Whether high numbers are dark."""
    return file.text(0x00280004).upper() == "MONOCHROME1" and file.text(0x00080060).upper() != "CT"


def _scaled(file: DicomFile, plane: Array, frame: DicomFrame) -> Array:
    if _inverted(file):
        bits, signed = file.whole(_STORED), plane.dtype.kind == "i"
        top = -1 if signed else (1 << bits) - 1
        plane = -plane if plane.dtype.kind == "f" else (top - plane.astype(np.int64)).astype(plane.dtype)
    slope, intercept = frame.slope, frame.intercept
    if plane.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return scaled(plane, slope, intercept, frame.plane.name)
    if (slope, intercept) == (1.0, 0.0):
        return plane
    bits, signed = file.whole(_STORED), plane.dtype.kind == "i"
    ends = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    low, high = sorted(int(slope) * end + int(intercept) for end in ends)
    fitting = next((kind for kind in _WHOLE if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), None)
    if fitting is None:
        return scaled(plane, slope, intercept, frame.plane.name)
    return (plane.astype(np.int64) * int(slope) + int(intercept)).astype(fitting)
