"""Voxels that are stored as text, in numbers or hexadecimal digits, read piece by piece as the bytes they stand for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from io import BufferedReader
from pathlib import Path

import numpy as np

from verdiff.imaging.voxels import Stream, damaged, unpacked
from verdiff.imaging.voxels import most_bytes as most_unpacked

TEXT, HEX = "text", "hex"
_PIECE = 1 << 16
# No number has more characters.
_LONGEST = 512
_SPACES = b" \t\r\n\v\f"


def decoded(stream: BufferedReader, encoding: str, kind: np.dtype, path: Path) -> Stream:
    """What follows in a file as the voxels' bytes.

    Args:
        stream: Stream that stands at the first voxel.
        encoding: "text", "hex", or one of :func:`verdiff.imaging.voxels.unpacked`.
        kind: Type of a voxel; of text it has the machine's byte order.
        path: Path, for messages.
    """
    if encoding == TEXT:
        return _Numbers(stream, kind, path)
    return _Digits(stream, path) if encoding == HEX else unpacked(stream, encoding)


def most_bytes(path: Path, encoding: str) -> float:
    """The most bytes of voxels that a file of this length can hold: of text one of eight bytes in two characters."""
    return 4.0 * (path.stat().st_size + 1) if encoding == TEXT else most_unpacked(path, encoding)


class _Pieces(ABC):
    """Bytes that are made piece by piece, handed out as they are asked for."""

    def __init__(self, stream: BufferedReader, path: Path) -> None:
        self._stream, self._path = stream, path
        self._made, self._rest = b"", b""

    def readinto(self, view: memoryview, /) -> int:
        """Fill the start of ``view``; the number of bytes, 0 at the end."""
        while not self._made:
            piece = self._stream.read(_PIECE)
            if not piece and not self._rest:
                return 0
            self._made = self._bytes_of(self._rest + piece, last=not piece)
        count = min(len(view), len(self._made))
        view[:count] = self._made[:count]
        self._made = self._made[count:]
        return count

    @abstractmethod
    def _bytes_of(self, text: bytes, *, last: bool) -> bytes:
        """The voxels that ``text`` holds whole; what is left of it stays in ``_rest``."""


class _Numbers(_Pieces):
    def __init__(self, stream: BufferedReader, kind: np.dtype, path: Path) -> None:
        super().__init__(stream, path)
        self._kind = kind.newbyteorder("=")

    def _bytes_of(self, text: bytes, *, last: bool) -> bytes:
        end = len(text) if last else 1 + max(text.rfind(space) for space in (*_SPACES, ord(",")))
        text, self._rest = text[:end], text[end:]
        if len(self._rest) > _LONGEST:
            raise damaged(self._path, f"its voxels are text, and {self._rest[:20]!r}... is no number")
        words = text.replace(b",", b" ").split()
        try:
            # Whole numbers are not taken by way of floats, which would round them.
            values = np.array([int(word) if self._kind.kind in "iu" else float(word) for word in words], self._kind)
        except (ValueError, OverflowError) as error:
            raise damaged(self._path, f"its voxels are text, not all of it numbers of type {self._kind}") from error
        return values.tobytes()


class _Digits(_Pieces):
    def _bytes_of(self, text: bytes, *, last: bool) -> bytes:
        digits = text.translate(None, _SPACES)
        end = len(digits) - len(digits) % 2
        self._rest = digits[end:]
        try:
            if last and self._rest:
                raise ValueError("an odd number of digits")
            return bytes.fromhex(digits[:end].decode("ascii"))
        except ValueError as error:
            raise damaged(self._path, "its voxels are hexadecimal digits, and something else is among them") from error
