"""The body of an HTTP request as blocks, and a multipart body as its parts, with no more than one part in memory.

The standard library's HTTP server leaves chunked bodies to its user, and its e-mail parser wants a message whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.message import Message
from io import BufferedIOBase

BLOCK = 1 << 16
_LINE = 1 << 10
_LINES = 100
_PART_HEADERS = 1 << 14


class Malformed(Exception):
    """The body is not what its headers say."""


class TooLarge(Exception):
    """The body, or a part of it, is longer than what is taken."""


class Body:
    """A body whose length is stated, or that comes in chunks (RFC 9112, sections 6 and 7).

    Args:
        stream: Stream that stands behind the request's headers.
        headers: The request's.
        longest: Bytes that are taken.
        renew: Called before each block: whoever waits for it starts to count anew.

    Raises:
        Malformed: The headers do not tell where the body ends.
        TooLarge: It states more than is taken.
    """

    def __init__(self, stream: BufferedIOBase, headers: Message, longest: int, renew: Callable[[], None]) -> None:
        self._stream, self._longest, self._renew = stream, longest, renew
        lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
        # Two statements that differ are how requests are smuggled: exactly one is taken.
        if len(lengths) + len(codings) != 1:
            raise Malformed("one Content-Length, or Transfer-Encoding: chunked")
        self._chunked = bool(codings)
        if codings and codings[0].strip().lower() != "chunked":
            raise Malformed("no transfer coding but chunked")
        if lengths and not re.fullmatch(r" *[0-9]{1,18} *", lengths[0]):
            raise Malformed("a Content-Length of digits")
        self._left = 0 if self._chunked else int(lengths[0])
        self._taken = 0
        self._check(0 if self._chunked else self._left)

    def block(self) -> bytes:
        """The next 64 KiB, fewer at the end, none behind it.

        Raises:
            Malformed: The body ends early, or a chunk makes no sense.
            TooLarge: It is longer than what is taken.
        """
        self._renew()
        block = bytearray()
        # A block is filled from as many chunks as it takes, so that tiny ones do not win time.
        while len(block) < BLOCK:
            if not self._left and self._chunked:
                self._begin_chunk()
            if not self._left:
                break
            data = self._stream.read(min(self._left, BLOCK - len(block)))
            if not data:
                raise Malformed("a body that does not end early")
            block += data
            self._left -= len(data)
            if self._chunked and not self._left and self._line():
                raise Malformed("a chunk as long as it says")
        return bytes(block)

    def _begin_chunk(self) -> None:
        size = self._line().split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
            raise Malformed("a chunk's size in hexadecimal digits")
        self._left = int(size, 16)
        self._check(self._left)
        if self._left:
            return
        self._chunked = False
        for _ in range(_LINES):
            if not self._line():
                return
        raise Malformed(f"at most {_LINES} trailers")

    def _line(self) -> bytes:
        line = self._stream.readline(_LINE)
        if not line.endswith(b"\r\n"):
            raise Malformed("lines that end, before their 1024th byte")
        return line[:-2]

    def _check(self, more: int) -> None:
        self._taken += more
        if self._taken > self._longest:
            raise TooLarge


def parts(body: Body, boundary: str, longest: int, most: int) -> Iterator[bytes]:
    """What the parts of a multipart body hold, one after the other (RFC 2046, 5.1.1); their headers are skipped.

    Args:
        body: The request's.
        boundary: Boundary that its content type states.
        longest: Bytes that a part may have.
        most: Number of parts.

    Raises:
        Malformed: There is no such boundary, or the last one is missing.
        TooLarge: A part is longer, or there are more.
    """
    delimiter = b"\r\n--" + boundary.encode("latin-1", "replace")
    splitter = _Splitter(body)
    splitter.until(delimiter, _PART_HEADERS)
    for _ in range(most + 1):
        if splitter.starts_with(b"--"):
            return
        # The delimiter's own line end is left before the headers: so a part without any has its empty line, too.
        splitter.until(b"\r\n\r\n", _PART_HEADERS)
        yield splitter.until(delimiter, longest)
    raise TooLarge


class _Splitter:
    """Cuts a body at marks."""

    def __init__(self, body: Body) -> None:
        # A body may begin with its first delimiter, without the line end before it.
        self._body, self._held = body, bytearray(b"\r\n")

    def until(self, mark: bytes, most: int) -> bytes:
        """What comes before a mark, which is skipped."""
        start = 0
        while (at := self._held.find(mark, start)) < 0:
            start = max(0, len(self._held) - len(mark) + 1)
            if start > most:
                raise TooLarge
            self._more()
        if at > most:
            raise TooLarge
        with memoryview(self._held) as view:
            found = bytes(view[:at])
        del self._held[: at + len(mark)]
        return found

    def starts_with(self, mark: bytes) -> bool:
        while len(self._held) < len(mark):
            self._more()
        return self._held.startswith(mark)

    def _more(self) -> None:
        block = self._body.block()
        if not block:
            raise Malformed("parts between boundaries, and a last one")
        self._held += block
