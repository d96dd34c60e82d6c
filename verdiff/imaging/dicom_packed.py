"""Packed DICOM pixels, frame by frame: RLE here, JPEG, JPEG-LS and JPEG 2000 through SimpleITK's GDCM.

GDCM never sees the user's header. It would scale every frame by the first one's slope, turn MONOCHROME1 over, and ends
the whole process on some damaged headers. It gets each packed frame behind a plain header of verdiff's own instead.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging.dicom_header import DicomFile
from verdiff.imaging.itk import reason, simpleitk
from verdiff.imaging.quiet import heard
from verdiff.imaging.volume import Array
from verdiff.imaging.voxels import damaged

RLE = "1.2.840.10008.1.2.5"
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# JPEG 2000 packs a plane of one grey into a few hundred bytes; nothing packs a slice tighter.
_MOST_PIXELS_A_BYTE = 10_000
_MR_IMAGE = b"1.2.840.10008.5.1.4.1.1.4"


def unpacked(file: DicomFile, frames: int, rows: int, columns: int, kind: np.dtype[np.generic]) -> Array:
    """The stored numbers [frames, rows, columns] of packed pixels.

    Args:
        file: Its pixels are packed.
        frames: Number of frames that its header states.
        rows: Rows of a frame.
        columns: Columns of a frame.
        kind: Type of a stored number.

    Raises:
        InputError: If there are fewer or more frames than stated, or one is damaged.
    """
    parts = _frames(file, frames)
    if rows * columns > _MOST_PIXELS_A_BYTE * min(len(part) for part in parts):
        raise damaged(
            file.path, f"its header states frames of {rows} x {columns}, more than its packed pixels can hold"
        )
    array = np.empty((frames, rows, columns), kind)
    for plane, part in zip(array, parts, strict=True):
        plane[...] = _rle(file, part, plane.shape, kind) if file.syntax == RLE else _by_gdcm(file, part, plane.shape)
    return array


def _frames(file: DicomFile, count: int) -> list[bytes]:
    """The packed bytes of every frame (DICOM PS3.5, A.4)."""
    assert file.pixels is not None
    with file.path.open("rb") as stream:
        stream.seek(file.pixels[0])
        data = stream.read()
    items, starts, at = [], [], 0
    while (mark := data[at : at + 4]) == _ITEM and len(data) >= at + 8:
        (length,) = struct.unpack_from("<I", data, at + 4)
        if at + 8 + length > len(data):
            raise damaged(file.path, f"its packed pixels end {at + 8 + length - len(data)} bytes early")
        items.append(data[at + 8 : at + 8 + length])
        starts.append(at)
        at += 8 + length
    if mark != _END or len(items) < 2:
        raise damaged(file.path, "its packed pixels do not end as they should")
    table, fragments = items[0], items[1:]
    if len(fragments) == count:
        return fragments
    if count == 1:
        return [b"".join(fragments)]
    offsets = struct.unpack(f"<{len(table) // 4}I", table[: len(table) // 4 * 4])
    begins = [start - starts[1] for start in starts[1:]]
    if len(offsets) != count or any(offset not in begins for offset in offsets) or sorted(offsets) != list(offsets):
        raise damaged(file.path, f"its header states {count} frames, and its packed pixels are {len(fragments)} pieces")
    bounds = [*(begins.index(offset) for offset in offsets), len(fragments)]
    return [b"".join(fragments[bounds[index] : bounds[index + 1]]) for index in range(count)]


def _rle(file: DicomFile, part: bytes, shape: tuple[int, ...], kind: np.dtype[np.generic]) -> Array:
    """A frame of RLE: one run-length coded segment for each byte of a number, the highest first (PS3.5, annex G)."""
    segments = kind.itemsize
    header = struct.unpack("<16I", part[:64]) if len(part) >= 64 else (0,)
    bounds = [*header[1 : segments + 1], len(part)]
    if header[0] != segments or bounds[0] < 64 or sorted(bounds) != bounds:
        raise damaged(file.path, f"its packed pixels have {header[0]} segments where {segments} are expected")
    count = shape[0] * shape[1]
    planes = [_runs(part[bounds[index] : bounds[index + 1]], count) for index in range(segments)]
    if any(len(plane) != count for plane in planes):
        raise damaged(file.path, "its packed pixels unpack to fewer than its header states")
    highest_first = np.stack([np.frombuffer(plane, np.uint8) for plane in planes], axis=1)
    return np.ascontiguousarray(highest_first).view(kind.newbyteorder(">")).reshape(shape)


def _runs(segment: bytes, count: int) -> bytes:
    """Run-length coded bytes unpacked, ``count`` of them at most; an even length may have a byte to spare."""
    found, at = bytearray(), 0
    while at < len(segment) and len(found) < count:
        control = segment[at]
        if control < 128:
            found += segment[at + 1 : at + 2 + control]
            at += 2 + control
        else:
            if control > 128:
                found += segment[at + 1 : at + 2] * (257 - control)
            at += 2 if control > 128 else 1
    return bytes(found[:count])


def _by_gdcm(file: DicomFile, part: bytes, shape: tuple[int, ...]) -> Array:
    sitk = simpleitk()

    stated = _stated_by_codec(part)
    bits = file.whole(0x00280100)
    if stated is None or stated[:2] != shape or stated[2] != 1 or not 2 <= stated[3] <= bits:
        # What a decoder makes of a frame that contradicts its header is not left to chance.
        found = (
            "no JPEG" if stated is None else f"{stated[0]} x {stated[1]} pixels, {stated[2]} values of {stated[3]} bits"
        )
        raise damaged(file.path, f"a packed frame of it holds {found}; its header states {shape} and {bits} bits")
    with _as_file(_plain_header(file, shape) + _packed_element(part)) as name:
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(name)
        try:
            with heard(file.path):
                array: Array = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise InputError(
                f"{file.path} is truncated, damaged or packed in a way that is not read ({reason(error)}; transfer "
                f"syntax {file.syntax})",
                "a complete DICOM image",
                "copy or export the file again, or unpack it first, for example with gdcmconv --raw",
            ) from error
    if array.size != shape[0] * shape[1] or array.dtype.kind not in "iu":
        raise damaged(file.path, f"a frame of it unpacks to {array.shape} pixels of type {array.dtype}, not to {shape}")
    return array.reshape(shape)


def _stated_by_codec(part: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, values a pixel and bits of a value that a JPEG, JPEG-LS or JPEG 2000 frame states itself."""
    if part[:4] == b"\xff\x4f\xff\x51" and len(part) >= 43:
        right, bottom, left, top = struct.unpack(">4I", part[8:24])
        values, bits = struct.unpack(">HB", part[40:43])
        return bottom - top, right - left, values, (bits & 0x7F) + 1
    at = 2 if part[:2] == b"\xff\xd8" else len(part)
    while at + 10 <= len(part) and part[at] == 0xFF:
        marker, (length,) = part[at + 1], struct.unpack(">H", part[at + 2 : at + 4])
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns, values = struct.unpack(">BHHB", part[at + 4 : at + 10])
            return rows, columns, values, bits
        at += 2 + length
    return None


def _plain_header(file: DicomFile, shape: tuple[int, ...]) -> bytes:
    """A file's beginning for one frame of stored numbers: no scaling, no display, no place."""
    unit = b"1.2.826.0.1.3680043.8.498.1"
    meta = _element(0x00020001, b"OB", b"\0\1") + _element(0x00020002, b"UI", _MR_IMAGE)
    meta += _element(0x00020003, b"UI", unit) + _element(0x00020010, b"UI", file.syntax.encode("ascii", "replace"))
    body = _element(0x00080016, b"UI", _MR_IMAGE) + _element(0x00080018, b"UI", unit)
    body += _element(0x00280002, b"US", struct.pack("<H", 1)) + _element(0x00280004, b"CS", b"MONOCHROME2")
    numbers = (*shape, *(file.whole(0x00280100 + index) for index in range(4)))
    tags = (0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103)
    body += b"".join(_element(tag, b"US", struct.pack("<H", number)) for tag, number in zip(tags, numbers, strict=True))
    return bytes(128) + b"DICM" + _element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta + body


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if vr == b"OB" else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + length + value


def _packed_element(part: bytes) -> bytes:
    part += b"\0" * (len(part) % 2)
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    return head + _ITEM + bytes(4) + _ITEM + struct.pack("<I", len(part)) + part + _END + bytes(4)


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A name under which the bytes can be opened: in memory where the system has that, else a temporary file."""
    in_memory = getattr(os, "memfd_create", None)
    if in_memory is not None and Path("/proc/self/fd").is_dir():
        handle: int = in_memory("frame")
        try:
            with os.fdopen(handle, "wb", closefd=False) as stream:
                stream.write(data)
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        path.write_bytes(data)
        yield str(path)
