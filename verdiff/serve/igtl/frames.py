"""Messages on the wire: the header, its checksum, and what version 2 has around the content.

All numbers are big-endian. The checksum is the CRC-64 of ECMA-182 over the body.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.serve.igtl.codes import Code, Refused

_HEADER = struct.Struct("!H12s20sQQQ")
HEADER_SIZE = _HEADER.size
# Version 2: size of this part, of the metadata's index, of the metadata, and the message's id.
_EXTENDED = struct.Struct("!HHII")
_COUNT, _ENTRY = struct.Struct("!H"), struct.Struct("!HHI")
ASCII, UTF8 = 3, 106
VERSIONS = (1, 2)

Piece = bytes | bytearray | memoryview


@dataclass(frozen=True)
class MessageHeader:
    """The 58 bytes before every body.

    Attributes:
        version: Version of the header, 1 or 2.
        type: Type of the message, such as ``IMAGE``.
        device: The sender's name, as its bytes.
        timestamp: Seconds since 1970 in 32.32 fixed point, as it came; 0 is none.
        size: Bytes of the body.
        crc: Its checksum.
        id: Number of the message. Version 2 has it in the body: it is 0 until that was read.
    """

    version: int
    type: str
    device: bytes
    timestamp: int
    size: int
    crc: int
    id: int = 0


@dataclass(frozen=True)
class Message:
    """A message whose checksum is right.

    Attributes:
        header: Its header.
        content: The body without what version 2 has around it.
                metadata: Texts by their names; none in version 1.
    """

    header: MessageHeader
    content: memoryview
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(data: Piece) -> MessageHeader:
    """The header in 58 bytes.

    Raises:
        Refused: The header has another version, which may have another length.
    """
    version, kind, device, timestamp, size, crc = _HEADER.unpack(data)
    if version not in VERSIONS:
        raise Refused(
            Code.UNKNOWN_VERSION,
            f"a header of version {version}",
            "an OpenIGTLink header of version 1 or 2",
            "speak OpenIGTLink to this port",
            final=True,
        )
    name = kind.split(b"\0", 1)[0].decode("ascii", "backslashreplace")
    return MessageHeader(version, name, device.split(b"\0", 1)[0], timestamp, size, crc)


def read_message(header: MessageHeader, body: Piece) -> Message:
    """The message in a header and its body.

    Raises:
        Refused: The checksum is another one, or the parts of version 2 do not fit into the body.
    """
    if (found := checksum(body)) != header.crc:
        raise Refused(
            Code.CHECKSUM_ERROR,
            f"a body of {len(body)} bytes whose CRC-64 is {found:016x}",
            f"{header.crc:016x}, as its header says",
            "send it again",
        )
    view = memoryview(body)
    if header.version == 1:
        return Message(header, view)
    if len(view) < _EXTENDED.size:
        raise _misfit(f"a body of {len(view)} bytes")
    before, index, values, number = _EXTENDED.unpack_from(view)
    if before < _EXTENDED.size or before + index + values > len(view):
        raise _misfit(f"parts of {before}, {index} and {values} bytes in a body of {len(view)}")
    end = len(view) - index - values
    metadata = _metadata(view[end : end + index], view[end + index :]) if index else {}
    return Message(replace(header, id=number), view[before:end], metadata)


def pieces_of(
    type: str,
    content: Sequence[Piece] = (),
    *,
    device: bytes = b"",
    version: int = 1,
    timestamp: int | None = None,
    metadata: Mapping[str, str] | None = None,
    id: int = 0,
) -> list[Piece]:
    """A message as pieces to be sent one after the other; the content is not copied.

    Args:
        type: Type of the message, at most 12 characters.
        content: What it says.
        device: A name of at most 20 bytes.
        version: Version of the header.
        timestamp: Time in 32.32 fixed point; None is now.
        metadata: Metadata of version 2; version 1 leaves them out.
        id: Id of the message in version 2.
    """
    body = list(content)
    if version > 1:
        named = [(key.encode(), value.encode()) for key, value in (metadata or {}).items()]
        index = _COUNT.pack(len(named)) + b"".join(
            _ENTRY.pack(len(key), ASCII if value.isascii() else UTF8, len(value)) for key, value in named
        )
        values = b"".join(key + value for key, value in named)
        body = [_EXTENDED.pack(_EXTENDED.size, len(index), len(values), id), *body, index, values]
    crc, size = 0, 0
    for piece in body:
        crc, size = checksum(piece, crc), size + len(piece)
    stamp = now() if timestamp is None else timestamp
    return [_HEADER.pack(version, type.encode(), device, stamp, size, crc), *body]


def checksum(piece: Piece, before: int = 0) -> int:
    """CRC-64 of a piece that follows one whose checksum is ``before``."""
    try:
        from fastcrc import crc64
    except ImportError as error:
        raise BackendError(
            "the package fastcrc is not installed", "what the OpenIGTLink server needs", install("igtl")
        ) from error
    return crc64.ecma_182(piece, before)


def now() -> int:
    """This moment, in 32.32 fixed point."""
    return int(time.time() * 2**32)


def _metadata(index: memoryview, values: memoryview) -> dict[str, str]:
    if len(index) < _COUNT.size:
        raise _misfit(f"an index of metadata of {len(index)} bytes")
    (count,) = _COUNT.unpack_from(index)
    if _COUNT.size + count * _ENTRY.size > len(index):
        raise _misfit(f"{count} entries in an index of metadata of {len(index)} bytes")
    found, at = {}, 0
    for number in range(count):
        key, _, value = _ENTRY.unpack_from(index, _COUNT.size + number * _ENTRY.size)
        if at + key + value > len(values):
            raise _misfit(f"metadata of more than {len(values)} bytes")
        name = bytes(values[at : at + key]).decode("utf-8", "replace")
        found[name] = bytes(values[at + key : at + key + value]).decode("utf-8", "replace")
        at += key + value
    return found


def _misfit(found: str) -> Refused:
    return Refused(
        Code.CONFIG_ERROR, found, "the parts of a version 2 message within its body", "pack it by the specification"
    )
