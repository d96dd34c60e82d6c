"""What the smaller messages say: STATUS, STRING, COMMAND, CAPABILITY and POLYDATA."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verdiff.serve.igtl.codes import Code, Refused
from verdiff.serve.igtl.frames import ASCII, UTF8, Piece

if TYPE_CHECKING:
    from verdiff.anatomy import Surface

# Code, sub-code, name of the error; a text that ends with a zero.
_STATUS = struct.Struct("!Hq20s")
_STRING = struct.Struct("!HH")
# Of a command: its number, its name, the encoding, the length. Versions of the library have had three sizes of names.
_NUMBER, _TEXT = struct.Struct("!I"), struct.Struct("!HI")
_NAME_SIZES = (128, 32, 20)
_POLYDATA = struct.Struct("!10I")
_TYPE_NAME = 12
LONGEST_TEXT = 0xFFFF
# The types that the server takes or sends.
CAPABILITIES = (
    *("IMAGE", "STATUS", "STRING", "COMMAND", "POLYDATA", "CAPABILITY"),
    *("GET_CAPABIL", "GET_STATUS", "GET_IMAGE", "GET_POLYDATA", "RTS_COMMAND"),
)


def status_content(code: Code, name: str, text: str, *, sub_code: int = 0) -> list[Piece]:
    """A STATUS: how things are, the name of the error and a text for people."""
    return [_STATUS.pack(code, sub_code, name.encode("ascii", "replace")[:19]), text.encode() + b"\0"]


def read_string(content: memoryview) -> str:
    """The text of a STRING.

    Raises:
        Refused: It is shorter than it says, or in an unknown encoding.
    """
    if len(content) < _STRING.size:
        raise _cut_short("STRING")
    encoding, length = _STRING.unpack_from(content)
    return _text(content[_STRING.size :], encoding, length, "STRING")


def string_content(text: str) -> list[Piece]:
    """A STRING; what is too long for one is cut."""
    data = text.encode()[:LONGEST_TEXT]
    return [_STRING.pack(ASCII if data.isascii() else UTF8, len(data)), data]


@dataclass(frozen=True)
class Command:
    """A COMMAND.

    Attributes:
        number: Number that the answer repeats.
        name: What to do.
        text: Words that go with the name.
        name_size: Bytes of its field for the name, of which there are several kinds.
    """

    number: int
    name: str
    text: str
    name_size: int


def read_command(content: memoryview) -> Command:
    """The command in a COMMAND.

    Raises:
        Refused: Its parts do not fit, or it is longer than a STRING can be.
    """
    if len(content) > LONGEST_TEXT:
        raise Refused(
            Code.OVERFLOW, f"a COMMAND of {len(content)} bytes", f"at most {LONGEST_TEXT}", "send the command alone"
        )
    for size in _NAME_SIZES:
        start = _NUMBER.size + size
        if len(content) < start + _TEXT.size:
            continue
        encoding, length = _TEXT.unpack_from(content, start)
        text = content[start + _TEXT.size :]
        if encoding in (ASCII, UTF8) and len(text) == length:
            (number,) = _NUMBER.unpack_from(content)
            name = bytes(content[_NUMBER.size : start]).split(b"\0", 1)[0].decode("utf-8", "replace")
            return Command(number, name, _text(text, encoding, length, "COMMAND"), size)
    raise _cut_short("COMMAND")


def command_content(command: Command, answer: str) -> list[Piece]:
    """An RTS_COMMAND: the answer to a command, in its own form."""
    data = answer.encode()
    head = _NUMBER.pack(command.number) + command.name.encode()[: command.name_size].ljust(command.name_size, b"\0")
    return [head + _TEXT.pack(ASCII if data.isascii() else UTF8, len(data)), data]


def capability_content(types: Sequence[str]) -> list[Piece]:
    """A CAPABILITY: the names of types."""
    return [b"".join(name.encode().ljust(_TYPE_NAME, b"\0") for name in types)]


def polydata_content(surface: Surface) -> list[Piece]:
    """A POLYDATA with the triangles of a surface. The message has no word for coordinates; everybody's are RAS."""
    points = (surface.vertices_mm * (-1.0, -1.0, 1.0)).astype(">f4")
    cells = np.full((len(surface.triangles), 4), 3, ">u4")
    cells[:, 1:] = surface.triangles
    head = _POLYDATA.pack(len(points), 0, 0, 0, 0, len(cells), cells.nbytes, 0, 0, 0)
    return [head, points.tobytes(), cells.tobytes()]


def _text(data: memoryview, encoding: int, length: int, kind: str) -> str:
    if encoding not in (ASCII, UTF8):
        raise Refused(
            Code.CONFIG_ERROR, f"a {kind} in the encoding {encoding}", "3 (US-ASCII) or 106 (UTF-8)", "encode it so"
        )
    if len(data) < length:
        raise _cut_short(kind)
    return bytes(data[:length]).decode("utf-8", "replace")


def _cut_short(kind: str) -> Refused:
    return Refused(
        Code.CONFIG_ERROR, f"a {kind} that is shorter than it says", "all of it", "pack it by the specification"
    )
