"""DICOM elements one after another: the wanted are kept, the others passed over by their length (PS3.5, section 7)."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import BinaryIO, TypeAlias

Items: TypeAlias = "list[Elements]"
Elements: TypeAlias = "dict[int, bytes | Items]"

_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
VRS = _LONG | set(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
# Shared and per-frame functional groups, dimensions, the mapping to real-world values, and the table of intensities:
# kept whole, with what is in them.
_KEPT = {0x52009229, 0x52009230, 0x00209222, 0x00409096, 0x00283000}
# Sequences within them, which implicit headers do not mark as such.
_INNER = {0x00209111, 0x00209113, 0x00209116, 0x00289110, 0x00289145, 0x00409096, 0x00289132}
_LONGEST_VALUE = 1 << 16
_DEEPEST = 8


class Damaged(Exception):
    """A DICOM file that contradicts itself or ends early; the text says where."""


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


def decimals_of(elements: Elements, tag: int) -> int | None:
    """How many decimals the finest of a value's decimal strings has; None where there is no value."""
    parts = [part.strip() for part in text_of(elements, tag).split("\\") if part.strip()]
    exponents = [Decimal(part).as_tuple().exponent for part in parts]
    return max((-each for each in exponents if isinstance(each, int)), default=None)


def items_of(elements: Elements, tag: int) -> Items:
    """The items of a sequence; none where it is not there."""
    value = elements.get(tag)
    return value if isinstance(value, list) else []


@dataclass
class ElementReader:
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
        if vr not in VRS:
            raise Damaged(f"the element ({group:04x},{element:04x}) has no type")
        if vr not in _LONG:
            return tag, vr, struct.unpack(self.order + "H", self.take(2))[0]
        self.take(2)
        return tag, vr, struct.unpack(self.order + "I", self.take(4))[0]

    def keep(self, into: Elements, tag: int, vr: bytes, length: int, depth: int) -> None:
        """Read an element's value if it is wanted, else pass over it."""
        if depth > _DEEPEST:
            raise Damaged("its sequences are nested too deeply")
        if length == UNDEFINED and vr in (b"OB", b"OW"):
            # Packed pixels of an icon, in pieces that hold no elements.
            self.pieces()
            return
        wanted = depth > 0 or tag in _KEPT
        sequence = vr == b"SQ" or length == UNDEFINED or (vr in (b"", b"UN") and tag in _KEPT | _INNER)
        if sequence and (wanted or length == UNDEFINED):
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

    def pieces(self) -> None:
        """Pass over packed pixels."""
        while (head := self.head()) is not None and head[0] == _ITEM:
            if head[2] > self.left:
                raise Damaged("a piece of packed pixels ends early")
            self.stream.seek(head[2], io.SEEK_CUR)
        if head is None or head[0] != _END_OF_SEQUENCE:
            raise Damaged("packed pixels do not end as they should")

    def items(self, length: int, depth: int, *, implicit: bool) -> Items:
        explicit, self.explicit = self.explicit, self.explicit and not implicit
        end = None if length == UNDEFINED else self.at + length
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
        end = None if length == UNDEFINED else self.at + length
        found: Elements = {}
        while end is None or self.at < end:
            head = self.head()
            if head is None:
                raise Damaged("an item ends early")
            if head[0] == _END_OF_ITEM:
                break
            self.keep(found, *head, depth)
        return found
