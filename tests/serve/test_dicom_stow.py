"""Series that come into a node by STOW-RS: from Orthanc's plugin, and from clients that are slow, rude or too large."""

from __future__ import annotations

import http.client
import json
import os
import random
import resource
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests import peers
from tests.interop.dicom.series import STUDY
from tests.runtime.scans import mr_scan
from tests.serve.dicom_peers import DICOMWEB, Receiver, eventually, free_port, orthanc
from tests.serve.test_dicom_node import assert_masks, node, send
from verdiff.serve import Client
from verdiff.serve.dicom import Completion, Delivery, DicomNode, NodeLimits

SCAN = mr_scan()
KIND = 'multipart/related; type="application/dicom"; boundary=edge'
QUICK = NodeLimits(network_s=0.5, retry_s=0.05)
FDS = Path("/proc/self/fd")


def web(client: Client, receiver: Receiver, said: list[str], **more: Any) -> DicomNode:
    return node(client, receiver, said, **{"stow_in": 0, **more})


def port_of(listening: DicomNode) -> int:
    return urlsplit(listening.stow_url or "").port or 0


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def multipart(instances: list[bytes]) -> bytes:
    parts = b"".join(b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in instances)
    return parts + b"--edge--\r\n"


def post(
    listening: DicomNode, body: Any, *, study: str = "", path: str = "", kind: str = KIND, chunked: bool = False
) -> tuple[int, Any]:
    """Status and answer of a request, sent by the standard library's client."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(listening), timeout=20)
    headers = {"Content-Type": kind, "Accept": "application/dicom+json"}
    where = path or f"/dicom-web/studies{study and '/' + study}"
    connection.request("POST", where, body, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    is_json = answer.headers["Content-Type"] == "application/dicom+json"
    return answer.status, json.loads(data) if is_json else data.decode()


def instances_of(answer: Any, sequence: str) -> list[tuple[str, int]]:
    """SOP instance and reason (0 where there is none) of each item."""
    items = answer.get(sequence, {"Value": []})["Value"]
    return [
        (item.get("00081155", {"Value": [""]})["Value"][0], item.get("00081197", {"Value": [0]})["Value"][0])
        for item in items
    ]


REFERENCED, FAILED, OTHERS = "00081199", "00081198", "0008119A"


@peers.needs("Orthanc", DICOMWEB)
def test_a_pacs_sends_a_series_by_dicomweb_and_gets_its_masks_back(
    client: Client, bundle: Path, series: Path, tmp_path: Path, said: list[str]
) -> None:
    port = free_port()
    with orthanc(tmp_path / "pacs", verdiff_web=f"http://127.0.0.1:{port}/dicom-web") as pacs:
        delivery = Delivery(stow=pacs.dicomweb)
        with web(client, Receiver(), said, delivery=delivery, stow_in=port):
            for path in series.iterdir():
                pacs.ask("/instances", path.read_bytes())
            (stored,) = pacs.ask("/series")
            pacs.ask("/dicom-web/servers/verdiff/stow", json.dumps({"Resources": [stored]}).encode())
            eventually(lambda: len(pacs.objects("SEG") + pacs.objects("RTSTRUCT")) == 2)
        assert_masks(pacs.objects("SEG") + pacs.objects("RTSTRUCT"), series, bundle)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_series_in_one_request_is_complete_at_its_number(
    client: Client, bundle: Path, series: Path, receiver: Receiver, said: list[str], chunked: bool
) -> None:
    completion = Completion(quiet_s=3600, instances=len(SCAN.array))
    with web(client, receiver, said, completion=completion) as listening:
        body = multipart(files(series))
        # Chunks that cut headers, boundaries and pixels anywhere.
        pieces = iter([body[at : at + 997] for at in range(0, len(body), 997)]) if chunked else body
        status, answer = post(listening, pieces, study=STUDY, chunked=chunked)
        assert status == 200 and len(instances_of(answer, REFERENCED)) == len(SCAN.array)
        assert answer.keys() == {"00081190", REFERENCED}
        eventually(lambda: len(receiver.objects) == 2)
    assert_masks(receiver.objects, series, bundle)
    assert said[1].startswith("series 1 from DICOMweb: ") and STUDY not in "\n".join(said)


def test_the_answer_tells_of_each_instance_what_became_of_it(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    from pydicom import dcmread

    first, *rest = files(series)
    name = str(dcmread(sorted(series.iterdir())[0]).SOPInstanceUID)
    # A class of the same length that is no image: a report's.
    report = first.replace(b"1.2.840.10008.5.1.4.1.1.4\0", b"1.2.840.10008.5.1.4.1.1.9\0")
    with web(client, receiver, said, limits=NodeLimits(held_instances=2)) as listening:
        status, answer = post(listening, multipart([report, b"no DICOM", first, *rest]))
        assert status == 202
        assert instances_of(answer, REFERENCED)[0] == (name, 0) and len(instances_of(answer, REFERENCED)) == 2
        assert instances_of(answer, FAILED)[0] == (name, 0x0122)
        assert {reason for _, reason in instances_of(answer, FAILED)[1:]} == {0xA700}
        assert instances_of(answer, OTHERS) == [("", 0xC000)]
        assert post(listening, multipart([b"no DICOM"]))[0] == 409
        status, answer = post(listening, multipart([first]), study="1.2.3")
        assert (status, instances_of(answer, FAILED)) == (409, [(name, 0x0110)])


def test_a_c_store_of_a_series_does_not_add_to_one_that_came_by_dicomweb(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    with web(client, receiver, said) as listening:
        assert post(listening, multipart(files(series)))[0] == 200
        assert set(send(listening.address[1], series)) == {0}
        eventually(lambda: len(receiver.objects) == 4)
    assert {line.split(":")[0] for line in said if " from " in line} == {
        "series 1 from DICOMweb",
        "series 2 from PACS",
    }


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (lambda body: {"body": body, "path": "/dicom-web/studies/../../etc/passwd"}, 404),
        (lambda body: {"body": body, "path": "/instances"}, 404),
        (lambda body: {"body": body, "kind": "application/dicom"}, 415),
        (lambda body: {"body": body, "kind": KIND.replace("/dicom", "/dicom+xml")}, 415),
        (lambda body: {"body": body, "kind": 'multipart/related; type="application/dicom"'}, 415),
        (lambda body: {"body": body, "kind": KIND.replace("edge", "other")}, 400),
        (lambda body: {"body": body[:-30]}, 400),
        (lambda body: {"body": b"--edge--\r\n"}, 400),
        (lambda body: {"body": b""}, 400),
        (lambda body: {"body": iter([b"zz\r\n"])}, 400),
    ],
)
def test_requests_that_make_no_sense_are_told_so(
    client: Client,
    series: Path,
    receiver: Receiver,
    said: list[str],
    request_of: Callable[[bytes], dict[str, Any]],
    status: int,
) -> None:
    with web(client, receiver, said) as listening:
        found, why = post(listening, **request_of(multipart(files(series)[:1])))
        assert found == status and why.startswith(f"{status} ")


def test_an_instance_or_a_request_that_is_too_large_is_refused(
    client: Client, receiver: Receiver, said: list[str]
) -> None:
    limits = NodeLimits(instance_mb=1, request_mb=2, request_instances=20)
    with web(client, receiver, said, limits=limits) as listening:
        whole, crowd = multipart([bytes(3 << 20)]), multipart([b"x"] * 21)
        for body in (whole, multipart([bytes(1 << 20 | 1)]), crowd, iter([whole[:1000], whole[1000:]])):
            assert post(listening, body, chunked=not isinstance(body, bytes))[0] == 413
        assert "at most 1 MiB, 2 MiB and 20 a request" in post(listening, whole)[1]


def exchange(port: int, data: bytes) -> bytes:
    """What is answered to bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        answer = b""
        try:
            stream.sendall(data)
            while block := stream.recv(4096):
                answer += block
        except ConnectionError:
            return answer
        return answer


HEAD = f"POST /dicom-web/studies HTTP/1.1\r\nHost: node\r\nContent-Type: {KIND}\r\n".encode()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"\x04\x00junk\r\n\r\n", b"400 "),
        (b"GET /dicom-web/studies HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"POST /dicom-web/studies HTTP/1.1\r\nHost:", b""),
        (HEAD + b"\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Content-Length: -5\r\n\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Content-Length: 500\r\n\r\n--edge", b"HTTP/1.1 408 "),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n", b"HTTP/1.1 400 "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 101, b"HTTP/1.1 400 "),
        (HEAD + b"x: y\r\n" * 200 + b"\r\n", b"HTTP/1.1 431 "),
    ],
)
def test_silent_and_rude_clients_are_cut_off_and_the_next_is_served(
    client: Client, series: Path, receiver: Receiver, said: list[str], sent: bytes, answer: bytes
) -> None:
    with web(client, receiver, said, limits=QUICK) as listening:
        assert answer in exchange(port_of(listening), sent)[:400]
        assert post(listening, multipart(files(series)))[0] == 200


def test_a_client_that_drips_bytes_is_cut_off_however_long_it_goes_on(
    client: Client, receiver: Receiver, said: list[str]
) -> None:
    with web(client, receiver, said, limits=QUICK) as listening:
        for opening, drop in ((HEAD, b"a: b\r\n"), (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")):
            with socket.create_connection(("127.0.0.1", port_of(listening)), timeout=20) as stream:
                stream.sendall(opening)
                start = time.monotonic()
                with pytest.raises(OSError):
                    while time.monotonic() < start + 20:
                        stream.sendall(drop)
                        time.sleep(0.05)
                assert time.monotonic() < start + 10


def test_connections_beyond_the_limit_are_told_so(client: Client, receiver: Receiver, said: list[str]) -> None:
    with web(client, receiver, said, limits=NodeLimits(associations=1)) as listening:
        with socket.create_connection(("127.0.0.1", port_of(listening))) as first:
            first.sendall(HEAD)
            assert exchange(port_of(listening), b"").startswith(b"HTTP/1.1 503 ")
        # Its end is noticed a moment later.
        eventually(lambda: b" 405 " in exchange(port_of(listening), b"GET / HTTP/1.1\r\n\r\n"))


def test_a_client_in_the_middle_of_a_request_is_told_that_the_node_ends(
    client: Client, receiver: Receiver, said: list[str]
) -> None:
    with web(client, receiver, said) as listening:
        stream = socket.create_connection(("127.0.0.1", port_of(listening)), timeout=20)
        stream.sendall(HEAD + b"Content-Length: 500\r\n\r\n--edge")
        time.sleep(0.3)
    with stream:
        assert stream.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_damaged_requests_end_nothing_but_their_connections(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    from tests.serve.test_dicom_fuzz import damaged

    chance = random.Random(17)
    body = multipart(files(series)[:2])
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in (body[:50], body[50:])) + b"0\r\n\r\n"
    whole = [
        HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
    ]
    with web(client, receiver, said, limits=NodeLimits(network_s=0.1)) as listening:
        port = port_of(listening)
        for index in range(150):
            request = whole[index % 2]
            # Most damage where most is decided.
            cut = chance.choice([len(HEAD) + 100, len(HEAD) + 300, len(request)])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
                try:
                    stream.sendall(damaged(request[:cut], chance) + request[cut:])
                    stream.shutdown(socket.SHUT_WR)
                    stream.recv(4096)
                except OSError:
                    continue
        assert eventually(lambda: post(listening, multipart(files(series)))[0] == 200)
        assert not [line for line in said if "failed" in line]


def test_a_thousand_requests_leave_memory_and_descriptors_as_they_were(
    client: Client, series: Path, receiver: Receiver, said: list[str]
) -> None:
    body = multipart(files(series))
    with web(client, receiver, said, completion=Completion(quiet_s=0.5)) as listening:

        def ask(times: int) -> None:
            assert {post(listening, body)[0] for _ in range(times)} == {200}

        ask(150)
        before, descriptors = resident_mb(), len(os.listdir(FDS))
        ask(850)
        assert resident_mb() - before < 16
        assert eventually(lambda: len(os.listdir(FDS)) <= descriptors + 2)
        eventually(lambda: not [each for each in threading.enumerate() if "process_request" in each.name])
        eventually(lambda: len(receiver.objects) == 2)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / (1 << 20)
