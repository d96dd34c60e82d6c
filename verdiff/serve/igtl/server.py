"""The server: an event loop in a thread of its own, and a session a client."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from ssl import SSLContext
from threading import Thread
from typing import Any

from verdiff.limits import IgtlLimits
from verdiff.serve.client import Client
from verdiff.serve.failures import listening
from verdiff.serve.igtl.codes import Code
from verdiff.serve.igtl.contents import status_content
from verdiff.serve.igtl.frames import checksum, pieces_of
from verdiff.serve.igtl.service import Service
from verdiff.serve.igtl.session import Session

_LOG = logging.getLogger("verdiff.serve")
LOOPBACK, PORT = "127.0.0.1", 18944
_BUFFER = 1 << 20
# A cable that was pulled is noticed after a minute.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class IgtlServer:
    """An OpenIGTLink server in front of a :class:`verdiff.serve.Client`, from any thread.

    >>> with Client("spine-mr") as client, IgtlServer(client, 18944) as server:
    ...     wait()
    """

    def __init__(
        self,
        client: Client,
        port: int = PORT,
        *,
        host: str = LOOPBACK,
        limits: IgtlLimits | None = None,
        options: Mapping[str, Any] | None = None,
        deadline_ms: float | None = None,
        surfaces: bool = False,
        suffix: str = "",
        tls: SSLContext | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            client: The worker.
            port: Port to listen on; 0 takes a free one.
            host: The address to listen on. The protocol knows no passwords: whoever reaches it may use it.
            limits: Limits of connections and messages.
            options: Options of each job, as :meth:`verdiff.serve.Client.submit` takes them.
            deadline_ms: Deadline of each job, until a client sets its own.
            surfaces: Send surfaces after the last mask, until a client says otherwise.
            suffix: Put behind a scan's device name to name its mask.
            tls: TLS context that :func:`verdiff.serve.tls.serving` gives; None speaks plain, as the protocol has it.
        """
        self._service = Service(client, limits or IgtlLimits(), dict(options or {}), deadline_ms, surfaces, suffix)
        self._host, self._port, self._tls = host, port, tls
        self._sessions: set[Session] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread: Thread | None = None

    @property
    def title(self) -> str:
        """What it speaks."""
        return f"OpenIGTLink{' over TLS' if self._tls else ''}"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._host, self._port

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises:
            ServiceError: The port is taken, or the address is none of this machine's.
            BackendError: The extra ``igtl`` is not installed.
        """
        checksum(b"")
        started: Future[int] = Future()
        self._thread = Thread(target=self._run, args=(started,), name="verdiff-igtl", daemon=True)
        self._thread.start()
        self._port = started.result()

    def close(self) -> None:
        """Tell every client, cancel their jobs, and end; closing twice does no harm."""
        loop, thread = self._loop, self._thread
        if thread is None or loop is None:
            return
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._stop.set)
        thread.join()

    def __enter__(self) -> IgtlServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, started: Future[int]) -> None:
        try:
            asyncio.run(self._serve(started))
        except BaseException as error:
            if started.done():
                raise
            # Whatever it is: start() waits until it hears of a port or of an error.
            started.set_exception(error)

    async def _serve(self, started: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        patience = None if self._tls is None else self._service.limits.stall_s
        with listening(self._host, self._port, "--igtl"):
            server = await asyncio.start_server(
                self._connected, self._host, self._port, limit=_BUFFER, ssl=self._tls, ssl_handshake_timeout=patience
            )
        started.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        text = "the server is shutting down; jobs that are not over are cancelled"
        await asyncio.gather(*(session.leave(Code.SHUT_DOWN, text) for session in self._sessions))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _keep_alive(writer)
        if len(self._sessions) >= self._service.limits.clients:
            text = f"{len(self._sessions)} clients are connected already"
            writer.writelines(bytes(piece) for piece in pieces_of("STATUS", status_content(Code.BUSY, "busy", text)))
            writer.close()
            return
        session = Session(self._service, reader, writer)
        self._sessions.add(session)
        try:
            await session.run()
        except Exception:
            # One client's connection is lost by a mistake of this program, and no other.
            _LOG.exception("a connection failed")
            writer.transport.abort()
        finally:
            self._sessions.discard(session)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    end: socket.socket = writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
