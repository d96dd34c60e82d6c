"""A client of the tests' own: OpenIGTLink from the specification, byte by byte, able to be as rude as a test wants."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyigtl.messages import CRC64

from verdiff.imaging import Geometry, Volume

HEADER = struct.Struct("!H12s20sQQQ")
IMAGE = struct.Struct("!HBBBB3H12f3H3H")
TYPES = {"int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "float32": 10, "float64": 11}
RAS, LPS = 1, 2
STAMP = 0x65A0B1C2_40000000


def pack(
    kind: str,
    body: bytes = b"",
    *,
    device: bytes = b"scan",
    version: int = 1,
    stamp: int = STAMP,
    size: int | None = None,
    crc: int | None = None,
) -> bytes:
    """A message; its size and checksum are right unless a test says otherwise."""
    if version == 2:
        body = struct.pack("!HHII", 12, 2, 0, 77) + body + struct.pack("!H", 0)
    sized = len(body) if size is None else size
    summed = CRC64(body) if crc is None else crc
    return HEADER.pack(version, kind.encode(), device, stamp, sized, summed) + body


def image_body(volume: Volume, *, coordinates: int = RAS, order: str = "<", **changes: Any) -> bytes:
    """An IMAGE as a host packs it that keeps its geometry as ITK does: first voxel, LPS."""
    array = volume.array.astype(volume.array.dtype.newbyteorder(order))
    flip = np.array([-1.0, -1.0, 1.0]) if coordinates == RAS else np.ones(3)
    centre = volume.geometry.index_to_mm([(n - 1) / 2 for n in volume.geometry.size]) * flip
    columns = (volume.geometry.matrix * volume.geometry.spacing_mm) * flip[:, None]
    size = volume.geometry.size
    fields = {
        "version": 1,
        "components": 1,
        "kind": TYPES[volume.array.dtype.name],
        "endian": 1 if order == ">" else 2,
        "coordinates": coordinates,
        "size": size,
        "pose": (*columns.T.ravel(), *centre),
        "offset": (0, 0, 0),
        "part": size,
        "voxels": array.tobytes(),
        **changes,
    }
    head = IMAGE.pack(
        *(fields[name] for name in ("version", "components", "kind", "endian", "coordinates")),
        *fields["size"],
        *fields["pose"],
        *fields["offset"],
        *fields["part"],
    )
    return head + fields["voxels"]


@dataclass
class Got:
    """A message that came; its checksum was right."""

    version: int
    kind: str
    device: bytes
    stamp: int
    content: bytes
    id: int = 0
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> tuple[int, int, str, str]:
        """Code, sub-code, name and text of a STATUS."""
        code, sub_code, name = struct.unpack_from("!Hq20s", self.content)
        return code, sub_code, name.split(b"\0", 1)[0].decode(), self.content[30:].rstrip(b"\0").decode()

    @property
    def text(self) -> str:
        """Of a STRING."""
        _, length = struct.unpack_from("!HH", self.content)
        return self.content[4 : 4 + length].decode()

    @property
    def image(self) -> tuple[NDArray[np.uint8], Geometry]:
        """Labels and grid (as ITK has it) of an IMAGE."""
        version, components, kind, _, coordinates, *numbers = IMAGE.unpack_from(self.content)
        assert (version, components, kind) == (1, 1, TYPES["uint8"])
        size, matrix, offset, part = numbers[:3], np.array(numbers[3:15]).reshape(4, 3), numbers[15:18], numbers[18:]
        assert offset == [0, 0, 0] and part == size
        flip = np.array([-1.0, -1.0, 1.0]) if coordinates == RAS else np.ones(3)
        columns, centre = (matrix[:3] * flip).T, matrix[3] * flip
        spacing = np.linalg.norm(columns, axis=0)
        origin = centre - columns @ ((np.array(size) - 1) / 2)
        geometry = Geometry(tuple(size), tuple(spacing), tuple(origin), tuple((columns / spacing).ravel()))
        return np.frombuffer(self.content, np.uint8, offset=IMAGE.size).reshape(size[::-1]), geometry


class Peer:
    """A connection."""

    def __init__(self, port: int, timeout_s: float = 60, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: str, body: bytes = b"", **how: Any) -> None:
        self.socket.sendall(pack(kind, body, **how))

    def say(self, text: str, **how: Any) -> None:
        self.send("STRING", struct.pack("!HH", 3, len(text)) + text.encode(), **how)

    def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)

    def receive(self) -> Got:
        """The next message; EOFError when the server has hung up."""
        version, kind, device, stamp, size, crc = HEADER.unpack(self.exactly(HEADER.size))
        body = self.exactly(size)
        assert CRC64(body) == crc
        got = Got(version, kind.rstrip(b"\0").decode(), device.rstrip(b"\0"), stamp, body)
        if version == 2:
            before, index, values, got.id = struct.unpack_from("!HHII", body)
            end = len(body) - index - values
            got.content = body[before:end]
            (count,), at = struct.unpack_from("!H", body, end), end + index
            for entry in range(count):
                key, _, value = struct.unpack_from("!HHI", body, end + 2 + 8 * entry)
                got.metadata[body[at : at + key].decode()] = body[at + key : at + key + value].decode()
                at += key + value
        return got

    def until(self, wanted: Callable[[Got], bool]) -> list[Got]:
        """What comes, up to and with the first message that is wanted."""
        seen = [self.receive()]
        while not wanted(seen[-1]):
            seen.append(self.receive())
        return seen

    def answer(self) -> list[Got]:
        """All that comes for an image: up to the STATUS that ends it."""
        return self.until(lambda got: got.kind == "STATUS" and got.status[2] not in ("accepted", "overtaken"))
