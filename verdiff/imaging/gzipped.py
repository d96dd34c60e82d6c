"""Gzip streams straight through zlib, into and out of arrays: a scan's reading and a mask's writing are mostly this."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

_BLOCK = 1 << 20
# zlib's window bits: a gzip header and checksum around the deflated data; that or zlib's own.
GZIP, ZLIB_OR_GZIP = 31, 47
_LEVEL, _MEMORY = 4, 9


class GzipReader:
    """What a gzip file holds, one member after another, without copying more than once.

    Args:
        packed: The file, from the first packed byte on.
        form: `GZIP` or `ZLIB_OR_GZIP`.
    """

    def __init__(self, packed: BinaryIO, form: int = GZIP) -> None:
        self._packed = packed
        self._form = form
        self._inflate = zlib.decompressobj(form)
        self._input = b""

    def readinto(self, view: memoryview) -> int:
        """Fill the start of ``view``; the number of bytes, 0 at the end, where the checksum has been compared.

        Raises:
            EOFError: The file ends before the data does.
            zlib.error: The data or its checksum is damaged, or something else follows it.
        """
        while not self._inflate.eof or self._next_member():
            block = self._input or self._packed.read(_BLOCK)
            data = self._inflate.decompress(block, min(len(view), _BLOCK))
            self._input = self._inflate.unconsumed_tail
            if data:
                view[: len(data)] = data
                return len(data)
            if not block and not self._inflate.eof:
                raise EOFError("the end of the data is missing")
        return 0

    def __enter__(self) -> GzipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._packed.close()

    def _next_member(self) -> bool:
        """Whether another member follows; zeros that fill up a block or a tape do not count."""
        rest = self._inflate.unused_data.lstrip(b"\0")
        while not rest and (block := self._packed.read(_BLOCK)):
            rest = block.lstrip(b"\0")
        if rest:
            self._inflate, self._input = zlib.decompressobj(self._form), rest
        return bool(rest)


def gzipped(*parts: memoryview) -> Iterator[bytes]:
    """The bytes of ``parts`` as one gzip member, a block at a time; the same bytes give the same file.

    Only runs of one byte are looked for. Masks and maps hold little else that repeats: against zlib's search at the
    same level a mask takes 37 % of the time and 78 % of the room, an uncertainty map 52 % and 112 %.
    """
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, GZIP, _MEMORY, zlib.Z_RLE)
    for part in parts:
        for start in range(0, len(part), _BLOCK):
            yield deflate.compress(part[start : start + _BLOCK])
    yield deflate.flush()
