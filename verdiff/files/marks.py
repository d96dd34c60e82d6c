"""The mark in a file that verdiff made: which version wrote it, and a hash that no longer fits once it was changed.

A mask that an expert corrects keeps its header, mark included, in most programs; its voxels then no longer have the
hash, and it counts as the expert's. The hash is of the whole file (unpacked, where it is gzip) with the digits of the
hash as zeros.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from verdiff import __version__

_DIGITS = 32
_MARK = re.compile(rb"verdiff [0-9A-Za-z.+-]{1,10} sha256:([0-9a-f]{%d})" % _DIGITS)
# Every format has a place for the mark near its beginning, so a stranger's file is told by one read.
_HEAD = 1 << 16
_BLOCK = 1 << 20
_GZIP = 31
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CRC_BYTES = 4
_DESCRIP, _DESCRIP_BYTES = 148, 80
_STL_HEADER_BYTES = 80
_DICOM_PREAMBLE_BYTES = 128


def blank_mark() -> bytes:
    """The mark with zeros in place of its hash."""
    return b"verdiff %s sha256:%s" % (__version__[:10].encode("ascii"), b"0" * _DIGITS)


def marked(data: bytes, suffix: str) -> bytes:
    """The contents of a finished file, unpacked, with its mark.

    Args:
        data: What is in the file.
        suffix: Suffix of its name: a key of :data:`PLACES`.

    Raises:
        ValueError: The contents have no place for a mark (a JSON list, for example), or have one already.
    """
    blank = PLACES[suffix](data, blank_mark())
    found = _MARK.search(blank[:_HEAD])
    if found is None or found[1] != b"0" * _DIGITS:
        raise ValueError(f"no place for a mark in this {suffix} file")
    start = found.start(1)
    digits = _digits([_blanked(blank[:_HEAD], start), blank[_HEAD:]])
    fresh = blank[:start] + digits + blank[start + _DIGITS :]
    return _png_checksummed(fresh, start + _DIGITS) if suffix == ".png" else fresh


def mark_file(path: Path) -> None:
    """Put the mark into a finished file, if its format has a place for one; the suffix of the name says the format."""
    suffix = path.suffix.lower()
    if suffix not in PLACES:
        return
    data = path.read_bytes()
    if not _MARK.search(data[:_HEAD]):
        path.write_bytes(marked(data, suffix))


def made_by_verdiff(path: Path) -> bool:
    """Whether verdiff wrote this file and nobody changed it since.

    Anything that cannot be read, is no plain file or has no mark is somebody else's.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with path.open("rb") as file:
            blocks = _unpacked(iter(lambda: file.read(_BLOCK), b""))
            head = next(blocks, b"")
            while len(head) < _HEAD and (more := next(blocks, b"")):
                head += more
            found = _MARK.search(head[:_HEAD])
            if found is None:
                return False
            return _digits(_chained(_blanked(head, found.start(1)), blocks)) == found[1]
    except (OSError, ValueError, zlib.error):
        return False


def nifti_mark(header: bytes, *rest: memoryview) -> bytes:
    """The mark for ``descrip`` of an image in these parts, of which the header is the first."""
    blank = _in_nifti(header, blank_mark())
    start = _DESCRIP + len(blank_mark()) - _DIGITS
    return blank_mark()[:-_DIGITS] + _digits([_blanked(blank, start), *rest])


def _digits(parts: Iterator[bytes] | list[bytes | memoryview]) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()[:_DIGITS].encode("ascii")


def _blanked(head: bytes, start: int) -> bytes:
    """The head with zeros for the digits, and of a PNG for the checksum behind them, which depends on them."""
    end = start + _DIGITS
    if head.startswith(_PNG):
        return head[:start] + b"0" * _DIGITS + bytes(_PNG_CRC_BYTES) + head[end + _PNG_CRC_BYTES :]
    return head[:start] + b"0" * _DIGITS + head[end:]


def _chained(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from blocks


def _unpacked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks of a file, unpacked if they are one gzip member; ValueError if anything follows or is missing."""
    first = next(blocks, b"")
    if not first.startswith(b"\x1f\x8b"):
        yield from _chained(first, blocks)
        return
    inflate = zlib.decompressobj(_GZIP)
    for block in _chained(first, blocks):
        left = block
        while left and not inflate.eof:
            yield inflate.decompress(left, _BLOCK)
            left = inflate.unconsumed_tail
        if inflate.unused_data or (left and inflate.eof):
            raise ValueError("something follows the gzip data")
    while not inflate.eof:
        rest = inflate.decompress(inflate.unconsumed_tail, _BLOCK)
        if not rest:
            raise ValueError("the end of the gzip data is missing")
        yield rest


def _in_json(data: bytes, mark: bytes) -> bytes:
    if not data.startswith(b"{"):
        raise ValueError("only a JSON object has a place for a mark")
    return b'{\n "written_by": "%s",%s' % (mark, data[1:])


def _in_csv(data: bytes, mark: bytes) -> bytes:
    """The mark as the title of a last, empty column: a line of its own would be a row to every reader of CSV."""
    title, *rows = csv.reader(io.StringIO(data.decode("utf-8"), newline=""))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[*title, mark.decode("ascii")], *([*row, ""] for row in rows)])
    return out.getvalue().encode("utf-8")


def _in_comment(data: bytes, mark: bytes) -> bytes:
    return b"<!-- %s -->\n%s" % (mark, data)


def _in_xml(data: bytes, mark: bytes) -> bytes:
    """Put the mark behind the first line: XML's declaration, or the document type of HTML, which must come first."""
    declaration, newline, rest = data.partition(b"\n")
    return b"%s%s<!-- %s -->\n%s" % (declaration, newline, mark, rest)


def _in_png(data: bytes, mark: bytes) -> bytes:
    """The mark as a text chunk behind the header; its digits end it, so its checksum follows them."""
    header = len(_PNG) + 25
    text = b"tEXtSoftware\0" + mark
    return data[:header] + (len(text) - 4).to_bytes(4, "big") + text + bytes(_PNG_CRC_BYTES) + data[header:]


def _png_checksummed(data: bytes, end: int) -> bytes:
    start = data.rindex(b"tEXt", 0, end)
    return data[:end] + zlib.crc32(data[start:end]).to_bytes(4, "big") + data[end + _PNG_CRC_BYTES :]


def _in_nrrd(data: bytes, mark: bytes) -> bytes:
    magic, newline, rest = data.partition(b"\n")
    return b"%s%s# %s\n%s" % (magic, newline, mark, rest)


def _in_metaimage(data: bytes, mark: bytes) -> bytes:
    first, newline, rest = data.partition(b"\n")
    return b"%s%sComment = %s\n%s" % (first, newline, mark, rest)


def _in_stl(data: bytes, mark: bytes) -> bytes:
    header = data[:_STL_HEADER_BYTES].rstrip() + b" " + mark
    if len(header) > _STL_HEADER_BYTES:
        raise ValueError("the header of the STL file is full")
    return header.ljust(_STL_HEADER_BYTES) + data[_STL_HEADER_BYTES:]


def _in_dicom(data: bytes, mark: bytes) -> bytes:
    """Put the mark into the preamble, which the standard leaves to whoever writes the file (PS3.10, 7.1)."""
    return mark.ljust(_DICOM_PREAMBLE_BYTES, b"\0") + data[_DICOM_PREAMBLE_BYTES:]


def _in_nifti(data: bytes, mark: bytes) -> bytes:
    """Put the mark into ``descrip``, the one field that says nothing of the image's place or values."""
    return data[:_DESCRIP] + mark.ljust(_DESCRIP_BYTES, b"\0") + data[_DESCRIP + _DESCRIP_BYTES :]


PLACES: dict[str, Callable[[bytes, bytes], bytes]] = {
    ".json": _in_json,
    ".csv": _in_csv,
    ".md": _in_comment,
    ".vtp": _in_xml,
    ".html": _in_xml,
    ".png": _in_png,
    ".nrrd": _in_nrrd,
    ".mha": _in_metaimage,
    ".stl": _in_stl,
    ".dcm": _in_dicom,
    ".nii": _in_nifti,
}
