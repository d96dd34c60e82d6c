"""Damaged messages to a DICOM node, by the hundred: each ends its own connection at most, and the node goes on."""

from __future__ import annotations

import os
import random
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests.serve.dicom_peers import eventually
from verdiff.serve import Client
from verdiff.serve.dicom import Delivery, DicomNode, NodeLimits

# A thread of the library that dies of a message is a failure, too.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
SEED, MESSAGES = 17, 150
MR, VERIFICATION, IMPLICIT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.1", "1.2.840.10008.1.2"
FDS = Path("/proc/self/fd")


def item(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(data)) + data


def request(abstract: str) -> bytes:
    """An A-ASSOCIATE-RQ, packed by hand (PS3.8, 9.3.2)."""
    context = item(0x20, b"\1\0\0\0" + item(0x30, abstract.encode()) + item(0x40, IMPLICIT.encode()))
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">HH", 1, 0) + b"VERDIFF".ljust(16) + b"PACS".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


def element(group: int, number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def data_pdu(flags: int, data: bytes) -> bytes:
    value = struct.pack(">IBB", len(data) + 2, 1, flags) + data
    return struct.pack(">BBI", 4, 0, len(value)) + value


def store() -> bytes:
    """A C-STORE of an image that is too short to be one."""
    uid = MR.encode() + b"\0"
    command = element(0, 2, uid) + element(0, 0x100, b"\1\0") + element(0, 0x110, b"\7\0")
    command += element(0, 0x700, b"\0\0") + element(0, 0x800, b"\0\0") + element(0, 0x1000, b"1.2.3.4\0")
    image = element(8, 0x16, uid) + element(8, 0x18, b"1.2.3.4\0") + element(0x20, 0x0D, b"1.2.3\0")
    image += element(0x20, 0x0E, b"1.2.3.5\0") + element(0x7FE0, 0x10, bytes(64))
    return data_pdu(3, element(0, 0, struct.pack("<I", len(command))) + command) + data_pdu(2, image)


def damaged(data: bytes, random: random.Random) -> bytes:
    """Bits flipped, bytes replaced, parts cut, doubled or put in."""
    result = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(result))
        how = random.randrange(5)
        if how == 0:
            result[at] ^= 1 << random.randrange(8)
        elif how == 1:
            result[at : at + 4] = random.randbytes(4)
        elif how == 2:
            result = result[: max(1, at)]
        elif how == 3:
            result[at:at] = result[at : at + 40]
        else:
            result[at:at] = random.randbytes(random.randint(1, 200))
    return bytes(result)


def echoes(port: int) -> bool:
    from pynetdicom import AE

    entity = AE("PACS")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", port, ae_title="VERDIFF")
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status and status.Status == 0)


def open_files() -> int:
    return len(os.listdir(FDS)) if FDS.is_dir() else 0


def test_the_messages_are_right_where_they_are_not_damaged() -> None:
    pytest.importorskip("pynetdicom")
    from pynetdicom.pdu import A_ASSOCIATE_RQ

    found = A_ASSOCIATE_RQ()
    found.decode(request(MR))
    assert (found.called_ae_title, found.calling_ae_title) == ("VERDIFF", "PACS")


def test_damaged_messages_end_nothing_but_their_connections(client: Client) -> None:
    said: list[str] = []
    chance = random.Random(SEED)
    settings: dict[str, Any] = {"allowed": ("PACS",), "limits": NodeLimits(network_s=0.3), "say": said.append}
    with DicomNode(client, 0, Delivery(stow="http://127.0.0.1:9/none"), **settings) as node:
        port = node.address[1]
        eventually(lambda: echoes(port))
        before = open_files()
        for index in range(MESSAGES):
            opening, rest = request(chance.choice([MR, VERIFICATION])), store()
            if index % 3 == 0:
                opening = damaged(opening, chance)
            else:
                rest = damaged(rest, chance)
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                    stream.sendall(opening)
                    stream.settimeout(0.05)
                    with suppress(TimeoutError):
                        stream.recv(4096)
                    stream.sendall(rest)
            except OSError:
                continue
        assert eventually(lambda: echoes(port))
        # Associations that a client left are ended within their time.
        assert eventually(lambda: open_files() <= before + 2)
    assert not [line for line in said if "failed" in line]


def test_hundreds_of_questions_leave_no_file_open(client: Client) -> None:
    with DicomNode(client, 0, Delivery(stow="http://127.0.0.1:9/none"), allowed=("PACS",)) as node:
        assert echoes(node.address[1])
        before = open_files()
        assert all(echoes(node.address[1]) for _ in range(60))
        assert eventually(lambda: open_files() <= before + 2)
