"""Messages that went wrong in every way a fuzzer thinks of, with a right checksum or a wrong one."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

from pyigtl.messages import CRC64

from tests.runtime.scans import mr_scan
from tests.serve.igtl.wire import HEADER, image_body, pack

EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def string(text: bytes, encoding: int = 3) -> bytes:
    """The content of a STRING."""
    return struct.pack("!HH", encoding, len(text)) + text


def command(name: bytes, text: bytes, size: int = 128) -> bytes:
    """The content of a COMMAND."""
    return struct.pack(f"!I{size}sHI", 9, name, 3, len(text)) + text


def seeds() -> list[bytes]:
    """Messages that are right, of every type that the server reads."""
    scan = mr_scan(1, 24, 20)
    metadata = (
        struct.pack("!H", 2) + struct.pack("!HHI", 3, 3, 5) + struct.pack("!HHI", 1, 106, 2) + b"keyvaluek\xc3\xa4"
    )
    extended = struct.pack("!HHII", 12, 18, len(metadata) - 18, 5) + string(b"info") + metadata
    return [
        pack("IMAGE", image_body(scan)),
        pack("IMAGE", image_body(scan, order=">"), version=2),
        pack("IMAGE", image_body(replace(scan, array=scan.array.astype("float64")))),
        pack("STRING", string(b"info")),
        pack("STRING", string(b"deadline 2000"), version=2),
        HEADER.pack(2, b"STRING", b"console", 0, len(extended), CRC64(extended)) + extended,
        pack("COMMAND", command(b"Deadline", b"1500"), version=2),
        pack("COMMAND", command(b"cancel", b"", 20), version=2),
        pack("COMMAND", command(b"", b'<Command Name="Deadline" Value="1500"/>'), version=2),
        pack("GET_CAPABIL"),
        pack("GET_STATUS", version=2),
        pack("GET_IMAGE"),
        pack("GET_POLYDATA", version=2),
        pack("STATUS", bytes(31)),
        pack("TRANSFORM", bytes(48)),
    ]


def mangled(message: bytes, choose: random.Random) -> bytes:
    """A message with a few things wrong."""
    data = bytearray(message)
    for _ in range(choose.randint(1, 4)):
        at = choose.randrange(len(data)) if choose.random() < 0.3 else choose.randrange(min(len(data), 160))
        match choose.randrange(6):
            case 0:
                data[at] ^= 1 << choose.randrange(8)
            case 1:
                width, order = choose.choice((1, 2, 4, 8)), choose.choice(("big", "little"))
                edge = choose.choice(EDGES) & ((1 << 8 * width) - 1)
                data[at : at + width] = edge.to_bytes(width, order)
            case 2:
                del data[at : at + choose.randint(1, 40)]
            case 3:
                data[at:at] = choose.randbytes(choose.randint(1, 40))
            case 4:
                data[at : at + 4] = struct.pack("!f", choose.choice((float("nan"), float("inf"), 1e38, 1e-38, -0.0)))
            case 5:
                data = data[: max(1, at)]
        if not data:
            return b"\0"
    if choose.random() < 0.7 and len(data) >= HEADER.size:
        # Else nearly all would end at the checksum, and what lies behind it would never be tried.
        body = bytes(data[HEADER.size :])
        data[42:58] = struct.pack("!QQ", len(body), CRC64(body))
    return bytes(data)
