"""The header of a DICOM file, functional groups of every frame included, and where its pixels lie.

ITK's reader tells one slope, one orientation and one spacing of a file, where an enhanced file states them frame by
frame, and gives up on some files whose pixels are plain. This parser keeps what verdiff needs, skips everything else
by its length, and takes no more memory than the file or its inflated data set is long (DICOM PS3.5, sections 7, 10).
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from verdiff.imaging.dicom_elements import (
    UNDEFINED,
    VRS,
    Damaged,
    ElementReader,
    Elements,
    numbers_of,
    text_of,
)

PIXEL_DATA = 0x7FE00010
_FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA = 0x7FE00008, 0x7FE00009
IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
NATIVE = {IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, ""}
# Begins the UIDs of the standard's own transfer syntaxes; a vendor's may mean anything.
OF_THE_STANDARD = "1.2.840.10008."


class NotDicom(Exception):
    """The file does not begin as DICOM does."""


@dataclass
class DicomFile:
    """What one file says about itself before its pixels are read.

    Attributes:
        path: The file.
        syntax: Its transfer syntax's UID; empty where it has none.
        elements: Values by tag, as stored: bytes, or the items of a sequence.
        pixels: Byte and length at which the pixels lie, None without any; the length is None where they are packed.
        pixel_tag: Tag of the pixels: whole numbers, or floats of 32 or 64 bits.
        pixel_vr: Type of the element that holds them; empty in implicit headers.
        headless: Whether the 128 bytes and the mark DICM at its start are missing.
        inflated: The whole data set where the file is packed as one ("deflated"), else None.
    """

    path: Path
    syntax: str = ""
    elements: Elements = field(default_factory=dict)
    pixels: tuple[int, int | None] | None = None
    pixel_tag: int = PIXEL_DATA
    pixel_vr: bytes = b""
    headless: bool = False
    inflated: bytes | None = None

    @property
    def order(self) -> str:
        """Byte order of numbers: "<" or ">"."""
        return ">" if self.syntax == BIG_ENDIAN else "<"

    def text(self, tag: int) -> str:
        """A value as text, empty where there is none."""
        return text_of(self.elements, tag)

    def numbers(self, tag: int) -> tuple[float, ...]:
        """A value of decimal strings as numbers."""
        return numbers_of(self.elements, tag)

    def whole(self, tag: int, default: int = 0) -> int:
        """A value of 16 bits, such as the number of rows."""
        value = self.elements.get(tag)
        if not isinstance(value, bytes) or len(value) < 2:
            return default
        return int(struct.unpack_from(self.order + "H", value)[0])


def begins_as_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does: with the mark DICM behind a preamble, or with an element of its header."""
    with path.open("rb") as stream:
        start = stream.read(132)
    return start[128:] == b"DICM" or _begins_bare(start)


def read_header(path: Path, most: int | None = None) -> DicomFile:
    """What a file says up to its pixels.

    Args:
        path: The file.
        most: Bytes that it may unpack to where it is deflated; None is what deflate can at most.

    Raises:
        NotDicom: If it does not begin as DICOM does, with or without its preamble.
        Damaged: If it ends before its pixels do, unpacks to more, or an element makes no sense.
        OSError: If it cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=1 << 16) as stream:
        start = stream.read(132)
        found = DicomFile(path, headless=start[128:] != b"DICM")
        if found.headless:
            if not _begins_bare(start):
                raise NotDicom
            stream.seek(0)
        reader = ElementReader(stream, size)
        meta = reader.meta()
        found.syntax = text_of(meta, 0x00020010)
        if found.syntax == DEFLATED:
            found.inflated = _inflated(stream, size, most)
            reader = ElementReader(io.BytesIO(found.inflated), len(found.inflated))
        reader.order = found.order
        reader.explicit = found.syntax != IMPLICIT
        peeked = reader.peek(6)
        if reader.explicit and len(peeked) == 6 and peeked[4:6] not in VRS and found.syntax != BIG_ENDIAN:
            # Without a transfer syntax, or with a wrong one, the first element tells.
            reader.explicit = False
        _read_elements(reader, found)
    return found


def _begins_bare(start: bytes) -> bool:
    """Whether a file without preamble begins with an element of group 2 or 8."""
    if len(start) < 16:
        return False
    group, element = struct.unpack_from("<HH", start)
    if group not in (2, 8) or element > 0x0100:
        return False
    return start[4:6] in VRS or struct.unpack_from("<I", start, 4)[0] <= 1024


def _inflated(stream: BinaryIO, size: int, most: int | None) -> bytes:
    inflate = zlib.decompressobj(-15)
    # Deflate packs no more than 1032 bytes into one.
    limit = 1032 * size if most is None else min(1032 * size, most)
    try:
        data = inflate.decompress(stream.read(), limit)
    except zlib.error as error:
        raise Damaged(f"its compression does not check out ({error})") from error
    if inflate.unconsumed_tail:
        raise Damaged(f"it unpacks to more than {limit >> 20} MiB")
    if not inflate.eof:
        raise Damaged("its compressed data ends early")
    return data


def _read_elements(reader: ElementReader, found: DicomFile) -> None:
    while (head := reader.head()) is not None:
        tag, vr, length = head
        if tag in (PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA):
            packed = length == UNDEFINED
            if not packed and length > reader.left:
                raise Damaged(f"its pixels end {length - reader.left} bytes early")
            found.pixels, found.pixel_tag = (reader.at, None if packed else length), tag
            found.pixel_vr = vr
            return
        reader.keep(found.elements, tag, vr, length, 0)
