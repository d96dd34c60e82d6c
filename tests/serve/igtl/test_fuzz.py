"""A bounded fuzzer: whatever comes, the answer is an error with a name, and the next client is served.

What a fuzzer or an incident found goes into ``FINDS``, by what it was; the seeds are the rounds' numbers, so that a
round that fails can be run alone.
"""

from __future__ import annotations

import logging
import random
import socket
import struct

import pytest

from tests.runtime.scans import mr_scan
from tests.serve.igtl.mangle import command, mangled, seeds
from tests.serve.igtl.test_faults import is_served
from tests.serve.igtl.wire import HEADER, Got, Peer, image_body, pack
from verdiff.errors import VerdiffError
from verdiff.imaging import volume_from
from verdiff.serve import Client
from verdiff.serve.igtl import IgtlLimits, IgtlServer, contents, words
from verdiff.serve.igtl.frames import read_header, read_message
from verdiff.serve.igtl.image import read_image

ROUNDS, CONNECTIONS = 3000, 150
SEEDS = seeds()


def version_2(kind: bytes, body: bytes) -> bytes:
    """A message whose body is as it is given, parts of version 2 included."""
    from pyigtl.messages import CRC64

    return HEADER.pack(2, kind, b"", 0, len(body), CRC64(body)) + body


FINDS = {
    "a metadata index that promises 65535 entries": version_2(
        b"STRING", struct.pack("!HHII", 12, 2, 0, 1) + b"\0\3\0\0" + b"\xff\xff"
    ),
    "metadata longer than all that follows": version_2(
        b"STRING",
        struct.pack("!HHII", 12, 10, 4, 1) + b"\0\3\0\0" + struct.pack("!HHHI", 1, 3, 3, 0xFFFFFFFF) + b"keyv",
    ),
    "parts whose sizes add up to more than 32 bits": version_2(
        b"STRING", struct.pack("!HHII", 0xFFFF, 0xFFFF, 0xFFFFFFFF, 1) + bytes(8)
    ),
    "an extended header that is no header": version_2(b"IMAGE", struct.pack("!HHII", 0, 0, 0, 0)),
    "a body of version 2 shorter than its extended header": version_2(b"GET_STATUS", b"\0\x0c"),
    "names that are no text": pack("STRING", struct.pack("!HH", 3, 4) + b"info", device=b"\xff\xfe/../\x00\x01"),
    "a type that is no text": HEADER.pack(1, b"\xff\xfeIMAGE\x80", b"", 0, 0, 0),
    "a text that is no text": pack("STRING", struct.pack("!HH", 106, 4) + b"\xff\xc3\x28\x80"),
    "a string in UTF-16": pack("STRING", struct.pack("!HH", 1015, 8) + "info".encode("utf-16-be")),
    "a string longer than its message": pack("STRING", struct.pack("!HH", 3, 0xFFFF) + b"info"),
    "a command of no size that is known": pack("COMMAND", bytes(100), version=2),
    "a command of more than a string can hold": pack("COMMAND", command(b"info", b" " * 70_000), version=2),
    **{
        f"a command with {what}": pack("COMMAND", command(b"info", text), version=2)
        for what, text in {
            "entities that multiply": b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><Command Name="&c;"/>',
            "a file's text": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><Command Name="&b;"/>',
            "a document type elsewhere": b'<!DOCTYPE Command SYSTEM "http://127.0.0.1/c.dtd"><Command Name="info"/>',
            "an instruction": b'<?xml-stylesheet href="x"?><Command Name="info"/>',
            "elements in elements": b"<Command>" * 1000 + b"</Command>" * 1000,
            "XML of 17 KiB": b'<Command Name="' + b"x" * (17 << 10) + b'"/>',
            "two elements": b'<Command Name="info"/><Command Name="cancel"/>',
            "XML in UTF-16": '<?xml version="1.0"?><Command Name="info"/>'.encode("utf-16"),
            "half an element": b"<Command",
            "another name in its XML": b'<Command Name="cancel"/>',
        }.items()
    },
    "an image of sizes whose product is 2 to the 48th": pack(
        "IMAGE", image_body(mr_scan(1), size=(0xFFFF,) * 3, part=(0xFFFF,) * 3)
    ),
    "vectors that are hardly there": pack("IMAGE", image_body(mr_scan(1), pose=(1e-38,) * 12)),
    "vectors whose length overflows": pack("IMAGE", image_body(mr_scan(1), pose=(3e38,) * 12)),
    "an image without a body": pack("IMAGE"),
}


def understand(data: bytes) -> None:
    """Read a message as the server does, as far as a scan that can be handed to the worker."""
    header = read_header(data[: HEADER.size])
    message = read_message(header, data[HEADER.size : HEADER.size + header.size])
    if header.type == "IMAGE":
        volume_from(read_image(message.content)[0])
    elif header.type == "STRING":
        words.words_of_string(contents.read_string(message.content))
    elif header.type == "COMMAND":
        got = contents.read_command(message.content)
        words.words_of_command(got.name, got.text)


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_understood_is_an_error_with_a_name() -> None:
    understood = refused = 0
    for number in range(ROUNDS):
        choose = random.Random(number)
        data = mangled(choose.choice(SEEDS), choose)
        if len(data) < HEADER.size:
            continue
        try:
            understand(data)
            understood += 1
        except VerdiffError as error:
            assert error.found and error.expected and error.remedy
            refused += 1
        except Exception as error:
            raise AssertionError(f"round {number}: {data[:200].hex()}") from error
    assert understood > ROUNDS / 10 and refused > ROUNDS / 4, "the fuzzer still reaches both sides"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("data", FINDS.values(), ids=FINDS)
def test_a_find_is_an_error_with_a_name(data: bytes) -> None:
    try:
        understand(data)
    except VerdiffError as error:
        assert error.found and error.expected and error.remedy


def heard(peer: Peer) -> list[Got]:
    """All that comes until the server hangs up."""
    seen = []
    try:
        while True:
            seen.append(peer.receive())
    except (EOFError, ConnectionError):
        return seen


def test_a_server_that_hears_nonsense_goes_on(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    limits, worker = IgtlLimits(body_mb=1, stall_s=0.3, message_s=1.0, leave_s=0.2), client.worker_pid
    with IgtlServer(client, 0, limits=limits) as server:
        for number in range(CONNECTIONS):
            choose = random.Random(number)
            with Peer(server.address[1]) as peer:
                sent = [mangled(each, choose) for each in choose.choices(SEEDS, k=choose.randint(1, 3))]
                peer.socket.sendall(b"".join(sent))
                peer.socket.shutdown(socket.SHUT_WR)
                for got in heard(peer):
                    assert got.kind != "STATUS" or got.status[0] not in (2, 18), f"round {number}: {got.status}"
        for data in FINDS.values():
            with Peer(server.address[1]) as peer:
                peer.socket.sendall(data)
                first = peer.receive()
                assert first.kind in ("STATUS", "STRING", "RTS_COMMAND"), first
                assert b"root:" not in first.content
        is_served(server)
    assert client.worker_pid == worker
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
