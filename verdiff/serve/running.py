"""A command's servers: started one after the other, ended in turn when the process is asked to end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from threading import Event
from typing import Protocol

from verdiff.serve.client import Client
from verdiff.serve.failures import listening


class Server(AbstractContextManager["Server"], Protocol):
    """What speaks a protocol in front of a worker; it listens while it is entered."""

    @property
    def title(self) -> str:
        """What it speaks."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""


def require_ports(host: str, ports: Mapping[str, int | None]) -> None:
    """Refuse ports that something else listens on, before a model is loaded.

    Args:
        host: The address of all of them.
        ports: Port by the option that chooses it; None and 0 are none in particular.

    Raises:
        ServiceError: One cannot be listened on.
    """
    for option, port in ports.items():
        if not port:
            continue
        with listening(host, port, option):
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            socket.create_server(address, family=family).close()


def run(
    client: Client,
    servers: Sequence[Callable[[Client], Server]],
    *,
    say: Callable[[str], None],
    ending: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
) -> None:
    """Serve until one of ``ending`` is raised in this thread, then tell every client and end the worker.

    Args:
        client: The worker, which is closed at the end.
        servers: Make the servers.
        say: Takes a line for each server, once clients can connect.
        ending: What a signal raises.

    Raises:
        VerdiffError: A server cannot start; those before it are ended.
    """
    with ExitStack() as stack:
        stack.enter_context(client)
        model = client.model
        for make in servers:
            server = stack.enter_context(make(client))
            host, port = server.address
            say(f"{model['id']} {model['version']}: {server.title} on {host}:{port}")
        try:
            Event().wait()
        except ending:
            say("shutting down")
