"""What a client of the OpenIGTLink server may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IgtlLimits:
    """Limits of an OpenIGTLink server.

    Attributes:
        body_mb: The largest body of a message, in MiB.
        clients: Connections at a time; one more is told that the server is busy.
        stall_s: The longest pause within a message, and until the client takes a piece of what is sent to it.
        message_s: The longest that one message may take to arrive.
        waiting: Messages that may wait for a client that does not read.
        leave_s: What clients have to take the last word when the server ends.
    """

    body_mb: int = 512
    clients: int = 16
    stall_s: float = 10.0
    message_s: float = 120.0
    waiting: int = 256
    leave_s: float = 2.0
