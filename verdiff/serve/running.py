"""A command's servers: started one after the other, ended in turn when the process is asked to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from threading import Event
from typing import Protocol

from verdiff.serve.client import Client


class Server(AbstractContextManager["Server"], Protocol):
    """What speaks a protocol in front of a worker; it listens while it is entered."""

    @property
    def title(self) -> str:
        """What it speaks."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""


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
