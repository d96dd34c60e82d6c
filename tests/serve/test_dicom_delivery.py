"""Results on their way to their destinations: each has a queue of its own, and a slow one is waited for alone."""

from __future__ import annotations

import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("highdicom")
pytest.importorskip("pynetdicom")

from tests.interop.dicom.series import save_oriented
from tests.runtime.scans import mr_scan
from tests.serve.dicom_peers import Receiver, eventually
from tests.serve.test_dicom_node import node, send
from verdiff.errors import ServiceError
from verdiff.serve import Client
from verdiff.serve.dicom import Delivery, NodeLimits
from verdiff.serve.dicom.delivery import Courier, Parcel, stow

SCAN = mr_scan()


def test_a_slow_destination_keeps_no_other_waiting(
    client: Client, series: Path, receiver: Receiver, said: list[str], tmp_path: Path
) -> None:
    other = save_oriented(tmp_path / "other", SCAN.array, SCAN.geometry, SeriesInstanceUID="1.2.3.4.5")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # It takes connections, and never answers.
        delivery = Delivery(peer=receiver.peer, stow=f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web")
        limits = NodeLimits(network_s=4, attempts=1)
        with node(client, receiver, said, delivery=delivery, limits=limits) as listening:
            assert set(send(listening.address[1], series)) == {0}
            assert set(send(listening.address[1], other)) == {0}
            eventually(lambda: len(receiver.objects) == 4, seconds=30)
            refused = eventually(lambda: [line for line in said if "did not take" in line])
            sent = [line for line in said if line.endswith(f"objects sent to {receiver.peer}")]
            assert [line.split(":")[0] for line in sent] == ["series 1", "series 2"]
            assert said.index(sent[1]) < said.index(refused[0])


def test_a_service_that_speaks_no_http_has_not_taken_it_and_is_asked_again() -> None:
    said: list[str] = []
    asked: list[int] = []

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        address = f"http://127.0.0.1:{port}/dicom-web"

        def answer_otherwise() -> None:
            for attempt in range(3):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    asked.append(attempt)
                    connection.sendall(b"\x02\x00\x00\x00 no HTTP\r\n\r\n")

        def send(objects: Any) -> None:
            stow(objects, address, ssl.create_default_context(), 5)

        threading.Thread(target=answer_otherwise, daemon=True).start()
        limits = NodeLimits(attempts=3, retry_s=0.01)
        with Courier(address, send, limits, threading.Event(), said.append) as courier:
            courier.take(Parcel(1, (b"1",)))
            (line,) = eventually(lambda: said)
    assert len(asked) == 3 and "does not speak HTTP" in line and line.endswith("and its log")


def test_results_wait_in_their_order_and_one_too_many_is_given_up_by_name() -> None:
    said: list[str] = []
    sending, go, sent = threading.Event(), threading.Event(), []

    def slowly(objects: Any) -> None:
        sending.set()
        go.wait(20)
        sent.append(objects)

    with Courier("PACS", slowly, NodeLimits(waiting=1), threading.Event(), said.append) as courier:
        courier.take(Parcel(1, (b"1",)))
        assert sending.wait(20)
        courier.take(Parcel(2, (b"2",)))
        courier.take(Parcel(3, (b"3",)))
        assert "series 3: not sent to PACS" in said[0]
        go.set()
        eventually(lambda: len(sent) == 2)
    assert sent == [(b"1",), (b"2",)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_service_that_sends_on_to_another_address_has_stored_nothing(status: int) -> None:
    asked: list[str] = []

    class Login(BaseHTTPRequestHandler):
        """Sends who posts to a page that anybody gets."""

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(status)

        def do_GET(self) -> None:
            self._answer(200)

        def _answer(self, code: int) -> None:
            asked.append(self.command)
            self.send_response(code)
            self.send_header("Location", "/login")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Login) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/dicom-web"
        with pytest.raises(ServiceError, match=f"HTTP status {status}"):
            stow([b"object"], address, ssl.create_default_context(), 20)
        server.shutdown()
    assert asked == ["POST"]
