"""A DICOMweb service that takes instances by STOW-RS (PS3.18, 10.5) for the inbox of a node.

It answers one request a connection. Nothing that a request says reaches a path, a shell or a line that is printed.
"""

from __future__ import annotations

import io
import json
import logging
import re
import socket
from collections.abc import Sequence
from email.utils import collapse_rfc2231_value
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer, ThreadingMixIn
from ssl import SSLContext
from threading import BoundedSemaphore, Thread
from time import monotonic
from types import TracebackType
from typing import Any

from verdiff.limits import NodeLimits
from verdiff.serve.dicom.inbox import STORED, Inbox, Receipt
from verdiff.serve.dicom.multipart import BLOCK, Body, Malformed, TooLarge, parts
from verdiff.serve.tls import Deferred, shake_hands

_LOG = logging.getLogger("verdiff.serve.dicom")
# What its series are called from; a sender over HTTP has no AE title.
SENDER = "DICOMweb"
_ROOT = "/dicom-web"
_STUDIES = re.compile(rf"{_ROOT}/studies(?:/([0-9.]{{1,64}}))?/?")
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_LINGER_S = 1.0
_TICK_S = 0.1
_MB = 1 << 20
_UID_LENGTH = 64


class StowServer(ThreadingMixIn, HTTPServer):
    """Takes instances by STOW-RS at ``http://HOST:PORT/dicom-web``; it listens once made, serves while entered.

    Args:
        listen: Address and port; 0 takes a free one.
        inbox: Keeps the instances.
        limits: How much it takes.
        tls: TLS context for HTTPS; None is HTTP.

    Raises:
        OSError: The address cannot be listened on.
    """

    # So that closing waits for them; they end soon, as they ask whether it has begun.
    daemon_threads = False
    block_on_close = True

    def __init__(
        self, listen: tuple[str, int], inbox: Inbox, limits: NodeLimits, tls: SSLContext | None = None
    ) -> None:
        self.inbox, self.limits = inbox, limits
        self._tls = None if tls is None else Deferred(tls)
        self.closing = False
        self._slots = BoundedSemaphore(limits.associations)
        self.address_family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        super().__init__(listen, _Handler)

    @property
    def url(self) -> str:
        """What a sender is told; ``/studies`` comes behind it."""
        host, port = self.server_address[:2]
        return f"http{'s' if self._tls else ''}://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}{_ROOT}"

    def __enter__(self) -> StowServer:
        self._thread = Thread(target=self.serve_forever, args=(0.05,), name="verdiff-stow", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.closing = True
        self.shutdown()
        self.server_close()
        self._thread.join()

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's name, which may take long."""
        TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; over TLS its own thread shakes hands."""
        accepted, address = super().get_request()
        return (accepted if self._tls is None else self._tls.wrap_socket(accepted)), address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection, in its own thread."""
        shake_hands(request, self.limits.network_s, lambda: self.closing)
        super().finish_request(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or tell it that there are too many."""
        if not self._slots.acquire(blocking=False):
            try:
                # Over TLS that would take a handshake, for which the others would wait.
                if self._tls is None:
                    request.sendall(_TOO_MANY)
            except OSError:
                _LOG.debug("a connection too many left by itself")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, from its first byte to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that goes wrong ends; the server goes on, and prints nothing of it."""
        _LOG.info("a connection of DICOMweb ended early", exc_info=True)


class _Punctual(io.RawIOBase):
    """Reads a connection up to a deadline, however slowly the bytes come, or until its server ends."""

    def __init__(self, connection: socket.socket, server: StowServer) -> None:
        self._connection, self._server = connection, server
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # By asking now and then: to end the reading of a connection over TLS from outside would end its writing, too.
        while not self._server.closing:
            left = self.deadline - monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(min(left, _TICK_S))
            try:
                return self._connection.recv_into(buffer)
            except TimeoutError:
                continue
        return 0


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StowServer
    protocol_version = "HTTP/1.1"
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain;charset=utf-8"

    def setup(self) -> None:
        """Read with deadlines: one for the headers, one for each block of the body."""
        super().setup()
        self.rfile.close()
        self._reader = _Punctual(self.connection, self.server)
        self.rfile = io.BufferedReader(self._reader, BLOCK)
        self._refused = False
        self._renew()

    def _renew(self, seconds: float | None = None) -> None:
        self._reader.deadline = monotonic() + (seconds or self.server.limits.network_s)

    def handle(self) -> None:
        """Serve one request; a connection that breaks ends without a word."""
        try:
            self.handle_one_request()
        except OSError:
            _LOG.debug("a connection broke")

    def do_POST(self) -> None:
        """Store the instances of a request."""
        found = _STUDIES.fullmatch(self.path)
        if found is None:
            return self._refuse(HTTPStatus.NOT_FOUND, f"instances are taken at {_ROOT}/studies")
        kind, boundary = self.headers.get_param("type"), self.headers.get_boundary()
        if (
            self.headers.get_content_type() != "multipart/related"
            or kind is None
            or collapse_rfc2231_value(kind).lower() != "application/dicom"
            or not boundary
        ):
            expected = 'multipart/related; type="application/dicom"; boundary=... is taken'
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, expected)
        limits = self.server.limits
        try:
            body = Body(self.rfile, self.headers, limits.request_mb * _MB, self._renew)
            receipts = [
                self.server.inbox.store(SENDER, data, study=found[1])
                for data in parts(body, boundary, limits.instance_mb * _MB, limits.request_instances)
            ]
        except Malformed as error:
            if self.server.closing:
                return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the node is shutting down")
            return self._refuse(HTTPStatus.BAD_REQUEST, f"expected {error}")
        except (TooLarge, MemoryError):
            largest = f"{limits.instance_mb} MiB, {limits.request_mb} MiB and {limits.request_instances} a request"
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"instances of at most {largest} are taken")
        except TimeoutError:
            return self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"64 KiB took more than {limits.network_s:g} s")
        if not receipts:
            return self._refuse(HTTPStatus.BAD_REQUEST, "expected at least one instance")
        return self._answer(receipts)

    def do_GET(self) -> None:
        """Nothing can be asked for."""
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "instances are taken by POST; nothing is given")

    def _answer(self, receipts: Sequence[Receipt]) -> None:
        stored = sum(receipt.status == STORED for receipt in receipts)
        code = HTTPStatus.ACCEPTED if stored else HTTPStatus.CONFLICT
        body = json.dumps(_response(receipts)).encode()
        self.connection.settimeout(self.server.limits.network_s)
        self.send_response(HTTPStatus.OK if stored == len(receipts) else code)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._refused = True
        self.connection.settimeout(self.server.limits.network_s)
        self.send_error(status, why)

    def finish(self) -> None:
        """Let a client that is refused while it sends read why: a close with unread bytes would take it the answer."""
        super().finish()
        if not self._refused:
            return
        self._renew(_LINGER_S)
        try:
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            while self._reader.readinto(bytearray(BLOCK)):
                continue
        except OSError:
            _LOG.debug("a refused client did not end by itself")

    def version_string(self) -> str:
        """What the server calls itself, without versions."""
        return "verdiff"

    def log_message(self, format: str, *args: Any) -> None:
        """No line: a request's path names a study."""


def _response(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18, I.2) in the DICOM JSON model.

    Retrieve URLs are empty: nothing can be retrieved.
    """
    referenced, failed, others = [], [], []
    for receipt in receipts:
        uids = {"00081150": receipt.sop_class, "00081155": receipt.instance}
        item: dict[str, Any] = {tag: {"vr": "UI", "Value": [uid[:_UID_LENGTH]]} for tag, uid in uids.items()}
        reason = {"00081197": {"vr": "US", "Value": [receipt.status]}}
        if receipt.status == STORED:
            referenced.append({**item, "00081190": {"vr": "UR"}})
        elif all(uids.values()):
            failed.append({**item, **reason})
        else:
            others.append(reason)
    sequences = {"00081198": failed, "00081199": referenced, "0008119A": others}
    return {
        "00081190": {"vr": "UR"},
        **{tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items},
    }
