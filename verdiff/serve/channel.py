"""What a host and its worker say to each other: JSON and file descriptors over one local socket.

A message is eight bytes (its length, the number of descriptors with it), then JSON. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from threading import Lock
from typing import Any

_HEAD = struct.Struct("!II")
# A mask's provenance takes some kilobytes.
_LONGEST, _MOST_BLOCKS = 16 << 20, 64


class ChannelClosed(Exception):
    """The other side is gone, says nothing any more in the middle of a message, or is not understood."""


class Channel:
    """One end. Several threads may send; one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = Lock()

    def fileno(self) -> int:
        """File descriptor of the socket, to wait for what comes."""
        return self._end.fileno()

    def send(self, message: dict[str, Any], *blocks: int) -> None:
        """Send a message and descriptors, which stay the caller's to close.

        Raises:
            ChannelClosed: Nobody is there, or nobody reads.
        """
        data = json.dumps(message).encode()
        head = _HEAD.pack(len(data), len(blocks))
        try:
            with self._sending:
                sent = socket.send_fds(self._end, [head], blocks) if blocks else 0
                self._end.sendall(head[sent:])
                self._end.sendall(data)
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """The next message and its descriptors, which are the caller's to close.

        Raises:
            ChannelClosed: There is none and will be none.
        """
        blocks: list[int] = []
        try:
            head, blocks, _, _ = socket.recv_fds(self._end, _HEAD.size, _MOST_BLOCKS)
            for block in blocks:
                os.set_inheritable(block, False)
            length, count = _HEAD.unpack(head + self._exactly(_HEAD.size - len(head)))
            if length > _LONGEST or count != len(blocks):
                raise ChannelClosed(f"{length} bytes and {len(blocks)} of {count} blocks")
            message = json.loads(self._exactly(length))
        except (OSError, ValueError, ChannelClosed) as error:
            for block in blocks:
                os.close(block)
            raise error if isinstance(error, ChannelClosed) else ChannelClosed(str(error)) from error
        return message, blocks

    def close(self) -> None:
        """Hang up; the other side's next word fails."""
        self._end.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._end.recv(size - len(data))
            if not part:
                raise ChannelClosed("end of the connection")
            data += part
        return bytes(data)
