"""The header of a DICOM file, functional groups of every frame included, and where its pixels lie.

ITK's reader tells one slope, one orientation and one spacing of a file, where an enhanced file states them frame by
frame, and gives up on some files whose pixels are plain. This parser keeps what verdiff needs, skips everything else
by its length, and takes no more memory than the file is long (DICOM PS3.5, sections 7 and 10).
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

Items: TypeAlias = "list[Elements]"
Elements: TypeAlias = "dict[int, bytes | Items]"

PIXEL_DATA = 0x7FE00010
_FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA = 0x7FE00008, 0x7FE00009
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_VRS = _LONG | set(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
# Shared and per-frame functional groups, and the mapping to real-world values: kept whole, with what is in them.
_KEPT = {0x52009229, 0x52009230, 0x00409096}
# Sequences within them, which implicit headers do not mark as such.
_INNER = {0x00209111, 0x00209113, 0x00209116, 0x00289110, 0x00289145, 0x00409096, 0x00289132}
_LONGEST_VALUE = 1 << 16
_DEEPEST = 8

IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
NATIVE = {IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, ""}


class NotDicom(Exception):
    """The file does not begin as DICOM does."""


class Damaged(Exception):
    """A DICOM file that contradicts itself or ends early; the text says where."""


@dataclass
class DicomFile:
    """What one file says about itself before its pixels are read.

    Attributes:
        path: The file.
        syntax: Its transfer syntax's UID; empty where it has none.
        elements: Values by tag, as stored: bytes, or the items of a sequence.
        pixels: Byte and length at which the pixels lie, None without any; the length is None where they are packed.
        pixel_tag: Under which tag they are: whole numbers, or floats of 32 or 64 bits.
        headless: Whether the 128 bytes and the mark DICM at its start are missing.
        inflated: The whole data set where the file is packed as one ("deflated"), else None.
    """

    path: Path
    syntax: str = ""
    elements: Elements = field(default_factory=dict)
    pixels: tuple[int, int | None] | None = None
    pixel_tag: int = PIXEL_DATA
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


def text_of(elements: Elements, tag: int) -> str:
    """A value as text, empty where there is none."""
    value = elements.get(tag)
    return value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else ""


def numbers_of(elements: Elements, tag: int) -> tuple[float, ...]:
    """A value of decimal strings as numbers; empty where there is none.

    Raises:
        Damaged: If it is there and is not numbers.
    """
    text = text_of(elements, tag)
    if not text.strip("\\ "):
        return ()
    try:
        return tuple(float(part) for part in text.split("\\"))
    except ValueError as error:
        raise Damaged(f"({tag >> 16:04x},{tag & 0xFFFF:04x}) is {text[:60]!r}, no numbers") from error


def items_of(elements: Elements, tag: int) -> Items:
    """The items of a sequence; none where it is not there."""
    value = elements.get(tag)
    return value if isinstance(value, list) else []


def read_header(path: Path) -> DicomFile:
    """What a file says up to its pixels.

    Raises:
        NotDicom: If it does not begin as DICOM does, with or without its preamble.
        Damaged: If it ends before its pixels do, or an element makes no sense.
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
        reader = _Reader(stream, size)
        meta = reader.meta()
        found.syntax = text_of(meta, 0x00020010)
        if found.syntax == DEFLATED:
            found.inflated = _inflated(stream, size)
            reader = _Reader(io.BytesIO(found.inflated), len(found.inflated))
        reader.order = found.order
        reader.explicit = found.syntax != IMPLICIT
        peeked = reader.peek(6)
        if reader.explicit and len(peeked) == 6 and peeked[4:6] not in _VRS and found.syntax != BIG_ENDIAN:
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
    return start[4:6] in _VRS or struct.unpack_from("<I", start, 4)[0] <= 1024


def _inflated(stream: BinaryIO, size: int) -> bytes:
    inflate = zlib.decompressobj(-15)
    try:
        data = inflate.decompress(stream.read(), 1032 * size)
    except zlib.error as error:
        raise Damaged(f"its compression does not check out ({error})") from error
    if not inflate.eof:
        raise Damaged("its compressed data ends early")
    return data


def _read_elements(reader: _Reader, found: DicomFile) -> None:
    last = 0
    while (head := reader.head()) is not None:
        tag, vr, length = head
        if tag < last and tag >> 16 != 0xFFFC:
            raise Damaged(f"its elements are out of order at ({tag >> 16:04x},{tag & 0xFFFF:04x})")
        last = tag
        if tag in (PIXEL_DATA, _FLOAT_PIXEL_DATA, _DOUBLE_PIXEL_DATA):
            packed = length == _UNDEFINED
            if not packed and length > reader.left:
                raise Damaged(f"its pixels end {length - reader.left} bytes early")
            found.pixels, found.pixel_tag = (reader.at, None if packed else length), tag
            return
        reader.keep(found.elements, tag, vr, length, 0)


@dataclass
class _Reader:
    """Elements one after another, never beyond the end of the file."""

    stream: BinaryIO
    size: int
    order: str = "<"
    explicit: bool = True

    @property
    def at(self) -> int:
        return self.stream.tell()

    @property
    def left(self) -> int:
        return self.size - self.stream.tell()

    def peek(self, count: int) -> bytes:
        at = self.at
        data = self.stream.read(count)
        self.stream.seek(at)
        return data

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise Damaged(f"it ends {count - self.left} bytes early")
        return self.stream.read(count)

    def meta(self) -> Elements:
        """Group 2, which is explicit and little-endian in every file."""
        found: Elements = {}
        while self.peek(2) == b"\x02\x00":
            head = self.head()
            assert head is not None
            self.keep(found, *head, 0)
        return found

    def head(self) -> tuple[int, bytes, int] | None:
        """Tag, type (empty in implicit headers) and length of the next element; None at the end."""
        if self.left == 0:
            return None
        group, element = struct.unpack(self.order + "HH", self.take(4))
        tag = group << 16 | element
        if group == 0xFFFE or not self.explicit:
            return tag, b"", struct.unpack(self.order + "I", self.take(4))[0]
        vr = self.take(2)
        if vr not in _VRS:
            raise Damaged(f"the element ({group:04x},{element:04x}) has no type")
        if vr not in _LONG:
            return tag, vr, struct.unpack(self.order + "H", self.take(2))[0]
        self.take(2)
        return tag, vr, struct.unpack(self.order + "I", self.take(4))[0]

    def keep(self, into: Elements, tag: int, vr: bytes, length: int, depth: int) -> None:
        """Read an element's value if it is wanted, else pass over it."""
        if depth > _DEEPEST:
            raise Damaged("its sequences are nested too deeply")
        wanted = depth > 0 or tag in _KEPT
        sequence = vr == b"SQ" or length == _UNDEFINED or (vr in (b"", b"UN") and tag in _KEPT | _INNER)
        if sequence and (wanted or length == _UNDEFINED):
            items = self.items(length, depth + 1, implicit=vr == b"UN")
            if wanted:
                into[tag] = items
            return
        if length > self.left:
            raise Damaged(f"({tag >> 16:04x},{tag & 0xFFFF:04x}) ends {length - self.left} bytes early")
        if sequence or length > _LONGEST_VALUE:
            self.stream.seek(length, io.SEEK_CUR)
        else:
            into[tag] = self.take(length)

    def items(self, length: int, depth: int, *, implicit: bool) -> Items:
        explicit, self.explicit = self.explicit, self.explicit and not implicit
        end = None if length == _UNDEFINED else self.at + length
        if end is not None and end > self.size:
            raise Damaged("a sequence ends early")
        found: Items = []
        while end is None or self.at < end:
            head = self.head()
            if head is None:
                raise Damaged("a sequence ends early")
            if head[0] == _END_OF_SEQUENCE:
                break
            if head[0] != _ITEM:
                raise Damaged("a sequence holds something that is no item")
            found.append(self.item(head[2], depth))
        self.explicit = explicit
        return found

    def item(self, length: int, depth: int) -> Elements:
        end = None if length == _UNDEFINED else self.at + length
        found: Elements = {}
        while end is None or self.at < end:
            head = self.head()
            if head is None:
                raise Damaged("an item ends early")
            if head[0] == _END_OF_ITEM:
                break
            self.keep(found, *head, depth)
        return found
